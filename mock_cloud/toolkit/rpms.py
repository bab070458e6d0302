# SPDX-License-Identifier: GPL-2.0-or-later
"""A toolkit's packages from RPM repositories (Fedora, EL), for any architecture they have.

dnf fetches, since it knows this machine's mirrors and how to resolve dependencies for another
architecture; neither root nor an installation is needed. Each package is then checked here:
its header's signature by a pinned key, its payload by the digest in that header.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

from mock_cloud import process
from mock_cloud.errors import ConfigError, InputError
from mock_cloud.process import CommandFailed
from mock_cloud.settings import ToolkitSettings
from mock_cloud.signed.keys import PackageKeys, UnsignedError
from mock_cloud.signed.rpmfile import RpmFile, verify_rpm
from mock_cloud.toolkit.machines import Machine
from mock_cloud.toolkit.packages import (
    FETCH_TIMEOUT_S,
    UNPACK_TIMEOUT_S,
    PackageSet,
    PackagesRefused,
    PackagesUnavailable,
    SignedPackage,
    proxies,
    read_keys,
    read_package_file,
)
from mock_cloud.toolkit.tree import Tree
from mock_cloud.wire.rpmheader import HeaderError

_WANTED: Final = "python3"
_KEYS: Final = Path("/etc/pki/rpm-gpg")
_REPOSITORIES: Final = Path("/etc/yum.repos.d")
_URL: Final = re.compile(r"[a-z]+://[^\s,]+")
_I386: Final = ("i386", "i486", "i586", "i686")

# With a repository of the user's, nothing of this machine's configuration counts.
_CONF: Final = "[main]\nreposdir={place}/none\nvarsdir={place}/none\nplugins=1\n"


def has_dnf() -> bool:
    """Whether this machine has dnf."""
    return shutil.which("dnf") is not None


def fetch_rpms(machine: Machine, source: ToolkitSettings, place: Path) -> PackageSet:
    """Fetch python and what it needs into `place` (absolute, empty, ours), check and unpack it.

    Raises PackagesUnavailable, PackagesRefused, ConfigError, InputError.
    """
    key_files = _pinned(source)
    keys = read_keys(key_files, were_named=source.key is not None)
    _download(machine, source, place)
    packages, tree, dates = [], Tree(), {}
    for path in sorted((place / "packages").glob("*.rpm")):
        data, digest = read_package_file(path)
        found = _verify(data, keys, machine, path.name)
        packages.append(SignedPackage(path.name, digest, found.signer))
        tree.add_cpio(_open(path), path.name)
        dates[f"the package {found.name}.{found.arch}"] = found.built
    if not packages:
        raise PackagesUnavailable(f"dnf fetched no packages for {machine.name}")
    repositories = () if source.repository else sorted(_REPOSITORIES.glob("*.repo"))
    return PackageSet(tuple(packages), tree, dates, (*key_files, *repositories))


def _pinned(source: ToolkitSettings) -> list[Path]:
    if source.key is not None:
        return [source.key]
    paths = sorted(path for path in _KEYS.glob("*") if path.is_file())
    if source.repository or not paths:
        raise ConfigError(
            "no key is pinned that could have signed the packages",
            hint="give --repository URL and --key FILE, such as the distribution's RPM-GPG-KEY-*",
        )
    return paths


def _verify(data: bytes, keys: PackageKeys, machine: Machine, file: str) -> RpmFile:
    try:
        found = verify_rpm(data, keys)
    except UnsignedError as error:
        raise PackagesRefused(
            f"{file} is signed by no pinned key: {error}",
            hint="name the key of the packages with --key",
        ) from error
    except HeaderError as error:
        raise PackagesRefused(f"{file}: {error}", hint="fetch it again, or elsewhere") from error
    fits = _I386 if machine.name == "i686" else (machine.name,)
    if found.arch not in (*fits, "noarch"):
        raise PackagesRefused(f"{file} is of {found.arch}, not of {machine.name}")
    return found


def _download(machine: Machine, source: ToolkitSettings, place: Path) -> None:
    argv = ["dnf", "-q", "-y", f"--forcearch={machine.name}"]
    if source.repository:
        if not _URL.fullmatch(source.repository):
            raise ConfigError(f"{source.repository} is not a repository's URL")
        (place / "dnf.conf").write_text(_CONF.format(place=place))
        argv += ["-c", str(place / "dnf.conf"), f"--installroot={place}/root", "--releasever=1"]
        argv += [f"--repofrompath=toolkit,{source.repository}", "--repo=toolkit"]
    else:
        for name in ("cachedir", "logdir", "persistdir"):
            (place / name).mkdir()
            argv.append(f"--setopt={name}={place}/{name}")
    argv += ["download", "--resolve", "--alldeps", f"--destdir={place}/packages", _WANTED]
    try:
        process.run(argv, timeout_s=FETCH_TIMEOUT_S, extra_env=proxies(source.repository))
    except CommandFailed as error:
        said = [line for line in error.output.splitlines() if line.startswith("Error")]
        raise PackagesUnavailable(
            f"no packages for {machine.name}: {(said or [error.message])[0]}",
            hint="name a repository that has them: mock-cloud toolkit pack --arch ARCH"
            " --repository URL --key FILE, or [toolkit] of the remote",
        ) from error


def _open(package: Path) -> bytes:
    """The cpio archive with the files of a package; rpm2cpio knows how it is compressed."""
    try:
        return process.run(["rpm2cpio", str(package)], timeout_s=UNPACK_TIMEOUT_S)
    except CommandFailed as error:
        raise InputError(f"{package.name} is damaged: {error.message}") from error

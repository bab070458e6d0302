# SPDX-License-Identifier: GPL-2.0-or-later
"""A toolkit's packages from a Debian archive, for any architecture that it has.

apt fetches, since it knows this machine's mirrors, proxies and credentials; it keeps a state of
its own in a private directory, so neither root nor a foreign architecture on this machine is
needed. What it fetched is then checked here, from the signature of the release file down.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mock_cloud import process
from mock_cloud.errors import ConfigError, InputError
from mock_cloud.process import CommandFailed
from mock_cloud.settings import ToolkitSettings
from mock_cloud.signed.keys import PackageKeys
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
from mock_cloud.toolkit.release import (
    INDEX_MAX_BYTES,
    Release,
    check_index,
    find_package,
    verify_release,
)
from mock_cloud.toolkit.tree import Tree

_WANTED: Final = "python3"
_RELEASE: Final = "InRelease"
_URL: Final = re.compile(r"[a-z][a-z0-9+]*:[^\s\[\]]+")
_SUITES: Final = re.compile(r"[\w./+-]+(?:,[\w./+-]+)*")
_KEYRINGS: Final = (
    (Path("/usr/share/keyrings"), "*-archive-keyring.gpg"),
    (Path("/etc/apt/trusted.gpg.d"), "*.gpg"),
    (Path("/etc/apt/trusted.gpg.d"), "*.asc"),
)
_SOURCES: Final = Path("/etc/apt/sources.list")
_READ_INDEX: Final = "/usr/lib/apt/apt-helper"

_CONF: Final = """\
Dir::State "{place}/state";
Dir::State::status "{place}/status";
Dir::Cache "{place}/cache";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "{user}";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
"""
_ONE_SOURCE: Final = """\
Dir::Etc::sourcelist "{place}/sources.list";
Dir::Etc::sourceparts "/dev/null";
"""


def has_apt() -> bool:
    """Whether this machine has apt and is configured for it."""
    return shutil.which("apt-get") is not None and Path("/var/lib/dpkg/status").is_file()


def fetch_debian(machine: Machine, source: ToolkitSettings, place: Path) -> PackageSet:
    """Fetch python and what it needs into `place` (absolute, empty, ours), check and unpack it.

    1. The release files are signed by a pinned key and in force. 2. The indices are what those
    say. 3. Each package is in an index, for this architecture. 4. Nothing else is unpacked.

    Raises PackagesUnavailable, PackagesRefused, ConfigError, InputError.
    """
    key_files = _pinned(source)
    keys = read_keys(key_files, were_named=source.keyring is not None)
    apt = _Apt(machine, source, place)
    apt.download()
    # 1, 2
    checked = list(_verified(apt, machine, keys))
    if not checked:
        raise PackagesRefused(
            "no release file is signed by a pinned key",
            hint="name the distribution's keyring with --keyring",
        )
    packages, tree = [], Tree()
    for path in sorted((place / "cache/archives").glob("*.deb")):
        # 3
        data, digest = read_package_file(path)
        signer = next(
            (
                release.signer
                for release, index in checked
                if find_package(index, digest, len(data), machine)
            ),
            None,
        )
        if signer is None:
            raise PackagesRefused(f"{path.name} is in no index that a pinned key signed")
        # 4
        packages.append(SignedPackage(path.name, digest, signer))
        tree.add_tar(_open(path), path.name)
    if not packages:
        raise PackagesUnavailable(f"apt fetched no packages for {machine.debian}")
    dates = {release.name: release.date for release, _ in checked}
    inputs = (*key_files, *(() if source.mirror else _sources()))
    return PackageSet(tuple(packages), tree, dates, inputs)


def _sources() -> list[Path]:
    """The files that say which archives apt uses."""
    return [path for path in (_SOURCES, *sorted(Path(f"{_SOURCES}.d").glob("*"))) if path.is_file()]


def _pinned(source: ToolkitSettings) -> list[Path]:
    if source.keyring is not None:
        return [source.keyring]
    paths = [path for directory, names in _KEYRINGS for path in sorted(directory.glob(names))]
    if not paths:
        raise ConfigError(
            "this machine has no archive keyring",
            hint="install debian-archive-keyring, or give --mirror, --suite and --keyring",
        )
    return paths


def _verified(apt: _Apt, machine: Machine, keys: PackageKeys) -> Iterator[tuple[Release, bytes]]:
    """Release files that a pinned key signed, each with one of its indices.

    Others are passed over: an archive of somebody else's may be configured too, but then its
    packages are in no index here.
    """
    now = time.time()
    for path in apt.release_files():
        try:
            release = verify_release(path.read_bytes(), keys, now)
        except PackagesRefused:
            if apt.sources_are_ours:
                raise
            continue
        for name in sorted(release.digests):
            if name.endswith(f"/binary-{machine.debian}/Packages"):
                index = apt.read_index(path, name)
                if index is not None:
                    check_index(release, name, index)
                    yield release, index


class _Apt:
    """apt with directories of its own."""

    def __init__(self, machine: Machine, source: ToolkitSettings, place: Path) -> None:
        self._place, self._mirror = place, source.mirror
        self.sources_are_ours = bool(source.mirror)
        for name in ("state/lists/partial", "cache/archives/partial"):
            (place / name).mkdir(parents=True)
        (place / "status").touch()
        # As root apt would fetch as another user, who cannot look into a private directory.
        conf = _CONF.format(place=place, arch=machine.debian, user="root")
        if source.mirror:
            (place / "sources.list").write_text(_source_lines(source))
            conf += _ONE_SOURCE.format(place=place)
        (place / "apt.conf").write_text(conf)
        self._arch = machine.debian

    def download(self) -> None:
        """Fetch indices and packages. PackagesUnavailable with apt's own word."""
        try:
            self._run("apt-get", "-qq", "update")
            install = ("-qq", "-y", "--download-only", "--no-install-recommends", "install")
            self._run("apt-get", *install, _WANTED)
        except CommandFailed as error:
            said = [line for line in error.output.splitlines() if line.startswith(("E:", "Err:"))]
            raise PackagesUnavailable(
                f"no packages for {self._arch}: {(said or [error.message])[0]}",
                hint="name an archive that has them: mock-cloud toolkit pack --arch ARCH"
                " --mirror URL --suite NAME --keyring FILE, or [toolkit] of the remote",
            ) from error

    def release_files(self) -> list[Path]:
        return sorted((self._place / "state/lists").glob(f"*_{_RELEASE}"))

    def read_index(self, release: Path, name: str) -> bytes | None:
        """The index `name` that belongs to `release`, in whatever form apt keeps it, or None."""
        stem = release.name.removesuffix(_RELEASE) + name.replace("/", "_")
        found = sorted(release.parent.glob(f"{stem}*"))
        if not found:
            return None
        data = self._run(_READ_INDEX, "cat-file", str(found[0]))
        if len(data) > INDEX_MAX_BYTES:
            raise PackagesRefused(f"{found[0].name}: more than {INDEX_MAX_BYTES >> 20} MiB")
        return data

    def _run(self, *argv: str) -> bytes:
        env = {"APT_CONFIG": str(self._place / "apt.conf"), **proxies(self._mirror)}
        return process.run(argv, timeout_s=FETCH_TIMEOUT_S, extra_env=env)


def _source_lines(source: ToolkitSettings) -> str:
    keyring = source.keyring
    if keyring is None or not source.suite:
        raise ConfigError(
            "an archive needs its suite and its keyring", hint="give --suite and --keyring too"
        )
    if not _URL.fullmatch(source.mirror) or not _SUITES.fullmatch(source.suite):
        raise ConfigError(f"{source.mirror} {source.suite} is not an archive and suite")
    if re.search(r"[\s\]]", str(keyring.absolute())):
        raise ConfigError(f"{keyring}: apt takes no keyring with a blank in its name")
    # apt leaves files where they are, unless they are to be copied.
    mirror = re.sub(r"^file:", "copy:", source.mirror)
    return "".join(
        f"deb [signed-by={keyring.absolute()}] {mirror} {suite} main\n"
        for suite in source.suite.split(",")
    )


def _open(package: Path) -> bytes:
    """The tar archive with the files of a package; dpkg-deb knows how it is compressed."""
    try:
        return process.run(["dpkg-deb", "--fsys-tarfile", str(package)], timeout_s=UNPACK_TIMEOUT_S)
    except CommandFailed as error:
        raise InputError(f"{package.name} is damaged: {error.message}") from error

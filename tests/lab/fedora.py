# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab on Fedora and EL: the real distribution's packages instead of repacked ones.

`make test-rpm-system` runs it in a system of the lab's own packages
(tests/releases/rpm_system.py); on Fedora itself it was not run yet. Release 1 is what the base
repositories have, release 2 has the updates too, so that packages which are old but signed exist
here as well. The packages keep the distribution's own signatures.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from mock_cloud.process import CommandFailed, run
from tests.lab.layout import RELEASES, Lab, LabError, code_digest, stamp_matches

TOOLS = (
    "createrepo_c",
    "dnf",
    "dnf-plugins-core",
    "gnupg2",
    "iproute",
    "openssh-clients",
    "openssh-server",
    "rpm-build",
    "rpm-sign",
    "util-linux",
)
BUILD_GROUP = (
    "bash",
    "bzip2",
    "coreutils",
    "cpio",
    "diffutils",
    "findutils",
    "gawk",
    "glibc-minimal-langpack",
    "grep",
    "gzip",
    "make",
    "patch",
    "redhat-rpm-config",
    "rpm-build",
    "sed",
    "shadow-utils",
    "tar",
    "unzip",
    "util-linux",
    "which",
    "xz",
)
EXTRA = ("autoconf", "automake", "gcc-c++", "gettext", "libtool", "texinfo", "zlib-devel")
NODE = (
    "bash",
    "ca-certificates",
    "coreutils",
    "createrepo_c",
    "dnf",
    "dnf-plugins-core",
    "glibc-minimal-langpack",
    "gzip",
    "iproute",
    "openssh-server",
    "python3",
    "rpm",
    "shadow-utils",
    "tar",
    "util-linux",
)
_BASE_REPOSITORIES = ("fedora", "baseos", "appstream", "crb")
_TIMEOUT_S = 1800.0


def missing() -> tuple[str, ...]:
    """Those of `TOOLS` that no installed package is or provides."""
    absent = []
    for name in TOOLS:
        try:
            run(["rpm", "-q", "--whatprovides", name], timeout_s=30)
        except CommandFailed:
            absent.append(name)
    return tuple(absent)


def _key_file() -> Path:
    """The distribution's own package key, as its release package installed it."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.M))
    name, version = release.get("ID", ""), release.get("VERSION_ID", "").split(".")[0]
    for pattern in (f"*{name}-{version}-primary", f"*{name}*{version}*", f"*{name}*", "*"):
        found = sorted(Path("/etc/pki/rpm-gpg").glob(f"RPM-GPG-KEY-{pattern}"))
        if found:
            return found[0].resolve()
    raise LabError("no package key in /etc/pki/rpm-gpg", hint="install distribution-gpg-keys")


def _download(target: Path, *, with_updates: bool) -> None:
    argv = ["dnf", "-q", "-y", "download", "--resolve", "--alldeps", f"--destdir={target}"]
    if not with_updates:
        known = run(["dnf", "-q", "repolist"], timeout_s=120).decode()
        ids = [line.split()[0] for line in known.splitlines()[1:] if line.strip()]
        argv += [f"--repo={name}" for name in ids if name in _BASE_REPOSITORIES]
    run([*argv, *sorted({*BUILD_GROUP, *EXTRA, *NODE})], timeout_s=_TIMEOUT_S)


def _find_members(release: Path) -> tuple[str, ...]:
    """`BUILD_GROUP` by the packages' own names: dnf takes no other for a member of a group."""
    query = ["rpm", "-qp", "--nosignature", "--qf", "[%{=NAME} %{PROVIDENAME}\n]"]
    packages = map(str, sorted(release.glob("*.rpm")))
    owners: dict[str, str] = {}
    for line in run([*query, *packages], timeout_s=120).decode().splitlines():
        name, provided = line.split(" ", 1)
        owners.setdefault(provided, name)
    return tuple(dict.fromkeys(owners.get(name, name) for name in BUILD_GROUP))


def build(lab: Lab) -> bool:
    """Make `lab.dist` from the machine's own repositories; returns whether it was made."""
    from tests.lab import dist, keys  # they need the virtual environment, `missing` is before it

    os_release = Path("/etc/os-release").read_bytes()
    key = hashlib.sha256(os_release).hexdigest() + code_digest(("fedora",))
    if stamp_matches(lab.dist / "key", key):
        return False
    keys.ensure_keys(lab)  # for the foreign key; the package key is the distribution's
    shutil.copyfile(_key_file(), lab.package_key)
    shutil.rmtree(lab.work, ignore_errors=True)
    fresh = lab.work / "dist"
    for number in RELEASES:
        release = fresh / str(number)
        release.mkdir(parents=True)
        _download(release, with_updates=number > 1)
        dist.index(release, _find_members(release))
    shutil.copyfile(lab.package_key, fresh / lab.package_key.name)
    (fresh / "key").write_text(key)
    if lab.dist.exists():
        lab.dist.rename(lab.work / "retired")
    fresh.rename(lab.dist)
    shutil.rmtree(lab.work)
    return True

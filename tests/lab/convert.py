# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns an installed Debian package into a package of the lab, byte for byte.

Each file is checked against the md5 that Debian shipped; one that differs or is missing is
taken from the package itself instead. Left out: manuals, translations, maintainer scripts.
Added, because maintainer scripts make them: alternatives, byte code, a CA bundle and the like.
"""

from __future__ import annotations

import functools
import grp
import hashlib
import importlib.util
import os
import pwd
import re
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from mock_cloud.process import CommandFailed, run
from tests.lab import debian, own, seeds
from tests.lab.debian import DebianPackage
from tests.lab.layout import LabError
from tests.lab.rpmspec import Entry, Kind, Package, directory, file, link

_LEFT_OUT = (
    "/usr/share/bug/",
    "/usr/share/doc-base",
    "/usr/share/info",
    "/usr/share/lintian",
    "/usr/share/locale",
    "/usr/share/man",
    "/etc/cron",
    "/etc/dpkg",
    "/etc/init.d",
    "/var/lib/dpkg",
)
REPLACED_BY_OWN = frozenset(
    {
        "/etc/debian_version",
        "/etc/issue",
        "/etc/issue.net",
        "/etc/os-release",
        "/usr/lib/os-release",
    }
)
_ELF = b"\x7fELF"
_LINKED = (2, 3)  # e_type (elf(5)): ET_EXEC, ET_DYN; elfdeps fails on others


def rpm_arch(debian_arch: str, machine: str) -> str:
    return "noarch" if debian_arch == "all" else machine


def split_version(version: str) -> tuple[int, str, str]:
    """Debian's [epoch:]upstream[-revision] as (epoch, version, release) in rpm's alphabet."""
    head, colon, rest = version.partition(":")
    epoch, rest = (int(head), rest) if colon else (0, version)
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, "0"
    return epoch, upstream.replace("-", "."), revision


def _packed(path: str) -> bool:
    if path.startswith("/usr/share/doc/"):
        return path.count("/") == 4 or (path.count("/") == 5 and path.endswith("/copyright"))
    return not path.startswith(_LEFT_OUT) and path not in REPLACED_BY_OWN


class Converter:
    """Makes packages out of `closure` for one release number of the lab's distribution.

    `scratch` is a directory for packages fetched anew; `machine` is rpm's name of the
    architecture. Methods may be called from several threads.
    """

    def __init__(
        self, closure: debian.Closure, *, machine: str, scratch: Path, has_systemd: bool = False
    ) -> None:
        self._closure = closure
        self._machine = machine
        self._scratch = scratch
        self._has_systemd = has_systemd

    def convert(self, name: str, release: int) -> Package:
        package = self._closure.packages[name]
        entries = {entry.path: entry for entry in self._entries(package)}
        for extra in self._made_by_scripts(package, entries):
            entries.setdefault(extra.path, extra)
        if release > 1:
            # Not below /usr/share/doc/NAME: some of those are links into another package.
            note = f"/usr/share/lab/changes/{name}"
            entries[note] = file(note, f"Rebuilt for release {release} of the lab.\n", flag="%doc")
        epoch, version, revision = split_version(package.version)
        listed = tuple(entries[path] for path in sorted(entries))
        provides, requires = _elf_relations(listed)
        names = (*package.provides, *seeds.PROVIDES.get(name, ()))
        return Package(
            name=name,
            epoch=epoch,
            version=version,
            release=f"{revision}.lab{release}",
            arch=rpm_arch(package.architecture, self._machine),
            summary=package.summary.replace("%", "%%"),
            entries=listed,
            requires=(
                "filesystem",
                *self._closure.requires[name],
                *seeds.REQUIRES.get(name, ()),
                *(r for r in requires if r not in provides),
            ),
            provides=(*names, *provides, *_path_provides(package), *_file_provides(listed)),
            scriptlets=_LDCONFIG if name == "libc-bin" else "",
        )

    def _entries(self, package: DebianPackage) -> list[Entry]:
        digests, conffiles = package.digests(), dict(package.conffiles)
        entries = []
        for path in package.paths():
            place = debian.merged(path)
            if place in own.DIRECTORIES or path in own.TOP_LINKS or not _packed(path):
                continue
            source = debian.on_disk(path, package)
            flag = "%config(noreplace)" if path in conffiles else ""
            flag = "%doc" if path.startswith("/usr/share/doc/") else flag
            try:
                entry = _entry(place, source, flag)
                fetched = package.content is not None
                if (
                    entry.kind is Kind.FILE
                    and not fetched
                    and not _is_shipped(source, digests.get(path))
                ):
                    raise FileNotFoundError(path)
            except FileNotFoundError:
                entry = _entry(place, self._pristine(package) / path.lstrip("/"), flag)
            entries.append(replace(entry, flag="") if entry.kind is Kind.DIRECTORY else entry)
        return entries

    @functools.lru_cache  # noqa: B019 - lives as long as one build of the distribution
    def _pristine(self, package: DebianPackage) -> Path:
        """The package's own content, fetched by apt: for files that this machine changed."""
        place = self._scratch / package.name
        (place / "deb").mkdir(parents=True)
        try:
            wanted = f"{package.name}={package.version}"
            run(["apt-get", "-qq", "download", wanted], timeout_s=300, cwd=place / "deb")
            (archive,) = (place / "deb").glob("*.deb")
            run(["dpkg-deb", "-x", str(archive), str(place / "root")], timeout_s=300)
        except CommandFailed as error:
            raise LabError(
                f"{package.name} was changed on this machine and cannot be fetched: {error}",
                hint=f"apt-get update && apt-get install --reinstall {package.name}",
            ) from error
        return place / "root"

    def _made_by_scripts(self, package: DebianPackage, entries: dict[str, Entry]) -> list[Entry]:
        made = list(own.extra_files(package.name, has_systemd=self._has_systemd))
        for path in entries:
            for where, name in debian.alternatives().get(path, ()):
                if _packed(where):
                    made.append(link(debian.merged(where), f"/etc/alternatives/{name}"))
                    made.append(link(f"/etc/alternatives/{name}", path))
        made += _byte_code(entries.values())
        if package.name == "ca-certificates":
            roots = sorted(path for path in entries if path.startswith("/usr/share/ca-cert"))
            sources = [entries[path].source for path in roots]
            pem = "".join(place.read_text() for place in sources if place and place.is_file())
            made.append(directory("/etc/ssl/certs"))
            made.append(file("/etc/ssl/certs/ca-certificates.crt", pem))
        return made


def _is_shipped(source: Path, md5: str | None) -> bool:
    # md5 is all that dpkg records; this guards against drift, not against attackers.
    return hashlib.md5(source.read_bytes(), usedforsecurity=False).hexdigest() == md5


def _entry(place: str, source: Path, flag: str) -> Entry:
    facts = source.lstat()
    mode = stat.S_IMODE(facts.st_mode)
    owner, group = pwd.getpwuid(facts.st_uid).pw_name, grp.getgrgid(facts.st_gid).gr_name
    if stat.S_ISLNK(facts.st_mode):
        return link(place, str(source.readlink()))
    if stat.S_ISDIR(facts.st_mode):
        return Entry(place, Kind.DIRECTORY, mode, owner, group, flag=flag)
    capabilities = _capabilities(source)
    return Entry(place, Kind.FILE, mode, owner, group, source, flag=flag, capabilities=capabilities)


def _capabilities(source: Path) -> str:
    try:
        os.getxattr(source, "security.capability")
    except OSError:
        return ""
    return run(["getcap", str(source)], timeout_s=10).decode().rpartition(" ")[2].strip()


def _byte_code(entries: Iterable[Entry]) -> list[Entry]:
    """`__pycache__` entries that belong to the packed sources, as this machine compiled them."""
    made = []
    for entry in entries:
        if not entry.path.endswith(".py") or "/python3" not in entry.path:
            continue
        # A link's byte code lies beside the link (sitecustomize.py).
        source = entry.source or Path(entry.path)
        cached = Path(importlib.util.cache_from_source(str(source)))
        if not (cached.is_file() and source.is_file()):
            continue
        facts = source.stat()
        stamp = int(facts.st_mtime).to_bytes(4, "little") + facts.st_size.to_bytes(4, "little")
        if cached.read_bytes()[4:16] != bytes(4) + stamp:  # PEP 552: flags 0, mtime, size
            continue
        place = importlib.util.cache_from_source(entry.path)
        made.append(directory(str(Path(place).parent)))
        made.append(Entry(place, Kind.FILE, source=cached, mtime_s=int(facts.st_mtime)))
    return made


def _elf_relations(entries: tuple[Entry, ...]) -> tuple[list[str], list[str]]:
    """What the package's ELF files provide and require, in rpm's own words for sonames."""
    elves = []
    for entry in entries:
        if entry.source is not None and entry.kind is Kind.FILE:
            with entry.source.open("rb") as stream:
                head = stream.read(18)
                if head[:4] == _ELF and head[16] in _LINKED:
                    elves.append(str(entry.source))
    if not elves:
        return [], []
    names = "".join(f"{name}\n" for name in elves).encode()
    found = []
    for what in ("--provides", "--requires"):
        argv = ["/usr/lib/rpm/elfdeps", "--no-fake-soname", what]
        found.append(sorted(set(run(argv, timeout_s=60, stdin=names).decode().split("\n")) - {""}))
    return found[0], found[1]


def _path_provides(package: DebianPackage) -> list[str]:
    """Programs by the path before the /usr merge: specs say /bin/sh, files say /usr/bin/sh."""
    return [
        path
        for path in package.paths()
        if path.startswith(("/bin/", "/sbin/")) and path.count("/") == 2
    ]


def _file_provides(entries: tuple[Entry, ...]) -> list[str]:
    """pkgconfig(…) and python3dist(…), from the names of the files that declare them."""
    found = []
    for entry in entries:
        if entry.path.endswith(".pc") and "/pkgconfig/" in entry.path:
            found.append(f"pkgconfig({Path(entry.path).stem})")
        match = re.fullmatch(
            r".*-packages/([\w.]+?)-([\w.]+?)(-py\S+)?\.(egg|dist)-info", entry.path
        )
        if match:
            distribution = re.sub(r"[-_.]+", "-", match[1]).lower()
            found.append(f"python3dist({distribution}) = {match[2]}")
    return found


# Not "-p /sbin/ldconfig": rpm adds an argument, which ldconfig takes for a directory.
_LDCONFIG = """\
%transfiletriggerin -P 2000000 -- /usr/lib /lib
/sbin/ldconfig

%transfiletriggerpostun -P 2000000 -- /usr/lib /lib
/sbin/ldconfig
"""

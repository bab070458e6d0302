# SPDX-License-Identifier: GPL-2.0-or-later
"""What one RPM of the lab is to hold, and the spec and staged tree that say it to rpmbuild."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_GLOB = re.compile(r"([\[*?])")  # %files takes patterns; a bracket makes one literal


class Kind(Enum):
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a package.

    A file's bytes come from `source` if given, else from `content`. `flag` is an rpm
    file attribute (``%config(noreplace)``, ``%doc``, ``%ghost``) or empty. `capabilities` is
    in cap_from_text form. `mtime_s` None keeps the source's time, or means the epoch.
    """

    path: str
    kind: Kind
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    source: Path | None = None
    content: bytes = b""
    target: str = ""
    capabilities: str = ""
    flag: str = ""
    mtime_s: int | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package: name to trigger scriptlets. `arch` is rpm's word for it."""

    name: str
    version: str
    release: str
    arch: str
    summary: str
    entries: tuple[Entry, ...]
    epoch: int = 0
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    scriptlets: str = ""

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}-{self.release}.{self.arch}.rpm"


def file(
    path: str, content: str, mode: int = 0o644, *, group: str = "root", flag: str = ""
) -> Entry:
    return Entry(path, Kind.FILE, mode, group=group, content=content.encode(), flag=flag)


def directory(path: str, mode: int = 0o755, *, group: str = "root") -> Entry:
    return Entry(path, Kind.DIRECTORY, mode, group=group)


def link(path: str, target: str) -> Entry:
    return Entry(path, Kind.LINK, 0o777, target=target)


def stage(entries: tuple[Entry, ...], root: Path, default_mtime_s: int) -> None:
    """Write `entries` below `root`; hard links among the sources stay hard links."""
    linked: dict[tuple[int, int], Path] = {}
    root.mkdir(parents=True)
    for entry in sorted(entries, key=lambda item: item.path):
        place = root / entry.path.lstrip("/")
        if entry.kind is Kind.DIRECTORY:
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(entry.mode)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind is Kind.LINK:
            place.symlink_to(entry.target)
            os.utime(place, (default_mtime_s, default_mtime_s), follow_symlinks=False)
            continue
        mtime_s = default_mtime_s if entry.mtime_s is None else entry.mtime_s
        if entry.source is None:
            place.write_bytes(entry.content)
        else:
            facts = entry.source.stat()
            first = linked.setdefault((facts.st_dev, facts.st_ino), place)
            if first is not place:
                os.link(first, place)
                continue
            shutil.copyfile(entry.source, place)
            mtime_s = int(facts.st_mtime) if entry.mtime_s is None else entry.mtime_s
        place.chmod(entry.mode)
        os.utime(place, (mtime_s, mtime_s))


def files_line(entry: Entry) -> str:
    """The line of %files for one entry."""
    words = []
    if entry.kind is Kind.LINK:
        words.append("%attr(-, root, root)")
    else:
        words.append(f"%attr({entry.mode:04o}, {entry.owner}, {entry.group})")
    if entry.kind is Kind.DIRECTORY:
        words.append("%dir")
    if entry.flag:
        words.append(entry.flag)
    if entry.capabilities:
        words.append(f"%caps({entry.capabilities})")
    # Without quotes: those hide patterns from rpm 4.20 and later, and not from those before.
    escaped = _GLOB.sub(r"[\1]", entry.path).replace("%", "%%")
    words.append(escaped.replace(" ", "?"))
    return " ".join(words)


def spec_text(package: Package) -> str:
    """A spec that only packs what `stage` wrote; no section runs a command."""
    arch = "BuildArch: noarch\n" if package.arch == "noarch" else ""
    epoch = f"Epoch: {package.epoch}\n" if package.epoch else ""
    relations = [f"Requires: {name}" for name in package.requires]
    relations += [f"Provides: {name}" for name in package.provides]
    return (
        f"Name: {package.name}\nVersion: {package.version}\nRelease: {package.release}\n"
        f"{epoch}{arch}Summary: {package.summary}\nLicense: see the copyright file\n"
        "AutoReqProv: no\n" + "\n".join(relations) + "\n\n"
        f"%description\n{package.summary}\n\n{package.scriptlets}\n"
        "%files\n" + "\n".join(files_line(entry) for entry in package.entries) + "\n"
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""What dpkg knows about this machine: packages, their closure, files and digests.

Reads dpkg's own database files (dpkg(1), deb(5)); no dpkg program is run per package.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.lab.layout import LabError

_ADMIN = Path("/var/lib/dpkg")
_MERGED = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")  # top-level links into /usr
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """One package, installed here or unpacked in `content`.

    `depends` holds alternatives as inner tuples, names only.
    """

    name: str
    version: str
    architecture: str
    summary: str
    depends: tuple[tuple[str, ...], ...]
    provides: tuple[str, ...]
    conffiles: tuple[tuple[str, str], ...]  # path, md5
    multi_arch_same: bool
    content: Path | None = None

    @property
    def identity(self) -> str:
        return f"{self.name}={self.version}:{self.architecture}"

    def _info(self, suffix: str) -> list[str]:
        plain = _ADMIN / "info" / f"{self.name}.{suffix}"
        qualified = _ADMIN / "info" / f"{self.name}:{self.architecture}.{suffix}"
        place = qualified if qualified.exists() else plain
        return place.read_text().splitlines() if place.exists() else []

    def paths(self) -> list[str]:
        """Absolute paths as dpkg lists them, without the root directory."""
        if self.content is not None:
            return sorted(f"/{path.relative_to(self.content)}" for path in self.content.rglob("*"))
        return [line for line in self._info("list") if line not in ("/.", "/")]

    def digests(self) -> dict[str, str]:
        """Absolute path → md5 hex, configuration files included."""
        found = {}
        for line in self._info("md5sums"):
            digest, _, path = line.partition("  ")
            found["/" + path] = digest
        found.update(self.conffiles)
        return found


def _names(field: str) -> tuple[tuple[str, ...], ...]:
    groups = []
    for item in field.split(","):
        names = tuple(m.group() for part in item.split("|") if (m := _NAME.match(part.strip())))
        if names:
            groups.append(names)
    return tuple(groups)


def _stanza(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    key = ""
    for line in text.splitlines():
        if line[:1] in " \t":
            fields[key] += "\n" + line.strip()
        else:
            key, _, value = line.partition(":")
            fields[key] = value.strip()
    return fields


def parse_control(text: str) -> DebianPackage:
    """The package of a control file or of a stanza of dpkg's status file."""
    fields = _stanza(text)
    conffiles = []
    for line in fields.get("Conffiles", "").splitlines():
        words = line.split()
        if len(words) == 2:  # a third word is "obsolete" or "remove-on-upgrade"
            conffiles.append((words[0], words[1]))
    return DebianPackage(
        name=fields["Package"],
        version=fields["Version"],
        architecture=fields["Architecture"],
        summary=fields["Description"].splitlines()[0],
        depends=_names(fields.get("Pre-Depends", "")) + _names(fields.get("Depends", "")),
        provides=tuple(names[0] for names in _names(fields.get("Provides", ""))),
        conffiles=tuple(conffiles),
        multi_arch_same=fields.get("Multi-Arch") == "same",
    )


def installed(native: str) -> dict[str, DebianPackage]:
    """Installed packages of the `native` architecture (dpkg's word) or of all, by name."""
    packages = {}
    for text in (_ADMIN / "status").read_text().split("\n\n"):
        if not text.strip():
            continue
        fields = _stanza(text)
        wanted = fields.get("Status", "").endswith(" ok installed")
        if wanted and fields["Architecture"] in (native, "all"):
            packages[fields["Package"]] = parse_control(text)
    return packages


Fetch = Callable[[str], dict[str, "DebianPackage"]]


@dataclass(frozen=True, slots=True)
class Closure:
    """The chosen packages by name, and for each the names it requires within the choice."""

    packages: dict[str, DebianPackage]
    requires: dict[str, tuple[str, ...]]


class _Choice:
    """Packages to choose from, which grow by what is fetched."""

    def __init__(self, everything: dict[str, DebianPackage], fetch: Fetch | None) -> None:
        self.packages: dict[str, DebianPackage] = {}
        self._providers: dict[str, list[str]] = {}
        self._fetch = fetch
        self._add(everything)

    def _add(self, packages: dict[str, DebianPackage]) -> None:
        self.packages.update(packages)
        for package in packages.values():
            for name in package.provides:
                self._providers.setdefault(name, []).append(package.name)

    def candidates(self, group: tuple[str, ...]) -> list[str]:
        """The packages that satisfy one of the alternatives, those of that name first."""
        found = [name for name in group if name in self.packages]
        return found + [real for name in group for real in sorted(self._providers.get(name, ()))]

    def fetch(self, name: str) -> None:
        """Add the package `name` from the archive, where that is wanted."""
        if self._fetch is not None:
            self._add(self._fetch(name))


def close(
    everything: dict[str, DebianPackage],
    seeds: tuple[str, ...],
    *,
    left_out: frozenset[str],
    not_required: Mapping[str, frozenset[str]],
    also_required: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    fetch: Fetch | None = None,
) -> Closure:
    """Seeds and all they depend on; a seed may be a name that a package provides.

    `left_out` names packages to ignore altogether, `not_required` single dependencies,
    `also_required` more of them. A dependency
    that is not in `everything` is taken from `fetch`: a package that was fetched itself has some
    that this machine has not. Raises `LabError` naming what is in neither.
    """
    choice = _Choice(everything, fetch)
    absent = [name for name in seeds if not choice.candidates((name,))]
    if absent:
        raise LabError(
            "not installed: " + " ".join(absent), hint="run: python3 -m tests.lab prepare"
        )
    chosen: dict[str, DebianPackage] = {}
    requires: dict[str, tuple[str, ...]] = {}
    queue = [choice.candidates((name,))[0] for name in seeds]
    while queue:
        name = queue.pop(0)
        if name in chosen:
            continue
        chosen[name] = choice.packages[name]
        needs = []
        more = tuple((other,) for other in also_required.get(name, ()))
        for group in chosen[name].depends + more:
            if any(item in left_out | not_required.get(name, frozenset()) for item in group):
                continue
            if not choice.candidates(group):
                choice.fetch(group[0])
            candidates = choice.candidates(group)
            if not candidates:
                raise LabError(f"{name} depends on {' | '.join(group)}: not installed")
            pick = next((item for item in candidates if item in chosen), candidates[0])
            needs.append(pick)
            queue.append(pick)
        requires[name] = tuple(dict.fromkeys(needs))
    return Closure(dict(sorted(chosen.items())), requires)


def merged(path: str) -> str:
    """`path` with a leading /bin, /lib, … replaced by its /usr counterpart."""
    head = path.split("/", 2)[1]
    return "/usr" + path if head in _MERGED else path


@functools.cache
def diversions() -> dict[str, tuple[str, str]]:
    """Path → (where the diverted file lies, package that diverts)."""
    place = _ADMIN / "diversions"
    lines = place.read_text().splitlines() if place.exists() else []
    triples = zip(lines[0::3], lines[1::3], lines[2::3], strict=True)
    return {original: (moved, package) for original, moved, package in triples}


def on_disk(path: str, package: DebianPackage) -> Path:
    """Where the file that `package` ships as `path` lies on this machine."""
    if package.content is not None:
        return package.content / path.lstrip("/")
    moved = diversions().get(path)
    return Path(moved[0]) if moved and moved[1] != package.name else Path(path)


@functools.cache
def alternatives() -> dict[str, list[tuple[str, str]]]:
    """Current target (merged path) → the pairs (link, name in /etc/alternatives) leading to it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for place in sorted((_ADMIN / "alternatives").iterdir()):
        lines = place.read_text().splitlines()
        pairs = [(lines[1], place.name)]
        position = 2
        while lines[position]:  # name, link, name, link, …, empty line
            pairs.append((lines[position + 1], lines[position]))
            position += 2
        for where, name in pairs:
            try:
                target = str(Path("/etc/alternatives", name).readlink())
            except OSError:
                continue
            found.setdefault(merged(target), []).append((where, name))
    return found

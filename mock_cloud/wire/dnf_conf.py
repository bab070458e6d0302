# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of a dnf.conf: read as dnf reads it, changed without touching the rest.

What counts is what dnf does, and libdnf's IniParser is stricter than Python's configparser. The
tests ask the dnf of this machine about each rule.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from mock_cloud.wire.dataclass import dataclass

SEPARATORS: Final = re.compile(r"([\s,]+)")
"""Between the words of a list, as a group: splitting keeps them."""

MAIN: Final = "main"
_TRUE: Final = frozenset({"1", "yes", "true", "on"})
_FALSE: Final = frozenset({"0", "no", "false", "off"})
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_HEAD: Final = re.compile(r"\[([^\]]+)\]\s*(?:[#;].*)?")
# What a repository does not have from [main] if it lacks it.
_OF_REPOSITORIES: Final = frozenset({"name", "baseurl", "mirrorlist", "metalink", "gpgkey"})
# libdnf's, where it isn't the architecture itself; dnf5 knows x86_64's levels.
_BASEARCH: Final = {
    **dict.fromkeys(("athlon", "geode", "i486", "i586", "i686"), "i386"),
    **dict.fromkeys(("amd64", "ia32e", "x86_64_v2", "x86_64_v3", "x86_64_v4"), "x86_64"),
    **dict.fromkeys(("armv5tejl", "armv5tel", "armv5tl", "armv6l", "armv7l", "armv8l"), "arm"),
    **dict.fromkeys(("armv6hl", "armv7hl", "armv7hnl", "armv8hl"), "armhfp"),
}


class DnfConfError(ValueError):
    """The text is one that dnf would not read; it says the line and why."""


@dataclass(frozen=True, slots=True)
class RepoSection:
    """A repository's section of a dnf.conf: `own` options as they stand, and those of [main].

    `id` has dnf's variables expanded, `section` has not.
    """

    id: str
    section: str
    own: Mapping[str, str]
    main: Mapping[str, str]

    def get(self, option: str) -> str:
        """Its value as it stands, or main's if it has none; empty if nobody has."""
        main = "" if option in _OF_REPOSITORIES else self.main.get(option, "")
        return self.own.get(option, main)

    def is_set(self, option: str, *, default: bool = False) -> bool:
        """A boolean. What is none counts as not there, as dnf has it after a warning."""
        for options in (self.own, self.main):
            word = options.get(option, "").lower()
            if word in _TRUE or word in _FALSE:
                return word in _TRUE
        return default


def parse_dnf_conf(text: str) -> dict[str, dict[str, str]]:
    """Sections with their options, the last of two equal ones. DnfConfError."""
    found: dict[str, dict[str, str]] = {}
    for section, option, head, value in _lines(text):
        options = found.setdefault(section, {}) if section else {}
        if option and head:
            options[option] = value.strip()
        elif option:
            options[option] = f"{options[option]}\n{value.strip()}"
    return found


def read_repositories(
    text: str, variables: Mapping[str, str], switches: Sequence[Sequence[str]] = ()
) -> list[RepoSection]:
    """The enabled ones, after `switches`: --enablerepo or --disablerepo with patterns."""
    sections = parse_dnf_conf(text)
    main = sections.pop(MAIN, {})
    found = [
        RepoSection(expand(name, variables), name, own, main) for name, own in sections.items()
    ]
    return [one for one in found if _is_enabled(one, switches)]


def _is_enabled(repository: RepoSection, switches: Sequence[Sequence[str]]) -> bool:
    enabled = repository.is_set("enabled", default=True)
    for option, patterns in switches:
        if any(fnmatch.fnmatchcase(repository.id, word.strip()) for word in patterns.split(",")):
            enabled = option == "--enablerepo"
    return enabled


def dnf_variables(releasever: str, arch: str, own: Mapping[str, str]) -> dict[str, str]:
    """The variables dnf expands in repositories' ids and options; `own` are mock's dnf_vars."""
    known = {"releasever": releasever, "arch": arch, "basearch": _BASEARCH.get(arch, arch)}
    return {**known, **own}


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with ``$name`` and ``${name}`` replaced; unknown names stay."""
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], found[0]), text)


def rewrite_options(text: str, change: Callable[[str, str, str], str | None]) -> str:
    """`text` with other values: `change` gets section, option and value, a line at a time.

    Lines that continue a value are values too. A section's head comes with an empty option.
    None takes a line out. DnfConfError.
    """
    lines = []
    for section, option, head, value in _lines(text):
        changed = change(section, option, value) if section and value.strip() else value
        if changed is not None:
            lines.append(head + changed)
    return "".join(lines)


def _lines(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Each line: section, option, what stands before the value, and the value.

    The value of a section's head is all of it, and its option is empty. A line that continues an
    option's value has nothing before it. Comments and empty lines are all before the value.
    """
    section = option = ""
    for number, line in enumerate(re.findall(r"[^\n]*\n|[^\n]+", text), 1):
        if line[0] in "\n#;" or not (option or line.strip()):
            option = ""
            yield section, "", line, ""
        elif line[0] in " \t\r":
            if not option:
                raise DnfConfError(f"line {number} continues no option: {line[:80].strip()!a}")
            yield section, option, "", line
        elif line[0] == "[":
            match = _HEAD.fullmatch(line.strip())
            if match is None:
                raise DnfConfError(f"line {number} is not a section: {line[:80].strip()!a}")
            section, option = match[1], ""
            yield section, "", "", line
        else:
            name, equals, value = line.partition("=")
            option = name.rstrip(" \t")
            if not section or not equals or not option:
                raise DnfConfError(
                    f"line {number} is not an option of a section: {line[:80].strip()!a}"
                )
            yield section, option, name + equals, value

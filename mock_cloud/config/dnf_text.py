# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of a dnf.conf: read as dnf reads it, changed without touching the rest."""

from __future__ import annotations

import configparser
import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mock_cloud.errors import ConfigError

SEPARATORS: Final = re.compile(r"([\s,]+)")
"""Between the words of a list, as a group: splitting keeps them."""

_OPTION: Final = re.compile(r"(?P<name>[^\s\[#;=:][^=:]*?)\s*[=:](?P<value>.*)")
_TRUE: Final = frozenset({"1", "yes", "true", "on"})


def parse_dnf_conf(text: str) -> configparser.ConfigParser:
    """The sections and options of a dnf.conf. ConfigError if it is none."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ConfigError(f"config_opts['dnf.conf'] is no dnf.conf: {error}") from error
    return parser


def is_true(word: str) -> bool:
    return word.strip().lower() in _TRUE


def is_enabled(
    name: str, parser: configparser.ConfigParser, switches: Sequence[tuple[str, str]]
) -> bool:
    """Whether a section is a repository that is used, after `switches` (option, patterns)."""
    if name == "main":
        return False
    enabled = is_true(parser[name].get("enabled", "1"))
    for option, patterns in switches:
        if any(fnmatch.fnmatchcase(name, pattern.strip()) for pattern in patterns.split(",")):
            enabled = option == "--enablerepo"
    return enabled


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with ``$name`` and ``${name}`` replaced; unknown names stay."""
    return re.sub(
        r"\$(?:\{(\w+)\}|(\w+))",
        lambda found: variables.get(found[1] or found[2], found[0]),
        text,
    )


def rewrite_options(text: str, change: Callable[[str, str, str], str | None]) -> str:
    """`text` with other values: `change` gets section, option and value, a line at a time.

    Lines that continue a value are values too. A section's head comes with an empty option.
    None takes a line out.
    """
    section, option, lines = "", "", []
    for line in text.splitlines(keepends=True):
        head, value = "", line
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]") and not line[0].isspace():
            section, option = stripped[1:-1], ""
        elif line[:1].strip():  # no continuation of the option above
            found = _OPTION.match(line)
            option = "" if found is None else found["name"].strip().lower()
            if found is not None:
                head, value = line[: found.start("value")], line[found.start("value") :]
        is_part = bool(option) or (stripped.startswith("[") and not line[0].isspace())
        changed = change(section, option, value) if is_part else value
        if changed is not None:
            lines.append(head + changed)
    return "".join(lines)

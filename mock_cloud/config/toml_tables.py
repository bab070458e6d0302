# SPDX-License-Identifier: GPL-2.0-or-later
"""Strict TOML: every table and key is known, every value is checked, errors name the line."""

from __future__ import annotations

import difflib
import ipaddress
import re
import stat
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from mock_cloud.errors import ConfigError
from mock_cloud.invocation.names import expand_home

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_MAX_BYTES: Final = 1 << 20

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_UNIT_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_HINT: Final = "mock-cloud-remotes(5) says what may stand there"
_HEADER: Final = re.compile(r"\s*\[\s*([^\]]+?)\s*\]\s*(?:#.*)?")
_KEY: Final = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(?:\.|=)""")

_E = TypeVar("_E", bound=Enum)


class Refused(ValueError):
    """A value is not acceptable; the message says what would be."""


Check = Callable[[Any, Path], Any]
"""(raw value, directory that relative paths are relative to) → parsed value, or Refused."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table: the keyword argument it fills, how it is parsed, if it must be."""

    argument: str
    check: Check
    required: bool = False


Tables = Mapping[str, Mapping[str, Key]]


@dataclass(frozen=True, slots=True)
class Document:
    """A TOML file that was read: its text, and its tables with known keys and checked values."""

    path: Path
    text: str
    tables: Mapping[str, Mapping[str, Any]]

    def refuse(self, message: str, table: str, key: str | None = None) -> NoReturn:
        """Raise ConfigError for `key` of `table`, or the table itself, naming the line."""
        _refuse(self.path, self.text, message, table, key)


def read_document(path: Path, tables: Tables) -> Document:
    """The checked content of `path`, values under the names of `Key.argument`. ConfigError.

    A table that is absent is absent in the result; a required key that is absent in a table
    that is there is an error.
    """
    text = _read(path)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise ConfigError(f"{path}:{found[1] if found else 1}: not TOML: {error}") from error
    parsed: dict[str, dict[str, Any]] = {}
    for table, values in raw.items():
        if table not in tables:
            what = "table" if isinstance(values, dict) else "key"
            near = _near(table, tables)
            _refuse(path, text, f"unknown {what} {table!r}{near}", table, None)
        if not isinstance(values, dict):
            _refuse(path, text, f"{table!r} is a table: write [{table}]", table, None)
        parsed[table] = _parse_table(path, text, table, values, tables[table])
    return Document(path, text, parsed)


def _parse_table(
    path: Path, text: str, table: str, values: Mapping[str, Any], keys: Mapping[str, Key]
) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for name, raw in values.items():
        key = keys.get(name)
        if key is None:
            _refuse(path, text, f"unknown key {name!r}{_near(name, keys)}", table, name)
        try:
            parsed[key.argument] = key.check(raw, path.parent)
        except Refused as error:
            _refuse(path, text, f"{name}: {error}", table, name)
    for name, key in keys.items():
        if key.required and name not in values:
            _refuse(path, text, f"[{table}] lacks the key {name!r}", table, None)
    return parsed


def _read(path: Path) -> str:
    try:
        status = path.stat()
        if status.st_mode & stat.S_IWOTH:
            raise ConfigError(f"{path} is writable by everybody", hint=f"chmod o-w {path}")
        if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_MAX_BYTES:
            raise ConfigError(f"{path} is not a file of at most {FILE_MAX_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8") from error


def _near(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"


def _refuse(path: Path, text: str, message: str, table: str, key: str | None) -> NoReturn:
    raise ConfigError(f"{path}:{_line(text, table, key)}: {message}", hint=_HINT)


def _line(text: str, table: str, key: str | None) -> int:
    """The line of `key` in `table`, else of the table, else 1. tomllib keeps no positions."""
    current, best = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.fullmatch(line)
        found = _KEY.match(line)
        if header:
            current = header[1].strip("\"'")
            if current == table:
                best = number
        elif found:
            name = found[1] or found[2] or found[3]
            if (current == table and name == key) or (not current and name == table):
                return number
    return best


def text(raw: Any, _: Path) -> str:
    """A non-empty string."""
    if not isinstance(raw, str) or not raw:
        raise Refused(f"a string is wanted, not {raw!r}")
    return raw


def words(raw: Any, base: Path) -> tuple[str, ...]:
    """A non-empty list of words of lower-case letters, digits and underscores."""
    found = tuple(text(item, base) for item in _list(raw))
    for word in found:
        if not re.fullmatch(r"[a-z0-9_]+", word):
            raise Refused(f"{word!r} is not a plain word")
    return found


def choice(kind: type[_E]) -> Check:
    """One of the values of an enum."""

    def check(raw: Any, _: Path) -> _E:
        for member in kind:
            if raw == member.value:
                return member
        known = ", ".join(repr(member.value) for member in kind)
        raise Refused(f"{raw!r} is none of {known}")

    return check


def integer(least: int, most: int) -> Check:
    """An integer within bounds."""

    def check(raw: Any, _: Path) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise Refused(f"an integer is wanted, not {raw!r}")
        if not least <= raw <= most:
            raise Refused(f"{raw} is not between {least} and {most}")
        return raw

    return check


def duration(least_s: float, most_s: float) -> Check:
    """Seconds as a number, or a string such as "90s", "10m", "4h", "7d"; within bounds."""

    def check(raw: Any, _: Path) -> float:
        found = _DURATION.fullmatch(raw.strip()) if isinstance(raw, str) else None
        if found:
            seconds = float(found[1]) * _UNIT_S[found[2]]
        elif isinstance(raw, (int, float)) and not isinstance(raw, bool):
            seconds = float(raw)
        else:
            raise Refused(f'a duration is wanted, such as "90s", "10m" or "4h", not {raw!r}')
        if not least_s <= seconds <= most_s:  # false for nan too
            raise Refused(f"{raw!r} is not between {least_s:g} and {most_s:g} seconds")
        return seconds

    return check


def loopback(raw: Any, base: Path) -> str:
    """A numeric loopback address, or an empty string."""
    if raw == "":
        return ""
    try:
        if ipaddress.ip_address(text(raw, base)).is_loopback:
            return str(raw)
    except ValueError as error:
        raise Refused(f"{raw!r} is not an IP address") from error
    raise Refused(f"{raw!r} is not a loopback address")


def directory(raw: Any, base: Path) -> Path:
    """An existing directory; relative to the file."""
    path = base / expand_home(text(raw, base))
    if not path.is_dir():
        raise Refused(f"there is no directory {path}")
    return path


def file(raw: Any, base: Path) -> Path:
    """An existing, readable file that not everybody may write to; relative to the TOML file."""
    path = base / expand_home(text(raw, base))
    try:
        with path.open("rb"):
            mode = path.stat().st_mode
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise Refused(f"{path} is not a regular file")
    if mode & stat.S_IWOTH:
        raise Refused(f"{path} is writable by everybody")
    return path


def files(raw: Any, base: Path) -> tuple[Path, ...]:
    """A non-empty list of such files."""
    return tuple(file(item, base) for item in _list(raw))


def _list(raw: Any) -> list[Any]:
    if not isinstance(raw, list) or not raw:
        raise Refused(f"a list with at least one entry is wanted, not {raw!r}")
    return raw

# SPDX-License-Identifier: GPL-2.0-or-later
"""Strict TOML: every table and key is known, every value is checked, errors name the line."""

from __future__ import annotations

import difflib
import re
import stat
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from mock_cloud.config.toml_values import Refused, ValueCheck
from mock_cloud.errors import ConfigError
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.terminal_text import printable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FILE_MAX_BYTES: Final = 1 << 20

_TEXT_SHOWN: Final = 300
_HINT: Final = "mock-cloud-remotes(5) says what may stand there"
_HEADER: Final = re.compile(r"\s*\[\s*([^\]]+?)\s*\]\s*(?:#.*)?")
_KEY: Final = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(?:\.|=)""")


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table: the keyword argument it fills, how it is parsed, if it must be.

    `text` says what it is, in one line: for help, questions and errors. `proposal` is
    what setup proposes where it asks for it though it need not be known.
    """

    argument: str
    check: ValueCheck
    text: str
    required: bool = False
    proposal: str | None = None


@dataclass(frozen=True, slots=True)
class Each:
    """A table of tables, ``[TABLE.NAME]``: the keys of each. `name_check` judges NAME."""

    keys: Mapping[str, Key]
    name_check: ValueCheck


Tables = Mapping[str, Mapping[str, Key] | Each]


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
    except (ValueError, RecursionError) as error:  # not only its own: long integers, deep lists
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
        keys = tables[table]
        if isinstance(keys, Each):
            parsed[table] = _parse_each(path, text, table, values, keys)
        else:
            parsed[table] = _parse_table(path, text, table, values, keys)
    return Document(path, text, parsed)


def _parse_each(
    path: Path, text: str, table: str, tables: Mapping[str, Any], each: Each
) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for name, values in tables.items():
        full = f"{table}.{name}"
        if not isinstance(values, dict):
            _refuse(path, text, f"[{table}] holds tables only: write [{table}.NAME]", table, name)
        try:
            each.name_check(name, path.parent)
        except Refused as error:
            _refuse(path, text, f"[{full}]: {error}", full, None)
        parsed[name] = _parse_table(path, text, full, values, each.keys)
    return parsed


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
        except (ValueError, ArithmeticError, OSError, RuntimeError) as error:
            # Refused; or what Python says to a value that no check thought of.
            hint = f"{name}: {key.text}"
            _refuse(
                path, text, f"{name}: {printable(str(error)[:_TEXT_SHOWN])}", table, name, hint=hint
            )
    for name, key in keys.items():
        if key.required and name not in values:
            message = f"[{table}] lacks the key {name!r}"
            _refuse(path, text, message, table, None, hint=f"{name}: {key.text}")
    return parsed


def _read(path: Path) -> str:
    try:
        status = path.stat()
        if status.st_mode & stat.S_IWOTH:
            raise ConfigError(f"{path} is writable by everybody", hint=f"chmod o-w {path}")
        if not stat.S_ISREG(status.st_mode) or status.st_size > _FILE_MAX_BYTES:
            raise ConfigError(f"{path} is not a file of at most {_FILE_MAX_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8") from error


def _near(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"


def _refuse(
    path: Path, text: str, message: str, table: str, key: str | None, *, hint: str = ""
) -> NoReturn:
    line = _line(text, table, key)
    raise ConfigError(f"{path}:{line}: {message}", hint=f"{hint}; {_HINT}" if hint else _HINT)


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
            elif key is not None and current == f"{table}.{key}":
                return number
        elif found:
            name = found[1] or found[2] or found[3]
            if (current == table and name == key) or (not current and name == table):
                return number
    return best

# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing a remote's file: words from a command line or a prompt become TOML with right types.

What a key may be is asked of the checks in `remote_tables`, so there is one place that knows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mock_cloud.config.remote_tables import TABLES
from mock_cloud.config.toml_tables import Each, Key
from mock_cloud.config.toml_values import (
    Refused,
    directory,
    file,
    files,
    secret,
    strings,
    words,
)
from mock_cloud.errors import CommandLineError
from mock_cloud.invocation.names import expand_home

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Value = str | int | float | bool | list[str]
RemoteAnswers = Mapping[tuple[str, str], Value]
"""(table, key) → value; the table of one architecture or host is ``node.ARCH``, ``host.NAME``."""

_PATHS: Final = (file, files, directory)
_LISTS: Final = (files, strings, words)
_VALUE_WORDS: Final = {
    "file": "FILE", "files": "FILE[,FILE]", "directory": "DIR", "strings": "NAME[,NAME]",
    "words": "NAME[,NAME]", "duration": "TIME", "integer": "N", "number": "N", "url": "URL",
    "flag": "true|false", "choice": "WORD", "public_key": "KEY",
}  # fmt: skip
"""By the name of the check."""


def plain_keys() -> dict[str, list[str]]:
    """Key → the tables that have it, of all that may stand on a command line: no secrets.

    Without the tables that there may be several of ([node.ARCH], [host.NAME]).
    """
    found: dict[str, list[str]] = {}
    for table, keys in TABLES.items():
        if isinstance(keys, Each):
            continue
        for name, key in keys.items():
            if key.check is not secret:
                found.setdefault(name, []).append(table)
    return found


def parse_word(table: str, name: str, word: str) -> Value:
    """The value that `word` means for a key: as it is, as TOML, or as a list with commas.

    Paths become absolute. CommandLineError says what is wanted.
    """
    key = find_key(table, name)
    refusals = []
    for value in _meanings(key, word):
        try:
            key.check(value, Path.cwd())
        except Refused as refused:
            refusals.append(str(refused))
        else:
            return value
    # What is wanted is a list, or it is not: that it is none of the other is no news.
    wanted = refusals[-1] if key.check in _LISTS else refusals[0]
    raise CommandLineError(f"[{table}] {name}: {wanted}", hint=f"{name}: {key.text}")


def _meanings(key: Key, word: str) -> Iterator[Value]:
    if key.check in _PATHS:
        if key.check is files:
            yield [_absolute(part) for part in word.split(",")]
        else:
            yield _absolute(word)
        return
    yield word
    try:
        literal = tomllib.loads(f"x = {word}")["x"]
    except tomllib.TOMLDecodeError:
        pass
    else:
        if isinstance(literal, (int, float, bool)):
            yield literal
    yield [part.strip() for part in word.split(",")]


def _absolute(word: str) -> str:
    return str(Path(expand_home(word.strip())).absolute())


def find_key(table: str, name: str) -> Key:
    """The key of a table; that of an architecture or host is ``node.ARCH``, ``host.NAME``."""
    keys = TABLES[table.partition(".")[0]]
    return (keys.keys if isinstance(keys, Each) else keys)[name]


def value_word(key: Key) -> str:
    """What stands for the value of `key` in a help text."""
    kind = getattr(key.check, "__qualname__", "").partition(".")[0]
    return _VALUE_WORDS.get(kind, "VALUE")


def write_toml(answers: RemoteAnswers, comment: str) -> str:
    """The file's text; `comment` goes in front, a ``#`` before each of its lines."""
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    tables: dict[str, list[str]] = {}
    for (table, key), value in answers.items():
        tables.setdefault(table, []).append(f"{key} = {_toml(value)}")
    for table in sorted(tables, key=_rank):
        lines += ["", f"[{table}]", *tables[table]]
    return "\n".join(lines) + "\n"


def _rank(table: str) -> int:
    return list(TABLES).index(table.partition(".")[0])


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str):
        # A JSON string is a TOML string, but for DEL, which JSON does not escape.
        return json.dumps(value).replace("\x7f", "\\u007f")
    return repr(value)

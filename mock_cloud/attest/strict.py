# SPDX-License-Identifier: GPL-2.0-or-later
"""Strict reading of JSON that somebody hostile may have written.

Every reader takes the value and a word for where it stood, and raises `Malformed` on any
other type, a bound exceeded, an unknown key or a missing one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from mock_cloud.wire.decode import INT_MAX, Malformed
from mock_cloud.wire.json_strict import JsonError, load_json

T = TypeVar("T")

_TEXT_MAX = 1 << 16
"""Characters in one text: above PATH_MAX and the longest kernel command line."""
LIST_MAX = 1 << 20
_HEX64 = re.compile(r"[0-9a-f]{64}")


def load(data: bytes, *, limit_bytes: int) -> Any:
    """JSON from `data` (see `load_json`), of bounded length."""
    if len(data) > limit_bytes:
        raise Malformed(f"{len(data)} bytes, more than {limit_bytes}")
    try:
        return load_json(data)
    except JsonError as error:
        raise Malformed(str(error)) from error


def obj(value: object, where: str, keys: Collection[str]) -> dict[str, Any]:
    """An object with exactly `keys`."""
    if not isinstance(value, dict):
        raise Malformed(f"{where}: not an object")
    if value.keys() != set(keys):
        odd = sorted(value.keys() ^ set(keys))
        raise Malformed(f"{where}: keys missing or unknown: {', '.join(map(repr, odd[:5]))}")
    return value


def mapping(value: object, where: str, *, limit: int = LIST_MAX) -> dict[str, Any]:
    """An object with keys that the other side chooses, at most `limit` of them."""
    if not isinstance(value, dict) or len(value) > limit:
        raise Malformed(f"{where}: not an object of at most {limit} keys")
    for key in value:
        text(key, where)
    return value


def items(value: object, where: str, *, limit: int = LIST_MAX) -> list[Any]:
    """A list of at most `limit` values."""
    if not isinstance(value, list) or len(value) > limit:
        raise Malformed(f"{where}: not a list of at most {limit}")
    return value


def each(value: object, where: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
    """A list, every value of which `read` accepts."""
    return tuple(read(item, where) for item in items(value, where))


def row(value: object, where: str, length: int) -> list[Any]:
    """A list of exactly `length` values."""
    if not isinstance(value, list) or len(value) != length:
        raise Malformed(f"{where}: not a list of {length}")
    return value


def text(value: object, where: str) -> str:
    """A bounded text without NUL, with no surrogates but those of undecodable bytes."""
    if type(value) is not str or len(value) > _TEXT_MAX or "\0" in value:
        raise Malformed(f"{where}: not a text of at most {_TEXT_MAX} characters without NUL")
    if not value.isascii():
        canonical(value, where)
    return value


def canonical(value: str, where: str) -> None:
    """Refuse a text that surrogateescape would not have made: two texts for the same bytes."""
    try:
        again = value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeError as error:
        raise Malformed(f"{where}: not text decoded with surrogateescape") from error
    if again != value:
        raise Malformed(f"{where}: not the one way to write these bytes")


def integer(value: object, where: str, *, least: int = 0, most: int = INT_MAX) -> int:
    if type(value) is not int or not least <= value <= most:
        raise Malformed(f"{where}: not an integer from {least} to {most}")
    return value


def number(value: object, where: str) -> float:
    if type(value) not in (int, float):
        raise Malformed(f"{where}: not a number")
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError as error:
        raise Malformed(f"{where}: too large a number") from error


def boolean(value: object, where: str) -> bool:
    if type(value) is not bool:
        raise Malformed(f"{where}: not true or false")
    return value


def sha256_hex(value: object, where: str) -> str:
    if type(value) is not str or not _HEX64.fullmatch(value):
        raise Malformed(f"{where}: not a sha256 in lower-case hex")
    return value


def optional(value: object, where: str, read: Callable[[object, str], T]) -> T | None:
    """None stays None; anything else goes to `read`."""
    return None if value is None else read(value, where)

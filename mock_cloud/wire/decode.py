# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON read into dataclasses, strictly: unknown, missing and mistyped keys and bounds exceeded.

The types of the fields say what may stand there. A dataclass is an object with exactly a key a
field; a class with a method `parse` is a text that it parses; an enum is one of its values; None
stands only where a type allows it. A dataclass with `is_row` is a list of its fields in order.
`Annotated` adds rules: functions that give a value back or raise ValueError; `By` is one that
reads the value in place of its type's own reader.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, Final, NoReturn, TypeVar

from mock_cloud.wire.dataclass import dataclass

T = TypeVar("T")
Read = Callable[[Any], Any]

INT_MAX: Final = (1 << 63) - 1


class Malformed(ValueError):
    """A value is not what its place asks for; the text says where and why."""

    def __init__(self, why: str, where: str = "") -> None:
        super().__init__(why)
        self.where = where

    def __str__(self) -> str:
        return f"{self.where.lstrip('.')}: {self.args[0]}" if self.where else str(self.args[0])


def load_json(data: bytes | str, *, limit_bytes: int | None = None) -> Any:
    """The value in `data`, UTF-8. Malformed for anything but one whole JSON text with one meaning.

    `json.loads` takes more than JSON, and raises more than ValueError. Refused too: a key that
    stands twice in an object, NaN, Infinity and numbers as large (1e999), integers beyond Python's
    own limit of digits, what is nested too deep. A text may hold lone surrogates.
    """
    if limit_bytes is not None and len(data) > limit_bytes:
        raise Malformed(f"{len(data)} bytes, more than {limit_bytes}")
    try:
        return json.loads(
            data if isinstance(data, str) else data.decode(),
            object_pairs_hook=_distinct,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {str(error)[:80]}") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a key stands twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not a number here")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Malformed("a number is too large")
    return number


@dataclass(frozen=True, slots=True)
class Limits:
    """Characters of one text, values of one list or object, and whether surrogates may stand."""

    text: int = 1 << 20
    items: int = 1 << 20
    surrogates: bool = True


_USUAL_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class By:
    """In `Annotated`, right behind a type: what reads the value, as `json` has it, to that type."""

    read: Read


def decode(kind: type[T], value: object, where: str = "", *, limits: Limits = _USUAL_LIMITS) -> T:
    """`value`, as `json` has it, as a `kind`. Malformed, which begins with `where`."""
    reader: Any = _reader
    try:
        found: T = reader(kind, limits)(value)
    except (ValueError, OverflowError) as error:
        _refuse(error, where)
    return found


def decode_bytes(
    kind: type[T], data: bytes | str, where: str = "", *, limits: Limits = _USUAL_LIMITS
) -> T:  # fmt: skip
    """The same of a JSON text, in UTF-8."""
    try:
        value = load_json(data)
    except Malformed as error:
        _refuse(error, where)
    return decode(kind, value, where, limits=limits)


def encode(value: Any) -> Any:
    """What `json` writes and `decode` reads."""
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "parse"):
        return str(value)
    if dataclasses.is_dataclass(value):
        found = {_key(one): encode(getattr(value, one.name)) for one in dataclasses.fields(value)}
        return list(found.values()) if hasattr(value, "is_row") else found
    if isinstance(value, Mapping):
        return {key: encode(one) for key, one in value.items()}
    return [encode(one) for one in value] if isinstance(value, list | tuple) else value


def to_json(value: Any) -> bytes:
    """`encode`d, as UTF-8 JSON with sorted keys."""
    return json.dumps(encode(value), sort_keys=True).encode()


def _key(one: dataclasses.Field[Any]) -> str:
    """A field's key in JSON: its name, unless its metadata have another as ``json``."""
    return str(one.metadata.get("json", one.name))


def within(least: float, most: float) -> Read:
    """A number's rule."""

    def check(value: Any) -> Any:
        if not least <= value <= most:
            raise Malformed(f"not from {least} to {most}")
        return value

    return check


def at_most(length: int) -> Read:
    """A rule for how long a text or a list may be."""

    def check(value: Any) -> Any:
        if len(value) > length:
            raise Malformed(f"longer than {length}")
        return value

    return check


def exactly(wanted: object) -> Read:
    """The rule of a value that is the same always, as a schema's name is."""

    def check(value: Any) -> Any:
        if value != wanted:
            raise Malformed(f"not {wanted!r}")
        return value

    return check


def matching(pattern: str, what: str) -> Read:
    """A text's rule: all of it matches; else it is not `what`."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise Malformed(f"not {what}")
        return value

    return check


Natural = Annotated[int, within(0, INT_MAX)]
Port = Annotated[int, within(1, 65535)]
Sha256 = Annotated[str, matching(r"[0-9a-f]{64}", "64 lower-case hex digits")]


def _refuse(error: Exception, where: str) -> NoReturn:
    """Raise it as Malformed, with `where` before where it was."""
    if isinstance(error, Malformed):
        error.where = where + error.where
        raise error
    raise Malformed(str(error), where) from error


@functools.cache
def _reader(kind: Any, limits: Limits) -> Read:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        read = _annotated(args[0], args[1:], limits)
    elif origin in (types.UnionType, typing.Union):
        (one,) = (_reader(each, limits) for each in args if each is not types.NoneType)
        read = _optional(one)
    elif origin in (list, tuple, frozenset):
        read = _list(origin, args, limits)
    elif origin is dict:
        read = _mapping(_reader(args[0], limits), _reader(args[1], limits), limits)
    elif dataclasses.is_dataclass(kind) and not hasattr(kind, "parse"):
        read = _object(kind, limits)
    else:
        read = _scalar(kind, limits)
    return read


def _scalar(kind: Any, limits: Limits) -> Read:
    text = _text(limits)
    if hasattr(kind, "parse"):
        return lambda value: kind.parse(text(value))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value: kind(value if type(value) in (str, int) else None)
    return text if kind is str else _SCALARS[kind]


def _optional(read: Read) -> Read:
    return lambda value: None if value is None else read(value)


def _annotated(kind: Any, rules: tuple[Any, ...], limits: Limits) -> Read:
    by, rules = (rules[0].read, rules[1:]) if isinstance(rules[0], By) else (None, rules)
    read = by or _reader(kind, limits)

    def annotated(value: Any) -> Any:
        found = read(value)
        for check in rules:
            found = check(found)
        return found

    return annotated


def _object(kind: Any, limits: Limits) -> Read:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)
    readers = {_key(one): _reader(hints[one.name], limits) for one in fields}
    names = {_key(one): one.name for one in fields}
    if hasattr(kind, "is_row"):
        values = _list(tuple, tuple(hints[one.name] for one in fields), limits)
        return lambda value: kind(*values(value))

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Malformed("not an object")
        if odd := sorted(value.keys() ^ readers.keys()):
            raise Malformed(
                f"unknown or missing keys: {', '.join(ascii(key[:40]) for key in odd[:5])}"
            )
        found, name = {}, ""
        try:
            for name, one in value.items():
                found[names[name]] = readers[name](one)
        except (ValueError, OverflowError) as error:
            _refuse(error, f".{name}")
        return kind(**found)

    return read


def _list(kind: Any, args: tuple[Any, ...], limits: Limits) -> Read:
    if kind is tuple and args[-1:] != (...,):
        readers = [_reader(one, limits) for one in args]
    else:
        readers = []
        each = _reader(args[0], limits)

    def read(value: Any) -> Any:
        if not isinstance(value, list) or len(value) > limits.items:
            raise Malformed(f"not a list of at most {limits.items}")
        if readers and len(value) != len(readers):
            raise Malformed(f"not a list of {len(readers)}")
        found: list[Any] = []
        try:
            for item in value:
                found.append((readers[len(found)] if readers else each)(item))
        except (ValueError, OverflowError) as error:
            _refuse(error, f"[{len(found)}]")
        return kind(found)

    return read


def _mapping(key: Read, each: Read, limits: Limits) -> Read:
    def read(value: Any) -> Any:
        if not isinstance(value, dict) or len(value) > limits.items:
            raise Malformed(f"not an object of at most {limits.items} keys")
        found, name = {}, ""
        try:
            for name, one in value.items():
                found[key(name)] = each(one)
        except (ValueError, OverflowError) as error:
            _refuse(error, f"[{name[:80]!a}]")
        return found

    return read


def _text(limits: Limits) -> Read:
    def read(value: Any) -> str:
        if type(value) is not str or len(value) > limits.text:
            raise Malformed(f"not a text of at most {limits.text} characters")
        if not limits.surrogates:
            value.encode()  # UnicodeEncodeError is a ValueError: no terminal and no log takes it
        return value

    return read


def _integer(value: Any) -> int:
    if type(value) is not int or not -INT_MAX <= value <= INT_MAX:
        raise Malformed("not an integer in bounds")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise Malformed("not a number")
    try:
        return float(value)
    except OverflowError as error:
        raise Malformed("not a number in bounds") from error


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise Malformed("not true or false")
    return value


_SCALARS: Final[dict[Any, Read]] = {
    int: _integer, float: _number, bool: _boolean, Any: lambda value: value,
}  # fmt: skip

# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON into dataclasses: what a type does not allow is refused, and the message says where."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any

import pytest

from mock_cloud.wire.decode import (
    Limits,
    Malformed,
    Port,
    Sha256,
    at_most,
    decode,
    decode_bytes,
    encode,
    to_json,
    within,
)


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Host:
    name: str
    port: Port


@dataclass(frozen=True)
class Word:
    text: str

    @classmethod
    def parse(cls, text: str) -> Word:
        if " " in text:
            raise ValueError("two words")
        return cls(text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Order:
    hosts: tuple[Host, ...]
    size_bytes: Annotated[int, within(0, 10)] = field(metadata={"json": "size"})
    word: Word
    colour: Colour = Colour.RED
    digest: Sha256 | None = None
    notes: dict[str, Annotated[list[str], at_most(2)]] = field(default_factory=dict)
    factor: float = 1.0
    is_set: bool = False
    pair: tuple[int, str] = (0, "")
    anything: Any = None


RAW: dict[str, Any] = encode(Order((Host("h", 22),), 3, Word("w")))


def test_it_comes_back_as_it_was() -> None:
    order = Order((Host("h", 22),), 3, Word("w"), digest="ab" * 32, notes={"a": ["b"]}, factor=2.5)
    assert decode(Order, json.loads(to_json(order))) == order
    assert decode(Order, RAW) == Order((Host("h", 22),), 3, Word("w"))
    assert decode_bytes(Host, to_json(Host("h", 1))) == Host("h", 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"more": 1}, "order: unknown or missing keys: 'more'"),
        (
            {"hosts": [{"name": "h", "port": 1}, {"name": "h", "port": 0}]},
            r"order\.hosts\[1\]\.port: not from 1 to 65535",
        ),
        ({"hosts": [{"name": "h"}]}, r"hosts\[0\]: unknown or missing keys: 'port'"),
        ({"hosts": [["h", 22]]}, r"hosts\[0\]: not an object"),
        ({"hosts": {}}, "not a list"),
        ({"hosts": "h"}, "not a list"),
        ({"size": True}, r"order\.size: not an integer"),
        ({"size": 3.0}, "not an integer"),
        ({"size": "3"}, "not an integer"),
        ({"size": -1}, "not from 0 to 10"),
        ({"size": 1 << 70}, "not an integer in bounds"),
        ({"size": None}, "not an integer"),
        ({"word": "two words"}, r"order\.word: two words"),
        ({"word": 1}, "not a text"),
        ({"colour": "blue"}, "blue"),
        ({"colour": []}, "None"),
        ({"digest": "AB" * 32}, "64 lower-case hex digits"),
        ({"digest": "ab" * 32 + "\n"}, "64 lower-case hex digits"),
        ({"notes": {"a": ["1", "2", "3"]}}, r"notes\['a'\]: longer than 2"),
        ({"notes": []}, "not an object"),
        ({"notes": {"a": [1]}}, r"notes\['a'\]\[0\]: not a text"),
        ({"factor": True}, "not a number"),
        ({"factor": "1"}, "not a number"),
        ({"factor": 10**400}, "factor: not a number in bounds"),
        ({"is_set": 1}, "not true or false"),
        ({"pair": [1]}, "not a list of 2"),
        ({"pair": [1, "a", 2]}, "not a list of 2"),
        ({"pair": ["a", 1]}, r"pair\[0\]: not an integer"),
    ],
)
def test_anything_else_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(Malformed, match=says):
        decode(Order, RAW | change, "order")


@pytest.mark.parametrize("key", sorted(RAW))
def test_no_key_may_be_missing(key: str) -> None:
    with pytest.raises(Malformed, match=f"missing keys: '{key}'"):
        decode(Order, {name: value for name, value in RAW.items() if name != key})


@pytest.mark.parametrize("value", [None, [], "order", 1, True])
def test_only_an_object_is_a_dataclass(value: object) -> None:
    with pytest.raises(Malformed, match="not an object"):
        decode(Order, value)


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": NaN}', b'{"a": 1, "a": 1}', b"\xff"])
def test_what_is_no_json_is_malformed_too(data: bytes) -> None:
    with pytest.raises(Malformed, match="host: "):
        decode_bytes(Host, data, "host")


def test_limits_hold_for_each_text_list_and_object() -> None:
    limits = Limits(text=2, items=2, surrogates=False)
    assert decode(list[str], ["ab", "ä"], limits=limits) == ["ab", "ä"]
    for value in (["abc"], ["a", "b", "c"], ["\udcff"]):
        with pytest.raises(Malformed):
            decode(list[str], value, limits=limits)
    for raw in ({"abc": 1}, dict.fromkeys("abc", 1), {"\ud800": 1}):
        with pytest.raises(Malformed):
            decode(dict[str, int], raw, limits=limits)
    assert decode(str, "\udcff") == "\udcff"

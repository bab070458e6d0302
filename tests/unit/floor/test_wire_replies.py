# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers of a hostile agent: each wrong shape is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_cloud.wire.decode import Malformed, decode
from mock_cloud.wire.replies import (
    RESULTS_MAX,
    Cause,
    ResultName,
    parse_end,
    parse_have,
    parse_hello,
    parse_results,
)

HELLO: dict[str, Any] = {
    "version": "1",
    "toolkit": "ab",
    "pid": 7,
    "python": "3.11.2",
    "uname": ["Linux", "node"],
    "cpus": 2,
    "clock": 1.5,
    "boot_id": "b",
}
RESULT: dict[str, Any] = {"name": "foo.rpm", "size": 5, "sha256": "ab" * 32, "mode": 0o644}
STATUS: dict[str, Any] = {
    "phase": "done",
    "exit": 10,
    "message": "",
    "layers": {"/var/lib/mock-cloud/layers/x": "cd" * 32},
    "chroots": ["/var/lib/mock/x"],
}


def test_right_answers_are_taken() -> None:
    assert parse_hello(HELLO).uname == ("Linux", "node")
    (file,) = parse_results([{"files": [RESULT]}])
    assert (file.name, file.size_bytes, file.mode) == ("foo.rpm", 5, 0o644)
    end = parse_end({"exit": 10, "status": STATUS})
    assert (end.exit, end.chroots) == (10, ("/var/lib/mock/x",))
    assert parse_end({"exit": None, "status": {}}).exit is None
    assert end.cause is Cause.NONE  # of a job that an earlier version began
    told = parse_end({"exit": 10, "status": {**STATUS, "cause": "memory"}})
    assert told.cause is Cause.MEMORY
    found = parse_have({"missing": ["a"], "partial": {"a": [[0, 5], [7, 9]]}, "kept": 3})
    assert (found.missing, found.partial) == (("a",), {"a": ((0, 5), (7, 9))})


@pytest.mark.parametrize("key", sorted(HELLO))
def test_hello_needs_each_key(key: str) -> None:
    with pytest.raises(Malformed, match=key):
        parse_hello({name: value for name, value in HELLO.items() if name != key})


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"pid": "7"},
        {"pid": True},
        {"pid": -1},
        {"clock": "now"},
        {"uname": "Linux"},
        {"uname": [1]},
        {"boot_id": "x" * 5000},
    ],
)
def test_a_malformed_hello(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        parse_hello({**HELLO, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../foo"},
        {"name": "/foo"},
        {"name": "a//b"},
        {"name": "a/./b"},
        {"name": ""},
        {"name": "x\nfoo"},
        {"name": "x\x1b[2J"},
        {"name": "a/" * 9 + "b"},
        {"name": "x" * 2000},
        {"name": 5},
        {"size": -1},
        {"size": 1 << 60},
        {"size": 1.0},
        {"sha256": "AB" * 32},
        {"sha256": "ab" * 31},
        {"mode": 0o100644},
        {"extra": 1},
    ],
)
def test_a_malformed_result(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        parse_results([{"files": [{**RESULT, **change}]}])


def test_a_result_that_is_listed_twice() -> None:
    with pytest.raises(Malformed, match="twice"):
        parse_results([{"files": [RESULT]}, {"files": [dict(RESULT)]}])


def test_more_results_than_may_be() -> None:
    replies = ({"files": [{**RESULT, "name": str(one)}]} for one in itertools.count())
    with pytest.raises(Malformed, match=f"more than {RESULTS_MAX}"):
        parse_results(replies)


@pytest.mark.parametrize(
    "reply",
    [
        {"exit": 0, "status": STATUS},
        {"exit": 10},
        {"exit": 10, "status": []},
        {"exit": 256, "status": {**STATUS, "exit": 256}},
        {"exit": True, "status": {**STATUS, "exit": True}},
        {"exit": 10, "status": {**STATUS, "layers": {"/x": "no digest"}}},
        {"exit": 10, "status": {**STATUS, "chroots": "x"}},
        {"exit": 10, "status": {**STATUS, "extra": 1}},
        {"exit": 10, "status": {**STATUS, "cause": "the weather"}},
        {"exit": 10, "status": {**STATUS, "cause": ["memory"]}},
        {"exit": 10, "status": {}},
    ],
)
def test_a_malformed_end(reply: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        parse_end(reply)


@pytest.mark.parametrize(
    "ranges", [[[5, 5]], [[5, 4]], [[-1, 4]], [[0, 5], [4, 9]], [[0]], [[0, "5"]], ["05"], {}]
)
def test_malformed_ranges(ranges: Any) -> None:
    with pytest.raises(Malformed):
        parse_have({"missing": [], "partial": {"a": ranges}, "kept": 0})


@given(st.text(max_size=40))
def test_a_name_that_is_taken_stays_below_its_directory(text: str) -> None:
    try:
        name: str = decode(ResultName, text)
    except Malformed:
        return
    assert not name.startswith("/")
    assert ".." not in name.split("/")
    assert name.isprintable()

# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's answers, parsed strictly: what a node says is never taken as it comes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mock_cloud.model import SshdReload

_HEX256: Final = re.compile(r"[0-9a-f]{64}\Z")
_TEXT_MAX: Final = 4096
_NAME_MAX: Final = 1024
_NAME_DEPTH_MAX: Final = 8
_LIST_MAX: Final = 100_000
_SIZE_MAX: Final = 1 << 50


_RAN_MAX: Final = 4096
Range = tuple[int, int]
"""Bytes from the first offset up to, and without, the second."""


class ReplyError(ValueError):
    """An answer is not what the contract says; the message names the key."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What the agent says of itself. `clock` is the node's, in unix seconds. Unjudged."""

    version: str
    toolkit: str
    pid: int
    python: str
    uname: tuple[str, ...]
    cpus: int
    clock: float
    boot_id: str


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One result: a relative path of plain parts, size, sha256 (hex), permission bits."""

    name: str
    size_bytes: int
    sha256: str
    mode: int


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended. `exit` is None when it vanished: the node is at fault, not the job.

    `layers` maps directories on the node to the tree digests that the job left in them.
    """

    exit: int | None
    phase: str
    message: str
    layers: dict[str, str]
    chroots: tuple[str, ...]


def parse_hello(reply: Mapping[str, Any]) -> Hello:
    _exactly(reply, {"version", "toolkit", "pid", "python", "uname", "cpus", "clock", "boot_id"})
    return Hello(
        version=_text(reply, "version"),
        toolkit=_text(reply, "toolkit"),
        pid=_number(reply, "pid"),
        python=_text(reply, "python"),
        uname=tuple(_texts(reply, "uname")),
        cpus=_number(reply, "cpus"),
        clock=_time(reply, "clock"),
        boot_id=_text(reply, "boot_id"),
    )


def parse_reload(reply: Mapping[str, Any], agents: tuple[int, ...]) -> SshdReload:
    """The answer to a ``reload`` that was to keep `agents`."""
    _exactly(reply, {"listener", "since", "ran"})
    ran: list[tuple[str, tuple[str, ...]]] = []
    for item in _list(reply, "ran"):
        if not isinstance(item, list) or len(item) != 2 or len(ran) >= _RAN_MAX:
            raise ReplyError("ran is not a list of programs with their words")
        ran.append((_short(item[0]), tuple(_texts({"words": item[1]}, "words"))))
    listener = None if reply["listener"] is None else _number(reply, "listener")
    return SshdReload(listener, _number(reply, "since"), tuple(ran), agents)


def parse_have(reply: Mapping[str, Any]) -> tuple[list[str], dict[str, list[Range]]]:
    """(digests that are missing, digest to the byte ranges held, ascending)."""
    _exactly(reply, {"missing", "partial"})
    partial = reply["partial"]
    if not isinstance(partial, dict):
        raise ReplyError("partial is not an object")
    return _texts(reply, "missing"), {str(key): _ranges(partial, key) for key in partial}


def _ranges(partial: Mapping[str, Any], key: str) -> list[Range]:
    ranges: list[Range] = []
    at = 0
    for item in _list(partial, key):
        if not (isinstance(item, list) and [type(bound) for bound in item] == [int, int]):
            raise ReplyError("a range is not two numbers")
        start, end = item
        if not at <= start < end:
            raise ReplyError("ranges are not ascending")
        ranges.append((start, end))
        at = end
    return ranges


def parse_reached(reply: Mapping[str, Any], count: int) -> list[bool]:
    """As many answers as were asked for."""
    _exactly(reply, {"reached"})
    reached = _list(reply, "reached")
    if len(reached) != count or any(type(one) is not bool for one in reached):
        raise ReplyError("reached is not an answer to each end")
    return reached


def parse_results(reply: Mapping[str, Any]) -> list[ResultFile]:
    _exactly(reply, {"files"})
    files = [_result(item) for item in _list(reply, "files")]
    if len({file.name for file in files}) != len(files):
        raise ReplyError("a result is listed twice")
    return files


def _result(raw: Any) -> ResultFile:
    if not isinstance(raw, dict):
        raise ReplyError("a result is not an object")
    _exactly(raw, {"name", "size", "sha256", "mode"})
    mode = _number(raw, "mode")
    if mode > 0o7777:
        raise ReplyError("a result's mode has more than permission bits")
    return ResultFile(
        name=parse_name(raw["name"]),
        size_bytes=_number(raw, "size"),
        sha256=parse_digest(raw["sha256"]),
        mode=mode,
    )


def parse_end(reply: Mapping[str, Any]) -> JobEnd:
    """The final frame of ``job_follow``."""
    _exactly(reply, {"exit", "status"})
    code = reply["exit"]
    if code is not None and (type(code) is not int or not 0 <= code <= 255):
        raise ReplyError("exit is not an exit status")
    status = reply["status"]
    if not isinstance(status, dict):
        raise ReplyError("status is not an object")
    if not status and code is None:
        return JobEnd(None, "", "", {}, ())
    _exactly(status, {"phase", "exit", "message", "layers", "chroots"})
    if status["exit"] != code:
        raise ReplyError("exit and status disagree")
    layers = status["layers"]
    if not isinstance(layers, dict) or len(layers) > _LIST_MAX:
        raise ReplyError("layers is not an object")
    return JobEnd(
        exit=code,
        phase=_text(status, "phase"),
        message=_text(status, "message"),
        layers={_short(path): parse_digest(digest) for path, digest in layers.items()},
        chroots=tuple(_texts(status, "chroots")),
    )


def parse_name(value: Any) -> str:
    """A path relative to a job's results, without empty, ``.`` or ``..`` parts or controls."""
    if not isinstance(value, str) or not 0 < len(value) <= _NAME_MAX:
        raise ReplyError("a result's name is not a short text")
    parts = value.split("/")
    if any(part in ("", ".", "..") for part in parts) or len(parts) > _NAME_DEPTH_MAX:
        raise ReplyError(f"{value!r} is not a plain relative path")
    if not value.isprintable():
        raise ReplyError(f"{value!r} holds characters that no file name of ours has")
    return value


def parse_digest(value: Any) -> str:
    if not isinstance(value, str) or not _HEX256.match(value):
        raise ReplyError("a digest is not 64 hex digits")
    return value


def _exactly(raw: Mapping[str, Any], keys: set[str]) -> None:
    if set(raw) != keys:
        odd = sorted(ascii(key[:40]) for key in set(raw) ^ keys)
        raise ReplyError(f"unknown or missing keys: {', '.join(odd[:5])}")


def _time(raw: Mapping[str, Any], key: str) -> float:
    """Unix seconds. A float of JSON may be infinite: 1e999."""
    if type(raw[key]) not in (int, float) or not 0 <= raw[key] < 1 << 40:
        raise ReplyError(f"{key} is not a time")
    return float(raw[key])


def _short(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        raise ReplyError("a text is missing or too long")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # a lone surrogate: no terminal and no log takes it
        raise ReplyError("a text holds what is no character") from error
    return value


def _text(raw: Mapping[str, Any], key: str) -> str:
    try:
        return _short(raw[key])
    except ReplyError as error:
        raise ReplyError(f"{key}: {error}") from error


def _number(raw: Mapping[str, Any], key: str) -> int:
    if type(raw[key]) is not int or not 0 <= raw[key] <= _SIZE_MAX:
        raise ReplyError(f"{key} is not a number in range")
    return int(raw[key])


def _list(raw: Mapping[str, Any], key: str) -> list[Any]:
    if not isinstance(raw[key], list) or len(raw[key]) > _LIST_MAX:
        raise ReplyError(f"{key} is not a list in bounds")
    return list(raw[key])


def _texts(raw: Mapping[str, Any], key: str) -> list[str]:
    return [_short(item) for item in _list(raw, key)]

# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's answers, read strictly: what a node says is never taken as it comes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import Enum
from typing import Annotated, Any, Final

from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import (
    Limits,
    Malformed,
    Sha256,
    at_most,
    decode,
    decode_bytes,
    to_json,
    within,
)
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.job_request import RESULT_DEPTH_MAX, RESULT_NAME_MAX

_LIMITS: Final = Limits(text=4096, items=100_000, surrogates=False)
_RAN_MAX: Final = 4096
RESULTS_MAX: Final = 100_000

_Size = Annotated[int, within(0, 1 << 50)]
ExitStatus = Annotated[int, within(0, 255)]
Range = tuple[int, int]
"""Bytes from the first offset up to, and without, the second."""


def _plain_path(value: str) -> str:
    """A path relative to a job's results, without empty, ``.`` or ``..`` parts or controls."""
    parts = value.split("/")
    if len(value) > RESULT_NAME_MAX or len(parts) > RESULT_DEPTH_MAX:
        raise Malformed("a result's name is not a short text")
    if any(part in ("", ".", "..") for part in parts):
        raise Malformed(f"{value!r} is not a plain relative path")
    if not value.isprintable():
        raise Malformed(f"{value!r} holds characters that no file name of a job has")
    return value


ResultName = Annotated[str, _plain_path]


def _ascending(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    at = 0
    for start, end in ranges:
        if not at <= start < end:
            raise Malformed("ranges are not ascending")
        at = end
    return ranges


@dataclass(frozen=True, slots=True)
class Hello:
    """What the agent says of itself. `clock` is the node's, in unix seconds. Unjudged."""

    version: str
    toolkit: str
    pid: _Size
    python: str
    uname: tuple[str, ...]
    cpus: _Size
    clock: Annotated[float, within(0, 1 << 40)]
    boot_id: str


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The answer to ``reload``, see `model.SshdReload`."""

    listener: _Size | None
    since: _Size
    ran: Annotated[tuple[tuple[str, tuple[str, ...]], ...], at_most(_RAN_MAX)]


@dataclass(frozen=True, slots=True)
class Held:
    """Of the digests asked about those that are missing, and the ascending ranges held of some.

    `kept`: how many bytes the node has of other inputs.
    """

    missing: tuple[str, ...]
    partial: dict[str, Annotated[tuple[Range, ...], _ascending]]
    kept: _Size


@dataclass(frozen=True, slots=True)
class _Reused:
    held: Annotated[tuple[Range, ...], _ascending]


@dataclass(frozen=True, slots=True)
class Reached:
    """Whether each end was reached."""

    reached: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One result: a relative path of plain parts, size, sha256 (hex), permission bits."""

    name: ResultName
    size_bytes: _Size = field(metadata={"json": "size"})
    sha256: Sha256
    mode: Annotated[int, within(0, 0o7777)]


@dataclass(frozen=True, slots=True)
class _Results:
    files: tuple[ResultFile, ...]


@dataclass(frozen=True, slots=True)
class _End:
    exit: ExitStatus | None
    status: dict[str, Any]


class Cause(Enum):
    """Why a job failed, where its exit code does not say so."""

    NONE = ""
    MEMORY = "memory"
    """The kernel killed a process of it for lack of memory."""
    MEMORY_GUESS = "memory-guess"
    """The kernel killed a process on the node for lack of memory, and nobody knows whose."""
    SILENCE = "silence"
    """It printed nothing for longer than it may."""


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended. `exit` is None when it vanished: the node is at fault, not the job.

    `layers` maps directories on the node to the tree digests that the job left in them. `cause` is
    the node's word, and a job that is root there can change it: it chooses words, nothing else.
    """

    exit: ExitStatus | None
    phase: str
    message: str
    layers: dict[str, Sha256]
    chroots: tuple[str, ...]
    cause: Cause = Cause.NONE


def parse_hello(reply: Mapping[str, Any]) -> Hello:
    return decode(Hello, reply, limits=_LIMITS)


def parse_reload(reply: Mapping[str, Any]) -> Reloaded:
    return decode(Reloaded, reply, limits=_LIMITS)


def parse_have(reply: Mapping[str, Any]) -> Held:
    return decode(Held, reply, limits=_LIMITS)


def parse_reused(reply: Mapping[str, Any]) -> tuple[Range, ...]:
    return decode(_Reused, reply, limits=_LIMITS).held


def parse_reached(reply: Mapping[str, Any], count: int) -> tuple[bool, ...]:
    """As many answers as were asked for."""
    found = decode(Reached, reply, limits=_LIMITS).reached
    if len(found) != count:
        raise Malformed("reached is not an answer to each end")
    return found


def parse_results(replies: Iterable[Mapping[str, Any]]) -> tuple[ResultFile, ...]:
    """A listing in pieces, with `RESULTS_MAX` files at most."""
    files: dict[str, ResultFile] = {}
    for reply in replies:
        for file in decode(_Results, reply, limits=_LIMITS).files:
            if file.name in files:
                raise Malformed("a result is listed twice")
            if len(files) == RESULTS_MAX:
                raise Malformed(f"more than {RESULTS_MAX} results")
            files[file.name] = file
    return tuple(files.values())


def parse_end(reply: Mapping[str, Any]) -> JobEnd:
    """The final frame of ``job_follow``."""
    found = decode(_End, reply, limits=_LIMITS)
    if not found.status and found.exit is None:
        return JobEnd(None, "", "", {}, ())
    # A job that an earlier version began names no cause.
    end = decode(JobEnd, {"cause": "", **found.status}, "status", limits=_LIMITS)
    if end.exit != found.exit:
        raise Malformed("exit and status disagree")
    return end


KEEP_CHROOT: Final = "keep-chroot"
"""A file in a job's directory: who stopped the job wants its chroot as it is."""

SILENT: Final = "silent"
"""A file in a job's directory: the job was ended since it printed nothing, as the text says."""


@dataclass(frozen=True, slots=True)
class Status:
    """`exit` is None until nothing of the job runs any more.

    `layers` maps each directory that a later job may build on (layers, dnf caches, the written
    part of kept chroots) to its tree digest; `chroots` lists the chroots that stay on the node.
    `cause` is a value of `Cause`.
    """

    phase: str
    exit: int | None = None
    message: str = ""
    layers: dict[str, str] = field(default_factory=dict)
    chroots: list[str] = field(default_factory=list)
    cause: str = ""


def write_status(directory: str, status: Status) -> None:
    """Replace DIRECTORY/status.json in one step."""
    replace_file(os.path.join(directory, "status.json"), to_json(status))


def read_status(directory: str) -> Status | None:
    """The status, or None before the first one was written."""
    try:
        with open(os.path.join(directory, "status.json"), "rb") as stream:
            return decode_bytes(Status, stream.read())
    except FileNotFoundError:
        return None

# SPDX-License-Identifier: GPL-2.0-or-later
"""Sending inputs: only what the node lacks, over as many channels as the line needs.

OpenSSH's server takes at most 2 MiB on a session channel before it must have answered, so
one channel carries 2 MiB a round trip. On a long line, blobs are cut into chunks that go
out over several channels, each to an agent of its own; all write into the same part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from mock_cloud.errors import InputError, MockCloudError, RemoteCommandError
from mock_cloud.model import Blob
from mock_cloud.remote.bulk import BulkChannels
from mock_cloud.remote.channel import AgentChannel, Call
from mock_cloud.remote.outbox import OUTBOX_MAX_BYTES
from mock_cloud.remote.reuse import opened_blob, reuse_on_node
from mock_cloud.wire.chunks import WORTH_BYTES
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Malformed
from mock_cloud.wire.replies import Range, parse_have

Progress = Callable[[int], None]

SERVER_WINDOW_BYTES: Final = 2 << 20
# CHAN_SES_WINDOW_DEFAULT of OpenSSH's channels.h; it can't be configured.
TARGET_BYTES_PER_S: Final = 200_000_000
_BYTES_WORTH_A_CHANNEL: Final = 4 << 20
_CHUNK_BYTES: Final = 16 * 32704 - 256
# Whole SSH packets: 16 of 32704 bytes hold the body and a frame's head.
_WAIT_S: Final = 0.5
_ANSWER_S: Final = 60.0
_HASH_BYTES_PER_S: Final = 50_000_000  # slowest disk and processor a node may have


@dataclass(frozen=True, slots=True)
class _Task:
    """A blob and the byte ranges of it that the node lacks."""

    blob: Blob
    ranges: tuple[Range, ...]

    @property
    def size_bytes(self) -> int:
        return sum(end - start for start, end in self.ranges)

    @property
    def is_partial(self) -> bool:
        return self.size_bytes < self.blob.size_bytes


def send_blobs(
    main: AgentChannel,
    bulk: BulkChannels,
    blobs: Sequence[Blob],
    *,
    rtt_s: float,
    progress: Progress | None = None,
) -> int:
    """Send what the node lacks of `blobs`; the number of bytes that were sent.

    What arrived of an earlier attempt, or came with other inputs, is not sent again.
    RemoteCommandError ``digest`` if a
    file doesn't have its digest, ``no-space`` if the node's disk is full.
    """
    wanted = {blob.digest: blob for blob in blobs}
    sent = 0
    resume = True
    while True:
        tasks, asked = _lacking(main, wanted, resume=resume)
        total = sum(task.size_bytes for task in tasks) + asked
        bulk.grow(channels_for(total, rtt_s))
        try:
            _send(main, bulk, tasks, progress)
        except RemoteCommandError as error:
            bulk.close()  # their agents ignore what they failed to store
            resumed = any(task.is_partial for task in tasks)
            if error.code != "digest" or not resumed:
                raise
            resume = False  # what was held was not what we have: send it all, once
            sent += total
        except BaseException:
            bulk.close()  # chunks may wait in them
            raise
        else:
            return sent + total


def channels_for(size_bytes: int, rtt_s: float) -> int:
    """How many channels beside the main one are worth their start."""
    for_line = math.ceil(TARGET_BYTES_PER_S * rtt_s / SERVER_WINDOW_BYTES)
    for_size = size_bytes // _BYTES_WORTH_A_CHANNEL
    return max(0, min(for_line, for_size) - 1)


def _lacking(
    main: AgentChannel, wanted: dict[str, Blob], *, resume: bool
) -> tuple[list[_Task], int]:
    """What is to be sent, and how many bytes it took to find out what the node has of it."""
    size = sum(blob.size_bytes for blob in wanted.values())
    patience_s = _ANSWER_S + size / _HASH_BYTES_PER_S
    try:
        found = parse_have(main.ask("have", within_s=patience_s, digests=list(wanted)))
        blobs = [wanted[digest] for digest in found.missing]
    except (Malformed, KeyError) as error:
        raise main.protocol_error(f"have: {error}") from error
    tasks, asked = [], 0
    for blob in blobs:
        held = found.partial.get(blob.digest, ()) if resume else ()
        if resume and not held and min(blob.size_bytes, found.kept) >= WORTH_BYTES:
            held, sent = reuse_on_node(main, blob)
            asked += sent
        tasks.append(_Task(blob, _gaps(held, blob.size_bytes)))
    return tasks, asked


def _gaps(held: Sequence[Range], size_bytes: int) -> tuple[Range, ...]:
    """What lies between and around the ranges of `held`."""
    gaps = []
    at = 0
    for start, end in [*held, (size_bytes, size_bytes)]:
        if at < start <= size_bytes:
            gaps.append((at, start))
        at = end
    return tuple(gaps)


def _send(
    main: AgentChannel, bulk: BulkChannels, tasks: list[_Task], progress: Progress | None
) -> None:
    main.refusal()  # of earlier requests, keystrokes to a job that had ended say
    for task in tasks:
        digest, size = task.blob.digest, task.blob.size_bytes
        for offset, data in _chunks(task):
            _emptiest(main, bulk).post("put", data, digest=digest, size=size, offset=offset)
            if progress:
                progress(len(data))
    bulk.settle(_ANSWER_S)
    ends: list[tuple[Call, Blob]] = []
    for task in tasks:
        blob = task.blob
        call = main.call("put_end", digest=blob.digest, size=blob.size_bytes)
        ends.append((call, blob))
    _await_ends(main, ends)


def _await_ends(main: AgentChannel, ends: list[tuple[Call, Blob]]) -> None:
    """All answers are read before the first failure is raised."""
    failure: MockCloudError | None = None
    patience_s = _ANSWER_S
    for call, blob in ends:
        patience_s += blob.size_bytes / _HASH_BYTES_PER_S
        with call:
            try:
                call.next(within_s=patience_s)
            except MockCloudError as error:
                failure = failure or main.refusal() or error
    if failure is not None:
        raise failure


def _emptiest(main: AgentChannel, bulk: BulkChannels) -> AgentChannel:
    """The channel with the shortest queue, once one has room."""
    while True:
        channels = [main, *bulk.ready()]
        for channel in channels:
            channel.raise_refusal()
        best = min(channels, key=lambda channel: channel.backlog_bytes)
        if best.backlog_bytes < OUTBOX_MAX_BYTES:
            return best
        main.space.wait(_WAIT_S)
        main.space.clear()


def _chunks(task: _Task) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of what is to be sent. InputError if the file can't be read."""
    with opened_blob(task.blob) as stream:
        for start, end in task.ranges:
            stream.seek(start)
            for offset in range(start, end, _CHUNK_BYTES):
                size = min(_CHUNK_BYTES, end - offset)
                data = stream.read(size)
                if len(data) < size:
                    name = f"{task.blob.source!s:.200}"
                    raise InputError(f"{name}: became shorter while it was sent")
                yield offset, data

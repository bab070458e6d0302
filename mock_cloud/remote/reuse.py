# SPDX-License-Identifier: GPL-2.0-or-later
"""What the other end has of a file already, chunk by chunk: it needs not travel.

`wire.chunks` says how files are cut. Nothing here is trusted: what is put together is compared
with the sha256 of the whole by whoever takes it, and sent in full if it differs.
"""

from __future__ import annotations

import bisect
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from mock_cloud.errors import InputError, RemoteCommandError
from mock_cloud.model import Blob
from mock_cloud.remote.channel import AgentChannel
from mock_cloud.wire.chunks import (
    COARSE,
    FINE,
    Chunk,
    ChunkIndex,
    coarse_chunks,
    fine_chunks,
    merge,
    pack_chunks,
    read_at,
    unpack_chunks,
)
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Malformed
from mock_cloud.wire.replies import Range, ResultFile, parse_have, parse_reused

_ANSWER_S: Final = 120.0  # the other end reads and hashes up to 1 GiB
_FETCH_S: Final = 30.0
_FETCH_BYTES_PER_S: Final = 100_000  # slower than this, it is sent
_BATCH_BYTES: Final = 8 << 20
"""Of a file, between two questions: some 2,000 fine chunks, whose list has 60 KB."""
_LISTED_MAX: Final = 1 << 14
_FINE_MAX: Final = COARSE.most // FINE.least + 1
_WORTH_GOING_ON: Final = 0.25
"""The share of a batch that is found: with less, the rest has nothing in common."""


@dataclass(frozen=True, slots=True)
class Here:
    """Bytes [start, end) of a result that lie at `offset` of a file on this machine."""

    start: int
    end: int
    path: str
    offset: int

    def read(self) -> bytes:
        """Fewer bytes, or others, if the file has changed."""
        try:
            return read_at(self.path, self.offset, self.end - self.start)
        except OSError:
            return b""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A file that a web server has, too. sha256 (hex) and size are those of what is here."""

    name: str
    digest: str
    size_bytes: int
    url: str


def fetch_on_node(
    channel: AgentChannel, files: Mapping[str, Sequence[Elsewhere]], tell: Callable[[str], None]
) -> list[str]:
    """Have the node fetch `files`, each by the digest of the input that it is, or is part of.

    Only those of inputs that the node has nothing of. `tell` gets the name of each before. What
    is returned are lines about those that could not be had: nothing depends on any.
    """
    try:
        found = parse_have(channel.ask("have", within_s=_ANSWER_S, digests=list(files)))
        lacking = [one for digest in found.missing if digest not in found.partial
                   for one in files[digest]]  # fmt: skip
    except (Malformed, KeyError) as error:
        raise channel.protocol_error(f"have: {error}") from error
    problems = []
    for file in lacking:
        tell(file.name)
        within_s = _FETCH_S + file.size_bytes / _FETCH_BYTES_PER_S
        try:
            channel.ask(
                "fetch", within_s=within_s + _ANSWER_S, within_ms=int(within_s * 1000),
                digest=file.digest, size=file.size_bytes, url=file.url,
            )  # fmt: skip
        except RemoteCommandError as error:
            problems.append(f"{file.name}: {error.message}")
            if error.code == "unreached":
                break  # no need to wait for that again
    return problems


def reuse_on_node(channel: AgentChannel, blob: Blob) -> tuple[tuple[Range, ...], int]:
    """Have the node put together what it can of `blob`; what it has now, and bytes sent for it.

    InputError if the file can't be read.
    """
    sent = 0

    def ask(chunks: Sequence[Chunk], *, fine: bool) -> list[Range]:
        nonlocal sent
        body = pack_chunks(chunks)
        sent += len(body)
        reply = channel.ask("reuse", body, within_s=_ANSWER_S, digest=blob.digest,
                            size=blob.size_bytes, fine=fine)  # fmt: skip
        try:
            return list(parse_reused(reply))
        except Malformed as error:
            raise channel.protocol_error(f"reuse: {error}") from error

    held: list[Range] = []
    with opened_blob(blob) as stream:
        coarse = [chunk for chunk, _ in coarse_chunks(stream)]
        for at in range(0, len(coarse), _LISTED_MAX):
            held += ask(coarse[at : at + _LISTED_MAX], fine=False)
        for batch in _batches(_lacking(coarse, held)):
            cut: list[Chunk] = []
            for one in batch:
                stream.seek(one.start)
                data = stream.read(one.end - one.start)
                cut += (fine for fine, _ in fine_chunks(one.start, data))
            found = ask(cut, fine=True)
            held += found
            if not _is_worth_going_on(batch, found):
                break
    return tuple(merge(held)), sent


@contextmanager
def opened_blob(blob: Blob) -> Iterator[IO[bytes]]:
    """What is to be sent, to be read. InputError where that fails, in the block too."""
    source = blob.source
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            yield stream
    except OSError as error:
        raise InputError(f"{source!s:.200}: cannot be read: {error.strerror}") from error


def find_here(
    channel: AgentChannel, job: str, file: ResultFile, paths: Sequence[Path]
) -> tuple[Here, ...]:
    """What files on this machine have of a result, in its order. Unchecked."""
    index = ChunkIndex([str(path) for path in paths])
    coarse = _cut_there(channel, job, file, ())
    held = _look_up(index, coarse, fine=False)
    for batch in _batches(_lacking(coarse, [(one.start, one.end) for one in held])):
        cut = _cut_there(channel, job, file, [(one.start, one.end) for one in batch])
        found = _look_up(index, cut, fine=True)
        held += found
        if not _is_worth_going_on(batch, [(one.start, one.end) for one in found]):
            break
    return tuple(sorted(held, key=lambda one: one.start))


def _cut_there(
    channel: AgentChannel, job: str, file: ResultFile, ranges: Sequence[Range]
) -> list[Chunk]:
    """How the node cuts a result."""
    cut: list[Chunk] = []
    with channel.call("chunks", job=job, name=file.name, ranges=ranges) as call:
        more = True
        while more:
            header, body = call.next(within_s=_ANSWER_S)
            more = header.get("more") is True
            if more and not body:
                raise channel.protocol_error("chunks: an empty piece")
            try:
                cut += unpack_chunks(body, file.size_bytes)
            except ValueError as error:
                raise channel.protocol_error(f"chunks: {error}") from error
            if len(cut) > file.size_bytes // COARSE.least + len(ranges) * _FINE_MAX + 1:
                raise channel.protocol_error("chunks: more than the file can have")
    return cut


def _look_up(index: ChunkIndex, chunks: Iterable[Chunk], *, fine: bool) -> list[Here]:
    places = ((one, index.find(one, fine=fine)) for one in chunks)
    return [Here(one.start, one.end, *place) for one, place in places if place is not None]


def _lacking(chunks: Sequence[Chunk], held: Sequence[Range]) -> list[Chunk]:
    covered = merge(held)
    starts = [start for start, _ in covered]

    def is_held(chunk: Chunk) -> bool:
        at = bisect.bisect_right(starts, chunk.start) - 1
        return at >= 0 and chunk.end <= covered[at][1]

    return [chunk for chunk in chunks if not is_held(chunk)]


def _batches(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    batch: list[Chunk] = []
    size = 0
    for chunk in chunks:
        batch.append(chunk)
        size += chunk.end - chunk.start
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _is_worth_going_on(batch: Sequence[Chunk], found: Sequence[Range]) -> bool:
    asked = sum(chunk.end - chunk.start for chunk in batch)
    return sum(end - start for start, end in found) >= _WORTH_GOING_ON * asked

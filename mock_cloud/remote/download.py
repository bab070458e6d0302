# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetching results: all asked for ahead, and over bulk channels where the line is long."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from mock_cloud.errors import ResultError
from mock_cloud.remote.bulk import BulkChannels
from mock_cloud.remote.channel import AgentChannel, Call
from mock_cloud.remote.link import DOWNLOAD_BYTES_PER_S, WINDOW_MAX_BYTES
from mock_cloud.remote.reuse import Here
from mock_cloud.remote.upload import Progress
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.replies import ResultFile

_PIECE_BYTES: Final = 4 << 20
_PIECE_S: Final = 600.0
_SILENCE_S: Final = 60.0
_AHEAD_BYTES: Final = 8 << 20
_AHEAD_PIECES: Final = 256


@dataclass(frozen=True, slots=True)
class Fetch:
    """A result to fetch and who takes its bytes, from `offset` on.

    `is_checked`: who takes them compares their sha256 with the listed one. `here`: what needs not
    be fetched, in order; only of a fetch that is checked.
    """

    file: ResultFile
    write: Callable[[bytes], object]
    offset: int = 0
    is_checked: bool = False
    here: tuple[Here, ...] = ()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes [start, end) of a result, asked for on a channel of their own choice, or `here`."""

    taker: _Taker
    start: int
    end: int
    here: Here | None = None


class _Taker:
    """Takes one result's bytes in order, and checks the whole."""

    def __init__(self, fetch: Fetch, where: object) -> None:
        self.fetch = fetch
        self._where = where
        self._hashes = fetch.offset == 0 and not fetch.is_checked
        self._digest = hashlib.sha256()

    def pieces(self) -> Iterator[_Piece]:
        size, at = self.fetch.file.size_bytes, self.fetch.offset
        for here in self.fetch.here:
            if here.start >= at:
                yield from self._asked(at, here.start)
                yield _Piece(self, here.start, here.end, here)
                at = here.end
        if at < size or at == self.fetch.offset:  # an empty one is asked for, too
            yield from self._asked(at, max(size, at + 1))

    def _asked(self, start: int, end: int) -> Iterator[_Piece]:
        for at in range(start, end, _PIECE_BYTES):
            yield _Piece(self, at, min(at + _PIECE_BYTES, end, self.fetch.file.size_bytes))

    def copy(self, here: Here, progress: Progress | None) -> None:
        """Take what is on this machine; where it has changed, something of the same length."""
        data = here.read().ljust(here.end - here.start, b"\0")
        self.fetch.write(data)
        if progress:
            progress(len(data))

    def take(self, call: Call, piece: _Piece, progress: Progress | None) -> None:
        left = piece.end - piece.start
        more = True
        while more:
            header, body = call.next(within_s=_PIECE_S, idle_s=_SILENCE_S)
            more = header.get("more") is True
            left -= len(body)
            if left < 0:
                raise ResultError(f"{self._name()}: more bytes than announced")
            if body:
                if self._hashes:
                    self._digest.update(body)
                self.fetch.write(body)
                if progress:
                    progress(len(body))
        if left:
            raise ResultError(f"{self._name()}: {left} bytes are missing")
        if piece.end == self.fetch.file.size_bytes and self._hashes:
            self._check()

    def _check(self) -> None:
        found, listed = self._digest.hexdigest(), self.fetch.file.sha256
        if found != listed:
            raise ResultError(
                f"{self._name()}: arrived with sha256 {found}, listed with {listed}",
                hint="Fetch it again; if that fails too, the node is damaged.",
            )

    def _name(self) -> str:
        return f"{self._where}: {self.fetch.file.name}"


def fetch_results(
    main: AgentChannel,
    bulk: BulkChannels,
    job: str,
    wanted: Sequence[Fetch],
    *,
    rtt_s: float,
    progress: Progress | None = None,
) -> None:
    """Fetch in order, without a round trip between files.

    ResultError when the bytes don't have the size and sha256 that were listed; the sha256 of
    a fetch that starts at an offset, or `is_checked`, is for the caller to check. What `write`
    raises comes through, so that a full local disk stays what it is.
    """
    total = sum(fetch.file.size_bytes - fetch.offset for fetch in wanted)
    total -= sum(here.end - here.start for fetch in wanted for here in fetch.here)
    takers = [_Taker(fetch, main.address) for fetch in wanted]
    pieces = (piece for taker in takers for piece in taker.pieces())
    count = _channels_for(total, rtt_s)
    if count == 1 or not bulk.grown(count):
        _fetch_pieces(lambda: [main], job, pieces, progress)
        return
    try:
        _fetch_pieces(bulk.ready, job, pieces, progress)
    except BaseException:
        bulk.close()  # they would go on sending what nobody wants any more
        raise


def _channels_for(size_bytes: int, rtt_s: float) -> int:
    """How many channels fill the line with their windows. For one, the main channel does."""
    for_line = math.ceil(DOWNLOAD_BYTES_PER_S * rtt_s / WINDOW_MAX_BYTES)
    return max(1, min(for_line, size_bytes // _PIECE_BYTES))


def _fetch_pieces(
    channels: Callable[[], list[AgentChannel]],
    job: str,
    pieces: Iterator[_Piece],
    progress: Progress | None,
) -> None:
    """Keep each channel busy with pieces asked for ahead; take them in their order."""
    asked: deque[tuple[AgentChannel, Call | None, _Piece]] = deque()
    with ExitStack() as calls:
        while True:
            ahead: Counter[AgentChannel] = Counter()
            for channel, _, piece in asked:
                ahead[channel] += 0 if piece.here else piece.end - piece.start
            free = min(channels(), key=lambda channel: ahead[channel])
            more = ahead[free] < _AHEAD_BYTES and len(asked) < _AHEAD_PIECES
            if more and (next_piece := next(pieces, None)) is not None:
                asks = next_piece.here is None
                call = calls.enter_context(_ask(free, job, next_piece)) if asks else None
                asked.append((free, call, next_piece))
            elif asked:
                _, call, piece = asked.popleft()
                if piece.here is not None:
                    piece.taker.copy(piece.here, progress)
                if call is not None:
                    with call:
                        piece.taker.take(call, piece, progress)
            else:
                return


def _ask(channel: AgentChannel, job: str, piece: _Piece) -> Call:
    name, length = piece.taker.fetch.file.name, piece.end - piece.start
    return channel.call("get", job=job, name=name, offset=piece.start, length=length)

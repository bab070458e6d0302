# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetching results: small ones in one round trip, large ones on a channel of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from mock_cloud.errors import ResultError
from mock_cloud.remote.bulk import BulkChannels
from mock_cloud.remote.channel import AgentChannel, Call
from mock_cloud.remote.replies import ResultFile

Progress = Callable[[int], None]

_MAIN_CHANNEL_MAX_BYTES: Final = 4 << 20
_ANSWER_S: Final = 60.0
_AHEAD: Final = 64


@dataclass(frozen=True, slots=True)
class Fetch:
    """A result to fetch and who takes its bytes, from `offset` on."""

    file: ResultFile
    write: Callable[[bytes], object]
    offset: int = 0


def fetch_results(
    main: AgentChannel,
    bulk: BulkChannels,
    job: str,
    wanted: Sequence[Fetch],
    progress: Progress | None = None,
) -> None:
    """Fetch in order, without a round trip between files.

    ResultError when the bytes don't have the size and sha256 that were listed; the sha256 of
    a fetch that starts at an offset is for the caller to check. What `write` raises comes
    through, so that a full local disk stays what it is.
    """
    total = sum(fetch.file.size_bytes - fetch.offset for fetch in wanted)
    channel = bulk.first() if total > _MAIN_CHANNEL_MAX_BYTES else None
    try:
        _fetch_all(channel or main, job, wanted, progress)
    except BaseException:
        if channel is not None:
            bulk.close()  # it would go on sending what nobody wants any more
        raise


def _fetch_all(
    channel: AgentChannel, job: str, wanted: Sequence[Fetch], progress: Progress | None
) -> None:
    for start in range(0, len(wanted), _AHEAD):
        part = wanted[start : start + _AHEAD]
        with ExitStack() as calls:
            asked = [calls.enter_context(_ask(channel, job, fetch)) for fetch in part]
            for call, fetch in zip(asked, part, strict=True):
                _receive(channel, call, fetch, progress)


def _ask(channel: AgentChannel, job: str, fetch: Fetch) -> Call:
    length = fetch.file.size_bytes - fetch.offset
    return channel.call("get", job=job, name=fetch.file.name, offset=fetch.offset, length=length)


def _receive(channel: AgentChannel, call: Call, fetch: Fetch, progress: Progress | None) -> None:
    file, digest = fetch.file, hashlib.sha256()
    left = file.size_bytes - fetch.offset
    while True:
        header, body = call.next(within_s=_ANSWER_S)
        left -= len(body)
        if left < 0:
            raise ResultError(f"{channel.address}: {file.name}: more bytes than announced")
        if body:
            digest.update(body)
            fetch.write(body)
            if progress:
                progress(len(body))
        if not header.get("more"):
            break
    if left:
        raise ResultError(f"{channel.address}: {file.name}: {left} bytes are missing")
    if fetch.offset == 0 and digest.hexdigest() != file.sha256:
        raise ResultError(
            f"{channel.address}: {file.name}: arrived with sha256 {digest.hexdigest()}, "
            f"listed with {file.sha256}",
            hint="Fetch it again; if that fails too, the node is damaged.",
        )

# SPDX-License-Identifier: GPL-2.0-or-later
"""The way from the controller's keyboard to a job: a FIFO with small records.

A record is one byte for its kind, an unsigned 16-bit big-endian length and the payload. A
record is at most PIPE_BUF long, so that each write is atomic.
"""

from __future__ import annotations

import errno
import os
import select
import struct
from enum import IntEnum
from typing import Final

from mock_cloud.wire.dataclass import dataclass

FIFO: Final = "input"
_HEAD: Final = struct.Struct(">BH")
_PAYLOAD_MAX: Final = select.PIPE_BUF - _HEAD.size


class InputKind(IntEnum):
    DATA = 1
    RESIZE = 2
    EOF = 3


@dataclass(frozen=True, slots=True)
class Event:
    kind: InputKind
    data: bytes = b""

    def size(self) -> tuple[int, int]:
        """(rows, columns) of a RESIZE event."""
        rows, columns = struct.unpack(">HH", self.data)
        return rows, columns


class InputReader:
    """The job's end. It keeps the FIFO open for writing too, so a vanishing writer is no EOF."""

    def __init__(self, directory: str) -> None:
        path = os.path.join(directory, FIFO)
        self.descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._pending = b""

    def read(self) -> list[Event]:
        """All complete events that wait; empty if none does."""
        try:
            self._pending += os.read(self.descriptor, 65536)
        except BlockingIOError:
            return []
        events = []
        while len(self._pending) >= _HEAD.size:
            kind, size = _HEAD.unpack_from(self._pending)
            end = _HEAD.size + size
            if len(self._pending) < end:
                break
            events.append(Event(InputKind(kind), self._pending[_HEAD.size : end]))
            self._pending = self._pending[end:]
        return events

    def close(self) -> None:
        os.close(self.descriptor)


def send_data(directory: str, data: bytes, *, eof: bool, timeout_s: float) -> None:
    """Hand `data` to the job, then the end of its input if `eof`.

    Raises TimeoutError when the job takes nothing for `timeout_s` seconds, and
    FileNotFoundError or BrokenPipeError when it takes no input (any more).
    """
    records = [
        _record(InputKind.DATA, data[start : start + _PAYLOAD_MAX])
        for start in range(0, len(data), _PAYLOAD_MAX)
    ]
    if eof:
        records.append(_record(InputKind.EOF, b""))
    _send(directory, records, timeout_s)


def send_resize(directory: str, rows: int, columns: int, *, timeout_s: float) -> None:
    """Tell the job the new size of the user's terminal. Raises as `send_data` does."""
    payload = struct.pack(">HH", min(max(rows, 0), 65535), min(max(columns, 0), 65535))
    _send(directory, [_record(InputKind.RESIZE, payload)], timeout_s)


def _record(kind: InputKind, payload: bytes) -> bytes:
    return _HEAD.pack(kind, len(payload)) + payload


def _send(directory: str, records: list[bytes], timeout_s: float) -> None:
    path = os.path.join(directory, FIFO)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise BrokenPipeError(error.errno, "the job takes no input", path) from error
        raise
    try:
        for record in records:
            _, writable, _ = select.select([], [descriptor], [], timeout_s)
            if not writable:
                raise TimeoutError(f"the job took no input for {timeout_s:g} s")
            os.write(descriptor, record)
    finally:
        os.close(descriptor)

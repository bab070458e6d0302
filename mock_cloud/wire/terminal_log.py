# SPDX-License-Identifier: GPL-2.0-or-later
"""The `terminal` log of a job: what mock would have written to stdout and stderr.

The file is a sequence of records: one byte for the stream (1 stdout, 2 stderr, as
descriptors are numbered), an unsigned 32-bit big-endian length, and that many bytes. So one
file keeps the order of both streams, can be followed by byte offset, and carries any bytes.
"""

from __future__ import annotations

import os
import struct
from typing import Final

STDOUT: Final = 1
STDERR: Final = 2
TERMINAL_RECORD_MAX: Final = 1 << 16
_HEAD: Final = struct.Struct(">BI")


class TerminalError(ValueError):
    """The bytes are not a terminal log."""


class TerminalWriter:
    """Appends records to an open descriptor; each record is one write(2)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, stream: int, data: bytes) -> None:
        for start in range(0, len(data), TERMINAL_RECORD_MAX):
            part = data[start : start + TERMINAL_RECORD_MAX]
            os.write(self._descriptor, _HEAD.pack(stream, len(part)) + part)


class TerminalDecoder:
    """Takes the log's bytes in pieces of any size and gives back (stream, bytes) in order."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The complete records so far. TerminalError on an unknown stream or length."""
        self._pending += data
        records = []
        start = 0
        while len(self._pending) - start >= _HEAD.size:
            stream, size = _HEAD.unpack_from(self._pending, start)
            if stream not in (STDOUT, STDERR) or size > TERMINAL_RECORD_MAX:
                raise TerminalError(f"not a terminal record: stream {stream}, {size} bytes")
            end = start + _HEAD.size + size
            if end > len(self._pending):
                break
            records.append((stream, self._pending[start + _HEAD.size : end]))
            start = end
        self._pending = self._pending[start:]
        return records

# SPDX-License-Identifier: GPL-2.0-or-later
"""A terminal, and what a build shows there."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from mock_cloud.wire.terminal_log import STDERR, TerminalWriter

pyte = pytest.importorskip("pyte")

TITLE = b"\x1b]0;owned\x07\x1b[2J\x1b[?1049h"


class Terminal:
    """A pty: what is written to `stream` is in `data`, and on `lines` as an emulator shows it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._master, slave = os.openpty()
        self.resize(columns, rows)
        self.stream: TextIO = os.fdopen(slave, "w", encoding="utf-8")
        self.data = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> None:
        while True:
            try:
                self.data += os.read(self._master, 65536)
            except OSError:  # the other end was closed
                return

    def close(self) -> None:
        self.stream.close()
        self._reader.join()
        os.close(self._master)

    def lines(self) -> list[str]:
        """The screen, and what has left it at its top, after all of it was shown."""
        screen = pyte.HistoryScreen(self.columns, self.rows, history=1000)
        pyte.ByteStream(screen).feed(self.data)
        above = ["".join(row[n].data for n in range(self.columns)) for row in screen.history.top]
        return [line.rstrip() for line in [*above, *screen.display] if line.strip()]


@contextmanager
def terminal(columns: int = 100, rows: int = 30) -> Iterator[Terminal]:
    opened = Terminal(columns, rows)
    try:
        yield opened
    finally:
        opened.close()


def said_by_node(*texts: bytes) -> bytes:
    reader, descriptor = os.pipe()
    writer = TerminalWriter(descriptor)
    for text in texts:
        writer.write(STDERR, text)
    os.close(descriptor)
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read()

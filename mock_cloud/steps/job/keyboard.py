# SPDX-License-Identifier: GPL-2.0-or-later
"""Passes what the user types to a job: a raw terminal with its size, or a plain stream."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from mock_cloud.errors import MockCloudError

_Send = Callable[[bytes, bool], None]
Resize = Callable[[int, int], None]
_PIECE_BYTES: Final = 1 << 16


def find_terminal() -> tuple[int, int, str] | None:
    """(rows, columns, TERM) when both ends are a terminal, else None."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    columns, rows = shutil.get_terminal_size()
    return rows, columns, os.environ.get("TERM", "dumb")


Switch = Callable[[bool], None]
"""Sets the terminal so that every key, Ctrl-C too, reaches the job (True), or as it was (False)."""


@contextlib.contextmanager
def passed_on(send: _Send, resize: Resize, *, is_terminal: bool) -> Iterator[Switch]:
    """Within the block, standard input goes to `send(data, eof)` from a thread of its own.

    `is_terminal`: a change of its size goes to `resize(rows, columns)`, and the caller can switch
    it to raw while a program of the user's has it. It is restored whatever happens.
    """
    switch: Switch = lambda raw: None  # noqa: E731
    stop_read, stop_write = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, stop_read)
        if is_terminal:
            switch = stack.enter_context(_switched_terminal())
            stack.enter_context(_size_changes(resize))
        # An interrupt may come at any moment: what ends the thread is there before it.
        thread = threading.Thread(
            target=_pump, args=(send, stop_read), name="keyboard", daemon=True
        )
        stack.callback(lambda: thread.join() if thread.is_alive() else None)
        stack.callback(os.close, stop_write)  # first: it ends the thread
        thread.start()
        yield switch


def _pump(send: _Send, stop: int) -> None:
    source = sys.stdin.fileno()
    while True:
        ready, _, _ = select.select([source, stop], [], [])
        if stop in ready:
            return
        try:
            data = os.read(source, _PIECE_BYTES)
        except OSError:
            data = b""  # a terminal that hung up reads as an error
        try:
            send(data, not data)
        except MockCloudError:
            return  # the connection is lost, as the thread that follows the job says
        if not data:
            return


@contextlib.contextmanager
def _switched_terminal() -> Iterator[Switch]:
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    is_raw = False

    def switch(raw: bool) -> None:
        nonlocal is_raw
        if raw and not is_raw:
            tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed ahead is not lost
        elif is_raw and not raw:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        is_raw = raw

    try:
        yield switch
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _size_changes(resize: Resize) -> Iterator[None]:
    def changed(_number: int, _frame: FrameType | None) -> None:
        columns, rows = shutil.get_terminal_size()
        with contextlib.suppress(MockCloudError):
            resize(rows, columns)

    before = signal.signal(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)

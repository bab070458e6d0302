# SPDX-License-Identifier: GPL-2.0-or-later
"""What mock prints, on its way to the user: the node's paths become the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BANNER: Final = b"INFO: mock.py version "
_LINE_MAX_BYTES: Final = 1 << 16


class Filter:
    """A stream of mock's: replaces texts, and drops the line mock announces itself with.

    The controller prints that line, with the words the user typed. Texts are found wherever
    the stream was cut.
    """

    def __init__(self, replacements: Mapping[bytes, bytes], *, drops_banner: bool) -> None:
        self._replacements = dict(replacements)
        self._held = b""
        self._drops_banner = drops_banner

    def feed(self, data: bytes) -> bytes:
        """What of the stream can be shown by now."""
        data, self._held = self._held + data, b""
        if self._drops_banner:
            data = self._whole_lines(data)
        for old, new in self._replacements.items():
            data = data.replace(old, new)
        keep = max((_overlap(data, old) for old in self._replacements), default=0)
        if keep:
            data, self._held = data[:-keep], data[-keep:] + self._held
        return data

    def finish(self) -> bytes:
        """What was held back at the end of the stream."""
        self._drops_banner = False
        held, self._held = self._held, b""
        return held

    def _whole_lines(self, data: bytes) -> bytes:
        """The complete lines, without the banner; after it everything."""
        shown = b""
        while self._drops_banner:
            line, newline, rest = data.partition(b"\n")
            if line.startswith(_BANNER) and newline:
                self._drops_banner = False
            elif newline:
                shown += line + newline
            elif len(line) < _LINE_MAX_BYTES:
                self._held = line
                return shown
            else:
                self._drops_banner = False
                return shown + line
            data = rest
        return shown + data


def _overlap(data: bytes, text: bytes) -> int:
    """How many bytes at the end of `data` may be the beginning of `text`."""
    for size in range(min(len(text) - 1, len(data)), 0, -1):
        if data.endswith(text[:size]):
            return size
    return 0

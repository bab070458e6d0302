# SPDX-License-Identifier: GPL-2.0-or-later
"""Foreign text made safe to show on a terminal. Log files keep the bytes as they came."""

from __future__ import annotations

import codecs
import unicodedata
from typing import Final

# Everything that moves the cursor, changes the terminal's state or reorders text: C0 but for
# the three below, DEL, C1, bidirectional and other formats, line and paragraph separators.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co"})
_KEPT: Final = frozenset("\n\t")
_CLEAN_MAX: Final = 600


def printable(text: str) -> str:
    """`text` in one line that is safe on a terminal: anything odd as a Python escape.

    Surrogates from undecodable paths are odd, and all spaces but the plain one.
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def escape(text: str) -> str:
    """The same with the backslash escaped too: no two texts are shown alike."""
    return printable(text.replace("\\", "\\\\"))


def clean(data: bytes) -> str:
    """The end of `data` as `printable` shows it, its lines joined in one."""
    lines = (line.strip() for line in data.decode("utf-8", "backslashreplace").splitlines())
    shown = printable(" | ".join(line for line in lines if line))
    return shown if len(shown) <= _CLEAN_MAX else "…" + shown[-_CLEAN_MAX:]


class Sanitizer:
    """Decodes UTF-8 piece by piece and makes control characters visible.

    Bytes that are no UTF-8 become U+FFFD; a character may be split between pieces. ESC shows
    as ``^[``, so that a sequence is text. CR LF is a line end, and so is a lone CR: it would
    let a line overwrite what was shown before it.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._after_cr = False

    def feed(self, data: bytes) -> str:
        """What to show for `data`; an unfinished character waits for the next call."""
        return self._show(self._decoder.decode(data))

    def finish(self) -> str:
        """What is left at the end. The object can be used anew after it."""
        text = self._show(self._decoder.decode(b"", final=True))
        self._decoder.reset()
        self._after_cr = False
        return text

    def _show(self, text: str) -> str:
        shown = []
        for character in text:
            if character == "\n" and self._after_cr:
                self._after_cr = False
                continue
            self._after_cr = character == "\r"
            shown.append("\n" if self._after_cr else _visible(character))
        return "".join(shown)


def sanitize(data: bytes) -> str:
    """All of `data`, made safe to show."""
    sanitizer = Sanitizer()
    return sanitizer.feed(data) + sanitizer.finish()


def _visible(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return "^" + chr(code ^ 0x40)  # as stty and cat -v show them
    return f"<U+{code:04X}>"

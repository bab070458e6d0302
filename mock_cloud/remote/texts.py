# SPDX-License-Identifier: GPL-2.0-or-later
"""Text from a node, made fit for a message."""

from __future__ import annotations

from typing import Final

_SHOWN_CHARS: Final = 600


def clean(data: bytes) -> str:
    """The end of `data` on one line, with every control and format character escaped."""
    text = data.decode("utf-8", "backslashreplace").strip()
    lines = (line.strip() for line in text.splitlines())
    joined = " | ".join(line for line in lines if line)
    shown = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in joined)
    return shown if len(shown) <= _SHOWN_CHARS else "…" + shown[-_SHOWN_CHARS:]

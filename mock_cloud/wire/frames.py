# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames on the agent's channel: a JSON header and raw bytes.

On the wire: two unsigned 32-bit big-endian integers (header length, body length), the header
as UTF-8 JSON (always an object), the body. Both sides bound what they accept, since either
may face a hostile peer.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Final, Protocol

from mock_cloud.wire.decode import Malformed, load_json

PROTOCOL_VERSION: Final = "2"
"""Of the protocol. Controller and agent must have the same."""

ACCOUNT_FILES: Final = ("/etc/passwd", "/etc/group")
"""What the answer to ``accounts`` has: numbers for the owners' names in RPM headers."""

HEADER_MAX: Final = 1 << 20
BODY_MAX: Final = 1 << 20
_LENGTHS: Final = struct.Struct(">II")

FrameHeader = dict[str, Any]


class FrameError(ValueError):
    """The peer sent something that is not a frame within the bounds."""


class FrameCut(FrameError):
    """The stream ended inside a frame: the sender, or the line, broke off."""


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def encode_frame(header: FrameHeader, body: bytes = b"") -> bytes:
    """One frame as bytes. ValueError if a bound is exceeded."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    if len(text) > HEADER_MAX or len(body) > BODY_MAX:
        raise FrameError(f"frame too large: header {len(text)}, body {len(body)} bytes")
    return _LENGTHS.pack(len(text), len(body)) + text + body


def read_frame(
    stream: _Reader, *, header_max: int = HEADER_MAX
) -> tuple[FrameHeader, bytes] | None:
    """The next frame, or None at a clean end of the stream.

    `stream.read(n)` must block until it has n bytes or the stream ends.
    Raises FrameError on a cut or malformed frame.
    """
    lengths = stream.read(_LENGTHS.size)
    if not lengths:
        return None
    if len(lengths) < _LENGTHS.size:
        raise FrameCut("the stream ended inside a frame")
    header_size, body_size = _LENGTHS.unpack(lengths)
    if header_size > header_max or body_size > BODY_MAX:
        raise FrameError(f"frame too large: header {header_size}, body {body_size} bytes")
    text = stream.read(header_size)
    body = stream.read(body_size) if body_size else b""
    if len(text) < header_size or len(body) < body_size:
        raise FrameCut("the stream ended inside a frame")
    try:
        header = load_json(text)
    except Malformed as error:
        raise FrameError("a frame's header is not JSON") from error
    if not isinstance(header, dict):
        raise FrameError("a frame's header is not an object")
    return header, body

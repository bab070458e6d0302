# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence as records: JSON lines of bounded length, gzip'd.

A record is ``["section",value]``. A section whose value is a list may come in parts, records of
one name whose lists follow each other; any other stands once. A reader never holds more than
one record that it has not checked: that is why evidence is no single JSON document.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

RECORD_MAX: Final = 1 << 20
"""Bytes of a record; the most that a process with many mappings takes is far below it."""
_TEXT_MAX: Final = 256 << 20
"""Bytes of all records: a million files of 200 bytes each, and what runs."""
PACKED_MAX: Final = 32 << 20
"""Bytes of the same once packed: half of it are digests, which nothing makes shorter."""

_PART_BYTES: Final = 64 << 10
_CHUNK_BYTES: Final = 256 << 10
_GZIP: Final = 31  # zlib's wbits for the gzip format with the largest window
_LEVEL: Final = 1  # paths and digests: higher levels cost seconds and gain little


class RecordError(ValueError):
    """The bytes are not packed records within the bounds."""


def encode_records(facts: Mapping[str, Any]) -> Iterator[bytes]:
    """The records of `facts` by section, in their order."""
    for name, value in facts.items():
        if not isinstance(value, list):
            yield f'["{name}",{_dumps(value)}]\n'.encode()
            continue
        part: list[str] = []
        size = 0
        for item in value:
            part.append(_dumps(item))
            size += len(part[-1])
            if size >= _PART_BYTES:
                yield _part(name, ",".join(part).encode())
                part, size = [], 0
        if part or not value:
            yield _part(name, ",".join(part).encode())


def encode_rows(name: str, rows: bytes, separator: bytes) -> Iterator[bytes]:
    """The records of a section whose items are JSON text already, joined by `separator`."""
    start = 0
    while start <= len(rows):
        end = rows.find(separator, start + _PART_BYTES)
        end = len(rows) if end < 0 else end
        yield _part(name, rows[start:end].replace(separator, b","))
        start = end + len(separator)


def _part(name: str, items: bytes) -> bytes:
    return b'["%b",[%b]]\n' % (name.encode(), items)


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def pack(text: bytes) -> Iterator[bytes]:
    """`text` gzip'd, in pieces of at most half a MiB or so."""
    squeeze = zlib.compressobj(_LEVEL, wbits=_GZIP)
    held = bytearray()
    for start in range(0, len(text), _CHUNK_BYTES):
        held += squeeze.compress(text[start : start + _CHUNK_BYTES])
        if len(held) >= _CHUNK_BYTES:
            yield bytes(held)
            held.clear()
    yield bytes(held) + squeeze.flush()


def unpack(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The text of `pack`, in chunks that do not end where records do. RecordError."""
    inflate = zlib.decompressobj(wbits=_GZIP)
    packed = size = 0
    for piece in pieces:
        packed += len(piece)
        data, is_full = piece, False
        while data or is_full:
            try:
                chunk = inflate.decompress(data, _CHUNK_BYTES)
            except zlib.error as error:
                raise RecordError("not gzip data") from error
            data, is_full = inflate.unconsumed_tail, len(chunk) == _CHUNK_BYTES
            size += len(chunk)
            if size > _TEXT_MAX or packed > PACKED_MAX:
                raise RecordError("too large")
            if inflate.unused_data:
                raise RecordError("there is more after its end")
            yield chunk
    if not inflate.eof:
        raise RecordError("cut short")


def split_records(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Records, without their newlines. RecordError, also if the last one has none."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if len(line) > RECORD_MAX:
                raise RecordError(f"a record of more than {RECORD_MAX} bytes")
            yield line
        if len(rest) > RECORD_MAX:
            raise RecordError(f"a record of more than {RECORD_MAX} bytes")
    if rest:
        raise RecordError("a record without an end")

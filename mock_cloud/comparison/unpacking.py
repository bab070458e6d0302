# SPDX-License-Identifier: GPL-2.0-or-later
"""The payload of a package file, unpacked as it is read: never more of it in memory than a block.

A payload is a cpio archive (newc; "07070X" with file numbers in format 6 and for files over
4 GiB: rpm's lib/cpio.cc), compressed as PAYLOADCOMPRESSOR says.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Final, Protocol

from mock_cloud.wire.rpmfile import CPIO_MAGIC
from mock_cloud.wire.rpmheader import Header, HeaderError, Tag

ZSTD_MODULE: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
try:
    zstd: Any = importlib.import_module(ZSTD_MODULE)
except ImportError:
    zstd = None

PAYLOAD_MAX: Final = 64 << 30
"""Bytes of an unpacked payload; more is refused."""

_BLOCK: Final = 1 << 20


class CannotUnpack(HeaderError):
    """Python here has no module for the payload's compression."""


class _Inflater(Protocol):
    """What lzma, bz2 and zstd have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gzip:
    """zlib's object with the others' ways."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        found = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        self.needs_input = len(found) < max_length and not self._zlib.unconsumed_tail
        return found


class _Plain:
    """A payload that is not compressed: it ends with the file."""

    eof = False
    unused_data = b""
    needs_input = True

    def decompress(self, data: bytes, max_length: int) -> bytes:
        self.eof = not data
        return data


_INFLATERS: Final[dict[str, Callable[[], _Inflater]]] = {
    "": _Plain,
    "gzip": _Gzip,
    "xz": lzma.LZMADecompressor,
    "lzma": lzma.LZMADecompressor,
    "bzip2": bz2.BZ2Decompressor,
}
_DAMAGED: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error)
if zstd is not None:
    _INFLATERS["zstd"] = zstd.ZstdDecompressor
    _DAMAGED += (zstd.ZstdError,)


def find_compressor(header: Header, start: bytes) -> str:
    """What the payload that begins with `start` is packed with; empty if it is not.

    rpm's gzip, the default, passes plain data through.
    """
    return "" if start.startswith(CPIO_MAGIC) else header.string(Tag.PAYLOADCOMPRESSOR) or "gzip"


class UnpackedPayload:
    """The bytes of a payload, in order. HeaderError for one that is damaged, or longer than that.

    A payload ends where its compressed form does: bytes after it are refused. CannotUnpack.
    """

    def __init__(self, header: Header, packed: BinaryIO) -> None:
        """`packed` stands at the payload's first byte, and the payload is the rest of it."""
        first = packed.read(_BLOCK)
        kind = find_compressor(header, first)
        if kind not in _INFLATERS:
            raise CannotUnpack(
                f"its payload is packed with {kind}, which Python here cannot"
                f" unpack{f' without {ZSTD_MODULE}' if kind == 'zstd' else ''}"
            )
        self._inflater = _INFLATERS[kind]()
        self._packed = packed
        self._next = first
        self._ready = b""
        self._total = 0

    def read(self, count: int) -> bytes:
        """`count` bytes, fewer only at the end."""
        parts = []
        while count > 0 and (self._ready or self._fill()):
            part, self._ready = self._ready[:count], self._ready[count:]
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _fill(self) -> bool:
        while not self._ready and not self._inflater.eof:
            try:
                self._ready = self._inflater.decompress(self._take(), _BLOCK)
            except _DAMAGED as error:
                raise HeaderError(f"the payload cannot be unpacked: {error}") from error
            self._total += len(self._ready)
            if self._total > PAYLOAD_MAX:
                raise HeaderError(f"the payload cannot be unpacked: it is over {PAYLOAD_MAX} bytes")
            if self._inflater.eof and (
                self._inflater.unused_data or self._next or self._packed.read(1)
            ):
                raise HeaderError("the payload cannot be unpacked: more bytes follow its end")
        return bool(self._ready)

    def _take(self) -> bytes:
        """What the inflater gets next: nothing while it has enough."""
        if not self._inflater.needs_input:
            return b""
        data, self._next = self._next, b""
        data = data or self._packed.read(_BLOCK)
        if not data and not isinstance(self._inflater, _Plain):
            raise EOFError("it ends too early")
        return data

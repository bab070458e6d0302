# SPDX-License-Identifier: GPL-2.0-or-later
"""What a package's payload holds: a digest of all of it but mtimes, and one of each file."""

from __future__ import annotations

import hashlib
import re
import stat
from dataclasses import field
from typing import BinaryIO, Final

from mock_cloud.comparison.unpacking import UnpackedPayload
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.rpmheader import Header, HeaderError, Tag, Type

_NEWC: Final = (b"070701", b"070702")
_STRIPPED: Final = b"07070X"
_MAGIC_BYTES: Final = 6
_NEWC_BYTES: Final = 110
_MTIME: Final = slice(46, 54)
_STRIPPED_BYTES: Final = 14
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{8}")
_TRAILER: Final = b"TRAILER!!!"
_NAME_MAX: Final = 1 << 16
_FILES_MAX: Final = 1 << 20
_BLOCK: Final = 1 << 20
_GHOST: Final = 1 << 6  # RPMFILE_GHOST


@dataclass(frozen=True, slots=True)
class PayloadMember:
    """The sha256 (hex) of a file's data; its mode, None where the payload has none."""

    sha256: str
    mode: int | None

    def is_like(self, other: PayloadMember | None) -> bool:
        """Whether the other file is the same, as far as both payloads tell."""
        if other is None or self.sha256 != other.sha256:
            return False
        return self.mode == other.mode or None in (self.mode, other.mode)


@dataclass(frozen=True, slots=True)
class PayloadContents:
    """`digest` is the sha256 (hex) of the unpacked payload with the mtimes in it blanked.

    `files` are its members by their path in the package; of names of one inode, only the last has
    data.
    """

    digest: str
    files: dict[str, PayloadMember] = field(repr=False)


def read_contents(header: Header, packed: BinaryIO) -> PayloadContents:
    """What the payload at the place of `packed` holds. HeaderError, also for more than one cpio."""
    stream = UnpackedPayload(header, packed)
    total = hashlib.sha256()
    files: dict[str, PayloadMember] = {}
    names: list[str] | None = None
    sizes: list[int] = []
    mode: int | None
    while True:
        magic = _exactly(stream, _MAGIC_BYTES)
        if magic == _STRIPPED:
            head = magic + _exactly(stream, _STRIPPED_BYTES - _MAGIC_BYTES)
            number = _hex(head, 6)
            head += _exactly(stream, -len(head) % 4)
            if names is None:
                names, sizes = _names(header), _sizes(header)
            if number >= min(len(names), len(sizes)):
                raise HeaderError("the payload names a file that the header has not")
            name, size, mode = names[number], sizes[number], None
        elif magic in _NEWC:
            head = magic + _exactly(stream, _NEWC_BYTES - _MAGIC_BYTES)
            mode, size, length = (_hex(head, place) for place in (14, 54, 94))
            if length > _NAME_MAX:
                raise HeaderError("the payload is not a cpio archive: a name is too long")
            padded = length + -(_NEWC_BYTES + length) % 4
            text = _exactly(stream, padded)
            name = text[:length].rstrip(b"\0").decode("utf-8", "surrogateescape")
            head = head[: _MTIME.start] + head[_MTIME.stop :] + text
            if name == _TRAILER.decode():
                total.update(head)
                return _ended(stream, total.hexdigest(), files)
        else:
            raise HeaderError("the payload is not a cpio archive")
        total.update(head)
        name = name.removeprefix(".") if name.startswith("./") else name
        if name in files or len(files) >= _FILES_MAX:
            raise HeaderError(f"the payload has {name[:200]!a} twice, or too many files")
        one = hashlib.sha256()
        left = size
        while left:
            data = _exactly(stream, min(left, _BLOCK))
            one.update(data)
            total.update(data)
            left -= len(data)
        total.update(_exactly(stream, -size % 4))
        files[name] = PayloadMember(one.hexdigest(), mode)


def _ended(
    stream: UnpackedPayload, digest: str, files: dict[str, PayloadMember]
) -> PayloadContents:
    """After the trailer there is nothing, but zeros up to a block."""
    rest = stream.read(_BLOCK)
    if rest.strip(b"\0") or stream.read(1):
        raise HeaderError("the payload goes on after its end")
    return PayloadContents(digest, files)


def _exactly(stream: UnpackedPayload, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise HeaderError("the payload is not a cpio archive: it cannot be unpacked to its end")
    return data


def _hex(data: bytes, at: int) -> int:
    digits = data[at : at + 8]
    if not _HEX.fullmatch(digits):
        raise HeaderError("the payload is not a cpio archive")
    return int(digits, 16)


def _names(header: Header) -> list[str]:
    """The files' paths, in the header's order."""
    directories = header.strings(Tag.DIRNAMES)
    where = header.integers(Tag.DIRINDEXES, Type.INT32)
    bases = header.strings(Tag.BASENAMES)
    if len(where) != len(bases) or any(index >= len(directories) for index in where):
        raise HeaderError("DIRINDEXES do not fit BASENAMES and DIRNAMES")
    return [directories[index] + base for index, base in zip(where, bases, strict=True)]


def _sizes(header: Header) -> list[int]:
    """How many bytes of each file a payload without sizes has: rpmfiArchiveRead in rpm's rpmfi.c.

    Regular files, of several names of one inode the last; links, whose data is their target.
    """
    sizes = header.integers(Tag.LONGFILESIZES, Type.INT64) or header.integers(
        Tag.FILESIZES, Type.INT32
    )
    modes = header.integers(Tag.FILEMODES, Type.INT16)
    flags = header.integers(Tag.FILEFLAGS, Type.INT32)
    devices = header.integers(Tag.FILEDEVICES, Type.INT32)
    inodes = header.integers(Tag.FILEINODES, Type.INT32)
    if len({len(sizes), len(modes), len(flags), len(devices), len(inodes)}) > 1:
        raise HeaderError("FILESIZES, FILEMODES, FILEFLAGS and FILEINODES are not as many")
    last = {}
    for number, (mode, flag) in enumerate(zip(modes, flags, strict=True)):
        if stat.S_ISREG(mode) and not flag & _GHOST:
            last[devices[number], inodes[number]] = number
    found = []
    for number, (size, mode) in enumerate(zip(sizes, modes, strict=True)):
        is_last = last.get((devices[number], inodes[number]), number) == number
        has_data = stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and is_last)
        found.append(size if has_data else 0)
    return found

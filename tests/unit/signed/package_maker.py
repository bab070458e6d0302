# SPDX-License-Identifier: GPL-2.0-or-later
"""Signed headers of packages, file by file, with facts that no rpmbuild here would write."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from mock_cloud.wire.rpmheader import MAGIC, Tag, Type
from tests.unit.signed.openpgp_maker import EDDSA, Maker, packet

KEY = Maker(EDDSA, seed=4)
ALL = 0xFFFFFFFF
NO_DIGEST = ALL & ~0x23
"""%verify(not md5 size mtime)"""
CONFIG = 1
Entry = tuple[int, int, bytes, int]


@dataclass(frozen=True)
class File:
    """A file of a package; `text` is what it holds, or the target of a link."""

    path: str
    text: str = ""
    mode: int = 0o100644
    verify: int = ALL
    flags: int = 0
    caps: str = ""

    @property
    def is_plain(self) -> bool:
        return self.mode & 0o170000 == 0o100000

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def texts(tag: int, values: Sequence[str]) -> Entry:
    data = b"".join(value.encode() + b"\0" for value in values)
    return tag, Type.STRING_ARRAY, data, len(values)


def numbers(tag: int, values: Sequence[int], kind: int = Type.INT32) -> Entry:
    code = {Type.INT16: "H", Type.INT32: "I"}[Type(kind)]
    return tag, kind, struct.pack(f">{len(values)}{code}", *values), len(values)


def text(tag: int, value: str) -> Entry:
    return tag, Type.STRING, value.encode() + b"\0", 1


def package(name: str, files: Sequence[File], *, algorithm: int = 8, by: Maker = KEY) -> bytes:
    """The blob of a signed package, as a database has it."""
    entries = [text(Tag.NAME, name), text(Tag.VERSION, "1"), text(Tag.RELEASE, "1")]
    entries.append(text(Tag.ARCH, "noarch"))
    digests = [one.sha256 if one.is_plain else "" for one in files]
    links = ["" if one.is_plain or one.mode & 0o040000 == 0o040000 else one.text for one in files]
    if algorithm == 1:
        digests = [one and hashlib.md5(one.encode()).hexdigest() for one in digests]  # noqa: S324
    entries += [
        numbers(Tag.FILESIZES, [len(one.text) if one.is_plain else 0 for one in files]),
        numbers(Tag.FILEMODES, [one.mode for one in files], Type.INT16),
        numbers(Tag.FILERDEVS, [0 for _ in files], Type.INT16),
        texts(Tag.FILEDIGESTS, digests),
        texts(Tag.FILELINKTOS, links),
        numbers(Tag.FILEFLAGS, [one.flags for one in files]),
        texts(Tag.FILEUSERNAME, ["root" for _ in files]),
        texts(Tag.FILEGROUPNAME, ["root" for _ in files]),
        numbers(Tag.FILEVERIFYFLAGS, [one.verify for one in files]),
        texts(Tag.FILELANGS, ["" for _ in files]),
        numbers(Tag.DIRINDEXES, range(len(files))),
        texts(Tag.BASENAMES, [one.path.rpartition("/")[2] for one in files]),
        texts(Tag.DIRNAMES, [one.path.rpartition("/")[0] + "/" for one in files]),
    ]
    if any(one.caps for one in files):
        entries.append(texts(Tag.FILECAPS, [one.caps for one in files]))
    if algorithm != 1:
        entries.append(numbers(Tag.FILEDIGESTALGO, [algorithm]))
    return _signed(entries, by)


def package_file(
    name: str,
    payload: bytes,
    digests: Sequence[Entry],
    by: Maker = KEY,
    *,
    is_added: bool = False,
) -> bytes:
    """A package file whose header has these digests of its payload.

    `is_added`: its signature stands outside of the signature header's region, as rpmsign puts it.
    """
    entries = [text(Tag.NAME, name), text(Tag.VERSION, "1"), text(Tag.RELEASE, "1")]
    entries.append(text(Tag.ARCH, "noarch"))
    header = MAGIC + _blob(*_region(Tag.HEADERIMMUTABLE, [*entries, *digests]))
    made = packet(2, by.sign(header))
    entry = (Tag.RSAHEADER, Type.BIN, made, len(made))
    other = text(Tag.SHA256HEADER, hashlib.sha256(header).hexdigest())
    index, data = _region(Tag.HEADERSIGNATURES, [other if is_added else entry])
    if is_added:
        index.append((Tag.RSAHEADER, Type.BIN, len(data), len(made)))
        data += made
    signature = _blob(index, data)
    lead = bytes.fromhex("edabeedb") + bytes(92)
    return lead + MAGIC + signature + bytes(-len(signature) % 8) + header + payload


def _region(region: Tag, entries: Sequence[Entry]) -> tuple[list[tuple[int, int, int, int]], bytes]:
    index: list[tuple[int, int, int, int]] = []
    data = b""
    for tag, kind, value, count in entries:
        data += b"\0" * (-len(data) % {Type.INT16: 2, Type.INT32: 4}.get(Type(kind), 1))
        index.append((tag, kind, len(data), count))
        data += value
    index.insert(0, (region, Type.BIN, len(data), 16))
    return index, data + struct.pack(">iIii", region, Type.BIN, -16 * len(index), 16)


def _signed(entries: Sequence[Entry], by: Maker) -> bytes:
    index, data = _region(Tag.HEADERIMMUTABLE, entries)
    signature = packet(2, by.sign(MAGIC + _blob(index, data)))
    index.append((Tag.RSAHEADER, Type.BIN, len(data), len(signature)))
    return _blob(index, data + signature)


def _blob(index: Sequence[tuple[int, int, int, int]], data: bytes) -> bytes:
    packed = b"".join(struct.pack(">iIii", *one) for one in index)
    return struct.pack(">II", len(index), len(data)) + packed + data

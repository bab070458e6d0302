# SPDX-License-Identifier: GPL-2.0-or-later
"""Tree archives for tests: written byte by byte, as a hostile node would, or packed, or listed."""

from __future__ import annotations

import struct
from pathlib import Path

from mock_cloud.wire.tree_archive import Kind, Member, Reader, Writer

MAGIC = b"mock-cloud tree 1\n"
UP = b"u"
END = b"."


def facts(name: bytes, *, mode: int = 0o755, mtime_ns: int = 0, owner: int = 0) -> bytes:
    return struct.pack(">BHqH", owner, mode, mtime_ns, len(name)) + name


def directory(name: bytes, *inside: bytes, **given: int) -> bytes:
    return b"d" + facts(name, **given) + b"".join(inside) + UP


def file(name: bytes, data: bytes = b"evil", **given: int) -> bytes:
    return b"f" + facts(name, **given) + struct.pack(">I", len(data)) + data + bytes(4 * bool(data))


def link(name: bytes, target: bytes) -> bytes:
    return b"l" + facts(name) + struct.pack(">H", len(target)) + target


def blob(name: bytes, sha256: bytes = bytes(32)) -> bytes:
    return b"b" + facts(name) + sha256


def archive(*members: bytes) -> bytes:
    return MAGIC + b"".join(members) + END


def pack(path: Path, *sources: Path) -> Path:
    """Pack files and directories under their own names into the archive at `path`."""
    with path.open("wb") as stream:
        writer = Writer(stream)
        for source in sources:
            writer.add(source.name, str(source))
        writer.close()
    assert writer.problems == []
    return path


def listing(path: Path) -> dict[str, tuple[Member, bytes]]:
    """Each member by its path, with a file's contents."""
    found, parents = {}, []
    with path.open("rb") as stream:
        reader = Reader(stream)
        for member in reader:
            if member.kind is Kind.UP:
                parents.pop()
                continue
            found["/".join([*parents, member.name])] = (member, b"".join(reader.chunks()))
            if member.kind is Kind.DIRECTORY:
                parents.append(member.name)
    return found

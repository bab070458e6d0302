# SPDX-License-Identifier: GPL-2.0-or-later
"""Just enough of ELF to pack programs: their loader, their libraries, and less of them.

Offsets are of the System V ABI, "Object Files" and "Program Loading" (64-bit objects).
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Final

from mock_cloud import process
from mock_cloud.errors import InputError

_MAGIC: Final = b"\x7fELF"
_CLASS64: Final = 2
_HEADER_BYTES: Final = 64
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_RPATH, _DT_RUNPATH = 0, 15, 29
_LISTED: Final = re.compile(r"\s*(\S+) => (\S+) \(0x[0-9a-f]+\)")
_TIMEOUT_S: Final = 30.0

# A path below a file does not exist, whatever the node's disk holds.
_LOADER_FILES: Final = {
    b"/etc/ld.so.preload": b"/dev/null/.preload",
    b"/etc/ld.so.cache\0": b"/dev/null/.cache\0",
}
# Whole strings such as /lib/x86_64-linux-gnu/ and /usr/lib64/ (SYSTEM_DIRS of glibc).
_LOADER_DIRECTORY: Final = re.compile(
    rb"(?<![\x20-\x7e])(?:/usr)?/lib(?:32|64|x32)?/(?:[\w.-]+/)?(?=\0)"
)

_Segment = tuple[int, int, int]
"""Type, offset in the file, size in the file (bytes)."""


def find_loader(program: Path) -> Path:
    """The dynamic loader that `program` names (PT_INTERP). InputError: it names none."""
    data = program.read_bytes()
    for kind, offset, size in _segments(data, program):
        if kind == _PT_INTERP:
            return Path(data[offset : offset + size].rstrip(b"\0").decode())
    raise InputError(
        f"{program} is not dynamically linked",
        hint="the toolkit is packed from a python that uses the system's loader",
    )


def list_libraries(loader: Path, binary: Path) -> dict[str, Path]:
    """The libraries that `loader` would load for `binary`, by the name they are asked for.

    Raises process.CommandFailed, InputError for a library that is missing.
    """
    text = process.run([str(loader), "--list", str(binary)], timeout_s=_TIMEOUT_S).decode()
    found = {}
    for line in text.splitlines():
        if line.endswith("not found"):
            raise InputError(f"{binary} needs a library that is missing: {line.strip()}")
        match = _LISTED.fullmatch(line)
        # The loader names itself with its full path; it is packed on its own.
        if match and "/" not in match[1]:
            found[match[1]] = Path(match[2])
    return found


def slim(data: bytes, path: Path) -> bytes:
    """`data` without search paths of its own and without what only a debugger reads.

    DT_RPATH would be searched before, DT_RUNPATH after the toolkit's own libraries; both name
    places that on a node belong to the node. Sections are not used at run time: whatever lies
    behind the last loaded byte goes. Objects that are not 64-bit are left as they are.
    """
    if data[:4] != _MAGIC or len(data) < _HEADER_BYTES or data[4] != _CLASS64:
        return data
    order = _order(data)
    end = 0
    slimmed = bytearray(data)
    table, size, count = _segment_table(data)
    for kind, offset, length in _segments(data, path):
        if kind == _PT_DYNAMIC:
            slimmed[offset : offset + length] = _without_paths(
                data[offset : offset + length], order
            )
        if kind == _PT_LOAD:
            end = max(end, offset + length)
    del slimmed[max(end, table + size * count) :]
    struct.pack_into(f"{order}Q", slimmed, 0x28, 0)  # e_shoff
    struct.pack_into(f"{order}HH", slimmed, 0x3C, 0, 0)  # e_shnum, e_shstrndx
    return bytes(slimmed)


def confine_loader(data: bytes, path: Path) -> bytes:
    """The dynamic loader `data`, slimmed, which loads nothing that it was not told to.

    No option turns off /etc/ld.so.preload, which would put the node's code into the agent, and
    none the system's library directories, searched last. So the names of both are replaced in
    the loader itself, by names of the same length that cannot exist or hold no libraries.
    Raises InputError for a loader without them: not glibc's, or one that this cannot confine.
    """
    confined = bytearray(slim(data, path))
    for name, instead in _LOADER_FILES.items():
        if confined.count(name) != 1:
            raise InputError(
                f"{path} is not a loader that can be confined: {name.decode()} is not in it once",
                hint="the toolkit is packed from a python of a system with the GNU C library",
            )
        at = confined.index(name)
        confined[at : at + len(name)] = instead
    found = list(_LOADER_DIRECTORY.finditer(confined))
    if not found:
        raise InputError(f"{path} is not a loader that can be confined: it searches no directory")
    for match in found:
        confined[match.start() : match.end()] = b"/sys/".ljust(len(match[0]), b"/")
    return bytes(confined)


def confine_libc(data: bytes, path: Path) -> bytes:
    """The C library `data`, slimmed, which does not read the node's time zone: it has UTC."""
    return slim(data, path).replace(b"\0/etc/localtime\0", b"\0/dev/null/.loc\0")


def _without_paths(dynamic: bytes, order: str) -> bytes:
    entries = struct.iter_unpack(f"{order}qQ", dynamic)
    kept = [entry for entry in entries if entry[0] not in (_DT_RPATH, _DT_RUNPATH)]
    text = b"".join(struct.pack(f"{order}qQ", *entry) for entry in kept)
    return text.ljust(len(dynamic), b"\0")  # DT_NULL


def _order(data: bytes) -> str:
    return "<" if data[5] == 1 else ">"


def _segment_table(data: bytes) -> tuple[int, int, int]:
    """Offset, entry size and number of the program headers."""
    order = _order(data)
    (offset,) = struct.unpack_from(f"{order}Q", data, 0x20)
    size, count = struct.unpack_from(f"{order}HH", data, 0x36)
    return offset, size, count


def _segments(data: bytes, path: Path) -> list[_Segment]:
    if data[:4] != _MAGIC or len(data) < _HEADER_BYTES or data[4] != _CLASS64:
        raise InputError(f"{path} is not a 64-bit ELF object")
    order = _order(data)
    offset, size, count = _segment_table(data)
    found = []
    try:
        for number in range(count):
            at = offset + number * size
            kind, _, start = struct.unpack_from(f"{order}IIQ", data, at)
            (length,) = struct.unpack_from(f"{order}Q", data, at + 0x20)
            found.append((kind, start, length))
    except struct.error as error:
        raise InputError(f"{path} is a damaged ELF object") from error
    return found

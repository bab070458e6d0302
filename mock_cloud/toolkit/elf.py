# SPDX-License-Identifier: GPL-2.0-or-later
"""Just enough of ELF to pack programs: their loader, their libraries, and less of them.

Offsets are of the System V ABI, "Object Files" and "Program Loading"; 64-bit objects in the
psABI's ELF-64 form.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mock_cloud import process
from mock_cloud.errors import InputError
from mock_cloud.wire.dataclass import dataclass

_MAGIC: Final = b"\x7fELF"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 15, 29
_LISTED: Final = re.compile(r"\s*(\S+) => (\S+) \(0x[0-9a-f]+\)")
_TIMEOUT_S: Final = 30.0
_NAME_MAX: Final = 255

# A path below a file does not exist, whatever the node's disk holds.
_LOADER_FILES: Final = {
    b"/etc/ld.so.preload": b"/dev/null/.preload",
    b"/etc/ld.so.cache\0": b"/dev/null/.cache\0",
}
# Whole strings such as /lib/x86_64-linux-gnu/ and /usr/lib64/ (SYSTEM_DIRS of glibc).
_LOADER_DIRECTORY: Final = re.compile(
    rb"(?<![\x20-\x7e])(?:/usr)?/lib(?:32|64|x32)?/(?:[\w.-]+/)?(?=\0)"
)


@dataclass(frozen=True, slots=True)
class _Form:
    """Where a class of objects keeps what; `word` and `entry` are struct's letters."""

    header_bytes: int
    tables: str  # e_phoff, e_shoff
    tables_at: int
    counts_at: int  # e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
    segment: str  # p_offset, p_vaddr, p_paddr, p_filesz, in this order
    segment_at: int
    dynamic: str


_FORMS: Final = {
    1: _Form(52, "II", 0x1C, 0x2A, "IIII", 4, "iI"),
    2: _Form(64, "QQ", 0x20, 0x36, "QQQQ", 8, "qQ"),
}
_BYTE_ORDERS: Final = {1: "<", 2: ">"}


@dataclass(frozen=True, slots=True)
class _Segment:
    """A program header: type, place in the file, place in memory, size in the file (bytes)."""

    kind: int
    offset: int
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class _Object:
    """A parsed object; `table_end` is where its program headers end in the file."""

    form: _Form
    order: str
    bits: int
    machine: int
    segments: tuple[_Segment, ...]
    table_end: int


def is_elf(data: bytes) -> bool:
    """Whether `data` begins as an ELF object of a kind known here does."""
    form = _FORMS.get(data[4]) if data[:4] == _MAGIC and len(data) > 5 else None
    return form is not None and data[5] in _BYTE_ORDERS and len(data) >= form.header_bytes


def machine_of(data: bytes, path: Path) -> tuple[int, int, bool]:
    """e_machine, 32 or 64, and whether it is little-endian. InputError."""
    found = _parse(data, path)
    return found.machine, found.bits, found.order == "<"


def find_loader(program: Path, data: bytes | None = None) -> Path:
    """The dynamic loader that `program` names (PT_INTERP). InputError: it names none."""
    data = program.read_bytes() if data is None else data
    for segment in _parse(data, program).segments:
        if segment.kind == _PT_INTERP:
            name = data[segment.offset : segment.offset + segment.size].rstrip(b"\0")
            return Path(name.decode("utf-8", "replace"))
    raise InputError(
        f"{program} is not dynamically linked",
        hint="the toolkit is packed from a python that uses the system's loader",
    )


def list_needed(data: bytes, path: Path) -> list[str]:
    """The libraries that the object asks for by name (DT_NEEDED), in order. InputError."""
    found = _parse(data, path)
    entries = list(_dynamic(data, found))
    tables = [value for tag, value in entries if tag == _DT_STRTAB]
    if not tables:
        return []
    start = _place(found, tables[0])
    needed = []
    for tag, value in entries:
        if tag == _DT_NEEDED:
            name = data[start + value : start + value + _NAME_MAX].split(b"\0", 1)[0]
            if start < 0 or not re.fullmatch(rb"[\w.+-]+", name):
                raise InputError(f"{path} is a damaged ELF object: a library without a name")
            needed.append(name.decode())
    return needed


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
    behind the last loaded byte goes. What is not an ELF object is left as it is.
    """
    if not is_elf(data):
        return data
    found = _parse(data, path)
    end = found.table_end
    slimmed = bytearray(data)
    for segment in found.segments:
        if segment.kind == _PT_DYNAMIC:
            kept = [
                struct.pack(f"{found.order}{found.form.dynamic}", *entry)
                for entry in _dynamic(data, found)
                if entry[0] not in (_DT_RPATH, _DT_RUNPATH)
            ]
            text = b"".join(kept).ljust(segment.size, b"\0")  # DT_NULL
            slimmed[segment.offset : segment.offset + segment.size] = text
        if segment.kind == _PT_LOAD:
            end = max(end, segment.offset + segment.size)
    del slimmed[end:]
    tables_at, width = found.form.tables_at, struct.calcsize(f"={found.form.tables[0]}")
    struct.pack_into(f"{found.order}{found.form.tables[1]}", slimmed, tables_at + width, 0)
    struct.pack_into(f"{found.order}HH", slimmed, found.form.counts_at + 6, 0, 0)  # sections
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


def _parse(data: bytes, path: Path) -> _Object:
    if not is_elf(data):
        raise InputError(f"{path} is not an ELF object")
    form, order = _FORMS[data[4]], _BYTE_ORDERS[data[5]]
    (machine,) = struct.unpack_from(f"{order}H", data, 0x12)
    table, _ = struct.unpack_from(f"{order}{form.tables}", data, form.tables_at)
    size, count = struct.unpack_from(f"{order}HH", data, form.counts_at)
    segments = []
    for number in range(count):
        at = table + number * size
        try:
            (kind,) = struct.unpack_from(f"{order}I", data, at)
            offset, address, _, length = struct.unpack_from(
                f"{order}{form.segment}", data, at + form.segment_at
            )
        except struct.error as error:
            raise InputError(f"{path} is a damaged ELF object") from error
        if offset + length > len(data) and kind in (_PT_LOAD, _PT_DYNAMIC, _PT_INTERP):
            raise InputError(f"{path} is a damaged ELF object: it is cut off")
        segments.append(_Segment(kind, offset, address, length))
    bits = 32 if form is _FORMS[1] else 64
    return _Object(form, order, bits, machine, tuple(segments), table + size * count)


def _dynamic(data: bytes, found: _Object) -> Iterator[tuple[int, int]]:
    """Tag and value of each entry of the dynamic section, up to its end."""
    entry = struct.Struct(f"{found.order}{found.form.dynamic}")
    for segment in found.segments:
        if segment.kind == _PT_DYNAMIC:
            whole = segment.size - segment.size % entry.size
            for tag, value in entry.iter_unpack(data[segment.offset : segment.offset + whole]):
                if tag == _DT_NULL:
                    break
                yield tag, value


def _place(found: _Object, address: int) -> int:
    """The offset in the file of what is loaded at `address`; -1 for nothing of the file."""
    for segment in found.segments:
        if segment.kind == _PT_LOAD and 0 <= address - segment.address < segment.size:
            return address - segment.address + segment.offset
    return -1

# SPDX-License-Identifier: GPL-2.0-or-later
"""A process's executable memory: which files are mapped, and whether it was patched.

A page of a private file mapping is either the file's own page in the page cache, or a copy
made when somebody wrote to it. /proc/PID/pagemap tells which (Documentation/admin-guide/mm/
pagemap.rst: bit 61), so only copies have to be compared with the file. Without pagemap every
page is compared.
"""

from __future__ import annotations

import functools
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import field
from typing import Final

from mock_cloud.agent.measure import files, opening, procfs
from mock_cloud.agent.measure.procfs import Mapping
from mock_cloud.agent.measure.walk import Unreadable, errno_name
from mock_cloud.wire.dataclass import dataclass

_PAGE: Final = os.sysconf("SC_PAGESIZE")
_ENTRIES_BLOCK: Final = 1 << 16
_MAPS_MAX: Final = 64 << 20
_ELF_CLASS_END: Final = 5  # magic and EI_CLASS
_PRESENT, _SWAPPED, _FILE_PAGE = 0x80, 0x40, 0x20  # bits 63, 62, 61: an entry's highest byte
_IS_COPY: Final = bytes(
    1 if byte & (_PRESENT | _SWAPPED) and not byte & _FILE_PAGE else 0 for byte in range(256)
)


@dataclass(slots=True)
class Digests:
    """sha256 of open files, each inode hashed once as long as it does not change."""

    _known: dict[tuple[int, int, int, int], str] = field(default_factory=dict)
    _block: memoryview = field(default_factory=lambda: memoryview(bytearray(256 << 10)))

    def of(self, fd: int) -> str | None:
        """In hex; None if the file changed meanwhile. OSError."""
        facts = os.fstat(fd)
        key = (facts.st_dev, facts.st_ino, facts.st_ctime_ns, facts.st_size)
        if key not in self._known:
            digest = files.hash_stream(fd, facts.st_size, self._block)
            if digest is None:
                return None
            self._known[key] = digest
        return self._known[key]


@dataclass(slots=True)
class TextFacts:
    """`maps`: path, deleted, sha256 of each mapped file; `patched`: paths; a count."""

    maps: list[tuple[str, bool, str | None]] = field(default_factory=list)
    anonymous_exec: int = 0
    patched: list[str] = field(default_factory=list)


class TextChanged(Exception):
    """A process does not have the mappings any more that it had: it may run another program."""


def read_mappings(pid: int) -> list[Mapping]:
    """The executable mappings of process `pid`. OSError."""
    return procfs.parse_executable_maps(procfs.read_bounded(f"/proc/{pid}/maps", _MAPS_MAX))


def measure_text(
    pid: int, mappings: list[Mapping], digests: Digests, unreadable: list[Unreadable]
) -> TextFacts:
    """The facts on the executable `mappings` of process `pid`.

    ProcessLookupError: it ended. TextChanged, if that is why something could not be read.
    """
    facts = TextFacts()
    for mapping in mappings:
        facts.anonymous_exec += mapping.is_anonymous and not mapping.is_kernel_code
        try:
            _measure_mapped(pid, mapping, digests, facts)
        except ProcessLookupError:
            raise
        except FileNotFoundError:
            if not os.path.exists(f"/proc/{pid}"):
                raise ProcessLookupError from None  # else it was unmapped since it was listed
        except OSError as error:
            if read_mappings(pid) != mappings:
                raise TextChanged from error
            unreadable.append((_map_path(pid, mapping), errno_name(error)))
            if mapping.is_file:
                facts.maps.append((mapping.path, mapping.deleted, None))
    return facts


def _measure_mapped(pid: int, mapping: Mapping, digests: Digests, facts: TextFacts) -> None:
    """Add one mapping to `facts`. OSError."""
    if mapping.is_kernel_code:
        if mapping.path == "[vdso]" and _vdso_differs(pid, mapping):
            facts.patched.append(mapping.path)
        return
    if not mapping.is_file:
        return
    fd = _open_mapped(pid, mapping)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            facts.anonymous_exec += 1  # a private mapping of /dev/zero is plain memory
            return
        row = (mapping.path, mapping.deleted, digests.of(fd))
        if row not in facts.maps:
            facts.maps.append(row)
        if mapping.path not in facts.patched and _is_patched(pid, mapping, fd):
            facts.patched.append(mapping.path)
    finally:
        os.close(fd)


def _map_path(pid: int, mapping: Mapping) -> str:
    return f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"


def _open_mapped(pid: int, mapping: Mapping) -> int:
    """The mapped file itself, whatever its name leads to by now."""
    try:
        return os.open(_map_path(pid, mapping), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError:
        # map_files asks for more than ptrace rights; by name then, if it is the same inode.
        fd = os.open(f"/proc/{pid}/root{mapping.path}", opening.FILE)
        if os.fstat(fd).st_ino == mapping.inode:
            return fd
        os.close(fd)
        raise


def _is_patched(pid: int, mapping: Mapping, fd: int) -> bool:
    """Whether a page of `mapping` differs from the file at `fd`. OSError."""
    if mapping.permissions.endswith("s"):
        return False  # shared: the pages are the file's
    for address in _copied_pages(pid, mapping):
        mapped = _read_memory(pid, address, _PAGE)
        on_disk = os.pread(fd, _PAGE, mapping.offset + address - mapping.start)
        if mapped != on_disk.ljust(_PAGE, b"\0"):
            # Not if something else was mapped there in the meantime.
            return mapping in read_mappings(pid)
    return False


def _read_memory(pid: int, address: int, size_bytes: int) -> bytes:
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(memory, size_bytes, address)
    finally:
        os.close(memory)
    if not data:
        raise ProcessLookupError  # its memory is gone: it ended
    return data


def _copied_pages(pid: int, mapping: Mapping) -> Iterator[int]:
    """Addresses of pages that are not the file's own; of all pages, if nothing tells."""
    try:
        pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        yield from range(mapping.start, mapping.end, _PAGE)
        return
    try:
        first, end = mapping.start // _PAGE, mapping.end // _PAGE
        while first < end:
            entries = os.pread(pagemap, 8 * min(_ENTRIES_BLOCK, end - first), 8 * first)
            if not entries:
                return  # the process ended
            highest = entries[7::8] if sys.byteorder == "little" else entries[0::8]
            copies = highest.translate(_IS_COPY)
            at = copies.find(1)
            while at >= 0:
                yield (first + at) * _PAGE
                at = copies.find(1, at + 1)
            first += len(copies)
    finally:
        os.close(pagemap)


def _vdso_differs(pid: int, mapping: Mapping) -> bool:
    """Whether the kernel's code page differs from ours (of the same word size)."""
    theirs = _read_memory(pid, mapping.start, mapping.end - mapping.start)
    ours = _own_vdso()
    return theirs[:_ELF_CLASS_END] == ours[:_ELF_CLASS_END] and theirs != ours


@functools.cache
def _own_vdso() -> bytes:
    for one in read_mappings(os.getpid()):
        if one.path == "[vdso]":
            return _read_memory(os.getpid(), one.start, one.end - one.start)
    return b""

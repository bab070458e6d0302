# SPDX-License-Identifier: GPL-2.0-or-later
"""Parsers for what /proc says of a process, and bounded reads from it (proc(5))."""

from __future__ import annotations

import os
import re
from typing import Final

from mock_cloud.wire.dataclass import dataclass

_TEXT_MAX: Final = 4 << 20
_DELETED: Final = " (deleted)"
_KTHREAD_FLAG: Final = 0x00200000  # PF_KTHREAD, linux/sched.h
_EXITING_FLAG: Final = 0x4  # linux/sched.h, PF_EXITING: in do_exit, from which none returns
_KERNEL_CODE: Final = frozenset({"[vdso]", "[vsyscall]"})
_NAMELESS: Final = ("/memfd:", "/dev/zero", "/SYSV", "/anon_hugepage")
_MAP: Final = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][ps]) ([0-9a-f]+) "
    rb"([0-9a-f]+):([0-9a-f]+) ([0-9]+) *(.*)"
)


@dataclass(frozen=True, slots=True)
class _Status:
    """What /proc/PID/status says; ids are the effective ones."""

    tgid: int
    ppid: int
    uid: int
    gid: int
    tracer: int
    state: str


@dataclass(frozen=True, slots=True)
class Mapping:
    """One executable mapping. `path` is empty for anonymous memory; addresses in bytes."""

    start: int
    end: int
    permissions: str
    offset: int
    inode: int
    path: str
    deleted: bool

    @property
    def is_kernel_code(self) -> bool:
        """Whether the kernel itself put it there (the name can't be given by a process)."""
        return self.inode == 0 and self.path in _KERNEL_CODE

    @property
    def is_file(self) -> bool:
        """Whether a file is mapped; a memfd is one too."""
        return self.path.startswith("/")

    @property
    def is_anonymous(self) -> bool:
        """Whether no file that had a name is behind it: plain memory, memfd, shared memory."""
        return not self.is_file or (self.deleted and self.path.startswith(_NAMELESS))


def parse_status(text: bytes) -> _Status:
    """`text` of /proc/PID/status. ValueError, KeyError on anything else."""
    words = {}
    for line in text.split(b"\n"):
        name, separator, value = line.partition(b":\t")
        if separator:
            words[name] = value.decode(errors="replace").split()
    return _Status(
        tgid=int(words[b"Tgid"][0]),
        ppid=int(words[b"PPid"][0]),
        uid=int(words[b"Uid"][1]),
        gid=int(words[b"Gid"][1]),
        tracer=int(words[b"TracerPid"][0]),
        state=words[b"State"][0],
    )


def is_kernel_thread(stat: bytes) -> bool:
    """Whether `stat` (/proc/PID/stat) has the flag that only the kernel sets."""
    return bool(int(_after_name(stat)[6]) & _KTHREAD_FLAG)


def has_ended(stat: bytes) -> bool:
    """Whether the only thread of `stat` (/proc/PID/stat) runs no program any more.

    It waits to be reaped, or is still giving back what it had: for a moment where a processor is
    free, and longer for the first one of a pid namespace, which waits for all others there.
    """
    fields = _after_name(stat)
    is_over = fields[0] in (b"Z", b"X") or int(fields[6]) & _EXITING_FLAG
    return bool(is_over) and int(fields[17]) <= 1


def start_ticks(stat: bytes) -> int:
    """When the process of `stat` (/proc/PID/stat) was started, in clock ticks since boot."""
    return int(_after_name(stat)[19])


def _after_name(stat: bytes) -> list[bytes]:
    """The fields from the third, state, on. The name, in parentheses, may have any character."""
    return stat[stat.rindex(b")") + 2 :].split()


def parse_executable_maps(text: bytes) -> list[Mapping]:
    """The executable mappings in `text` (/proc/PID/maps). ValueError on a malformed line."""
    found = []
    for line in text.split(b"\n"):
        # Most lines are data: look at the fixed columns before matching the whole.
        if not line or b"x" not in line.split(b" ", 2)[1]:
            continue
        match = _MAP.fullmatch(line)
        if match is None:
            raise ValueError(f"maps: malformed line {line!r}")
        path, deleted = split_deleted(os.fsdecode(match[8]).replace("\\012", "\n"))
        found.append(
            Mapping(
                start=int(match[1], 16),
                end=int(match[2], 16),
                permissions=match[3].decode(),
                offset=int(match[4], 16),
                inode=int(match[7]),
                path=path,
                deleted=deleted,
            )
        )
    return found


def split_deleted(path: str) -> tuple[str, bool]:
    """A path without the kernel's mark for a deleted file, and whether it had the mark."""
    return (path[: -len(_DELETED)], True) if path.endswith(_DELETED) else (path, False)


def split_words(text: bytes) -> list[str]:
    """The words of /proc/PID/cmdline or environ, each ended by a NUL."""
    words = os.fsdecode(text).split("\0")
    return words[:-1] if words[-1] == "" else words


def read_bounded(path: str, limit_bytes: int = _TEXT_MAX) -> bytes:
    """The contents of a /proc or /sys file, at most `limit_bytes`. OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts, done = [], 0
        while done < limit_bytes and (data := os.read(fd, min(65536, limit_bytes - done))):
            parts.append(data)
            done += len(data)
        return b"".join(parts)
    finally:
        os.close(fd)


def list_pids(folder: str = "/proc") -> list[int]:
    """The numeric entries of /proc, or of a process's task directory, in order."""
    return sorted(int(name) for name in os.listdir(folder) if name.isdigit())


def namespaces(pid: int | str) -> dict[str, int]:
    """The namespaces of process `pid` by name, as inode numbers. OSError."""
    found = {}
    for name in sorted(os.listdir(f"/proc/{pid}/ns")):
        if not name.endswith("_for_children"):
            _, _, number = os.readlink(f"/proc/{pid}/ns/{name}").partition(":")
            found[name] = int(number.strip("[]"))
    return found

# SPDX-License-Identifier: GPL-2.0-or-later
"""The mount table, and which mounts the walk starts from.

Every mount that can be seen and holds files is walked from its own root, and no walk crosses
into another mount: so a mount that is not in the table shows as a refused crossing, and a
mount below one that is not walked (/dev/shm) is not forgotten.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from typing import Final

from mock_cloud.agent.measure import opening
from mock_cloud.wire.dataclass import dataclass

UNWALKED_TYPES: Final = frozenset({
    "autofs", "bdev", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "cpuset",
    "debugfs", "devpts", "efivarfs", "fusectl", "hugetlbfs", "mqueue", "nfsd", "nsfs",
    "pipefs", "proc", "pstore", "resctrl", "rpc_pipefs", "securityfs", "selinuxfs", "smackfs",
    "sockfs", "sysfs", "tracefs",
})  # fmt: skip
"""File systems whose contents the kernel makes up: facts of the kernel, not files."""

DEVICE_TYPE: Final = "devtmpfs"
"""Walked for what does not belong there: only its regular files are reported."""

_PROC_MAGIC: Final = 0x9FA0  # linux/magic.h
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo (proc(5)); `super_options` are the file system's own."""

    mount_id: int
    parent_id: int
    root: str
    point: str
    options: str
    fstype: str
    source: str
    super_options: str

    def as_json(self) -> dict[str, str | int]:
        return {
            "point": self.point,
            "root": self.root,
            "type": self.fstype,
            "source": self.source,
            "options": self.options,
            "super": self.super_options,
            "id": self.mount_id,
            "parent": self.parent_id,
        }


def parse_mountinfo(text: str) -> list[MountEntry]:
    """The mounts in `text`, in the order of the table. ValueError names a malformed line."""
    return [_parse_line(line) for line in text.split("\n") if line]


def read_mounts(pid: int | str) -> list[MountEntry]:
    """The mount table that process `pid` (or "self") sees. OSError, ValueError.

    From the kernel's own /proc and through no mount over a part of it: what lies there stands in
    the table then. EXDEV otherwise.
    """
    root = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if opening.file_system_type(root) != _PROC_MAGIC:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), "/proc")
        number = os.getpid() if pid == "self" else pid
        with open(opening.open_on_mount(root, f"{number}/mountinfo", opening.FILE), "rb") as table:
            return parse_mountinfo(os.fsdecode(table.read()))
    finally:
        os.close(root)


def find_visible(mounts: Iterable[MountEntry]) -> dict[str, MountEntry]:
    """For each mount point that can be reached by its path: the mount that is on top there.

    A mount is hidden when another one lies over it or over a directory above it.
    """
    visible: dict[str, MountEntry] = {}
    for mount in mounts:
        try:
            fd = os.open(mount.point, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # below a mount that hides its path
        try:
            if opening.mount_id(fd) == mount.mount_id:
                visible[mount.point] = mount
        finally:
            os.close(fd)
    return visible


def _parse_line(line: str) -> MountEntry:
    left, separator, right = line.partition(" - ")
    before, after = left.split(" "), right.split(" ", 2)
    if not separator or len(before) < 6 or len(after) != 3:
        raise ValueError(f"mountinfo: malformed line {line!r}")
    return MountEntry(
        mount_id=int(before[0]),
        parent_id=int(before[1]),
        root=_unescape(before[3]),
        point=_unescape(before[4]),
        options=before[5],
        fstype=_unescape(after[0]),
        source=_unescape(after[1]),
        super_options=_unescape(after[2]),
    )


def _unescape(word: str) -> str:
    """Undo the kernel's octal escapes (space, tab, newline, backslash, #)."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), word) if "\\" in word else word

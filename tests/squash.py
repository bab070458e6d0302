# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command where a directory is as if on NFS with root_squash: root may make nothing there.

``unshare --mount python3 squash.py DIRECTORY UID COMMAND…``. There the directory is an id-mapped
mount that knows UID only (mount_setattr(2)).
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on each architecture
_OPEN_TREE_CLONE, _AT_EMPTY_PATH, _MOVE_MOUNT_F_EMPTY_PATH = 0x1, 0x1000, 0x4
_MOUNT_ATTR_IDMAP = 0x100000
_AT_FDCWD = -100


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def _call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _user_namespace(uid: int) -> int:
    """A descriptor of a user namespace that has `uid` and all groups."""
    with subprocess.Popen(["unshare", "--user", "sleep", "infinity"]) as child:
        try:
            own = Path("/proc/self/ns/user").readlink()
            place = Path(f"/proc/{child.pid}")
            while (place / "ns/user").readlink() == own or b"sleep" not in (
                place / "cmdline"
            ).read_bytes().split(b"\0"):
                assert child.poll() is None
            (place / "uid_map").write_text(f"{uid} {uid} 1")
            (place / "gid_map").write_text("0 0 65536")
            return os.open(place / "ns/user", os.O_RDONLY)
        finally:
            child.kill()


def main() -> None:
    directory, uid, *command = sys.argv[1:]
    path = directory.encode()
    tree = _call(_OPEN_TREE, _AT_FDCWD, path, _OPEN_TREE_CLONE)
    attributes = _Attributes(_MOUNT_ATTR_IDMAP, 0, 0, _user_namespace(int(uid)))
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    _call(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), size)
    _call(_MOVE_MOUNT, tree, b"", _AT_FDCWD, path, _MOVE_MOUNT_F_EMPTY_PATH)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()

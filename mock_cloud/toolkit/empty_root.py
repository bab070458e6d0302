# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command where there is nothing but one directory: its root, in namespaces of its own.

usage: empty_root.py ROOT COMMAND…

A script of its own, since a process with threads makes no namespaces. By root, or by anybody where
the kernel lets users have namespaces. The command is the first process of a pid namespace: all that
it leaves behind ends with it. There are no mounts but ROOT and its /proc, and no network.

Its exit status is the command's; UNAVAILABLE with a message if there can be no such place.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from mock_cloud.wire import syscalls

UNAVAILABLE = 113

_OWN = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWNET
)


def make_namespaces() -> None:
    """Namespaces for this process, and for its children a pid namespace. OSError."""
    user, group = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(_OWN)
    except PermissionError:
        syscalls.unshare(_OWN | syscalls.CLONE_NEWUSER)
        # user_namespaces(7): without this a user may not map groups.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    syscalls.make_mounts_private()


def _enter(root: str) -> None:
    """Make `root` the only mount there is, but for /proc and /dev/null. OSError."""
    syscalls.bind_mount(root, root)
    syscalls.mount("proc", f"{root}/proc", "proc")
    syscalls.bind_mount(os.devnull, f"{root}{os.devnull}")
    os.chdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")


def main(root: str, command: list[str]) -> int:
    """Run `command` there and wait for it."""
    try:
        make_namespaces()
    except OSError as error:
        print(f"no namespaces: {error}", file=sys.stderr)
        return UNAVAILABLE
    child = os.fork()
    if child == 0:
        try:
            syscalls.die_with_parent()
            _enter(root)
        except OSError as error:
            print(f"no empty root: {error}", file=sys.stderr, flush=True)
            os._exit(UNAVAILABLE)
        os.execv(command[0], command)  # noqa: S606 - a list of ours
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

# SPDX-License-Identifier: GPL-2.0-or-later
"""The control group that counts which processes of one job the kernel killed for lack of memory.

Version 1 counts them in memory.oom_control, version 2 in memory.events (the kernel's
Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst). The hierarchy is mounted for an
instant where no other process sees it; from then on it is reached through a descriptor.

A job that is root can leave its group, or make others a part of it. So what is counted here chooses
words, and never an exit code.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from mock_cloud.wire import syscalls

_PREFIX: Final = "mock-cloud-job-"
_POINT: Final = "/sys"  # there on every node
_FLAGS: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
_COUNTERS: Final = ("memory.oom_control", "memory.events")
_READ_MAX: Final = 1 << 16
_TRIES: Final = 100
_PAUSE_S: Final = 0.001


class MemoryGroup:
    """A group below the directory `parent`, a descriptor, which `close` and `forget` close.

    Nobody sweeps it for as long as it is open in a process. OSError.
    """

    def __init__(self, parent: int, job: str) -> None:
        self._parent = parent
        self._name = f"{_PREFIX}{job}"
        self._group = _make_and_hold(self._name, parent)

    def enter(self) -> None:
        """Make this process, and what it starts from now on, part of the group. OSError."""
        _write("cgroup.procs", "0", self._group)

    def kills(self) -> int | None:
        """How many of its processes the kernel killed for memory; None if the group is gone.

        More than one counter may count the same process: of groups that the job made in it.
        """
        found = None
        with contextlib.suppress(OSError):
            for _, _, names, directory in os.fwalk(".", dir_fd=self._group):
                for name in set(names).intersection(_COUNTERS):
                    found = (found or 0) + _read_kills(name, directory)
        return found

    def forget(self) -> None:
        """Know nothing more of the group, which stays."""
        os.close(self._group)
        os.close(self._parent)

    def close(self) -> None:
        """Remove the group, as far as no process is in it."""
        _remove(self._name, self._parent)
        self.forget()


def open_group(job: str) -> MemoryGroup | None:
    """The group for `job`, in a mount namespace of this process's own; None if none can be had.

    Groups that killed jobs left empty are removed.
    """
    parent = _open_parent()
    if parent is None:
        return None
    sweep(parent)
    try:
        return MemoryGroup(parent, job)
    except OSError:
        os.close(parent)
        return None


def sweep_groups() -> None:
    """Remove what jobs of nodes that were killed left in the group of this process.

    A child does it, in a mount namespace of its own. Raises nothing.
    """
    child = os.fork()
    if child == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.make_mounts_private()
            parent = _open_parent()
            if parent is not None:
                sweep(parent)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def sweep(parent: int) -> None:
    """Remove the groups of jobs below the directory `parent` that nobody has open or is in."""
    with contextlib.suppress(OSError):
        for name in os.listdir(parent):
            if name.startswith(_PREFIX):
                with contextlib.suppress(OSError):
                    _sweep_one(name, parent)


def _sweep_one(name: str, parent: int) -> None:
    group = _open_directory(name, parent)
    try:
        fcntl.flock(group, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(name, parent)
    finally:
        os.close(group)


def _make_and_hold(name: str, parent: int) -> int:
    """A descriptor of the group `name`, which keeps it from being swept. OSError."""
    for _ in range(_TRIES):  # it may be swept before it is held
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=parent)
        group = -1
        try:
            group = _open_directory(name, parent)
            fcntl.flock(group, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(group), os.stat(name, dir_fd=parent)):
                return group
        except OSError:
            pass
        if group >= 0:
            os.close(group)
        time.sleep(_PAUSE_S)
    raise OSError(f"the control group {name} could not be made")


def _open_parent() -> int | None:
    """The directory in which groups can be made that count; None if there is none."""
    try:
        memberships = _read("/proc/self/cgroup").splitlines()
        paths = {words: path for _, words, path in (line.split(":", 2) for line in memberships)}
        first = next((words for words in paths if "memory" in words.split(",")), None)
        if first is not None:
            return _mounted("cgroup", first, lambda: find_v1(_POINT, paths[first]))
        if "" in paths:
            return _mounted("cgroup2", None, lambda: find_v2(_POINT, paths[""]))
    except (OSError, ValueError):
        pass
    return None


def _mounted(kind: str, options: str | None, find: Callable[[], str | None]) -> int | None:
    syscalls.mount(kind, _POINT, kind, _FLAGS, options)
    try:
        place = find()
        if place is None:
            return None
        return _open_directory(place)
    finally:
        syscalls.umount(_POINT, syscalls.MNT_DETACH)


def find_v1(top: str, path: str) -> str | None:
    """Where a group can be made below the group `path` of the hierarchy mounted at `top`.

    None where it would be free of the limits of its parent.
    """
    place = os.path.normpath(f"{top}/{path}")
    if path.strip("/"):
        with contextlib.suppress(FileNotFoundError):  # newer kernels know nothing else
            if _read(f"{place}/memory.use_hierarchy").strip() == "0":
                return None
    return place if os.path.isdir(place) else None


def find_v2(top: str, path: str) -> str | None:
    """The same of version 2: the nearest group above whose children have a memory controller.

    One that holds processes has no such children, but for the root.
    """
    for above in _upwards(path):
        place = os.path.normpath(f"{top}/{above}")
        with contextlib.suppress(FileNotFoundError):
            if "memory" in _read(f"{place}/cgroup.subtree_control").split():
                return place
    return None


def _upwards(path: str) -> Iterator[str]:
    parts = [part for part in path.split("/") if part]
    if ".." in parts:  # it is outside of the namespace
        return
    for count in reversed(range(len(parts) + 1)):
        yield "/".join(parts[:count])


def _read_kills(name: str, directory: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _read(name, directory).splitlines():
            word, _, number = line.partition(" ")
            if word == "oom_kill":
                return int(number)
    return 0


def _remove(name: str, parent: int) -> None:
    with contextlib.suppress(OSError):
        for _, names, _, directory in os.fwalk(name, topdown=False, dir_fd=parent):
            for below in names:
                with contextlib.suppress(OSError):
                    os.rmdir(below, dir_fd=directory)
        os.rmdir(name, dir_fd=parent)


def _open_directory(path: str, directory: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)


def _read(path: str, directory: int | None = None) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(descriptor, _READ_MAX).decode(errors="replace")
    finally:
        os.close(descriptor)


def _write(path: str, text: str, directory: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)

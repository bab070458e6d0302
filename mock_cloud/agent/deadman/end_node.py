# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a node: its jobs are killed, what the user sent is removed, the power goes off.

All that may hang (a process in the kernel, a disk that answers no more) happens in a child with
a deadline. The end itself waits for nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Final

from mock_cloud.wire import syscalls
from mock_cloud.wire.layout import MOCK_CACHEDIR, MOCK_LIBDIR
from mock_cloud.wire.orderlog import OrderLog
from mock_cloud.wire.orders import Ending

_CLEAN_S: Final = 20.0
_WIPE_S: Final = 600.0
_PAUSE_S: Final = 0.02
_KILL_ROUNDS: Final = 100
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# In this order: what is the user's first, since time may run out.
_DATA: Final = ("jobs", "blobs", "dnf", "layers", "channels")


def end_node(workspace: str, ending: Ending, reason: str) -> None:
    """End this node. Does not return if the power can be had off; OSError if it cannot."""
    with contextlib.suppress(OSError):  # a full disk loses the line, not the end
        OrderLog(workspace).write("deadman", reason)
    if ending is Ending.WIPE:
        _within(_WIPE_S, lambda: _give_back(workspace))
        return
    _within(_CLEAN_S, lambda: _clean(workspace))
    syscalls.power_off()


def _within(seconds: float, work: Callable[[], None]) -> None:
    try:
        child = os.fork()
    except OSError:
        return  # no memory: what counts is that the node ends
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    deadline = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            return
        time.sleep(_PAUSE_S)


def _clean(workspace: str) -> None:
    """On a node that mock-cloud made: everything that a build had or made."""
    end_processes(workspace, {os.getpid(), os.getppid()})
    paths = [os.path.join(workspace, name) for name in _DATA]
    for path in (*paths[:2], MOCK_LIBDIR, MOCK_CACHEDIR, *paths[2:]):
        empty(path)
    os.sync()


def _give_back(workspace: str) -> None:
    """On a machine that was lent: our workspace and our chroots, and nothing of its owner's.

    The workspace's own files go last: one of them may be the claim that keeps others away.
    """
    end_processes(workspace, {os.getpid(), os.getppid()})
    for name in _DATA:
        empty(os.path.join(workspace, name))
    for base in _own_chroots():
        _remove_chroot(base)
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(workspace), key=_is_last)
        paths = [os.path.join(workspace, name) for name in names]
        for path in (*filter(os.path.isdir, paths), *paths, workspace):
            empty(path)
            _remove(path)


def _is_last(name: str) -> bool:
    return name in ("toolkit", "deadman")


def end_processes(workspace: str, spared: set[int]) -> None:
    """Kill whatever runs from a toolkit of this workspace, until nothing does.

    A job's first process is such a one, and the kernel ends with it all that the job started.
    """
    programs = os.path.join(workspace, "toolkit") + "/"
    for _ in range(_KILL_ROUNDS):
        found = [pid for pid in _processes(programs) if pid not in spared]
        if not found:
            return
        for pid in found:
            _kill(pid, programs)
        time.sleep(_PAUSE_S)


def _processes(programs: str) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit() and _runs(int(name), programs):
            yield int(name)


def _runs(pid: int, programs: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/exe").startswith(programs)
    except OSError:
        return False  # it ended, or is the kernel's


def _kill(pid: int, programs: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if _runs(pid, programs):  # still the one that was found
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _own_chroots() -> list[str]:
    """Directories in mock's place that our engines worked in: only they make `_ours`."""
    try:
        bases = [os.path.join(MOCK_LIBDIR, name) for name in os.listdir(MOCK_LIBDIR)]
    except FileNotFoundError:
        return []
    return [base for base in bases if _ours(base)]


def _ours(base: str) -> list[str]:
    """What a chroot engine left in a chroot's directory, and what mock left that we ran."""
    try:
        names = os.listdir(base)
    except (FileNotFoundError, NotADirectoryError):
        return []
    paths = [os.path.join(base, name) for name in names
             if name == "overlay" or name.startswith("mock.")]  # fmt: skip
    return [path for path in paths if os.path.isdir(path)]


def _remove_chroot(base: str) -> None:
    """Our part of it; mock's own tree of the same name, if there is one, stays."""
    for path in _ours(base):
        empty(path)
        _remove(path)
    with contextlib.suppress(OSError):
        root = os.path.join(base, "root")
        if os.path.lexists(root):
            os.rmdir(root)  # where ours was mounted; not empty: the owner's mock made it
        os.unlink(os.path.join(base, "buildroot.lock"))
        os.rmdir(base)


def _remove(path: str) -> None:
    """A file, a link, or a directory that is empty."""
    with contextlib.suppress(OSError):
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        else:
            os.unlink(path)


def empty(directory: str) -> None:
    """Remove what is in `directory`, as far as that can be done. Follows no link, enters no mount.

    Directories are lifted to the top before they are looked into: trees of any depth need
    neither recursion nor descriptors, and the kernel refuses to move a mount point.
    """
    try:
        top = os.open(directory, _DIRECTORY)
    except OSError:
        return
    try:
        numbers = itertools.count()
        while _empty_once(top, numbers):
            pass
    finally:
        os.close(top)


def _empty_once(top: int, numbers: Iterator[int]) -> bool:
    """One round over the top; whether anything was removed."""
    progress = False
    for name, is_directory in _entries(top):
        with contextlib.suppress(OSError):
            if not is_directory:
                os.unlink(name, dir_fd=top)
            else:
                lifted = _lift(top, top, name, numbers)
                _flatten(top, lifted, numbers)
                os.rmdir(lifted, dir_fd=top)
            progress = True
    return progress


def _flatten(top: int, name: str, numbers: Iterator[int]) -> None:
    here = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        for below, is_directory in _entries(here):
            with contextlib.suppress(OSError):
                if is_directory:
                    _lift(top, here, below, numbers)
                else:
                    os.unlink(below, dir_fd=here)
    finally:
        os.close(here)


def _lift(top: int, here: int, name: str, numbers: Iterator[int]) -> str:
    lifted = f".ending.{os.getpid()}.{next(numbers)}"
    os.rename(name, lifted, src_dir_fd=here, dst_dir_fd=top)
    return lifted


def _entries(directory: int) -> list[tuple[str, bool]]:
    with os.scandir(directory) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test may leave behind and must not: mounts, processes, threads, networks."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_GRACE_S = 120.0  # what is on its way out takes as long as the machine is busy

lasting: set[int] = set()
"""Processes of the session that a test may start anew: they and their children are no leak."""


def adopt_orphans() -> None:
    """From now on daemons that our children leave behind become our children: we see them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _mounts(own: Path | None) -> frozenset[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = (line.split(" ")[4] for line in lines)  # proc(5): the mount point
    return frozenset(point for point in points if own is None or not _is_beside(point, own))


def _is_beside(point: str, own: Path) -> bool:
    return point.startswith(f"{own.parent}/") and not point.startswith(f"{own}/")


def _networks() -> frozenset[str]:
    """Interfaces that are named after this process, and network namespaces that it keeps."""
    own = f"lab{os.getpid()}n"
    found = {f"interface {name}" for _, name in socket.if_nameindex() if name.startswith(own)}
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            target = str(descriptor.readlink())
            if target.startswith("net:["):
                found.add(f"network namespace {target}")
    named = Path("/run/netns")
    if named.is_dir():
        found |= {f"network namespace {place}" for place in named.iterdir()}
    return frozenset(found)


def _parents() -> dict[int, int]:
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names only, and fast
        if name.isdigit():
            try:
                text = Path("/proc", name, "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            # The name in parentheses may hold anything; the state and the parent follow it.
            state, parent = text.rpartition(")")[2].split()[:2]
            if state != "Z":  # ended, though its parent has not looked yet
                found[int(name)] = int(parent)
    return found


def _descendants() -> frozenset[int]:
    parents = _parents()
    family = {os.getpid()}
    while True:
        grown = {pid for pid, parent in parents.items() if parent in family} - family - lasting
        if not grown:
            return frozenset(family - {os.getpid()})
        family |= grown


def _command(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except (FileNotFoundError, ProcessLookupError):
        return "(ended)"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Mount points of this namespace, living descendants, threads of this process.

    `networks` are interfaces and namespaces, in words. `own` is the directory that pytest makes
    its temporary ones in: what is mounted in one beside it is of another pytest.
    """

    mounts: frozenset[str]
    processes: frozenset[int]
    threads: frozenset[threading.Thread]
    networks: frozenset[str]
    own: Path | None


def snapshot(own: Path | None = None) -> Snapshot:
    threads = frozenset(threading.enumerate())
    return Snapshot(_mounts(own), _descendants(), threads, _networks(), own)


def find_leaks(before: Snapshot, *, grace_s: float = _GRACE_S) -> list[str]:
    """What is there now and was not `before`, in words; waits a little for it to go."""
    deadline_s = time.monotonic() + grace_s
    while True:
        now = snapshot(before.own)
        leaks = [f"mount {point}" for point in sorted(now.mounts - before.mounts)]
        leaks += [
            f"process {pid}: {_command(pid)}" for pid in sorted(now.processes - before.processes)
        ]
        leaks += [f"thread {thread.name}" for thread in now.threads - before.threads]
        leaks += sorted(now.networks - before.networks)
        if not leaks or time.monotonic() > deadline_s:
            return leaks
        time.sleep(0.05)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A chroot at mock's own place, /var/lib/mock/ROOT/root: an overlay over layers.

`overlay/upper.JOB` beside it holds what the jobs wrote, `overlay/chroot.json` which layers it
stands on. Mounts belong to the job's mount namespace and end with it; the files stay. The
written part is renamed for each job, so that a path the controller recorded never has another
content than it had then, even if the job is cut off.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mock_cloud.agent.engine import processes, syscalls
from mock_cloud.agent.engine.errors import RootError, RootLocked

MOCK_LIBDIR: Final = "/var/lib/mock"
MOCK_TREE: Final = "mock"
"""What the mock engine leaves of a chroot is in MOCK_TREE.JOB beside `overlay`."""

_OVERLAY_OPTIONS: Final = "index=off,redirect_dir=off,metacopy=off,xino=off"
_TTY_GID: Final = 5


@dataclass(frozen=True, slots=True)
class Kept:
    """A chroot between jobs: its layers, topmost first, and the directory written to."""

    lowers: list[str]
    upper: str


def find_kept(base: str) -> Kept | None:
    """What is kept of the chroot whose directory is `base`."""
    overlay = os.path.join(base, "overlay")
    try:
        with open(os.path.join(overlay, "chroot.json"), encoding="utf-8") as stream:
            raw = json.load(stream)
        kept = Kept(raw["lowers"], raw["upper"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    lists_paths = isinstance(kept.lowers, list) and all(isinstance(p, str) for p in kept.lowers)
    if not lists_paths or not isinstance(kept.upper, str):
        return None
    return kept if os.path.dirname(kept.upper) == overlay else None


class Chroot:
    """The chroot named `name` (mock's ``root``). Close it: `unmount`, then `unlock`."""

    def __init__(self, name: str, job_id: str, libdir: str = MOCK_LIBDIR) -> None:
        if not name or "/" in name or name.startswith("."):
            raise RootError(f"{name!r} is not the name of a chroot")
        self.name = name
        self.base = os.path.join(libdir, name)
        self.root = os.path.join(self.base, "root")
        self.overlay = os.path.join(self.base, "overlay")
        self.upper = os.path.join(self.overlay, f"upper.{job_id}")
        self.lowers: list[str] = []
        self._mounted: list[str] = []
        self._lock: int | None = None

    def path(self, inside: str) -> str:
        """Where the node sees the chroot's `inside`. Links in the chroot are not resolved."""
        return os.path.join(self.root, inside.lstrip("/"))

    # lock

    def lock(self) -> None:
        """Take the chroot for this job. RootLocked, in mock's words, if another one has it."""
        os.makedirs(self.base, mode=0o755, exist_ok=True)
        self._lock = os.open(
            os.path.join(self.base, "buildroot.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            os.close(self._lock)
            self._lock = None
            raise RootLocked("Build root is locked by another process.") from error

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # what is kept between jobs

    def find_kept(self) -> Kept | None:
        """What an earlier job, or this one, left of the chroot; None if there is nothing."""
        return find_kept(self.base)

    def keep(self) -> None:
        """Record that the chroot is initialised, for later jobs."""
        temporary = os.path.join(self.overlay, "chroot.json.new")
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump({"lowers": self.lowers, "upper": self.upper}, stream)
        os.replace(temporary, os.path.join(self.overlay, "chroot.json"))

    def delete(self) -> None:
        """Unmount and remove the chroot's content. Idempotent."""
        self.unmount()
        if os.path.isdir(self.overlay):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.overlay, "chroot.json"))
            shutil.rmtree(self.overlay)

    def take_over(self, kept: Kept) -> None:
        """Make what an earlier job left this job's own, and mount it."""
        if kept.upper != self.upper:
            os.rename(kept.upper, self.upper)
        self.lowers = list(kept.lowers)
        self.keep()
        self.mount(kept.lowers)

    # mounts

    def mount(self, lowers: Sequence[str], upper: str | None = None) -> None:
        """Mount the chroot over `lowers` (topmost first); what is written goes to `upper`.

        With `upper` None the kept upper directory is used, made if need be.
        """
        upper = upper or self.upper
        work = os.path.join(os.path.dirname(upper), "work")
        for directory in (self.root, upper, work):
            os.makedirs(directory, mode=0o755, exist_ok=True)
        stack = ":".join(lowers)
        options = f"lowerdir={stack},upperdir={upper},workdir={work},{_OVERLAY_OPTIONS}"
        try:
            syscalls.mount("overlay", self.root, "overlay", 0, options)
        except OSError as error:
            raise RootError(_overlay_problem(error, options)) from error
        self._mounted.append(self.root)
        self.lowers = list(lowers)
        self._mount_kernel_filesystems()

    def mount_plain(self, directory: str) -> None:
        """Mount `directory` itself as the chroot: how a base layer is made."""
        os.makedirs(self.root, mode=0o755, exist_ok=True)
        syscalls.bind(directory, self.root)
        self._mounted.append(self.root)
        self.lowers = []

    def _mount_kernel_filesystems(self) -> None:
        safe = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        self._mount("proc", "proc", "proc", safe)
        sys_dir = self.path("sys")
        os.makedirs(sys_dir, exist_ok=True)
        syscalls.bind("/sys", sys_dir, flags=safe | syscalls.MS_RDONLY)
        self._mounted.append(sys_dir)
        self._mount("tmpfs", "dev/shm", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV)
        pts = f"newinstance,gid={_TTY_GID},mode=0620,ptmxmode=0666"
        self._mount("devpts", "dev/pts", "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, pts)

    def mount_kernel_filesystems(self) -> None:
        """/proc, /sys, /dev/shm and /dev/pts; `mount` does it by itself."""
        self._mount_kernel_filesystems()

    def _mount(
        self, source: str, inside: str, kind: str, flags: int, data: str | None = None
    ) -> None:
        target = self.path(inside)
        os.makedirs(target, exist_ok=True)
        syscalls.mount(source, target, kind, flags, data)
        self._mounted.append(target)

    @contextlib.contextmanager
    def bound(self, source: str, inside: str) -> Iterator[None]:
        """`source` visible at `inside` while the context lasts."""
        target = self.path(inside)
        os.makedirs(target, exist_ok=True)
        syscalls.bind(source, target)
        self._mounted.append(target)
        try:
            yield
        finally:
            self._umount(target)
            self._mounted.remove(target)

    @property
    def is_mounted(self) -> bool:
        return bool(self._mounted)

    def unmount(self) -> None:
        """Undo every mount, newest first; processes in the way are ended. Idempotent."""
        if self._mounted:
            processes.kill_others()
        while self._mounted:
            self._umount(self._mounted[-1])
            self._mounted.pop()

    @staticmethod
    def _umount(target: str) -> None:
        try:
            syscalls.umount(target)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # A killed process that is not reaped yet: its references go in a moment.
            syscalls.umount(target, syscalls.MNT_DETACH)


def _overlay_problem(error: OSError, options: str) -> str:
    hint = ""
    if error.errno == errno.EINVAL:
        hint = " (do the overlay's directories lie on an overlay themselves?)"
    return f"the chroot's overlay cannot be mounted: {error.strerror}{hint}: {options}"

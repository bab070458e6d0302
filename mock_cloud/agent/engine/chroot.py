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
from typing import Final

from mock_cloud.agent.engine import outside, processes
from mock_cloud.agent.engine.errors import PackageError, RootError, RootLocked
from mock_cloud.wire import syscalls
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.layout import MOCK_LIBDIR

MOCK_TREE: Final = "mock"
"""What the mock engine leaves of a chroot is in MOCK_TREE.JOB beside `overlay`."""

# Without redirects a directory of a layer cannot be renamed (EXDEV), as rpm does with its database.
_OVERLAY_OPTIONS: Final = "index=off,redirect_dir=on,metacopy=off,xino=off"
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
        self._own_upper = os.path.join(self.overlay, f"upper.{job_id}")
        self.upper = self._own_upper
        self.lowers: list[str] = []
        self._is_mounted = False
        self._lock: int | None = None

    def path(self, inside: str) -> str:
        """Where the node sees the chroot's `inside`. Links in the chroot are not resolved."""
        return os.path.join(self.root, inside.lstrip("/"))

    # lock

    def lock(self) -> None:
        """Take the chroot for this job alone. RootLocked if another one has it."""
        self._lock = self._open_lock()
        if not self.take_alone():
            self.unlock()
            raise RootLocked
        os.ftruncate(self._lock, 0)

    def join(self) -> None:
        """Have the chroot together with the jobs that use it. RootLocked if none shares it."""
        self._lock = self._open_lock()
        if not self._try_lock(fcntl.LOCK_SH) or self.take_alone():
            self.unlock()
            raise RootLocked
        os.write(self._lock, b".")  # for `was_shared`

    def share(self) -> None:
        """Let other jobs join from now on, as mock does once the chroot is initialised."""
        self._try_lock(fcntl.LOCK_SH)

    def take_alone(self) -> bool:
        """Whether no other job has the chroot; none joins then until `share` or `unlock`."""
        return self._try_lock(fcntl.LOCK_EX)

    @contextlib.contextmanager
    def untouched(self) -> Iterator[bool]:
        """Whether no other job has or had the chroot since `lock`; none joins meanwhile."""
        try:
            yield self.take_alone() and not self.was_shared
        finally:
            self.share()

    @property
    def was_shared(self) -> bool:
        """Whether any job has joined since `lock`."""
        return self._lock is not None and os.fstat(self._lock).st_size > 0

    @property
    def is_locked(self) -> bool:
        """Whether this job has the chroot, alone or with others."""
        return self._lock is not None

    def _open_lock(self) -> int:
        os.makedirs(self.base, mode=0o755, exist_ok=True)
        path = os.path.join(self.base, "buildroot.lock")
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def _try_lock(self, how: int) -> bool:
        """Lock in place of what is locked, or leave it as it is."""
        if self._lock is None:
            return False
        try:
            fcntl.lockf(self._lock, how | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

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
        text = json.dumps({"lowers": self.lowers, "upper": self.upper})
        replace_file(os.path.join(self.overlay, "chroot.json"), text.encode())

    def delete(self) -> None:
        """Unmount and remove the chroot's content. Idempotent. RootLocked if others use it."""
        if self.is_locked and not self.take_alone():
            raise RootLocked
        self.unmount()
        self.upper = self._own_upper
        if os.path.isdir(self.overlay):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.overlay, "chroot.json"))
            shutil.rmtree(self.overlay)

    def use_mounted(self) -> None:
        """Take the mounts of the job that was joined for this one's own. RootLocked without any."""
        kept = self.find_kept()
        if kept is None or not os.path.ismount(self.root):
            raise RootLocked
        self.lowers, self.upper, self._is_mounted = kept.lowers, kept.upper, True

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
        self._is_mounted = True
        self.lowers = list(lowers)
        self.mount_kernel_filesystems()

    def mount_plain(self, directory: str) -> None:
        """Mount `directory` itself as the chroot: how a base layer is made."""
        os.makedirs(self.root, mode=0o755, exist_ok=True)
        syscalls.bind_mount(directory, self.root)
        self._is_mounted = True
        self.lowers = []

    def mount_kernel_filesystems(self) -> None:
        """/sys, /dev/shm and /dev/pts; `mount` does it by itself. /proc is each command's own.

        RootError where root in a chroot that was kept put links in the way.
        """
        safe = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        with self._mount_point("sys") as target:
            syscalls.bind_mount("/sys", target)
        with self._mount_point("sys") as mounted:
            flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | safe | syscalls.MS_RDONLY
            syscalls.mount("none", mounted, None, flags)
        with self._mount_point("dev/shm") as target:
            syscalls.mount("tmpfs", target, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV)
        with self._mount_point("dev/pts") as target:
            pts = f"newinstance,gid={_TTY_GID},mode=0620,ptmxmode=0666"
            flags = syscalls.MS_NOSUID | syscalls.MS_NOEXEC
            syscalls.mount("devpts", target, "devpts", flags, pts)

    @contextlib.contextmanager
    def _mount_point(self, inside: str) -> Iterator[str]:
        """A name for the directory `inside` that leads through no link."""
        try:
            with outside.open_chroot_directory(self.root, inside, make=True) as directory:
                yield f"/proc/self/fd/{directory}"
        except PackageError as error:
            raise RootError(f"the chroot has no usable /{inside}: {error.message}") from error

    @property
    def is_mounted(self) -> bool:
        return self._is_mounted

    def unmount(self) -> None:
        """Undo every mount; processes in the way are ended. Idempotent."""
        if self._is_mounted:
            processes.kill_others()
            # With all that is mounted below, wherever root in the chroot moved it.
            syscalls.umount(self.root, syscalls.MNT_DETACH)
            self._is_mounted = False


def _overlay_problem(error: OSError, options: str) -> str:
    hint = ""
    if error.errno == errno.EINVAL:
        hint = " (do the overlay's directories lie on an overlay themselves?)"
    return f"the chroot's overlay cannot be mounted: {error.strerror}{hint}: {options}"

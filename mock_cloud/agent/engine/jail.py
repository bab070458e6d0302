# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps what runs with root's rights in a chroot, or beside it, away from the node.

Package scriptlets are root, and so is who a set-uid program of a chroot makes root. A process
in a jail has a root directory of its own (pivot_root(2), so nothing of the node lies above it), is
in a pid namespace of its own, and in a user namespace of the job's: its user ids are the node's,
so files belong to whom they should, but none of its capabilities counts outside. It makes no device
and mounts no disk, sets no kernel setting, and has keyrings of its own (user_namespaces(7),
keyrings(7)). What a file's owner may do without a capability is closed by read-only mounts.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import stat
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

from mock_cloud.agent.engine.errors import EngineError
from mock_cloud.wire import syscalls
from mock_cloud.wire.dataclass import dataclass

_OVERLAY_OPTIONS: Final = "index=off,redirect_dir=off,metacopy=off,xino=off"
_EXIT_UNSHARE: Final = 80  # mock's: unshare of a namespace failed
_ALL_IDS: Final = "0 0 4294967295"
_PROC_FLAGS: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
_READ_ONLY: Final = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
_PLACE: Final = "/run/mock-cloud-root"
_PROGRAMS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr")
_DIRECTORIES: Final = (
    "proc", "sys", "dev/pts", "dev/shm", "etc", "run", "tmp", "var/tmp", "var/cache", "var/lib",
    "var/log", "root",
)  # fmt: skip
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS: Final = (
    ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"),
)  # fmt: skip
# What programs of the node read of its configuration. No key is in it: of pki and ssl only what
# is public; a client's key for a repository has to be named by the configuration.
_SETTINGS: Final = (
    "alternatives", "createrepo_c", "crypto-policies", "default/useradd", "dnf", "fedora-release",
    "gai.conf", "group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "libdnf5.conf.d", "locale.conf", "localtime", "login.defs", "machine-id", "magic", "mime.types",
    "nsswitch.conf", "os-release", "pam.d", "passwd", "pki/ca-trust/extracted", "pki/product",
    "pki/product-default", "pki/rpm-gpg", "pki/tls/cert.pem", "pki/tls/certs",
    "pki/tls/ct_log_list.cnf", "pki/tls/openssl.cnf", "protocols", "python3", "redhat-release",
    "resolv.conf", "rpc", "rpm", "security", "selinux", "services", "ssl/cert.pem", "ssl/certs",
    "ssl/openssl.cnf", "system-release", "yum", "yum.repos.d",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """The node's file or directory `source`, seen at `target`; with what is mounted below it."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Overlaid:
    """The node's directory `source`, seen at `target`; what is written there goes to `scratch`.

    `scratch` is a directory that exists; in its `upper` are the changes.
    """

    source: str
    target: str
    scratch: str

    @property
    def upper(self) -> str:
        return os.path.join(self.scratch, "upper")


@dataclass(frozen=True, slots=True)
class NodeTree:
    """A root directory with the node's programs, read-only, and of its files those named here.

    `chroots` are those directories in it whose /proc is mounted as well. /run, /tmp and the like
    are empty.
    """

    shown: tuple[Shown, ...] = ()
    overlaid: tuple[Overlaid, ...] = ()
    chroots: tuple[str, ...] = ()

    def assemble(self) -> str:
        """Mount it, in a mount namespace that was made for it; where it is. OSError."""
        os.makedirs(_PLACE, mode=0o755, exist_ok=True)
        syscalls.mount("node", _PLACE, "tmpfs", syscalls.MS_NOSUID, "mode=0755")
        for name in _DIRECTORIES:
            os.makedirs(f"{_PLACE}/{name}", mode=0o755, exist_ok=True)
        for name in ("tmp", "var/tmp", "dev/shm"):
            os.chmod(f"{_PLACE}/{name}", 0o1777)  # noqa: S103 (as everywhere)
        for name in _PROGRAMS:
            _show(Shown(f"/{name}", f"/{name}"))
        for name in _SETTINGS:
            _show(Shown(f"/etc/{name}", f"/etc/{name}"))
        for name in _DEVICES:
            _show(Shown(f"/dev/{name}", f"/dev/{name}", writable=True))
        for name, target in _DEVICE_LINKS:
            os.symlink(target, f"{_PLACE}/dev/{name}")
        options = "newinstance,gid=5,mode=0620,ptmxmode=0666"
        flags = syscalls.MS_NOSUID | syscalls.MS_NOEXEC
        syscalls.mount("devpts", f"{_PLACE}/dev/pts", "devpts", flags, options)
        syscalls.bind_mount("/sys", f"{_PLACE}/sys", flags=_READ_ONLY | syscalls.MS_NOEXEC)
        for one in self.shown:
            _show(one)
        for changed in self.overlaid:
            _overlay(changed)
        return _PLACE


def _show(one: Shown) -> None:
    """Nothing where there is no such file. A setting that is a link is what the link leads to."""
    target = _PLACE + one.target
    if os.path.islink(one.source) and not one.target.startswith("/etc/"):
        if not os.path.lexists(target):
            os.symlink(os.readlink(one.source), target)
        return
    if not os.path.exists(one.source):
        return
    if os.path.isdir(one.source):
        os.makedirs(target, mode=0o755, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o644))
    # What is mounted below a directory that may be written to belongs to it: a chroot's own.
    syscalls.bind_mount(one.source, target, recursive=one.writable)
    if not one.writable:
        syscalls.mount("none", target, None, syscalls.MS_BIND | syscalls.MS_REMOUNT | _READ_ONLY)


def _overlay(one: Overlaid) -> None:
    work = os.path.join(one.scratch, "work")
    for directory in (one.upper, work, _PLACE + one.target):
        os.makedirs(directory, mode=0o755, exist_ok=True)
    options = f"lowerdir={one.source},upperdir={one.upper},workdir={work},{_OVERLAY_OPTIONS}"
    syscalls.mount("overlay", _PLACE + one.target, "overlay", syscalls.MS_NOSUID, options)


@functools.cache
def user_namespace() -> int:
    """A descriptor of the job's user namespace, in which user ids are the node's.

    EngineError if the kernel gives none: without it, root in a chroot is root of the node.
    """

    def write_ids(child: int) -> None:
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w", encoding="ascii") as stream:
                stream.write(_ALL_IDS)

    return open_namespace("user", lambda: syscalls.unshare(syscalls.CLONE_NEWUSER), write_ids)


def open_namespace(
    kind: str, make: Callable[[], None], prepare: Callable[[int], None] = lambda child: None
) -> int:
    """A descriptor of the namespace that `make` puts a child into; the caller closes it.

    `kind` is its name in /proc/PID/ns; `prepare` is called with the child's pid. EngineError.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _hold_namespace(writer, make)
    os.close(writer)
    try:
        with open(reader, "rb") as stream:
            problem = stream.readline()
        if problem != b"ready\n":
            raise EngineError(
                f"the node gives no {kind} namespace: {problem.decode()}", _EXIT_UNSHARE
            )
        prepare(child)
        return os.open(f"/proc/{child}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _hold_namespace(writer: int, make: Callable[[], None]) -> NoReturn:
    try:
        make()
        os.write(writer, b"ready\n")
        os.close(writer)
        signal.pause()
    except OSError as error:
        os.write(writer, str(error).encode())
    finally:
        os._exit(0)


@contextlib.contextmanager
def new_pid_namespace() -> Iterator[None]:
    """The one child that is forked meanwhile is the first process of a pid namespace."""
    user_namespace()  # while a child of this process is still in its pid namespace
    _kernels_own()
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
        yield
    finally:
        syscalls.enter_namespace(own, syscalls.CLONE_NEWPID)
        os.close(own)


def enter(root: str | NodeTree, *, may_mount: bool = False) -> None:
    """In the first process of a pid namespace: go into a jail; return in a child of it.

    `root` is what becomes the root directory; with `may_mount` mounts can be added to those that
    are there. The first process stays behind as the namespace's init. It ends as its child does
    (as `processes.run_command` numbers signals), and with it, by the kernel's hand, all that the
    child left. OSError.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    top = root.assemble() if isinstance(root, NodeTree) else root
    chroots = root.chroots if isinstance(root, NodeTree) else ()
    if not os.path.ismount(top):
        syscalls.bind_mount(top, top, recursive=True)
    for inside in ("", *chroots):
        _mount_proc(f"{top}{inside}/proc")
        _mask_console(f"{top}{inside}/dev/console")
    os.chdir(top)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")
    syscalls.enter_namespace(user_namespace(), syscalls.CLONE_NEWUSER)
    if may_mount:  # its own mounts: those that are there are locked
        syscalls.unshare(syscalls.CLONE_NEWNS)
    child = os.fork()
    if child:
        _be_init(child)
    syscalls.scope_abstract_sockets()


def _mask_console(path: str) -> None:
    """The console is the node's, and its owner, root, needs no capability to write to it."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISCHR(os.lstat(path).st_mode):
            syscalls.bind_mount(os.devnull, path)


def _be_init(child: int) -> NoReturn:
    os.closerange(0, 1 << 20)
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) % 256)


def _mount_proc(target: str) -> None:
    """A proc of this pid namespace, in which what belongs to the kernel cannot be written.

    Nothing where a chroot has no place for one.
    """
    if os.path.islink(target) or not os.path.isdir(target):
        return
    syscalls.mount("proc", target, "proc", _PROC_FLAGS)
    for name in _kernels_own():
        flags = _PROC_FLAGS | syscalls.MS_RDONLY
        with contextlib.suppress(FileNotFoundError):
            syscalls.bind_mount(f"{target}/{name}", f"{target}/{name}", flags=flags)


@functools.cache
def _kernels_own() -> tuple[str, ...]:
    """Names in /proc of what is no process's and could be written to by its owner, root."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() or entry.is_symlink():
            continue
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode) or mode & 0o222:
            found.append(entry.name)
    return tuple(found)


def open_isolated() -> int:
    """A descriptor of a network namespace with only a loopback in it; the caller closes it.

    It belongs to the job's user namespace: root in a chroot may do with it what it likes.
    """
    users = user_namespace()

    def make() -> None:
        syscalls.enter_namespace(users, syscalls.CLONE_NEWUSER)
        syscalls.isolate_network()

    return open_namespace("net", make)

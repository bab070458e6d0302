# SPDX-License-Identifier: GPL-2.0-or-later
"""The first moments of a local node: from a forked child to the image's own sshd as pid 1.

Runs in the child, in the new pid namespace, until exec. All mounts are made in a private mount
namespace, so that they vanish with the node's last process, whatever becomes of the host side.
"""
# ruff: noqa: S108 (/tmp and /dev/shm are the node's, empty and its own)

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path
from typing import Final

from mock_cloud.cloud.local.plan import PATH, WORK_DIRS, NodePlan, injected_files
from mock_cloud.cloud.provider import InjectedFile, InjectedType
from mock_cloud.process import CommandFailed, run
from mock_cloud.wire import syscalls

_OLD_ROOT: Final = "/.mock-cloud-host"

_KEPT_FROM_NODE: Final = (
    syscalls.CAP_LINUX_IMMUTABLE,  # its files must stay removable
    syscalls.CAP_SYS_MODULE,
    syscalls.CAP_SYS_RAWIO,
    syscalls.CAP_SYS_PACCT,
    syscalls.CAP_SYS_TIME,
    syscalls.CAP_SYS_TTY_CONFIG,
    syscalls.CAP_AUDIT_CONTROL,
    syscalls.CAP_AUDIT_READ,
    syscalls.CAP_MAC_OVERRIDE,
    syscalls.CAP_MAC_ADMIN,
    syscalls.CAP_SYSLOG,
    syscalls.CAP_WAKE_ALARM,
    syscalls.CAP_BLOCK_SUSPEND,
    syscalls.CAP_PERFMON,
    syscalls.CAP_BPF,
    syscalls.CAP_CHECKPOINT_RESTORE,
)
"""What no build needs and would change the host itself, or show it.

What stays makes root in a node root here for one who means it: CAP_SYS_ADMIN and CAP_MKNOD (the
engines mount, and make chroots' devices), CAP_SYS_PTRACE (attestation reads processes). The
dead-man timer ends a node by CAP_SYS_BOOT: in a pid namespace reboot(2) ends that and no machine
(pid_namespaces(7)).
"""


# It has the host's network; builds' own belong to their namespaces.
_KEPT_WITH_NETWORK: Final = (
    syscalls.CAP_NET_ADMIN,
    syscalls.CAP_NET_BROADCAST,
    syscalls.CAP_NET_RAW,
)


def become_node(plan: NodePlan, console: int, go: int, failure: int) -> None:
    """Turn this process into the node's pid 1. Never returns.

    `console` receives sshd's log. Nothing happens before a byte arrives on `go`: its end
    without one means that the supervisor died before this process was bound to it. What goes
    wrong is written to `failure`, which closes on exec.
    """
    try:
        syscalls.die_with_parent()
        if os.read(go, 1) != b"\1":
            os._exit(1)
        os.setsid()
        os.umask(0)
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC)
        syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        socket.sethostname(plan.hostname)
        files = injected_files(plan)
        _enter_root(plan)
        mount_kernel_file_systems()
        _mount_work_dirs()
        place_files(files)
        _leave_host()
        drop_privileges(has_own_network=False)
        redirect(console)
        os.execve(plan.argv[0], plan.argv, {"PATH": PATH})  # noqa: S606 (argv list, no shell)
    except (OSError, CommandFailed) as error:
        os.write(failure, str(error).encode()[:4000])
    finally:
        os._exit(1)


def _enter_root(plan: NodePlan) -> None:
    """An overlay over the image as root, the host's tree below `_OLD_ROOT`.

    Layers are named relative to a tmpfs that nothing else shows, so that no path of the host
    needs escaping in the options or appears in the node's mountinfo.
    """
    base = plan.node_dir / "mnt"
    syscalls.mount("tmpfs", str(base), "tmpfs", options="mode=0700")
    os.chdir(base)
    for name in ("lower", "upper", "work", "root", "disk"):
        Path(name).mkdir(0o755)
    syscalls.mount(plan.image, "lower", flags=syscalls.MS_BIND)
    # The overlay's root takes its facts from the upper directory.
    facts = Path("lower").stat()
    Path("upper").chmod(stat.S_IMODE(facts.st_mode))
    os.chown("upper", facts.st_uid, facts.st_gid)
    options = "lowerdir=lower,upperdir=upper,workdir=work"
    syscalls.mount("overlay", "root", "overlay", options=options)
    _mount_disk(plan)
    Path("root" + _OLD_ROOT).mkdir(0o700)
    syscalls.pivot_root("root", "root" + _OLD_ROOT)
    os.chdir("/")
    # Where the work directories come from, by a name that is short and ours.
    syscalls.mount(f"{_OLD_ROOT}{base}/disk", _OLD_ROOT, flags=syscalls.MS_BIND)


def _mount_disk(plan: NodePlan) -> None:
    if plan.disk_mib:
        image = str(plan.node_dir / "disk.img")
        # mount(8) sets the loop device up to vanish with its last mount (LO_FLAGS_AUTOCLEAR).
        run(["mount", "-n", "-t", "ext4", "-o", "loop", image, "disk"], timeout_s=20)
    else:
        syscalls.mount(str(plan.node_dir / "disk"), "disk", flags=syscalls.MS_BIND)


def mount_kernel_file_systems() -> None:
    """What a kernel and its initramfs mount, at the present root: /proc, /sys, /dev, /run, /tmp."""
    quiet = syscalls.MS_NOSUID | syscalls.MS_NOEXEC
    syscalls.mount("proc", "/proc", "proc", quiet | syscalls.MS_NODEV)
    syscalls.mount("sysfs", "/sys", "sysfs", quiet | syscalls.MS_NODEV | syscalls.MS_RDONLY)
    syscalls.mount("tmpfs", "/dev", "tmpfs", quiet, "mode=0755,size=4m")
    Path("/dev/pts").mkdir(0o755)
    options = "newinstance,ptmxmode=0666,mode=0620,gid=5"
    syscalls.mount("devpts", "/dev/pts", "devpts", quiet, options)
    Path("/dev/shm").mkdir(0o1777)
    syscalls.mount("tmpfs", "/dev/shm", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755")
    syscalls.mount("tmpfs", "/tmp", "tmpfs", syscalls.MS_NOSUID, "mode=1777")


def _mount_work_dirs() -> None:
    for path in WORK_DIRS:
        source = _OLD_ROOT + "/" + path[1:].replace("/", "-")
        Path(source).mkdir()
        Path(path).mkdir(exist_ok=True)
        syscalls.mount(source, path, flags=syscalls.MS_BIND)


def place_files(files: dict[str, InjectedFile]) -> None:
    """Make `files` below the present root, parents before children."""
    for path, file in files.items():
        if file.type is InjectedType.DIRECTORY:
            Path(path).mkdir(exist_ok=True)
        else:
            Path(path).unlink(missing_ok=True)
            _make(path, file)
        os.chown(path, file.uid, file.gid, follow_symlinks=False)
        if file.type is not InjectedType.LINK:
            Path(path).chmod(file.mode)


def _make(path: str, file: InjectedFile) -> None:
    if file.type is InjectedType.LINK:
        Path(path).symlink_to(file.content.decode())
    elif file.type is InjectedType.CHARACTER:
        major, _, minor = file.content.decode().partition(":")
        os.mknod(path, stat.S_IFCHR | file.mode, os.makedev(int(major), int(minor)))
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
            stream.write(file.content)


def _leave_host() -> None:
    syscalls.umount(_OLD_ROOT)  # the bind of the disk
    syscalls.umount(_OLD_ROOT, syscalls.MNT_DETACH)
    Path(_OLD_ROOT).rmdir()


def drop_privileges(*, has_own_network: bool) -> None:
    """Give up, for good, what would change the host itself, its network included."""
    for capability in (*_KEPT_FROM_NODE, *(() if has_own_network else _KEPT_WITH_NETWORK)):
        syscalls.drop_from_bounding_set(capability)


def redirect(console: int) -> None:
    """The usual descriptors, signals and mask for a daemon; all others close on exec."""
    null = os.open("/dev/null", os.O_RDWR)
    for target, source in ((0, null), (1, console), (2, console)):
        os.dup2(source, target)
    os.umask(0o022)
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())

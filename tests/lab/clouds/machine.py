# SPDX-License-Identifier: GPL-2.0-or-later
"""One cloud node's hypervisor: a process that boots a disk image in namespaces and watches it.

Started as ``python -m tests.lab.clouds.machine`` with a plan on the first line of stdin; reports
events as lines of JSON on stdout. Further lines of stdin are commands: ``stop`` is the power
button, ``kill`` pulls the plug, ``crash`` is an accident. The end of stdin is the end of whoever
started it: then the node dies and its directory goes. The kernel kills the node if this process
dies, and all mounts and interfaces are in the node's own namespaces.
"""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mock_cloud.cloud.local.init import (
    drop_privileges,
    mount_kernel_file_systems,
    place_files,
    redirect,
)
from mock_cloud.cloud.local.plan import kernel_files
from mock_cloud.process import CommandFailed, run
from mock_cloud.wire import syscalls
from tests.lab.clouds.network import METADATA_ADDRESS, PREFIX_LENGTH, Port, ip_batch

INIT = "/sbin/init"
DMI_DIRECTORY = "/sys/devices/virtual/dmi/id"
POWER_BUTTON = signal.SIGRTMIN + 4  # systemd(1): start poweroff.target
_STOP_TIMEOUT_S = 10.0
_OLD_ROOT = "/mnt"
_FIRST_RULES = (
    "rule flush",
    "rule add pref 32766 lookup main",
    "rule add pref 32767 lookup default",
)


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """What the process is told. `disk` is an ext4 image below `directory`, the node's own.

    `environment` is the first process's, as a kernel command line would set it. With a `system`,
    the tree that has QEMU, the node is a virtual machine; `clock` is what it takes for the time
    (QEMU's -rtc base).
    """

    directory: str
    disk: str
    port: Port
    environment: Mapping[str, str]
    system: str = ""
    clock: str = ""

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> MachinePlan:
        raw = json.loads(line)
        return cls(**{**raw, "port": Port(**raw["port"])})


class Hypervisor:
    """Boots the node as often as it reboots; ends when the node powers off or must end."""

    def __init__(self, plan: MachinePlan) -> None:
        self._plan = plan
        self._stopping_since: float | None = None

    def run(self) -> None:
        """Until the node's end. OSError, CommandFailed."""
        syscalls.unshare(syscalls.CLONE_NEWNET)
        report("waiting", pid=os.getpid())
        if commands.readline() != b"plugged\n":
            return
        self._configure_network()
        while True:
            how = self._boot()
            report("ended", how=how)
            if how != "reboot":
                return
            # Its network namespace goes on, but a kernel that has just started has no other rules.
            ip_batch(_FIRST_RULES)

    def _configure_network(self) -> None:
        port = self._plan.port
        ip_batch(
            (
                "link set lo up",
                f"address add {port.address}/{PREFIX_LENGTH} dev eth0",
                "link set eth0 up",
                f"route add {METADATA_ADDRESS} dev eth0",
                f"route add default via {port.gateway}",
            )
        )

    def _boot(self) -> str:
        directory = Path(self._plan.directory)
        console = os.open(directory / "console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        go_read, go_write = os.pipe()
        failure_read, failure_write = os.pipe()
        syscalls.unshare(syscalls.CLONE_NEWPID)
        init = os.fork()
        if init == 0:
            os.close(go_write)
            _become_node(self._plan, console, go_read, failure_write)
        syscalls.enter_own_pid_namespace()
        for descriptor in (console, go_read, failure_write):
            os.close(descriptor)
        os.write(go_write, b"\1")
        os.close(go_write)
        with os.fdopen(failure_read, "rb") as stream:
            failure = stream.read()
        if failure:
            os.waitpid(init, 0)
            raise OSError(failure.decode(errors="replace"))
        report("booting", pid=init)
        return self._watch(init)

    def _watch(self, init: int) -> str:
        """How the node ended: poweroff, reboot, stopped, killed."""
        ended = os.pidfd_open(init)
        try:
            while True:
                readable, _, _ = select.select([ended, commands], [], [], self._patience_s())
                if ended in readable:
                    break
                if commands in readable:
                    self._obey(init)
                elif self._stopping_since is not None:
                    os.kill(init, signal.SIGKILL)
                    self._stopping_since = time.monotonic()
        finally:
            os.close(ended)
        status = os.waitpid(init, 0)[1]
        if self._stopping_since is not None:
            return "stopped"
        # reboot(2): in a pid namespace its init is ended by SIGINT, or SIGHUP for a restart.
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return {signal.SIGINT: "poweroff", signal.SIGHUP: "reboot"}.get(number, "killed")

    def _patience_s(self) -> float | None:
        if self._stopping_since is None:
            return None
        return max(0.0, self._stopping_since + _STOP_TIMEOUT_S - time.monotonic())

    def _obey(self, init: int) -> None:
        word = commands.readline()
        if word != b"crash\n":
            self._stopping_since = time.monotonic()
        os.kill(init, POWER_BUTTON if word == b"stop\n" else signal.SIGKILL)


commands = io.FileIO(0, closefd=False)  # unbuffered, so that select(2) sees what is left of it


def report(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


def _become_node(plan: MachinePlan, console: int, go: int, failure: int) -> None:
    """Turn this process, the first of its pid namespace, into the node's init. Never returns.

    The end of `go` without a byte means that the parent died before this process was bound to it.
    """
    try:
        syscalls.die_with_parent()
        if os.read(go, 1) != b"\1":
            os._exit(1)
        os.setsid()
        os.umask(0)
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC)
        syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        socket.sethostname("localhost")
        root = f"{plan.directory}/root"
        Path(root).mkdir(exist_ok=True)
        # mount(8) has the loop device vanish with its last mount.
        run(["mount", "-n", "-t", "ext4", "-o", "loop", plan.disk, root], timeout_s=20)
        os.chdir(root)
        syscalls.pivot_root(".", f".{_OLD_ROOT}")
        os.chdir("/")
        mount_kernel_file_systems()
        if Path(DMI_DIRECTORY).is_dir():  # the host's firmware is not the node's
            read_only = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
            syscalls.mount("tmpfs", DMI_DIRECTORY, "tmpfs", read_only)
        place_files(kernel_files())
        syscalls.umount(_OLD_ROOT, syscalls.MNT_DETACH)
        drop_privileges(has_own_network=True)
        redirect(console)
        os.umask(0o022)  # fs/fs_struct.c, init_fs: what a kernel starts the first process with
        os.execve(INIT, [INIT], dict(plan.environment))  # noqa: S606 (argv list, no shell)
    except (OSError, CommandFailed) as error:
        os.write(failure, str(error).encode()[:4000])
    finally:
        os._exit(1)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the lab
    plan = MachinePlan.parse(commands.readline())
    try:
        if plan.system:
            from tests.lab.clouds.vm import VirtualMachine  # it stands on this module

            VirtualMachine(plan).run()
        else:
            Hypervisor(plan).run()
    except (OSError, CommandFailed) as error:
        report("failed", why=str(error))
        return 1
    finally:
        # Nobody is there to ask whether the disk is to be kept: then it is not.
        if select.select([commands], [], [], 0)[0] and not commands.readline():
            shutil.rmtree(plan.directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0-or-later
"""The `local` provider: nodes from an RPM tree, in namespaces of this machine. Needs root.

A node is isolated from the host as a container of root's is: by mount, pid, uts and ipc
namespaces, not by a wall that hostile code could not climb.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final

from mock_cloud.cloud.local.files import (
    end_process,
    find_facts,
    is_supervised,
    read_tail,
    remove_tree,
    wait_gone,
    wait_until,
)
from mock_cloud.cloud.local.plan import (
    NodePlan,
    check_image,
    expected_mounts,
    filesystem_type,
    injected_files,
    node_dir,
)
from mock_cloud.cloud.provider import (
    Bootstrap,
    CreatedNode,
    Finding,
    FoundNode,
    NodeOrder,
    OnHandle,
    OnPhase,
    look,
)
from mock_cloud.errors import CleanupError, CloudError, ConfigError
from mock_cloud.model import NodeAddress
from mock_cloud.process import environment
from mock_cloud.settings import LocalSettings
from mock_cloud.wire.decode import load_json, to_json

_NAME: Final = "local"

_USER: Final = "root"
_SSH_PORT: Final = 22
_START_SLACK_S: Final = 10.0
_TERM_TIMEOUT_S: Final = 60.0
_KILL_TIMEOUT_S: Final = 10.0


class LocalProvider:
    """Nodes below ``STATE_DIR/nodes/``. Without settings it can list and destroy only."""

    def __init__(self, state_dir: Path, settings: LocalSettings | None) -> None:
        self._state_dir = state_dir.absolute()
        self._settings = settings

    def examine(self) -> list[Finding]:
        """See `Provider.examine`."""
        return [] if self._settings is None else examine_namespaces(self._settings)

    def quote(self, arch: str) -> float | None:
        """See `Provider.quote`: this machine is paid for."""
        return 0.0

    def create(
        self,
        order: NodeOrder,
        bootstrap: Bootstrap,
        *,
        timeout_s: float,
        on_handle: OnHandle = lambda handle: None,
        on_phase: OnPhase = lambda phase: None,
    ) -> CreatedNode:
        """See `Provider.create`. The handle is the lease's id."""
        settings = self._check()
        on_handle(order.lease_id)
        address, port = _choose_address(settings.address)
        plan = NodePlan(
            lease_id=order.lease_id,
            owner=order.owner,
            state_dir=str(self._state_dir),
            image=str(settings.image),
            hostname=bootstrap.hostname,
            address=address,
            port=port,
            disk_mib=settings.disk_mib,
            boot_timeout_s=float(min(timeout_s, settings.boot_timeout_s)),
            resolv_conf=_host_resolv_conf(),
            client_key=str(bootstrap.client_key),
            host_public_key=str(bootstrap.host_key.public),
            host_key=bootstrap.host_key.private.reveal().decode(),
        )
        injected, mounts = injected_files(plan), expected_mounts(plan)
        self._start(plan)
        where = NodeAddress(address, port, _USER, bootstrap.host_key.public)
        return CreatedNode(where, order.lease_id, injected, mounts, price_per_hour=0.0)

    def destroy(self, lease_id: str, handle: str) -> None:
        """See `Provider.destroy`. The supervisor does it; without one, this process does."""
        directory = node_dir(self._state_dir, lease_id)
        facts = find_facts(directory)
        if facts is None:  # not that far yet, or nothing is there
            wait_until(lambda: not is_supervised(directory), _TERM_TIMEOUT_S)
        else:
            end_process(facts.supervisor, signal.SIGTERM)
            if not wait_gone(facts.supervisor, _TERM_TIMEOUT_S):
                end_process(facts.supervisor, signal.SIGKILL)
                facts = find_facts(directory) or facts
            # Its first process dies with the supervisor; make sure before the files go.
            for process in (facts.supervisor, facts.init):
                if process is not None and not wait_gone(process, _KILL_TIMEOUT_S):
                    raise CleanupError(
                        f"process {process.pid} of local node {lease_id} does not end",
                        hint="look for uninterruptible I/O, then run mock-cloud release again",
                    )
        remove_tree(directory)

    def is_running(self, lease_id: str, handle: str) -> bool:
        """See `Provider.is_running`."""
        return is_supervised(node_dir(self._state_dir, lease_id))

    def list_nodes(self) -> list[FoundNode]:
        """See `Provider.list_nodes`."""
        try:
            directories = sorted((self._state_dir / "nodes").iterdir())
        except FileNotFoundError:
            return []
        found = []
        for directory in directories:
            facts = find_facts(directory)
            owner = facts.owner if facts else ""
            name = directory.name
            found.append(FoundNode(name, owner, name, running=is_supervised(directory)))
        return found

    def find_end(self, handle: str) -> str:
        """See `Provider.find_end`: nobody says."""
        return ""

    def console_tail(self, handle: str) -> str:
        """See `Provider.console_tail`."""
        return read_tail(node_dir(self._state_dir, handle))

    def _check(self) -> LocalSettings:
        if self._settings is None:
            raise ConfigError("a remote of provider local needs a table [local]")
        if os.geteuid() != 0:
            raise ConfigError(
                "local nodes need root: they are made of mounts and namespaces",
                hint="run the command as root, or use a remote with another provider",
            )
        check_image(self._settings.image)
        kind = filesystem_type(self._state_dir)
        if not self._settings.disk_mib and kind == "overlay":
            raise ConfigError(
                f"{self._state_dir} lies on an overlay, on which no other can have its upper",
                hint="set disk_mib in [local], or XDG_STATE_HOME to a plain file system",
            )
        return self._settings

    def _start(self, plan: NodePlan) -> None:
        argv = [sys.executable, "-m", "mock_cloud.cloud.local.supervisor"]
        # The package may run from a checkout that only this process's path names.
        package_root = str(Path(__file__).parents[3])
        try:
            # Not `process.run`: the answer comes while the supervisor lives on.
            done = subprocess.run(
                argv,
                input=to_json(plan),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment({"PYTHONPATH": package_root}),
                timeout=plan.boot_timeout_s + _START_SLACK_S,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            self.destroy(plan.lease_id, "")
            raise CloudError(
                f"the supervisor of a local node gave no answer in {error.timeout:g} s",
                hint="is this machine overloaded? Else raise [local] boot_timeout_s",
            ) from error
        _check_answer(done.stdout)


def _check_answer(output: bytes) -> None:
    try:
        answer = load_json(output)
        error, hint, console = answer["error"], answer["hint"], answer["console"]
    except (ValueError, TypeError, KeyError) as wrong:
        text = output.decode(errors="replace").strip()[-500:]
        raise CloudError(f"the supervisor of a local node failed: {text}") from wrong
    if error is not None:
        tail = f"\n{console.rstrip()}" if console else ""
        raise CloudError(f"{error}{tail}", hint=hint)


def _choose_address(wanted: str) -> tuple[str, int]:
    """A loopback address and a port on it that nobody listens on now.

    Only one of 127.0.0.0/8 that nobody uses gives each node a port 22 of its own.
    """
    if not wanted:
        middle, last = random.randrange(1, 255), random.randrange(1, 255)  # noqa: S311 (no secret)
        address = f"127.{random.randrange(1, 255)}.{middle}.{last}"  # noqa: S311
        if _free_port(address, _SSH_PORT):
            return address, _SSH_PORT
        wanted = address
    port = _free_port(wanted, 0)
    if port is None:
        raise ConfigError(
            f"no sshd could listen on {wanted}", hint="set [local] address to one of 127.0.0.0/8"
        )
    return wanted, port


def _free_port(address: str, port: int) -> int | None:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except socket.gaierror:
            return None
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                return None
            raise
        number: int = probe.getsockname()[1]
        return number


def _host_resolv_conf() -> str:
    try:
        return Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""


_NAMESPACES: Final = ("mnt", "pid", "uts", "ipc", "net")


def examine_namespaces(settings: LocalSettings) -> list[Finding]:
    """The image tree, root's rights, and what the kernel must have."""
    return [
        look("image", partial(_image, settings.image)),
        look("root", _root),
        look("namespaces and overlayfs", _kernel),
    ]


def _image(image: Path) -> str:
    check_image(image)
    return str(image)


def _root() -> str:
    if os.geteuid() != 0:
        raise ConfigError(
            "local nodes need root on this machine",
            hint="run as root, or use a remote whose nodes are elsewhere",
        )
    return "yes"


def _kernel() -> str:
    missing = [name for name in _NAMESPACES if not Path("/proc/self/ns", name).exists()]
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        missing.append("overlay")
    if missing:
        raise ConfigError(
            f"the kernel has no {', '.join(missing)}", hint="modprobe overlay, or another kernel"
        )
    return "yes"

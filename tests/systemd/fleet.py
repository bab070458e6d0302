# SPDX-License-Identifier: GPL-2.0-or-later
"""A cloud of machines with systemd, an image baked in it, and nodes that are attested by it."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import pytest

from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import Reason, TransportError
from mock_cloud.images.bake_image import BakeOrder, bake_image
from mock_cloud.images.candidate import Wanted
from mock_cloud.settings import Remote
from mock_cloud.steps.attest.attesting import Archive, Attested
from mock_cloud.steps.attest.known_good_sets import KnownGood, read_package_keys
from mock_cloud.steps.attest.verdicts import attest
from mock_cloud.steps.check.chosen_engine import find_toolkit
from mock_cloud.steps.context import NodeUse
from mock_cloud.steps.lease.node import connect_leased, leased_node, reached
from tests.lab.clouds.cloud import Cloud
from tests.lab.clouds.machines import Machine
from tests.lab.manifest import signing_key

_BOOT_S = 1200.0
_ARCH = "x86_64"
_NUMBERS = itertools.count(1)
_TABLE = """
boot_timeout = "20m"

[build]
connect_timeout = "5m"
silence_timeout = "15m"

[lease]
idle_ttl = 0
"""


@dataclass(frozen=True)
class FleetNode:
    """One leased machine. Each `attest` connects anew, as each command does."""

    fleet: Fleet
    use: NodeUse
    leased: LeasedNode

    @property
    def machine(self) -> Machine:
        return self.fleet.cloud.node(self.leased.handle)

    @property
    def identity(self) -> Path:
        """The private key that root's authorized_keys let in."""
        return self.fleet.use.archive.state_dir / "keys" / self.leased.lease_id

    def attest(self) -> Attested:
        """The verdict by the image's manifest. NodeRefused."""
        with reached(self.use) as self.use.node:
            return attest(self.use)

    def refusals(self) -> tuple[Reason, ...]:
        """Why it is refused; nothing if it is trusted."""
        try:
            self.attest()
        except NodeRefused as refused:
            assert refused.verdict.reason_count == len(refused.verdict.reasons)
            return refused.verdict.reasons
        return ()

    def do(self, script: str, *, status: int | None = 0) -> str:
        """What root's `script` on the machine prints, by OpenSSH's own client, host key pinned."""
        state = self.fleet.use.archive.state_dir
        known = state / "known_hosts"
        host = self.leased.address.host
        known.write_text(f"{host} {self.leased.address.host_key}\n")
        argv = ["ssh", "-F", "none", "-i", str(self.identity)]
        for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}"):
            argv += ["-o", option]
        argv += [f"root@{host}", "sh", "-s"]
        done = subprocess.run(
            argv, input=script, capture_output=True, text=True, timeout=_BOOT_S, check=False
        )
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def reboot(self) -> None:
        """By systemd, until sshd answers in the new boot."""
        before = self.do("cat /proc/sys/kernel/random/boot_id")
        self.do("systemctl reboot", status=None)
        self._wait(before)

    def power_cycle(self, clock: str) -> None:
        """Off by the power button, and on again with another time (QEMU's -rtc base)."""
        before = self.do("cat /proc/sys/kernel/random/boot_id")
        machine = self.machine
        machine.stop()
        machine.clock = clock
        machine.start()
        self._wait(before)

    def _wait(self, boot_id: str) -> None:
        deadline_s = time.monotonic() + _BOOT_S
        while True:
            try:
                connect_leased(self.leased, self.fleet.remote).close()
                if self.do("cat /proc/sys/kernel/random/boot_id", status=None) not in ("", boot_id):
                    return
            except TransportError:
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(2)


@dataclass
class Fleet:
    """The cloud, the remote whose image was baked in it and its file, and that image's manifest."""

    cloud: Cloud
    file: Path
    remote: Remote
    use: NodeUse

    @contextmanager
    def node(self) -> Iterator[FleetNode]:
        """A new machine of the image."""
        use = copy(self.use)
        chroot = f"({next(_NUMBERS)})"  # each its own: two may be there at once
        with leased_node(use, LeaseRequest(chroot, fresh=True)) as leased:
            try:
                yield FleetNode(self, use, leased)
            finally:
                leased.destroy()


@contextmanager
def baked(
    cloud: Cloud, name: str, place: Path, repositories: tuple[str, ...] = ("1",)
) -> Iterator[Fleet]:
    """An image baked of the stock image that nobody signed for, as a user does it first.

    `name` is that of the lab's remote for the cloud; `repositories` are below the lab's
    distribution.
    """
    with pytest.MonkeyPatch.context() as patch:
        for directory in ("home", "state", "cache"):
            (place / directory).mkdir()
        patch.setenv("HOME", str(place / "home"))
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        for variable in cloud.environment(place / "etc"):
            patch.setenv(*variable.split("=", 1))
        yield _bake(cloud, name, place, repositories)


def _bake(cloud: Cloud, name: str, place: Path, repositories: tuple[str, ...]) -> Fleet:
    config = cloud.write_config(place / "etc")
    file = config.path / f"remotes.d/{name}.toml"
    with file.open("a") as stream:
        stream.write(_TABLE)
    console = Console()
    key = place / "image-key"
    key.touch(0o600)
    key.write_bytes(signing_key(cloud.lab))  # and its public half, which the remote names
    remote = load_remote(name, config.path)
    order = BakeOrder(
        arch=_ARCH,
        wanted=Wanted((), tuple(f"{cloud.repository_url}/{path}" for path in repositories)),
        sign_key=key,
        output=place / "image.dsse.json",
        accept_unverified_base=True,
    )
    made = bake_image(order, remote, console)
    text = file.read_text().replace(cloud.image_id, made.handle)
    file.write_text(text.replace("[attest]\n", f'[attest]\nmanifest = "{made.output}"\n'))
    remote = load_remote(name, config.path)
    keys = read_package_keys(remote.attest.package_keys)
    use = NodeUse(remote=remote, console=console, arch=_ARCH)
    use.archive = Archive(place / "cache", place / "state")
    use.toolkit = find_toolkit(remote, _ARCH, console)
    use.known = KnownGood(made.manifest, keys)
    return Fleet(cloud, file, remote, use)


def count(reasons: tuple[Reason, ...]) -> Counter[str]:
    return Counter(reason.code for reason in reasons)

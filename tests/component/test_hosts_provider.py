# SPDX-License-Identifier: GPL-2.0-or-later
"""Lent machines: nodes with a real sshd stand for them. Claims, keys, jump hosts, giving back."""

from __future__ import annotations

import base64
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mock_cloud.cloud.hosts.client import Free, HostUnusable, ask
from mock_cloud.cloud.hosts.handle import Handle, parse_handle
from mock_cloud.cloud.hosts.provider import HostsProvider, examine_host
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.cloud.listing import release
from mock_cloud.cloud.provider import Bootstrap, CreatedNode, HostSilent, NodeOrder, NodesTaken
from mock_cloud.errors import CleanupError, CloudError, HostKeyMismatch
from mock_cloud.model import HostKey, UserKeys
from mock_cloud.remote.connect import connect
from mock_cloud.settings import HostSettings
from mock_cloud.sshkeys import make_key_pair
from tests.component.cloud_nodes import Site

pytest_plugins = ["tests.component.cloud_fixtures"]
pytestmark = pytest.mark.lab

ARCH = platform.machine()
W = "/var/lib/mock-cloud"


@dataclass(frozen=True)
class Lent:
    """A node that stands for a machine that somebody lends."""

    site: Site
    node: LeasedNode
    name: str

    @property
    def settings(self) -> HostSettings:
        address = self.node.address
        return HostSettings(
            name=self.name,
            address=address.host,
            owner="Alice",
            arch=ARCH,
            port=address.port,
            host_key=address.host_key,
            identity=self.site.state_dir / "keys" / self.node.lease_id,
            ssh_config=Path("/dev/null"),
        )

    def sh(self, command: str) -> str:
        return self.site.ssh(self.node, command)


def order(lease_id: str, *, arch: str = ARCH, life_s: float = 600) -> NodeOrder:
    return NodeOrder(lease_id, "lent", "me@here:0", arch, time.time() + life_s)


def boot(order: NodeOrder) -> Bootstrap:
    return Bootstrap(make_key_pair(), make_key_pair().public, f"mock-cloud-{order.lease_id}")


class Controller:
    """A provider with a state directory of its own; it notes what it is told."""

    def __init__(self, state_dir: Path, *hosts: HostSettings) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        self.provider = HostsProvider(state_dir, hosts)
        self.handle = ""
        self.said: list[str] = []

    def take(self, lease_id: str, *, arch: str = ARCH, life_s: float = 600) -> CreatedNode:
        wanted = order(lease_id, arch=arch, life_s=life_s)
        return self.provider.create(
            wanted,
            boot(wanted),
            timeout_s=60,
            on_handle=lambda handle: setattr(self, "handle", handle),
            on_phase=self.said.append,
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("lent"), image)
    yield site
    assert all(
        item.problem is None for item in release(site.state_dir, None, site.load, force=True)
    )


@pytest.fixture(scope="module")
def machines(shared: Site) -> tuple[Lent, Lent]:
    return (
        Lent(shared, shared.acquire("a"), "alpha"),
        Lent(shared, shared.acquire("b"), "beta"),
    )


@pytest.fixture
def lent(machines: tuple[Lent, Lent]) -> Iterator[tuple[Lent, Lent]]:
    """Two machines on which there is nothing of ours."""
    yield machines
    for machine in machines:
        machine.sh(f"rm -rf {W}/* /var/lib/mock/*")


# Who is refused


def test_another_host_key_is_refused_and_nothing_sent(
    lent: tuple[Lent, Lent], tmp_path: Path
) -> None:
    alpha, beta = lent
    impostor = replace(beta.settings, host_key=alpha.settings.host_key, capacity=9)
    with pytest.raises(HostKeyMismatch, match="expected host key") as caught:
        Controller(tmp_path, impostor, alpha.settings).take("aa")
    assert caught.value.exit_code == 77
    assert beta.sh(f"ls -A {W}") == "" and alpha.sh(f"ls -A {W}") == ""


def certify(lent: Lent, directory: Path, *words: str) -> HostKey:
    """Give the machine's sshd a certificate by a CA made here; the CA's public key."""
    directory.mkdir()
    keygen = shutil.which("ssh-keygen") or "ssh-keygen"
    subprocess.run([keygen, "-q", "-N", "", "-t", "ed25519", "-f", directory / "ca"], check=True)
    public = directory / "host.pub"
    public.write_text(f"{lent.settings.host_key}\n")
    argv = [keygen, "-q", "-s", directory / "ca", "-I", "id", *words, public]
    subprocess.run(argv, check=True, capture_output=True)
    text = base64.b64encode((directory / "host-cert.pub").read_bytes()).decode()
    lent.sh(f"echo {text} | base64 -d > /etc/ssh/cert.pub")
    line = "HostCertificate /etc/ssh/cert.pub"
    lent.sh(f"grep -q '^{line}' /etc/ssh/sshd_config || echo '{line}' >> /etc/ssh/sshd_config")
    lent.sh("kill -HUP 1")  # sshd is the node's first process; it reads its configuration again
    return HostKey.parse((directory / "ca.pub").read_text())


def test_a_host_ca(lent: tuple[Lent, Lent], tmp_path: Path) -> None:
    alpha, beta = lent
    by_ca = replace(alpha.settings, host_key=None)
    name = alpha.settings.address
    with pytest.raises(HostKeyMismatch, match="shows no host certificate"):
        Controller(tmp_path / "1", replace(by_ca, host_ca=make_key_pair().public)).take("aa")
    wrong = certify(alpha, tmp_path / "wrong", "-h", "-n", beta.settings.address)
    time.sleep(0.2)
    with pytest.raises(HostKeyMismatch, match=f"it is for {beta.settings.address}, not for {name}"):
        Controller(tmp_path / "2", replace(by_ca, host_ca=wrong)).take("aa")
    assert alpha.sh(f"ls -A {W}") == ""
    ca = certify(alpha, tmp_path / "good", "-h", "-n", name)
    time.sleep(0.2)
    with pytest.raises(HostKeyMismatch, match="not by the CA"):
        Controller(tmp_path / "3", replace(by_ca, host_ca=wrong)).take("aa")
    controller = Controller(tmp_path / "4", replace(by_ca, host_ca=ca))
    node = controller.take("aa")
    assert node.address.host_key == alpha.settings.host_key
    controller.provider.destroy("aa", node.handle)


def test_what_makes_a_host_unfit_is_said(lent: tuple[Lent, Lent], tmp_path: Path) -> None:
    """A refused key, another architecture, a host that is down: all of them, in one message."""
    alpha, beta = lent
    stranger = tmp_path / "stranger"
    stranger.touch(0o600)
    stranger.write_bytes(make_key_pair().private.reveal())
    hosts = (
        replace(alpha.settings, name="locked", identity=stranger),
        replace(beta.settings, name="down", port=1),
    )
    with pytest.raises(CloudError, match="no host of remote lent can be used") as caught:
        Controller(tmp_path / "1", *hosts).take("aa")
    assert f"{stranger}: refused for root" in caught.value.message
    assert "Connection refused" in caught.value.message
    other = replace(alpha.settings, arch="s390x")
    with pytest.raises(CloudError, match="of architecture"):
        examine_host(other)
    assert examine_host(alpha.settings).endswith("lent by Alice: free")
    with pytest.raises(CloudError, match=f"of architecture {ARCH}, not s390x"):
        Controller(tmp_path / "2", other).take("aa", arch="s390x")


# The claim


@pytest.mark.slow
def test_each_takes_another_and_the_third_is_told_who_has_them(
    lent: tuple[Lent, Lent], tmp_path: Path
) -> None:
    small, large = (machine.settings for machine in lent)
    hosts = (small, replace(large, capacity=8))
    mine, theirs = Controller(tmp_path / "1", *hosts), Controller(tmp_path / "2", *hosts)
    first, second = mine.take("aa"), theirs.take("bb")
    assert (first.address.host, second.address.host) == (large.address, small.address)
    assert first.kind == "beta, lent by Alice"
    with pytest.raises(NodesTaken, match="alpha is used by me@here:0 for up to") as caught:
        mine.take("cc")
    assert set(caught.value.leases) == {"aa", "bb"}
    assert mine.provider.is_running("aa", first.handle)
    assert not mine.provider.is_running("cc", first.handle)
    found = {node.lease_id: node for node in mine.provider.list_nodes()}
    assert set(found) == {"aa", "bb"} and found["bb"].owner == "me@here:0"
    # Somebody else's is not given back, whatever the handle says.
    mine.provider.destroy("aa", second.handle)
    assert theirs.provider.is_running("bb", second.handle)
    for controller, lease, node in ((mine, "aa", first), (theirs, "bb", second)):
        for _ in range(2):
            controller.provider.destroy(lease, node.handle)
    assert list(mine.provider.list_nodes()) == []


def test_only_what_is_ours_is_wiped(lent: tuple[Lent, Lent], tmp_path: Path) -> None:
    alpha, _ = lent
    controller = Controller(tmp_path, alpha.settings)
    node = controller.take("aa")
    alpha.sh(
        f"mkdir -p {W}/toolkit/x {W}/jobs/j /var/lib/mock/ours/overlay/base /var/lib/mock/ours/root"
        " /var/lib/mock/theirs/root /srv/theirs;"
        f"cp /usr/bin/sleep {W}/toolkit/x/; touch {W}/.hidden /var/lib/mock/ours/buildroot.lock;"
        f"{W}/toolkit/x/sleep 600 </dev/null >/dev/null 2>&1 &"
        " sleep 600 </dev/null >/dev/null 2>&1 & echo $! > /run/theirs"
    )
    controller.provider.destroy("aa", node.handle)
    assert alpha.sh(f"ls -A {W}; ls -A /var/lib/mock /srv") == (
        "/srv:\ntheirs\n\n/var/lib/mock:\ntheirs\n"
    )
    assert alpha.sh("readlink /proc/[0-9]*/exe | grep -c toolkit || true").strip() == "0"
    alpha.sh("kill $(cat /run/theirs) && rm /run/theirs; rmdir /srv/theirs")


@pytest.mark.slow
def test_a_claim_ends_by_its_age(lent: tuple[Lent, Lent], tmp_path: Path) -> None:
    """Its controller was killed with -9 and is never heard of again."""
    alpha, _ = lent
    dead, alive = (Controller(tmp_path / name, alpha.settings) for name in ("1", "2"))
    node = dead.take("aa", life_s=60)
    alpha.sh(f"mkdir {W}/jobs; touch {W}/jobs/secret")
    with pytest.raises(NodesTaken):
        alive.take("bb")
    alpha.sh(f"touch -d '2 minutes ago' {W}/claim")
    assert list(alive.provider.list_nodes()) == []
    mine = alive.take("bb")
    assert alpha.sh(f"ls -A {W}") == "claim\n"
    dead.provider.destroy("aa", node.handle)
    assert alive.provider.is_running("bb", mine.handle)
    alive.provider.destroy("bb", mine.handle)


def test_of_many_at_once_one_wins(lent: tuple[Lent, Lent], tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    alpha, _ = lent

    def take(number: int) -> str:
        try:
            return Controller(tmp_path / str(number), alpha.settings).take(f"a{number}").handle
        except NodesTaken:
            return ""

    with ThreadPoolExecutor(6) as pool:
        handles = list(pool.map(take, range(6)))
    (winner,) = [number for number, handle in enumerate(handles) if handle]
    Controller(tmp_path / "end").provider.destroy(f"a{winner}", handles[winner])
    assert alpha.sh(f"ls -A {W}") == ""


def test_a_host_that_cannot_be_told_keeps_its_lease(
    lent: tuple[Lent, Lent], tmp_path: Path
) -> None:
    alpha, _ = lent
    controller = Controller(tmp_path, alpha.settings)
    node = controller.take("aa")
    (place,) = parse_handle(node.handle).places
    gone = replace(place, address=replace(place.address, port=1))
    away = str(Handle((gone,), time.time()))
    with pytest.raises(CleanupError, match=r"alpha: .*Connection refused"):
        controller.provider.destroy("aa", away)
    with pytest.raises(HostSilent, match="Connection refused"):  # its line may be cut
        controller.provider.is_running("aa", away)
    # A claim that ended by its age long ago keeps no lease open for ever.
    controller.provider.destroy("aa", str(Handle((gone,), time.time() - 9000)))
    controller.provider.destroy("aa", node.handle)


@pytest.mark.slow
def test_a_silent_command_is_waited_for_and_a_frozen_machine_is_not(
    lent: tuple[Lent, Lent], tmp_path: Path
) -> None:
    alpha, _ = lent
    assert Controller(tmp_path, alpha.settings).take("aa")
    address = replace(
        alpha.node.address, user_keys=UserKeys((str(alpha.settings.identity),), whole_agent=False)
    )
    assert ask(address, "sleep 20; echo free") == Free()
    with pytest.raises(HostUnusable, match="sent nothing for 15 s") as caught:
        ask(
            address,
            "(sleep 40; kill -CONT $PPID) </dev/null >/dev/null 2>&1 & kill -STOP $PPID; sleep 60",
        )
    assert caught.value.claimed
    with pytest.raises(HostUnusable, match="printed more than") as caught:
        ask(address, "yes")
    assert caught.value.claimed


# Jump hosts


@pytest.fixture
def jumping(lent: tuple[Lent, Lent], tmp_path: Path) -> tuple[Lent, Lent, Path]:
    """A configuration that reaches beta through alpha, and knows alpha."""
    alpha, beta = lent
    known, config = tmp_path / "known", tmp_path / "ssh_config"
    there = alpha.settings
    shown = there.address if there.port == 22 else f"[{there.address}]:{there.port}"
    known.write_text(f"{shown} {there.host_key}\n")
    config.write_text(
        f"Host {beta.settings.address}\n ProxyJump gate\n"
        f"Host gate\n HostName {there.address}\n Port {there.port}\n User root\n"
        f" IdentityFile {there.identity}\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {known}\n StrictHostKeyChecking no\n"
    )
    return alpha, beta, config


def test_through_a_jump_host(jumping: tuple[Lent, Lent, Path], tmp_path: Path) -> None:
    _, beta, config = jumping
    controller = Controller(tmp_path / "state", replace(beta.settings, ssh_config=config))
    node = controller.take("aa")
    assert "gate" in node.address.proxy
    assert node.address.user_keys is not None
    through = connect(node.address, node.address.user_keys, deadline_s=10)
    assert through.host_key == beta.settings.host_key
    through.close()
    controller.provider.destroy("aa", node.handle)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("Port ", "Port 1 #", "jump host gate: ssh: connect to host .* Connection refused"),
        ("User root", "User nobody", "jump host gate: .*Permission denied"),
        ("UserKnownHostsFile ", "UserKnownHostsFile /dev/null #", "jump host gate: .*Host key"),
    ],
)
def test_a_hop_that_fails_is_named(
    jumping: tuple[Lent, Lent, Path], tmp_path: Path, old: str, new: str, says: str
) -> None:
    _, beta, config = jumping
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(CloudError, match=says):
        Controller(tmp_path / "state", replace(beta.settings, ssh_config=config)).take("aa")
    assert beta.sh(f"ls -A {W}") == ""


def test_a_host_behind_a_working_jump_host_that_is_down(
    jumping: tuple[Lent, Lent, Path], tmp_path: Path
) -> None:
    _, beta, config = jumping
    down = replace(beta.settings, ssh_config=config, port=1)
    with pytest.raises(CloudError, match=r"jump host gate: .*Connection refused"):
        Controller(tmp_path / "state", down).take("aa")


def test_another_key_behind_a_jump_host(jumping: tuple[Lent, Lent, Path], tmp_path: Path) -> None:
    _, beta, config = jumping
    other = replace(beta.settings, ssh_config=config, host_key=make_key_pair().public)
    with pytest.raises(HostKeyMismatch):
        Controller(tmp_path / "state", other).take("aa")


def test_the_ssh_agent_is_enough(
    lent: tuple[Lent, Lent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, _ = lent
    path = tmp_path / "agent"
    child = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        monkeypatch.setenv("HOME", str(tmp_path))
        added = subprocess.run(
            ["ssh-add", "-q", str(alpha.settings.identity)], check=True, env=os.environ
        )
        assert added.returncode == 0
        controller = Controller(tmp_path / "state", replace(alpha.settings, identity=None))
        node = controller.take("aa")
        assert node.address.user_keys is not None
        connect(node.address, node.address.user_keys, deadline_s=10).close()
        controller.provider.destroy("aa", node.handle)
    finally:
        child.kill()
        child.wait()

# SPDX-License-Identifier: GPL-2.0-or-later
"""The real agent in a network namespace of its own, beside a metadata service in another one.

The service answers at the addresses of EC2 and OpenStack, TCP on port 80 and UDP on port 53, as
a cloud does whose metadata address is its resolver too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.wire.frames import encode_frame, read_frame
from tests.component.remote_parts import LocalToolkit
from tests.tars import unpack_own

needed = [name for name in ("ip", "nsenter", "setpriv", "unshare") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
    pytest.mark.skipif(bool(needed), reason=f"needs {' '.join(needed)}"),
]

V4, V6, LINK = "169.254.169.254", "fd00:ec2::254", "fe80::a9fe:a9fe"
SERVICE = """
    import socket, threading
    web = socket.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True)
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("169.254.169.254", 53))
    def resolve():
        while True:
            names.sendto(b"name", names.recvfrom(512)[1])
    threading.Thread(target=resolve).start()
    print("up", flush=True)
    while True:
        peer, _ = web.accept()
        peer.sendall(b"user-data")
        peer.close()
"""
ASK = """
    import socket, sys
    address, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    info = socket.getaddrinfo(address, port, type=getattr(socket, "SOCK_" + kind))[0]
    sock = socket.socket(info[0], info[1])
    sock.settimeout(3)
    try:
        sock.connect(info[4])
        sock.send(b"?")
        print(sock.recv(99).decode())
    except OSError as error:
        print(type(error).__name__)
"""

PICKLES = "/var/lib/cloud/instances/i-1/obj.pkl", "/run/tuned/save.pickle"
# This machine may have some of its own.
OF_ITS_OWN = (
    "unshare", "--mount", "--propagation", "private", "sh", "-ec",
    "for place in /var/lib /run; do mount -t tmpfs none $place; done; "
    f"""for file in {" ".join(PICKLES)}; do install -D /dev/null $file; done; exec "$@" """, "sh",
)  # fmt: skip


def python(pid: int, code: str, *words: str, setpriv: tuple[str, ...] = ()) -> list[str]:
    """A command line: `code` in the network namespace of process `pid`."""
    wrapped = ["setpriv", *setpriv] if setpriv else []
    enter = ["nsenter", "-t", str(pid), "-n", *wrapped]
    return [*enter, sys.executable, "-c", textwrap.dedent(code), *words]


class Cloud:
    """Two network namespaces with a cable between them."""

    def __init__(self, node: int, service: int) -> None:
        self.node = node
        self.service = service

    def ask(self, address: str, port: int = 80, kind: str = "STREAM") -> str:
        """What a build's process, which is not root, gets from there."""
        builder = ("--reuid=1000", "--clear-groups")
        command = python(self.node, ASK, address, str(port), kind, setpriv=builder)
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
        return done.stdout.strip()


def ip(pid: int, *words: str) -> None:
    subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", *words], check=True, timeout=600)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    sleepers = [subprocess.Popen(["unshare", "-n", "sleep", "120"]) for _ in range(2)]
    service = None
    try:
        node, far = (one.pid for one in sleepers)
        for one in (node, far):
            own = Path("/proc/self/ns/net").readlink()
            while Path(f"/proc/{one}/ns/net").readlink() == own:
                pass
            ip(one, "link", "set", "lo", "up")
        ip(node, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1", "netns", str(far))
        for address in (f"{V4}/32", "10.9.0.1/24"):
            ip(far, "address", "add", address, "dev", "eth1")
        for address in (f"{V6}/128", "fd00:9::1/64", f"{LINK}/64"):
            ip(far, "-6", "address", "add", address, "dev", "eth1", "nodad")
        ip(far, "link", "set", "eth1", "up")
        ip(node, "address", "add", "10.9.0.2/24", "dev", "eth0")
        ip(node, "-6", "address", "add", "fd00:9::2/64", "dev", "eth0", "nodad")
        ip(node, "-6", "address", "add", "fe80::2/64", "dev", "eth0", "nodad")
        ip(node, "link", "set", "eth0", "up")
        ip(node, "route", "add", "default", "via", "10.9.0.1")
        ip(node, "-6", "route", "add", "default", "via", "fd00:9::1")
        # As DHCP gives it on EC2 and OpenStack, with the metric that beats all others.
        ip(node, "route", "add", V4, "via", "10.9.0.1", "metric", "0")
        service = subprocess.Popen(python(far, SERVICE), stdout=subprocess.PIPE)
        assert service.stdout is not None
        assert service.stdout.readline() == b"up\n"
        yield Cloud(node, far)
    finally:
        for process in (*sleepers, service):
            if process is not None:
                process.kill()
                process.communicate()


class Agent:
    """An agent in the node's network namespace, spoken to over its pipes."""

    def __init__(self, cloud: Cloud, toolkit: LocalToolkit, *privileges: str) -> None:
        toolkit.workspace.mkdir(parents=True)
        unpack = Path(toolkit.node_dir)
        unpack.mkdir(parents=True)
        unpack_own(toolkit.archive, unpack)
        command = ["nsenter", "-t", str(cloud.node), "-n", *OF_ITS_OWN]
        command += ["setpriv", "--no-new-privs", *privileges]
        self._process = subprocess.Popen(
            [*command, *toolkit.argv("serve")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )
        self._watchdog = threading.Timer(30, self._process.kill)
        self._watchdog.start()
        self._id = 0

    @property
    def pickles(self) -> list[bool]:
        """Which of them are there."""
        root = f"/proc/{self._process.pid}/root"
        return [Path(f"{root}{path}").exists() for path in PICKLES]

    def __enter__(self) -> Agent:
        assert self.ask("trust", verdict="ab" * 32, token="cd" * 32) == ""
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self._process.communicate()

    def ask(self, operation: str, body: bytes = b"", **keys: str) -> str:
        """The error code and message; empty if it was done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._id += 1
        header = {"op": operation, "id": self._id, **keys}
        self._process.stdin.write(encode_frame(header, body))
        self._process.stdin.flush()
        frame = read_frame(self._process.stdout)
        assert frame is not None
        error = frame[0].get("error", {})
        return f"{error.get('code', '')} {error.get('message', '')}".strip()


def test_it_is_closed_to_every_process_of_the_node_and_to_nothing_else(
    cloud: Cloud, toolkit: LocalToolkit
) -> None:
    places = (V4, V6, f"{LINK}%eth0")
    assert [cloud.ask(place) for place in places] == ["user-data"] * 3
    with Agent(cloud, toolkit) as agent:
        assert agent.ask("close_metadata") == ""
        assert [cloud.ask(place) for place in places] == ["PermissionError"] * 3
        assert cloud.ask("10.9.0.1") == cloud.ask("fd00:9::1") == "user-data"
        assert cloud.ask(V4, 53, "DGRAM") == "name"
        assert agent.ask("close_metadata") == ""
        # A network service that starts anew drops rules that it does not know.
        ip(cloud.node, "rule", "del", "pref", "1")
        assert cloud.ask(V4) == "user-data"
        assert agent.ask("job_start", b"{}", job="a").startswith("bad-request")
        assert cloud.ask(V4) == "PermissionError"


def test_no_job_starts_where_it_cannot_be_closed(cloud: Cloud, toolkit: LocalToolkit) -> None:
    with Agent(cloud, toolkit, "--bounding-set=-net_admin", "--inh-caps=-net_admin") as agent:
        refused = agent.ask("close_metadata")
        assert refused.startswith(f"metadata the metadata service at {V4} cannot be closed: ")
        assert agent.ask("job_start", b"{}", job="a") == refused
        ip(cloud.node, "link", "set", "eth0", "down")
        assert agent.ask("close_metadata") == ""
        assert agent.ask("job_start", b"{}", job="a").startswith("bad-request")


def test_what_daemons_would_unpickle_is_gone_before_a_job(
    cloud: Cloud, toolkit: LocalToolkit
) -> None:
    """cloud-init's hook for network devices does, as root, and a job comes with such devices."""
    with Agent(cloud, toolkit) as agent:
        assert agent.pickles == [True, True]
        assert agent.ask("close_metadata") == ""
        assert agent.pickles == [False, False]


def test_a_node_that_was_not_told_keeps_its_routing(cloud: Cloud, toolkit: LocalToolkit) -> None:
    with Agent(cloud, toolkit) as agent:
        assert agent.ask("job_start", b"{}", job="a").startswith("bad-request")
        assert cloud.ask(V4) == "user-data"
        assert agent.pickles == [True, True]

# SPDX-License-Identifier: GPL-2.0-or-later
"""A private network: a switch in a namespace of its own, one port of it on the host.

The namespace has no name and no process: descriptors of this process keep it. When they are
closed, or this process dies in whatever way, the kernel takes the switch, every port and the host's
interface away, and with it address and routes.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from mock_cloud.process import CommandFailed, run
from mock_cloud.wire import syscalls
from tests.lab.layout import LabError

_INTERFACE = "lab{pid}n{number}"  # at most 15 bytes: pids have 7 digits, numbers 3
METADATA_ADDRESS = "169.254.169.254"
PREFIX_LENGTH = 24
_TIMEOUT_S = 20.0
_ATTEMPTS = 20
_IP_FREEBIND = 15  # linux/in.h; socket names it from Python 3.14 on
_FIRST_HOST, _LAST_HOST = 10, 250


def ip_batch(lines: Iterable[str], *, netns: str | None = None) -> None:
    """ip(8) over `lines`, in the network namespace at path `netns` or this process's."""
    enter = ["nsenter", f"--net={netns}"] if netns else []
    text = "".join(f"{line}\n" for line in lines)
    run([*enter, "ip", "-batch", "-"], timeout_s=_TIMEOUT_S, stdin=text.encode())


@dataclass(frozen=True, slots=True)
class Port:
    """A node's place in the network: interface on the switch, address, and the way out."""

    interface: str
    address: str
    mac: str
    gateway: str


class Network:
    """A /24 of 198.18.0.0/15 (RFC 2544: for tests, never routed). Closed by its context.

    The host is `host_address`; the metadata service's address belongs to the switch.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.cycle(range(_FIRST_HOST, _LAST_HOST))
        self._used: set[str] = set()
        self._names = itertools.count()
        self._namespace = -1
        self.metadata_socket = socket.socket()
        self.interface = ""
        self.subnet = ""

    @property
    def host_address(self) -> str:
        return f"{self.subnet}.1"

    @property
    def namespace(self) -> str:
        """A path by which other processes of root enter the switch's namespace."""
        return f"/proc/{os.getpid()}/fd/{self._namespace}"

    def __enter__(self) -> Network:
        problems: list[OSError] = []
        thread = threading.Thread(target=self._make_namespace, args=(problems,))
        thread.start()  # a thread, since it moves to the namespace for good
        thread.join()
        if problems:
            raise LabError(f"no network namespace: {problems[0]}") from problems[0]
        for _ in range(_ATTEMPTS):
            number = random.randrange(512)  # noqa: S311 (no secret)
            self.subnet = f"198.{18 + number // 256}.{number % 256}"
            self.interface = _INTERFACE.format(pid=os.getpid(), number=number)
            try:
                self._connect_host()
            except CommandFailed:  # mostly: another lab has this one
                continue
            self.metadata_socket.listen(64)
            return self
        self.close()
        raise LabError("no free network of 198.18.0.0/15, or no bridge and veth in this kernel")

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent. Nodes that still run keep nothing but their own loopback."""
        self.metadata_socket.close()
        if self._namespace != -1:
            os.close(self._namespace)
            self._namespace = -1
            # The kernel's own clean-up comes a little later; a test's look for leaks does not.
            with suppress(CommandFailed):
                run(["ip", "link", "delete", self.interface], timeout_s=_TIMEOUT_S)

    def new_port(self) -> Port:
        """A free address with a name for its interface."""
        with self._lock:
            for _ in range(_LAST_HOST - _FIRST_HOST):
                number = next(self._numbers)
                address = f"{self.subnet}.{number}"
                if address not in self._used:
                    self._used.add(address)
                    mac = f"02:00:{':'.join(f'{int(part):02x}' for part in address.split('.'))}"
                    return Port(f"port{next(self._names)}", address, mac, self.host_address)
        raise LabError("every address of the lab's network is in use")

    def plug(self, port: Port, netns: str) -> None:
        """Connect the namespace at path `netns`, whose interface will be ``eth0``.

        A node can use no other's address: replies to it are sent to this port only, and nodes
        don't see each other.
        """
        name = port.interface
        ip_batch(
            (
                f"link add {name} type veth peer name eth0 address {port.mac} netns {netns}",
                f"link set {name} master switch up",
                f"link set {name} type bridge_slave isolated on learning off",
                f"neighbour replace {port.address} lladdr {port.mac} dev switch nud permanent",
            ),
            netns=self.namespace,
        )
        fdb = ["bridge", "fdb", "replace", port.mac, "dev", name, "master", "static"]
        run(["nsenter", f"--net={self.namespace}", *fdb], timeout_s=_TIMEOUT_S)
        ip_batch(
            [f"neigh replace {port.address} lladdr {port.mac} dev {self.interface} nud permanent"]
        )

    def set_link(self, port: Port, up: bool) -> None:
        """Pull the cable of a node, or put it back: packets vanish without any answer."""
        ip_batch([f"link set {port.interface} {'up' if up else 'down'}"], netns=self.namespace)

    def free(self, port: Port) -> None:
        """Let others have the address; the interface went with its node. Idempotent."""
        with self._lock:
            self._used.discard(port.address)

    def _make_namespace(self, problems: list[OSError]) -> None:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            self._namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self.metadata_socket.close()
            self.metadata_socket = socket.socket()
            self.metadata_socket.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            self.metadata_socket.bind((METADATA_ADDRESS, 80))
        except OSError as error:
            problems.append(error)

    def _connect_host(self) -> None:
        if self._is_taken():
            raise CommandFailed(["ip"], "in use", self.subnet)
        host = f"/proc/{os.getpid()}/ns/net"
        ip_batch(
            (
                f"link add uplink type veth peer name {self.interface} netns {host}",
                "link add switch type bridge",
                "link set uplink master switch up",
                f"address add {METADATA_ADDRESS}/32 dev switch",
                "link set lo up",
                "link set switch up",
                f"route add {self.subnet}.0/{PREFIX_LENGTH} dev switch src {METADATA_ADDRESS}",
            ),
            netns=self.namespace,
        )
        ip_batch(
            (
                f"address add {self.host_address}/{PREFIX_LENGTH} dev {self.interface}",
                f"link set {self.interface} up",
            )
        )

    def _is_taken(self) -> bool:
        return f"{self.subnet}." in run(["ip", "route"], timeout_s=_TIMEOUT_S).decode()

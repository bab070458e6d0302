# SPDX-License-Identifier: GPL-2.0-or-later
"""What a trusted controller has done to a node for the node's own safety.

The timer that ends it; and, on nodes of clouds, a host key that nobody else has seen and a
metadata service that no build can ask.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import signal
import socket
import struct
from collections.abc import Iterator
from typing import Final

from mock_cloud.agent.deadman.line import Line
from mock_cloud.agent.serve_wire import Failure
from mock_cloud.agent.sshd import find_listener
from mock_cloud.wire.decode import Malformed, decode
from mock_cloud.wire.frames import FrameHeader
from mock_cloud.wire.layout import HOST_KEY_FILE
from mock_cloud.wire.orderlog import OrderLog
from mock_cloud.wire.orders import DeadmanOrder

LEASE_KINDS: Final = {"lease": str, "life_s": int, "grace_s": int, "ending": str}
HOST_KEY_KINDS: Final = {"public": str}


class NodeHardening:
    """The operations of one agent. `heard` is for the thread that reads frames."""

    def __init__(self, workspace: str, log: OrderLog) -> None:
        self._line = Line(workspace)
        self._log = log
        self._metadata_is_closed = False

    def heard(self) -> None:
        """The controller sent something."""
        self._line.beat()

    def lease(self, header: FrameHeader) -> FrameHeader:
        """Arm the timer, or renew or shorten what it was told. Failure."""
        try:
            order = decode(DeadmanOrder, {key: header[key] for key in LEASE_KINDS})
        except Malformed as error:
            raise Failure("bad-request", str(error)) from error
        self._line.order(order)
        self._log.write("lease", f"{order.lease} {order.life_s} s, {order.ending.value}")
        return {}

    def host_key(self, header: FrameHeader, body: bytes) -> FrameHeader:
        """Take the key pair into use. Failure; OSError."""
        install_host_key(body, header["public"])
        self._log.write("host-key", header["public"])
        return {}

    def close_metadata(self) -> FrameHeader:
        """Close the metadata service to all jobs from now on. Failure; OSError."""
        self._metadata_is_closed = True  # it must be, or no job starts
        self._keep_metadata_closed()
        remove_pickles()
        self._log.write("metadata-closed")
        return {}

    def before_job(self) -> None:
        """What was closed is closed still: network services may have started anew. Failure."""
        if self._metadata_is_closed:
            self._keep_metadata_closed()

    def _keep_metadata_closed(self) -> None:
        block_metadata()

    def close(self) -> None:
        self._line.close()


# Gives the node's sshd another host key: the one it was born with was readable on the way.
# Connections that are open go on under the old key. New ones are answered with the new key as soon
# as the listening sshd has started anew, which SIGHUP makes it do (sshd(8)).
_PRIVATE_HEAD: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
_PUBLIC_HEAD: Final = "ssh-ed25519 "
_SIZE_MAX: Final = 4096
_LABEL: Final = "security.selinux"


def install_host_key(private: bytes, public: str) -> None:
    """Put both halves in their place, one after the other, and have sshd read them. Failure.

    `private` is an OpenSSH private key file, `public` the line of a ``.pub`` file. That the key
    works is for the controller to see, over a connection of its own.
    """
    line = public.removesuffix("\n")
    if not private.startswith(_PRIVATE_HEAD) or len(private) > _SIZE_MAX:
        raise Failure("bad-request", "not an OpenSSH private key")
    if line == public or not line.startswith(_PUBLIC_HEAD) or not line.isprintable():
        raise Failure("bad-request", "not a line with an ed25519 public key")
    listener = find_listener()
    _replace(HOST_KEY_FILE, private, 0o600)
    _replace(f"{HOST_KEY_FILE}.pub", public.encode()[:_SIZE_MAX], 0o644)
    if listener is not None:
        os.kill(listener, signal.SIGHUP)


def _replace(path: str, data: bytes, mode: int) -> None:
    """Atomically, root's, labelled as what was there. OSError."""
    new = f"{path}.mock-cloud"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            _copy_label(path, stream.fileno())
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(new, path)
    except OSError:
        os.unlink(new)
        raise


def _copy_label(source: str, descriptor: int) -> None:
    """A file made by us would have the directory's label, which sshd's policy may not allow."""
    try:
        os.setxattr(descriptor, _LABEL, os.getxattr(source, _LABEL))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.ENOENT):
            raise


# A pickle is a program, and nobody has signed these. cloud-init runs its own as root at a boot and
# whenever a network device comes or goes (cloudinit/cmd/devel/hotplug_hook.py), tuned when it
# starts (tuned/storage/pickle_provider.py).
_PICKLES: Final = ("/var/lib/cloud/instances/*/obj.pkl", "/run/tuned/save.pickle")


def remove_pickles() -> None:
    """Without them cloud-init asks the cloud anew at the next boot, and tuned forgets. OSError."""
    for pattern in _PICKLES:
        for path in glob.iglob(pattern):
            os.unlink(path)


# Closes a cloud's metadata service: it tells every process on the node what the node was given.
# Rules of policy routing forbid TCP to its addresses. They stand before every routing table, so no
# route, metric or second network card leads around them, as one does around a blackhole route. UDP
# stays open, since on some clouds the same address answers DNS. Packets are not looked at, so
# nothing gets slower.
# Addresses: EC2, OpenStack and most others 169.254.169.254; EC2 on Nitro fd00:ec2::254 (EC2 user
# guide, "Access instance metadata"); OpenStack fe80::a9fe:a9fe (Neutron, "Metadata service").
_ADDRESSES: Final = (
    (socket.AF_INET, "169.254.169.254"),
    (socket.AF_INET6, "fd00:ec2::254"),
    (socket.AF_INET6, "fe80::a9fe:a9fe"),
)
_PORT: Final = 80

# What connect(2) says when the kernel finds no way; anything else means that there is one.
_NO_WAY: Final = frozenset({
    errno.EACCES, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH, errno.EINVAL, errno.ENETDOWN,
    errno.ENETUNREACH, errno.ENODEV, errno.EPERM,
})  # fmt: skip

# linux/rtnetlink.h, linux/netlink.h, linux/fib_rules.h
_RTM_NEWRULE: Final = 32
_REQUEST_ACK_EXCL_CREATE: Final = 0x1 | 0x4 | 0x200 | 0x400
_FR_ACT_PROHIBIT: Final = 8
_FRA_DST, _FRA_PRIORITY, _FRA_IP_PROTO = 1, 6, 22
_PRIORITY: Final = 1  # after the node's own addresses, before all else


def block_metadata() -> None:
    """Forbid the ways to the service. Failure ``metadata`` if one stays open. Idempotent."""
    why = ""
    for family, address in _ADDRESSES:
        try:
            _forbid(family, address)
        except OSError as error:
            why = f": {error.strerror}"  # counts only if there is a way
    way = find_way()
    if way is not None:
        raise Failure("metadata", f"the metadata service at {way} cannot be closed{why}")


def find_way() -> str | None:
    """An address of the service to which a connection would be tried; None if there is none."""
    for family, address in _ADDRESSES:
        if any(_leads(family, end) for end in _ends(family, address)):
            return address
    return None


def _ends(family: int, address: str) -> Iterator[tuple[str | int, ...]]:
    if family == socket.AF_INET:
        yield (address, _PORT)
    elif not address.startswith("fe80:"):
        yield (address, _PORT, 0, 0)
    else:
        for index, _ in socket.if_nameindex():
            yield (address, _PORT, 0, index)


def _leads(family: int, end: tuple[str | int, ...]) -> bool:
    """Whether the kernel would send a packet there: it decides before it sends one."""
    try:
        probe = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return False
        raise
    with probe:
        return probe.connect_ex(end) not in _NO_WAY


def _forbid(family: int, address: str) -> None:
    """rtnetlink(7): ``ip rule add pref 1 to ADDRESS ipproto tcp prohibit``. OSError."""
    packed = socket.inet_pton(family, address)
    body = struct.pack("=8BI", family, 8 * len(packed), 0, 0, 0, 0, 0, _FR_ACT_PROHIBIT, 0)
    body += _attribute(_FRA_DST, packed)
    body += _attribute(_FRA_PRIORITY, struct.pack("=I", _PRIORITY))
    body += _attribute(_FRA_IP_PROTO, struct.pack("=B", socket.IPPROTO_TCP))
    head = struct.pack("=IHHII", 16 + len(body), _RTM_NEWRULE, _REQUEST_ACK_EXCL_CREATE, 1, 0)
    with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)) as link:
        link.send(head + body)
        number = -int(struct.unpack_from("=i", link.recv(4096), 16)[0])
    if number not in (0, errno.EEXIST):
        raise OSError(number, os.strerror(number), address)


def _attribute(kind: int, data: bytes) -> bytes:
    padding = bytes(-len(data) % 4)
    return struct.pack("=HH", 4 + len(data), kind) + data + padding

# SPDX-License-Identifier: GPL-2.0-or-later
"""Closes a cloud's metadata service: it tells whoever asks on the node what the node was given.

Rules of policy routing forbid TCP to its addresses. They stand before every routing table, so no
route, metric or second network card leads around them, as one does around a blackhole route. UDP
stays open, since on some clouds the same address answers DNS. Packets are not looked at, so
nothing gets slower.

Addresses: EC2, OpenStack and most others 169.254.169.254; EC2 on Nitro fd00:ec2::254 (EC2 user
guide, "Access instance metadata"); OpenStack fe80::a9fe:a9fe (Neutron, "Metadata service").
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

from mock_cloud.agent.serve_wire import Failure

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

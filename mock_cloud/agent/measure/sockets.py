# SPDX-License-Identifier: GPL-2.0-or-later
"""Listening sockets of the first process's network namespace, and who holds them."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mock_cloud.agent.measure import procfs

PROTOCOLS: Final = ("tcp", "tcp6", "udp", "udp6")
# include/net/tcp_states.h; a datagram socket without a peer is in TCP_CLOSE.
_LISTEN, _CLOSE = 0x0A, 0x07
_TABLE_MAX: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket. `address` is numeric text."""

    protocol: str
    address: str
    port: int
    inode: int


def parse_table(protocol: str, text: str) -> list[Listener]:
    """The listening sockets in `text` (/proc/net/PROTOCOL). ValueError on a malformed line."""
    awaited = _LISTEN if protocol.startswith("tcp") else _CLOSE
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 10:
            raise ValueError(f"/proc/net/{protocol}: malformed line {line!r}")
        if int(words[3], 16) == awaited:
            address, _, port = words[1].partition(":")
            listener = Listener(protocol, _address(address), int(port, 16), int(words[9]))
            found.append(listener)
    return found


def measure_sockets() -> list[list[str | int | None]]:
    """Rows of protocol, address, port, pid: one for each holder; pid None for no holder."""
    listeners: list[Listener] = []
    for protocol in PROTOCOLS:
        try:
            text = procfs.read_bounded(f"/proc/1/net/{protocol}", _TABLE_MAX).decode()
        except FileNotFoundError:
            continue  # no IPv6
        listeners += parse_table(protocol, text)
    holders = _holders({one.inode for one in listeners})
    return [
        [one.protocol, one.address, one.port, pid]
        for one in listeners
        for pid in holders.get(one.inode, [None])
    ]


def _address(text: str) -> str:
    """The address, which the kernel prints as 32-bit words of the machine's byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def _holders(inodes: Iterable[int]) -> dict[int, list[int | None]]:
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, list[int | None]] = {}
    for pid in procfs.list_pids():
        held = set()
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                inode = wanted.get(os.readlink(f"/proc/{pid}/fd/{name}"))
                if inode is not None:
                    held.add(inode)
        except OSError:
            pass  # it ended, or closed a descriptor just now: what was seen counts
        for inode in held:
            found.setdefault(inode, []).append(pid)
    return found

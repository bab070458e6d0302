# SPDX-License-Identifier: GPL-2.0-or-later
"""Listening and connected sockets of the first process's network namespace, and who holds them."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from mock_cloud.agent.measure import procfs
from mock_cloud.wire.dataclass import dataclass

PROTOCOLS: Final = ("tcp", "tcp6", "udp", "udp6")
# include/net/tcp_states.h; a datagram socket without a peer is in TCP_CLOSE.
_LISTEN, _CLOSE, _TIME_WAIT = 0x0A, 0x07, 0x06
_TABLE_MAX: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket. `address` is numeric text."""

    protocol: str
    address: str
    port: int
    inode: int


@dataclass(frozen=True, slots=True)
class _Connection:
    """One connected socket and its other end. Addresses are numeric text."""

    protocol: str
    address: str
    port: int
    remote_address: str
    remote_port: int
    inode: int


def parse_table(protocol: str, text: str) -> list[Listener]:
    """The listening sockets in `text` (/proc/net/PROTOCOL). ValueError on a malformed line."""
    awaited = _LISTEN if protocol.startswith("tcp") else _CLOSE
    return [
        Listener(protocol, *_end(words[1]), int(words[9]))
        for words in _rows(protocol, text)
        if int(words[3], 16) == awaited
    ]


def parse_connections(protocol: str, text: str) -> list[_Connection]:
    """The connected sockets in `text` (/proc/net/PROTOCOL) that something holds. ValueError.

    One that nobody has accepted yet, or whose last holder has gone, has no inode.
    """
    return [
        _Connection(protocol, *_end(words[1]), *_end(words[2]), int(words[9]))
        for words in _rows(protocol, text)
        if int(words[3], 16) not in (_LISTEN, _CLOSE, _TIME_WAIT) and int(words[9])
    ]


def _rows(protocol: str, text: str) -> Iterator[list[str]]:
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 10:
            raise ValueError(f"/proc/net/{protocol}: malformed line {line!r}")
        yield words


def _end(word: str) -> tuple[str, int]:
    """Address and port of one end."""
    address, _, port = word.partition(":")
    return _address(address), int(port, 16)


def measure_sockets() -> list[list[str | int | None]]:
    """Rows of protocol, address, port, pid: one for each holder; pid None for no holder."""
    listeners = [one for name, text in _tables() for one in parse_table(name, text)]
    holders = _holders({one.inode for one in listeners})
    return [
        [one.protocol, one.address, one.port, pid]
        for one in listeners
        for pid in holders.get(one.inode, [None])
    ]


def measure_connections() -> list[list[str | int | None]]:
    """Rows of protocol, both ends and pid: one for each holder; pid None for no holder."""
    connected = [one for name, text in _tables() for one in parse_connections(name, text)]
    holders = _holders({one.inode for one in connected})
    return [
        [one.protocol, one.address, one.port, one.remote_address, one.remote_port, pid]
        for one in connected
        for pid in holders.get(one.inode, [None])
    ]


def _tables() -> Iterator[tuple[str, str]]:
    for protocol in PROTOCOLS:
        # Without IPv6 two of them are not there.
        with contextlib.suppress(FileNotFoundError):
            yield protocol, procfs.read_bounded(f"/proc/1/net/{protocol}", _TABLE_MAX).decode()


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

# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab machine that can only call out, and a hostile process in another one's network."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

from mock_cloud.process import run
from tests.lab.clouds.machines import Machine
from tests.lab.clouds.network import Network

# What a NAT without a rule does with who calls in: TCP's first packet of a connection (SYN and
# no ACK) is dropped on its way out of the switch. Classic BPF, since kernels have it without nft.
_NO_CALLS_IN = (
    "40 0 0 12",  # ldh [12]: the EtherType
    "21 0 7 2048",  # IPv4
    "48 0 0 23",  # ldb [23]: the protocol
    "21 0 5 6",  # TCP
    "177 0 0 14",  # ldxb 4*([14]&0xf): IP's header
    "80 0 0 27",  # ldb [x+27]: TCP's flags
    "84 0 0 18",  # ACK and SYN
    "21 0 1 2",  # SYN alone
    "6 0 0 2",  # TC_ACT_SHOT
    "6 0 0 0",  # TC_ACT_OK
)
_TIMEOUT_S = 20.0
# Listens, and gives each caller over to `there`, or what a file holds in place of an answer. Both
# directions are kept in files.
_BETWEEN = """
import os, socket, sys, threading
at, there, up, down, played = sys.argv[1:]
listener = socket.create_server(("127.0.0.1", int(at)))
print("listening", flush=True)
def copy(one, other, name):
    try:
        with open(name, "ab", 0) as kept:
            while data := one.recv(65536):
                kept.write(data)
                other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass
while True:
    near, _ = listener.accept()
    if played:
        near.sendall(open(played, "rb").read())
        near.shutdown(socket.SHUT_WR)
        continue
    far = socket.create_connection(("127.0.0.1", int(there)))
    for one, other, name in ((near, far, up), (far, near, down)):
        threading.Thread(target=copy, args=(one, other, name), daemon=True).start()
"""
_SENT = """
import socket, sys
to = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
said = b""
try:
    to.sendall(open(sys.argv[2], "rb").read())
    to.shutdown(socket.SHUT_WR)
except OSError:
    pass
try:
    while data := to.recv(65536):
        said += data
except OSError:
    pass
sys.stdout.buffer.write(said)
"""


def hide(network: Network, machine: Machine) -> None:
    """Nobody calls `machine` any more; whom it calls may answer."""
    enter = ["nsenter", f"--net={network.namespace}", "tc"]
    port = machine.port.interface
    run([*enter, "qdisc", "add", "dev", port, "clsact"], timeout_s=_TIMEOUT_S)
    code = ",".join((str(len(_NO_CALLS_IN)), *_NO_CALLS_IN))
    words = ["filter", "add", "dev", port, "egress", "bpf", "da", "bytecode", code]
    run([*enter, *words], timeout_s=_TIMEOUT_S)


def in_network_of(machine: Machine) -> list[str]:
    """Words before a command of this machine's that is to see that one's network."""
    return ["nsenter", f"--net=/proc/{machine.init_pid}/ns/net"]


@contextmanager
def between(
    machine: Machine, at: int, there: int, kept: Path, *, played: Path | None = None
) -> Iterator[None]:
    """A port of the machine's loopback that leads to another; see `_BETWEEN`."""
    argv = [*in_network_of(machine), sys.executable, "-c", _BETWEEN, str(at), str(there)]
    argv += [f"{kept}.up", f"{kept}.down", str(played or "")]
    with Popen(argv, stdin=DEVNULL, stdout=PIPE) as child:
        try:
            assert child.stdout is not None and child.stdout.readline() == b"listening\n"
            yield
        finally:
            child.kill()


def send(machine: Machine, port: int, data: Path) -> bytes:
    """What a port of the machine's loopback answers to the bytes in `data`."""
    argv = [*in_network_of(machine), sys.executable, "-c", _SENT, str(port), str(data)]
    return run(argv, timeout_s=60)

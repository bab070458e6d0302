# SPDX-License-Identifier: GPL-2.0-or-later
"""A lent machine that lies: what a build left is another package before anybody looks at it.

Its files are those of an honest machine, and all that is measured is true: the lie is told below,
by whoever holds the machine, once the job has ended. No attestation by software sees that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mock_cloud.wire.frames import FrameHeader
from mock_cloud.wire.layout import WORKSPACE
from tests.attack.hostile_node import HostileNode, Mode, Wire
from tests.lab.srpm import Recipe, toy
from tests.lab.volunteers import Volunteer, Volunteers

# The port is the machine's own, so each process has an address of its own.
_ADDRESS = f"127.253.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
_LOOKS = ("owner_sign", "results")
"""Requests after which the agent reads what the job left."""


def two_objects(result: int = 0) -> Recipe:
    """A program of two object files; the second one returns `result`."""
    return toy(
        "toy-objects",
        preamble="BuildRequires: gcc\n",
        build="echo 'int second(void); int main(void) { return second(); }' > first.c\n"
        f"echo 'int second(void) {{ return {result}; }}' > second.c\n"
        "gcc -c first.c\ngcc -c second.c\ngcc -o toy-objects first.o second.o",
        install="install -D toy-objects %{buildroot}%{_bindir}/toy-objects",
        files="%{_bindir}/toy-objects",
    )


class Trojaning(Mode):
    """Puts the packages of `lies` in the place of those of the same names, where the job left them.

    The owner's key signs for them, as for anything that is there.
    """

    def __init__(self, root: Path, lies: Path) -> None:
        super().__init__()
        self._root = root
        self._lies = lies
        self.told: set[str] = set()
        """Jobs whose packages were replaced."""

    def request(self, wire: Wire, header: FrameHeader, body: bytes) -> None:
        if header["op"] not in _LOOKS:
            return
        results = self._root / WORKSPACE.lstrip("/") / "jobs" / header["job"] / "results"
        for lie in self._lies.glob("*.rpm"):
            if (results / lie.name).exists():
                (results / lie.name).write_bytes(lie.read_bytes())
                self.told.add(header["job"])


@contextmanager
def lying(
    volunteers: Volunteers, machine: Volunteer, lies: Path
) -> Iterator[tuple[str, Trojaning]]:
    """The address under which the machine lies, at the port of its own sshd, and what it told."""
    mode = Trojaning(machine.root, lies)
    host_key = (machine.root / "etc/ssh/ssh_host_ed25519_key").read_bytes()
    with HostileNode(
        (machine.machine.address, 22),
        host_key=host_key,
        client_key=volunteers.user_key.read_bytes(),
        mode=mode,
        listen=(_ADDRESS, 22),
    ):
        yield _ADDRESS, mode

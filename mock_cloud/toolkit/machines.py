# SPDX-License-Identifier: GPL-2.0-or-later
"""Architectures: what RPM, Debian, ELF and the file system call the same machine."""

from __future__ import annotations

import platform
from typing import Final

from mock_cloud.errors import ConfigError
from mock_cloud.wire.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture. `name` is RPM's and `uname -m`'s word, `debian` dpkg's.

    `elf` is e_machine, `bits` and `little_endian` what e_ident says (System V ABI and its
    supplements). `triplet` is Debian's multiarch directory below /usr/lib.
    """

    name: str
    debian: str
    elf: int
    bits: int
    little_endian: bool
    triplet: str

    @property
    def library_directories(self) -> tuple[str, ...]:
        """Where distributions keep this machine's libraries, relative to the root."""
        wide = ("usr/lib64/lp64d", "usr/lib64") if self.bits == 64 else ()
        return (f"usr/lib/{self.triplet}", *wide, "usr/lib")


MACHINES: Final = {
    one.name: one
    for one in (
        Machine("x86_64", "amd64", 62, 64, True, "x86_64-linux-gnu"),
        Machine("aarch64", "arm64", 183, 64, True, "aarch64-linux-gnu"),
        Machine("ppc64le", "ppc64el", 21, 64, True, "powerpc64le-linux-gnu"),
        Machine("s390x", "s390x", 22, 64, False, "s390x-linux-gnu"),
        Machine("i686", "i386", 3, 32, True, "i386-linux-gnu"),
        Machine("riscv64", "riscv64", 243, 64, True, "riscv64-linux-gnu"),
    )
}
_OTHER_NAMES: Final = {
    **{one.debian: one.name for one in MACHINES.values()},
    "i586": "i686",
    "x86-64": "x86_64",
}


def find_machine(name: str) -> Machine:
    """The machine that `name` means, Debian's words too. ConfigError lists those there are."""
    machine = MACHINES.get(_OTHER_NAMES.get(name, name))
    if machine is None:
        raise ConfigError(
            f"no toolkit is known for the architecture {name!r}",
            hint=f"there are: {', '.join(MACHINES)}",
        )
    return machine


def own_arch() -> str:
    """This machine's architecture in RPM's words, as the kernel calls it."""
    return platform.machine()

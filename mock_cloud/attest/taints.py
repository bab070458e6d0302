# SPDX-License-Identifier: GPL-2.0-or-later
"""What a tainted kernel says of itself, bit by bit, and which bits refuse a node.

Bits, letters and meanings are of Documentation/admin-guide/tainted-kernels.rst (Linux 6.18). A bit
stays until the next boot, so only a reboot takes one back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mock_cloud.errors import Reason

_BITS: Final = 64
_REBOOT: Final = "reboot the node: the bit stays until then"


class Meaning(Enum):
    """What a bit says of whether the kernel's code is what the image brought."""

    CODE = "code"
    """Other code than the image's was loaded, or tables and state were written to by root."""
    BROKEN = "broken"
    """Nobody did anything, but what the kernel does or remembers is no longer reliable."""
    EVENT = "event"
    """Something was noticed and survived: a warning, a slow moment, hardware out of its
    specification, a firmware's bug. The code is what it was."""


@dataclass(frozen=True, slots=True)
class Taint:
    """A bit of /proc/sys/kernel/tainted: its letter in messages of the kernel, and what it says."""

    letter: str
    text: str
    meaning: Meaning


_TAINTS: Final = {
    0: Taint("P", "a proprietary module was loaded", Meaning.CODE),
    1: Taint("F", "a module was loaded by force", Meaning.CODE),
    2: Taint("S", "the processor or platform is out of its specification", Meaning.EVENT),
    3: Taint("R", "a module was unloaded by force", Meaning.CODE),
    4: Taint("M", "a machine check: the hardware failed", Meaning.BROKEN),
    5: Taint("B", "a damaged memory page", Meaning.BROKEN),
    6: Taint("U", "user space asked for it, or wrote what it should not", Meaning.CODE),
    7: Taint("D", "the kernel died (an oops or BUG)", Meaning.BROKEN),
    8: Taint("A", "an ACPI table was replaced", Meaning.CODE),
    9: Taint("W", "the kernel printed a warning", Meaning.EVENT),
    10: Taint("C", "a staging driver was loaded", Meaning.CODE),
    11: Taint("I", "a bug of the firmware is worked around", Meaning.EVENT),
    12: Taint("O", "a module from outside the kernel's sources was loaded", Meaning.CODE),
    13: Taint("E", "an unsigned module was loaded", Meaning.CODE),
    14: Taint("L", "a processor was stuck for a while", Meaning.EVENT),
    15: Taint("K", "the kernel was patched while it ran", Meaning.CODE),
    16: Taint("X", "set by the distribution, for modules it does not support", Meaning.CODE),
    17: Taint("T", "built with its structures in random order", Meaning.CODE),
    18: Taint("N", "a test inside the kernel was run", Meaning.CODE),
    19: Taint("J", "user space changed a device by fwctl", Meaning.CODE),
}
_UNKNOWN: Final = Taint("?", "unknown to this version of mock-cloud", Meaning.CODE)


def check_taints(found: int, expected: int, *, strictly: bool) -> Iterator[Reason]:
    """``kernel.tainted`` for code, ``kernel.broken`` for failures, one a bit.

    Bits that are `expected` pass. Events pass too, unless `strictly`: see `describe_events`.
    """
    for taint, where in _set_bits(found & ~expected):
        if taint.meaning is Meaning.BROKEN:
            yield Reason("kernel.broken", where, "a sound kernel", f"{taint.text}; {_REBOOT}")
        elif taint.meaning is Meaning.CODE or strictly:
            yield Reason("kernel.tainted", where, "not set", f"{taint.text}; {_REBOOT}")


def describe_events(found: int, expected: int) -> Iterator[str]:
    """A note for each bit that was passed over as an event."""
    for taint, where in _set_bits(found & ~expected):
        if taint.meaning is Meaning.EVENT:
            yield f"the kernel's {where} is set: {taint.text}"


def _set_bits(bits: int) -> Iterator[tuple[Taint, str]]:
    for number in range(_BITS):
        if bits & 1 << number:
            taint = _TAINTS.get(number, _UNKNOWN)
            yield taint, f"taint {taint.letter} (bit {number})"

# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel's state, as far as it tells: parsed, and compared with a reference.

A lying kernel passes (tier 1 says so in every verdict); what is caught is whatever was loaded
or configured into an honest one: modules, programs, probes, helpers that it starts as root.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any, Final

from mock_cloud.attest.files import parse_text
from mock_cloud.errors import Reason
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import INT_MAX, By, Malformed, decode

_ITEMS_MAX = 1 << 16


def _scalar(value: object) -> str | int | None:
    if value is None:
        return None
    if isinstance(value, int):  # or true, or false
        return decode(int, int(value))
    return parse_text(value).strip()


def _texts(value: object) -> frozenset[str]:
    return frozenset(_item(item) for item in _items(value))


def _programs(value: object) -> frozenset[str]:
    return frozenset(_item(item, dropped=1) for item in _items(value))


def _items(value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _ITEMS_MAX:
        raise Malformed(f"not a list of at most {_ITEMS_MAX}")
    return value


def _item(value: object, dropped: int = 0) -> str:
    if type(value) is str:
        return parse_text(value)
    if not isinstance(value, list) or len(value) > 16:
        raise Malformed("not a text, and not a list of at most 16")
    words = [_scalar(word) for word in value]
    return json.dumps(words[dropped if len(words) == 4 else 0 :], separators=(",", ":"))


_Scalar = str | int | None
_Word = Annotated[_Scalar, By(_scalar)]
_Texts = Annotated[frozenset[str], By(_texts)]


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """Kernel state; None where the kernel has no such thing.

    Lists are sets of texts: an item that is a list itself stands as its compact JSON.
    `bpf_programs` items are type, name and tag; their numbers say nothing and are dropped.
    """

    cmdline: _Word
    tainted: _Word
    core_pattern: _Word
    modprobe: _Word
    poweroff_cmd: _Word
    uevent_helper: _Word
    kexec_loaded: _Word
    lockdown: _Word
    ptrace_scope: _Word
    module_sig_enforce: _Word
    livepatches: _Texts
    binfmt: _Texts
    bpf_programs: Annotated[frozenset[str], By(_programs)]
    kprobes: _Texts
    modules: _Texts
    modules_sysfs: _Texts


# What a kernel starts as root by itself, or what says how it was started: equal or refused.
_EQUAL = {
    "cmdline": "kernel.cmdline",
    "modprobe": "kernel.helper",
    "poweroff_cmd": "kernel.helper",
    "uevent_helper": "kernel.helper",
}
_SUBSET = {
    "modules": "kernel.module",
    "modules_sysfs": "kernel.module",
    "bpf_programs": "kernel.bpf",
    "kprobes": "kernel.kprobe",
    "binfmt": "kernel.binfmt",
}

# What a job on the node has an honest kernel load, besides: the chroot engine's layers, the first
# time that it mounts one.
_OWN_MODULES: Final = frozenset({"overlay"})
_MODULES: Final = ("modules", "modules_sysfs")


def parse_kernel(value: object) -> KernelFacts:
    """The protocol's `kernel` object. Malformed on anything else."""
    return decode(KernelFacts, value, "kernel")


def kernel_to_json(facts: KernelFacts) -> dict[str, Any]:
    """The object that `parse_kernel` reads, with sorted lists."""
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(facts).items()
    }


def check_kernel(
    found: KernelFacts, expected: KernelFacts, *, may_warn: bool = True
) -> Iterator[Reason]:
    """Reasons why `found` is not the kernel state that `expected` allows.

    Unless it `may_warn`, the kernel must never have printed a warning.
    """
    for name, code in _EQUAL.items():
        if getattr(found, name) != getattr(expected, name):
            yield _differs(code, name, expected, found)
    yield from check_taints(_bits(found.tainted), _bits(expected.tainted or 0), may_warn=may_warn)
    if found.core_pattern != expected.core_pattern:
        yield _differs("kernel.core-pattern", "core_pattern", expected, found)
    if found.kexec_loaded not in (None, 0):
        yield _differs("kernel.kexec", "kexec_loaded", expected, found)
    for name in sorted(found.livepatches):
        yield Reason("kernel.livepatch", name, "no live patch", "loaded")
    for name, code in _SUBSET.items():
        ours = _OWN_MODULES if name in _MODULES else frozenset()
        for extra in sorted(getattr(found, name) - getattr(expected, name) - ours):
            if name == "bpf_programs" and _is_socket_filter(extra):
                continue
            yield Reason(code, extra, f"not among the expected {name}", "present")
    yield from _unlinked(found, expected)


def _is_socket_filter(program: str) -> bool:
    """Whether this sees only what its own socket receives (BPF_PROG_TYPE_SOCKET_FILTER).

    NetworkManager has one while it watches over an address, or has none. The same can be had as a
    classic filter, of which the kernel keeps no list; the process is judged either way.
    """
    return program.startswith("[1,")


def describe_warnings(found: KernelFacts, expected: KernelFacts) -> Iterator[str]:
    """Notes on what the kernel went through, and was not refused for."""
    yield from describe_events(_bits(found.tainted), _bits(expected.tainted or 0))


def _bits(tainted: _Scalar) -> int:
    """Every bit for what is not a number, so that nothing unread passes."""
    return tainted if isinstance(tainted, int) else INT_MAX


def _unlinked(found: KernelFacts, expected: KernelFacts) -> Iterator[Reason]:
    """A module that one of the kernel's two lists hides (catalogue 37).

    /sys/module also names built-in code, so only the listed-but-not-in-sysfs direction and
    what the reference does not have in sysfs (see `_SUBSET`) tell something.
    """
    if found.modules_sysfs:
        for name in sorted(found.modules - found.modules_sysfs):
            yield Reason("kernel.module-hidden", name, "in /sys/module too", "only listed")


def check_hardening(
    found: KernelFacts, *, lockdown: bool, module_signatures: bool, ptrace_scope: bool
) -> Iterator[Reason]:
    """Those protections of the kernel that are wanted and off."""
    locked = str(found.lockdown or "none")
    if lockdown and ("[none]" in locked or locked == "none"):
        yield Reason("kernel.lockdown", "lockdown", "integrity or confidentiality", locked)
    if module_signatures and found.module_sig_enforce not in (1, "1", "Y"):
        shown = str(found.module_sig_enforce)
        yield Reason("kernel.module-signatures", "module_sig_enforce", "enforced", shown)
    if ptrace_scope and (not isinstance(found.ptrace_scope, int) or found.ptrace_scope < 1):
        yield Reason("kernel.yama", "ptrace_scope", "1 or more", str(found.ptrace_scope))


def _differs(code: str, name: str, expected: KernelFacts, found: KernelFacts) -> Reason:
    return Reason(code, name, _shown(getattr(expected, name)), _shown(getattr(found, name)))


def _shown(value: _Scalar) -> str:
    return "none" if value is None else str(value)[:400]


# What a tainted kernel says of itself, bit by bit, and which bits refuse a node.
# Bits, letters and meanings are of Documentation/admin-guide/tainted-kernels.rst (Linux 6.18). A
# bit stays until the next boot, so only a reboot takes one back.
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


def check_taints(found: int, expected: int, *, may_warn: bool) -> Iterator[Reason]:
    """``kernel.tainted`` for code, ``kernel.broken`` for failures, one a bit.

    Bits that are `expected` pass. Events pass too, if it `may_warn`: see `describe_events`.
    """
    for taint, where in _set_bits(found & ~expected):
        if taint.meaning is Meaning.BROKEN:
            yield Reason("kernel.broken", where, "a sound kernel", f"{taint.text}; {_REBOOT}")
        elif taint.meaning is Meaning.CODE or not may_warn:
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

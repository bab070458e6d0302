# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel's state, as far as it tells: parsed, and compared with a reference.

A lying kernel passes (tier 1 says so in every verdict); what is caught is whatever was loaded
or configured into an honest one: modules, programs, probes, helpers that it starts as root.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from mock_cloud.attest.files import read_text
from mock_cloud.attest.taints import check_taints, describe_events
from mock_cloud.errors import Reason
from mock_cloud.wire.decode import INT_MAX, By, Malformed, decode

_ITEMS_MAX = 1 << 16


def _scalar(value: object) -> str | int | None:
    if value is None:
        return None
    if isinstance(value, int):  # or true, or false
        return decode(int, int(value))
    return read_text(value).strip()


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
        return read_text(value)
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


def parse_kernel(value: object) -> KernelFacts:
    """The protocol's `kernel` object. Malformed on anything else."""
    return decode(KernelFacts, value, "kernel")


def kernel_to_json(facts: KernelFacts) -> dict[str, Any]:
    """The object that `parse_kernel` reads, with sorted lists."""
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(facts).items()
    }


def check_kernel(found: KernelFacts, expected: KernelFacts, *, strictly: bool) -> Iterator[Reason]:
    """Reasons why `found` is not the kernel state that `expected` allows.

    `strictly` also asks for lockdown, enforced module signatures and Yama's ptrace scope, and for
    a kernel that never warned.
    """
    for name, code in _EQUAL.items():
        if getattr(found, name) != getattr(expected, name):
            yield _differs(code, name, expected, found)
    yield from check_taints(_bits(found.tainted), _bits(expected.tainted or 0), strictly=strictly)
    if found.core_pattern != expected.core_pattern:
        yield _differs("kernel.core-pattern", "core_pattern", expected, found)
    if found.kexec_loaded not in (None, 0):
        yield _differs("kernel.kexec", "kexec_loaded", expected, found)
    for name in sorted(found.livepatches):
        yield Reason("kernel.livepatch", name, "no live patch", "loaded")
    for name, code in _SUBSET.items():
        for extra in sorted(getattr(found, name) - getattr(expected, name)):
            yield Reason(code, extra, f"not among the expected {name}", "present")
    yield from _unlinked(found, expected)
    if strictly:
        yield from _hardening(found)


def describe_warnings(found: KernelFacts, expected: KernelFacts) -> Iterator[str]:
    """Notes on what the kernel went through, and was not refused for."""
    yield from describe_events(_bits(found.tainted), _bits(expected.tainted or 0))


def _bits(tainted: _Scalar) -> int:
    """Every bit for what is no number, so that nothing unread passes."""
    return tainted if isinstance(tainted, int) else INT_MAX


def _unlinked(found: KernelFacts, expected: KernelFacts) -> Iterator[Reason]:
    """A module that one of the kernel's two lists hides (catalogue 37).

    /sys/module also names built-in code, so only the listed-but-not-in-sysfs direction and
    what the reference does not have in sysfs (see `_SUBSET`) tell something.
    """
    if found.modules_sysfs:
        for name in sorted(found.modules - found.modules_sysfs):
            yield Reason("kernel.module-hidden", name, "in /sys/module too", "only listed")


def _hardening(found: KernelFacts) -> Iterator[Reason]:
    lockdown = str(found.lockdown or "none")
    if "[none]" in lockdown or lockdown == "none":
        yield Reason("kernel.lockdown", "lockdown", "integrity or confidentiality", lockdown)
    if found.module_sig_enforce not in (1, "1", "Y"):
        shown = str(found.module_sig_enforce)
        yield Reason("kernel.module-signatures", "module_sig_enforce", "enforced", shown)
    if not isinstance(found.ptrace_scope, int) or found.ptrace_scope < 1:
        yield Reason("kernel.yama", "ptrace_scope", "1 or more", str(found.ptrace_scope))


def _differs(code: str, name: str, expected: KernelFacts, found: KernelFacts) -> Reason:
    return Reason(code, name, _shown(getattr(expected, name)), _shown(getattr(found, name)))


def _shown(value: _Scalar) -> str:
    return "none" if value is None else str(value)[:400]

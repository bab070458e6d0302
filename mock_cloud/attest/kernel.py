# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel's state, as far as it tells: parsed, and compared with a reference.

A lying kernel passes (tier 1 says so in every verdict); what is caught is whatever was loaded
or configured into an honest one: modules, programs, probes, helpers that it starts as root.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from mock_cloud.attest import strict
from mock_cloud.attest.taints import check_taints, describe_events
from mock_cloud.errors import Reason
from mock_cloud.wire.decode import INT_MAX

_Scalar = str | int | None


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """Kernel state; None where the kernel has no such thing.

    Lists are sets of texts: an item that is a list itself stands as its compact JSON.
    `bpf_programs` items are type, name and tag; their numbers say nothing and are dropped.
    """

    cmdline: _Scalar
    tainted: _Scalar
    core_pattern: _Scalar
    modprobe: _Scalar
    poweroff_cmd: _Scalar
    uevent_helper: _Scalar
    kexec_loaded: _Scalar
    lockdown: _Scalar
    ptrace_scope: _Scalar
    module_sig_enforce: _Scalar
    livepatches: frozenset[str]
    binfmt: frozenset[str]
    bpf_programs: frozenset[str]
    kprobes: frozenset[str]
    modules: frozenset[str]
    modules_sysfs: frozenset[str]


_SETS = ("livepatches", "binfmt", "bpf_programs", "kprobes", "modules", "modules_sysfs")
_SCALARS = tuple(one.name for one in fields(KernelFacts) if one.name not in _SETS)
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


def parse_kernel(value: object, where: str = "kernel") -> KernelFacts:
    """The protocol's `kernel` object. Malformed on anything else."""
    found = strict.obj(value, where, (*_SCALARS, *_SETS))
    scalars = {name: _scalar(found[name], f"{where}.{name}") for name in _SCALARS}
    sets = {name: _texts(found[name], f"{where}.{name}") for name in _SETS}
    return KernelFacts(**scalars, **sets)  # type: ignore[arg-type]  # names are its fields


def kernel_to_json(facts: KernelFacts) -> dict[str, Any]:
    """The object that `parse_kernel` reads, with sorted lists."""
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(facts).items()
    }


def _scalar(value: object, where: str) -> _Scalar:
    if value is None or type(value) is bool:
        return None if value is None else int(value)
    if type(value) is int:
        return strict.integer(value, where, least=-INT_MAX)
    return strict.text(value, where).strip()


def _texts(value: object, where: str) -> frozenset[str]:
    if value is None:
        return frozenset()
    return frozenset(_item(item, where) for item in strict.items(value, where, limit=1 << 16))


def _item(value: object, where: str) -> str:
    if type(value) is str:
        return strict.text(value, where)
    words = [_scalar(word, where) for word in strict.row(value, where, len(_list(value, where)))]
    if where.endswith("bpf_programs") and len(words) == 4:
        words = words[1:]
    return json.dumps(words, separators=(",", ":"))


def _list(value: object, where: str) -> list[Any]:
    return strict.items(value, where, limit=16)


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

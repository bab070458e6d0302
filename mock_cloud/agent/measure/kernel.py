# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel's state, as far as /proc and /sys tell; null for what is not there."""

from __future__ import annotations

import os
from typing import Any, Final

from mock_cloud.agent.measure import bpf, procfs

_TEXTS: Final = {
    "cmdline": "/proc/cmdline",
    "core_pattern": "/proc/sys/kernel/core_pattern",
    "modprobe": "/proc/sys/kernel/modprobe",
    "poweroff_cmd": "/proc/sys/kernel/poweroff_cmd",
    "uevent_helper": "/sys/kernel/uevent_helper",
    "lockdown": "/sys/kernel/security/lockdown",
}
_NUMBERS: Final = {
    "tainted": "/proc/sys/kernel/tainted",
    "kexec_loaded": "/sys/kernel/kexec_loaded",
    "ptrace_scope": "/proc/sys/kernel/yama/ptrace_scope",
}
_SIG_ENFORCE: Final = "/sys/module/module/parameters/sig_enforce"
_KPROBES: Final = "/sys/kernel/debug/kprobes/list"
_BINFMT: Final = "/proc/sys/fs/binfmt_misc"
_LIVEPATCHES: Final = "/sys/kernel/livepatch"


def measure_kernel() -> dict[str, Any]:
    """The protocol's `kernel` object."""
    return {
        **{name: _text(path) for name, path in _TEXTS.items()},
        **{name: _number(path) for name, path in _NUMBERS.items()},
        "livepatches": _names(_LIVEPATCHES),
        "binfmt": _binfmt(),
        "bpf_programs": bpf.list_programs(),
        "kprobes": _kprobes(),
        "modules": _modules(),
        "modules_sysfs": _modules_sysfs(),
        "module_sig_enforce": _flag(_SIG_ENFORCE),
    }


def _text(path: str) -> str | None:
    try:
        return os.fsdecode(procfs.read_bounded(path)).rstrip("\n")
    except OSError:
        return None


def _number(path: str) -> int | None:
    text = _text(path)
    return int(text) if text and text.isascii() and text.isdigit() else None


def _flag(path: str) -> bool | None:
    text = _text(path)
    return None if text is None else text in ("Y", "1")


def _names(path: str) -> list[str] | None:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return None


def _lines(path: str) -> list[str] | None:
    text = _text(path)
    return None if text is None else text.splitlines()


def _binfmt() -> list[list[str]] | None:
    """Name and description of each registered format."""
    names = _names(_BINFMT)
    if names is None or "register" not in names:
        return None  # the file system is not mounted
    formats = [name for name in names if name not in ("register", "status")]
    return [[name, _text(f"{_BINFMT}/{name}") or ""] for name in formats]


def _kprobes() -> list[str] | None:
    """What is probed and how, without the address, which changes with each boot."""
    lines = _lines(_KPROBES)
    return None if lines is None else sorted(" ".join(line.split()[1:]) for line in lines)


def _modules() -> list[str] | None:
    lines = _lines("/proc/modules")
    return None if lines is None else sorted(line.split(" ", 1)[0] for line in lines)


def _modules_sysfs() -> list[str] | None:
    """Modules that were loaded, by sysfs: built-in ones have no `initstate` there."""
    names = _names("/sys/module")
    if names is None:
        return None
    return [name for name in names if os.path.exists(f"/sys/module/{name}/initstate")]

# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel's state, as far as /proc and /sys tell; null for what is not there."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, TypeVar

from mock_cloud.agent.measure import bpf, kernelfs, procfs

T = TypeVar("T")

_TEXTS: Final = {
    "cmdline": "/proc/cmdline",
    "core_pattern": "/proc/sys/kernel/core_pattern",
    "modprobe": "/proc/sys/kernel/modprobe",
    "poweroff_cmd": "/proc/sys/kernel/poweroff_cmd",
    "uevent_helper": "/sys/kernel/uevent_helper",
}
_NUMBERS: Final = {
    "tainted": "/proc/sys/kernel/tainted",
    "kexec_loaded": "/sys/kernel/kexec_loaded",
    "ptrace_scope": "/proc/sys/kernel/yama/ptrace_scope",
}
_SIG_ENFORCE: Final = "/sys/module/module/parameters/sig_enforce"
_USUAL: Final = {
    "binfmt_misc": "/proc/sys/fs/binfmt_misc",
    "debugfs": "/sys/kernel/debug",
    "securityfs": "/sys/kernel/security",
    "tracefs": "/sys/kernel/tracing",
}
_LIVEPATCHES: Final = "/sys/kernel/livepatch"


def measure_kernel() -> dict[str, Any]:
    """The protocol's `kernel` object.

    What works whether or not its file system is mounted is read through our own mount; where
    nothing may be mounted (no rights, or a root that is not a mount), where it usually is. What
    `helpers` finds says then that it was so.
    """
    try:
        unmounted = kernelfs.in_own_namespace(lambda: _unmounted(kernelfs.mounted))
    except OSError:
        unmounted = _unmounted(_usual)
    return {
        **{name: _text(path) for name, path in _TEXTS.items()},
        **unmounted,
        **{name: _number(path) for name, path in _NUMBERS.items()},
        "livepatches": _names(_LIVEPATCHES),
        "bpf_programs": bpf.list_programs(),
        "modules": _modules(),
        "modules_sysfs": _modules_sysfs(),
        "module_sig_enforce": _flag(_SIG_ENFORCE),
    }


_At = Callable[[str], AbstractContextManager[str]]
"""Where a file system of this type is. OSError."""


def _unmounted(at: _At) -> dict[str, Any]:
    return {
        "binfmt": _at(at, "binfmt_misc", _binfmt),
        "kprobes": _joined(_at(at, "debugfs", _kprobes), _at(at, "tracefs", _probe_events)),
        "lockdown": _at(at, "securityfs", lambda place: _text(f"{place}/lockdown")),
    }


def _at(at: _At, kind: str, read: Callable[[str], T]) -> T | None:
    """What `read` finds below the file system `kind`; None where there is none."""
    try:
        with at(kind) as place:
            return read(place)
    except OSError:
        return None


@contextmanager
def _usual(kind: str) -> Iterator[str]:
    yield _USUAL[kind]


def _joined(*lists: list[str] | None) -> list[str] | None:
    """All of them in order; None if there is none."""
    found = [one for one in lists if one is not None]
    return sorted(item for one in found for item in one) if found else None


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


def _binfmt(place: str) -> list[list[str]] | None:
    """Name and description of each registered format."""
    names = _names(place)
    if names is None or "register" not in names:
        return None  # the file system is not mounted
    formats = [name for name in names if name not in ("register", "status")]
    return [[name, _text(f"{place}/{name}") or ""] for name in formats]


def _kprobes(place: str) -> list[str] | None:
    """What is probed and how, without the address, which changes with each boot."""
    lines = _lines(f"{place}/kprobes/list")
    return None if lines is None else [" ".join(line.split()[1:]) for line in lines]


def _probe_events(place: str) -> list[str] | None:
    """Probes of the kernel's and of programs' text that were defined as events (since 5.0)."""
    lines = _lines(f"{place}/dynamic_events")
    return None if lines is None else [f"event {line}" for line in lines]


def _modules() -> list[str] | None:
    lines = _lines("/proc/modules")
    return None if lines is None else sorted(line.split(" ", 1)[0] for line in lines)


def _modules_sysfs() -> list[str] | None:
    """Modules that were loaded, by sysfs: built-in ones have no `initstate` there."""
    names = _names("/sys/module")
    if names is None:
        return None
    return [name for name in names if os.path.exists(f"/sys/module/{name}/initstate")]


# Programs that the kernel starts as root by itself, beyond those of `kernel`.
# Found by what calls call_usermodehelper_setup() in Linux 6.18. Those with a fixed path (request-
# key, bridge-stp, critical_overtemp …) are files like any other.
_SETTINGS: Final = {
    "drbd.usermode_helper": "/sys/module/drbd/parameters/usermode_helper",
    "firmware_class.path": "/sys/module/firmware_class/parameters/path",
    "machinecheck.trigger": "/sys/devices/system/machinecheck/machinecheck*/trigger",
    "nfs.cache_getent": "/sys/module/nfs/parameters/cache_getent",
    "nfsd.cltrack_prog": "/sys/module/nfsd/parameters/cltrack_prog",
    "ocfs2.hb_ctl_path": "/proc/sys/fs/ocfs2/nm/hb_ctl_path",
    "uvesafb.v86d": "/sys/bus/platform/drivers/uvesafb/v86d",
}
"""Where a path can be set, by name; firmware_class's is of directories that firmware comes from."""


def measure_helpers() -> dict[str, Any]:
    """The protocol's `helpers` object. `release_agents` is None where nothing may be mounted."""
    try:
        agents = kernelfs.in_own_namespace(lambda: list(_release_agents()))
    except OSError:
        agents = None
    return {"release_agents": agents, "programs": sorted(_programs())}


def _programs() -> Iterator[list[str]]:
    for name, pattern in _SETTINGS.items():
        for path in glob.glob(pattern):
            try:
                yield [name, os.fsdecode(procfs.read_bounded(path)).rstrip("\n")]
            except OSError:
                continue  # not readable, as some parameters are not


def _release_agents() -> Iterator[list[str | None]]:
    """Each hierarchy of cgroups version 1, mounted or not, and its release agent.

    None for the agent: this is a cgroup namespace, from which it cannot be seen. OSError.
    """
    for line in os.fsdecode(procfs.read_bounded("/proc/self/cgroup")).splitlines():
        number, words, _ = line.split(":", 2)
        if number == "0":
            continue  # version 2 has none
        options = words if not words.startswith("name=") else f"none,{words}"
        with kernelfs.mounted("cgroup", options) as place:
            try:
                text = procfs.read_bounded(os.path.join(place, "release_agent"))
            except FileNotFoundError:
                yield [words, None]
            else:
                yield [words, os.fsdecode(text).rstrip("\n")]

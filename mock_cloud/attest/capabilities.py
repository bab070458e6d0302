# SPDX-License-Identifier: GPL-2.0-or-later
"""File capabilities: libcap's text form, as in RPM headers, to the kernel's xattr.

Text: cap_from_text(3). Binary: struct vfs_cap_data, include/uapi/linux/capability.h.
"""

from __future__ import annotations

import re
import struct
from typing import Final

_REVISION_2: Final = 0x02000000
_EFFECTIVE: Final = 1
# In the order of their numbers, include/uapi/linux/capability.h.
_NAMES: Final = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
    "setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw",
    "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct",
    "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod",
    "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
    "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
)  # fmt: skip

_ALL: Final = (1 << len(_NAMES)) - 1
_CLAUSE = re.compile(r"([a-z_,]*)((?:[=+-][eip]*)+)")
_ACTION = re.compile(r"([=+-])([eip]*)")


def xattr_of_text(text: str) -> str:
    """The security.capability xattr in hex that rpm gives a file with this text. ValueError.

    ``%caps(=)`` gives none: then rpm writes an xattr that says so.

    The effective set is one bit in the file: it is all of the permitted and inheritable
    capabilities or nothing, as the kernel and libcap have it.
    """
    sets = {"e": 0, "i": 0, "p": 0}
    for clause in text.split():
        found = _CLAUSE.fullmatch(clause)
        if found is None or len(text) > 4096:
            raise ValueError(f"not capabilities: {text[:80]!a}")
        mask = _mask(found[1])
        for operator, flags in _ACTION.findall(found[2]):
            _apply(sets, operator, flags, mask)
    permitted, inheritable = sets["p"], sets["i"]
    if sets["e"] not in (0, permitted | inheritable):
        raise ValueError(f"effective capabilities differ from the others: {text[:80]!a}")
    magic = _REVISION_2 | (_EFFECTIVE if sets["e"] else 0)
    low = (1 << 32) - 1
    return struct.pack(
        "<5I", magic, permitted & low, inheritable & low, permitted >> 32, inheritable >> 32
    ).hex()


def _mask(names: str) -> int:
    if names in ("", "all"):
        return _ALL
    mask = 0
    for name in names.split(","):
        mask |= 1 << _NAMES.index(name.removeprefix("cap_"))
    return mask


def _apply(sets: dict[str, int], operator: str, flags: str, mask: int) -> None:
    for flag, before in sets.items():
        kept = before & ~mask if operator == "=" else before
        if flag in flags:
            kept = kept & ~mask if operator == "-" else kept | mask
        sets[flag] = kept

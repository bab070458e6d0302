# SPDX-License-Identifier: GPL-2.0-or-later
"""The eBPF programs in the kernel, by bpf(2), which Python has no wrapper for.

Numbers and layouts are of linux/bpf.h: union bpf_attr and struct bpf_prog_info.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from typing import Final

from mock_cloud.wire import syscalls

_SYS_BPF: Final = {
    "x86_64": 321, "aarch64": 280, "ppc64le": 361, "s390x": 351, "riscv64": 280,
    "loongarch64": 280, "i686": 357, "armv7l": 386,
}  # fmt: skip
_PROG_GET_NEXT_ID: Final = 11
_PROG_GET_FD_BY_ID: Final = 13
_OBJ_GET_INFO_BY_FD: Final = 15
_INFO_BYTES: Final = 80  # up to the end of `name`
_INFO: Final = struct.Struct("=II8s48x16s")
_PROGRAMS_MAX: Final = 65536

_Program = tuple[int, int, str, str]
"""Id, type, name, tag (hex)."""


def list_programs() -> list[_Program] | None:
    """All loaded programs; None where the kernel has no bpf(2) or does not let us ask."""
    try:
        return list(_programs())
    except OSError:
        return None


def _programs() -> Iterator[_Program]:
    number = 0
    for _ in range(_PROGRAMS_MAX):
        following = ctypes.create_string_buffer(struct.pack("=III", number, 0, 0), 12)
        try:
            _bpf(_PROG_GET_NEXT_ID, following)
        except FileNotFoundError:
            return
        number = struct.unpack_from("=I", following, 4)[0]
        with contextlib.suppress(FileNotFoundError):  # unloaded meanwhile
            yield _program(number)


def _program(number: int) -> _Program:
    fd = _bpf(
        _PROG_GET_FD_BY_ID, ctypes.create_string_buffer(struct.pack("=III", number, 0, 0), 12)
    )
    try:
        info = ctypes.create_string_buffer(_INFO_BYTES)
        request = struct.pack("=IIQ", fd, _INFO_BYTES, ctypes.addressof(info))
        _bpf(_OBJ_GET_INFO_BY_FD, ctypes.create_string_buffer(request, len(request)))
    finally:
        os.close(fd)
    kind, found, tag, name = _INFO.unpack(info.raw)
    return found, kind, os.fsdecode(name.rstrip(b"\0")), tag.hex()


def _bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    number = _SYS_BPF.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    result: int = syscalls.libc().syscall(
        ctypes.c_long(number),
        ctypes.c_int(command),
        ctypes.byref(attributes),
        ctypes.c_uint(ctypes.sizeof(attributes)),
    )
    syscalls.check(result)
    return result

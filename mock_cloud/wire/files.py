# SPDX-License-Identifier: GPL-2.0-or-later
"""Files as both ends handle them: hashed in pieces, and written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import BinaryIO, Final

NAME_MAX_BYTES: Final = 255
"""NAME_MAX of linux/limits.h."""

_BLOCK_BYTES: Final = 1 << 20


def digest_of(stream: BinaryIO) -> tuple[str, int]:
    """sha256 in hex, and size in bytes, of all that is left of `stream`."""
    digest, size, buffer = hashlib.sha256(), 0, bytearray(_BLOCK_BYTES)
    view = memoryview(buffer)
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(view[:count])
        size += count
    return digest.hexdigest(), size


def replace_file(path: str | os.PathLike[str], data: bytes, mode: int = 0o666) -> None:
    """Write a file in one step, whole or not at all. OSError.

    `mode` is a new file's, less the umask. What is at `path` is replaced, also a link.
    """
    new = _write_beside(path, data, mode)
    try:
        os.replace(new, path)
    except OSError:
        os.unlink(new)
        raise


def create_file(path: str | os.PathLike[str], data: bytes) -> bool:
    """Write a new file in one step, to last; False if there is one by now, which stays. OSError.

    It is this user's alone. Of several commands that make it at once one does, and its data counts.
    """
    new = _write_beside(path, data, 0o600, lasts=True)
    try:
        os.link(new, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(new)
    return True


def _write_beside(
    path: str | os.PathLike[str], data: bytes, mode: int, *, lasts: bool = False
) -> str:
    directory, name = os.path.split(path)
    new = os.path.join(directory, f".{name}.{os.getpid()}-{threading.get_native_id()}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(new, flags, mode), "wb") as stream:
            stream.write(data)
            if lasts:
                stream.flush()
                os.fsync(stream.fileno())
    except OSError:
        if os.path.lexists(new):
            os.unlink(new)
        raise
    return new

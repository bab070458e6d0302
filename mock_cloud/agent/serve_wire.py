# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's side of the wire: answers out, strictly parsed requests in."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

from mock_cloud.wire.frames import FrameHeader, encode_frame

CHUNK_BYTES: Final = 512 * 1024
"""Body bytes of one frame of a streamed answer."""

_READ_BUFFER_BYTES: Final = 1 << 18
_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z")
_HEX256: Final = re.compile(r"[0-9a-f]{64}\Z")


class Failure(Exception):
    """An operation failed; `code` and `message` go into the answer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @classmethod
    def from_os_error(cls, error: OSError, what: str) -> Failure:
        """A full disk is ``no-space``, a missing file ``not-found``, the rest ``disk``."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return cls("no-space", f"{what}: no space left on the node")
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return cls("not-found", f"{what}: {error.strerror}")
        name = errno.errorcode.get(error.errno or 0, "error")
        return cls("disk", f"{what}: {error.strerror or name}")


class Answers:
    """Writes frames to the controller, one at a time, from any thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self.gone = threading.Event()
        """Set once the controller can't be reached any more."""

    def send(self, header: FrameHeader, body: bytes = b"") -> None:
        """Send one frame; blocks while the controller doesn't read. OSError when it is gone."""
        data = memoryview(encode_frame(header, body))
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError:
                self.gone.set()
                raise

    def fail(self, request_id: int, failure: Failure) -> None:
        error = {"code": failure.code, "message": failure.message[:2000]}
        self.send({"id": request_id, "error": error})


def own_command() -> list[str]:
    """How this process was started (loader, libraries, python, main.py), without its words."""
    with open("/proc/self/cmdline", "rb") as stream:
        words = [word.decode(errors="surrogateescape") for word in stream.read().split(b"\0")]
    words.pop()  # each word ends with a NUL
    return words[: len(words) - (len(sys.argv) - 1)]


def check_keys(header: FrameHeader, kinds: Mapping[str, type], optional: frozenset[str]) -> None:
    """Refuse a request with unknown, missing or mistyped keys."""
    for key in header:
        if key not in kinds and key not in ("op", "id"):
            raise Failure("bad-request", f"unknown key {key!r}")
    for key, kind in kinds.items():
        if key not in header:
            if key in optional:
                continue
            raise Failure("bad-request", f"{key} is missing")
        if type(header[key]) is not kind:
            raise Failure("bad-request", f"{key} is not {kind.__name__}")


def hex_digest(value: Any) -> str:
    """A sha256 in lower-case hex: the only form of a blob's name."""
    if not isinstance(value, str) or not _HEX256.match(value):
        raise Failure("bad-request", "a digest is 64 lower-case hex digits")
    return value


def texts(value: list[Any], what: str) -> list[str]:
    if not all(isinstance(item, str) for item in value):
        raise Failure("bad-request", f"{what} is not a list of texts")
    return value


def size_of(value: int, what: str) -> int:
    if not 0 <= value < 1 << 62:
        raise Failure("bad-request", f"{what} is out of range")
    return value


def job_id(value: str) -> str:
    """A job's name, which is also a directory's: no slash, no leading dot."""
    if not _JOB_ID.match(value):
        raise Failure("bad-request", "a job id is a short word of letters, digits, '.', '_', '-'")
    return value


def result_name(value: str) -> str:
    """A path below a job's results: relative, without empty, ``.`` or ``..`` parts."""
    from mock_cloud.wire.job_request import can_travel  # 7 ms of an agent's start

    if not can_travel(value):
        raise Failure("bad-request", f"{value[:200]!r} is not a result's name")
    return value


@contextlib.contextmanager
def private_streams() -> Iterator[tuple[BinaryIO, int]]:
    """Move stdin and stdout away, so that a stray print or child can't touch the frames."""
    source = os.dup(0)
    sink = os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    with open(source, "rb", buffering=_READ_BUFFER_BYTES) as stream:
        yield stream, sink

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the agent tells about its node before it is trusted: itself, evidence, headers."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterator

from mock_cloud.agent.serve_wire import CHUNK_BYTES, Failure
from mock_cloud.wire.frames import ACCOUNT_FILES, BODY_MAX, PROTOCOL_VERSION, FrameHeader
from mock_cloud.wire.records import pack


def hello() -> FrameHeader:
    """The facts of the answer to ``hello``: all self-reported, none of them judged."""
    main = os.path.abspath(sys.argv[0] or ".")
    return {
        "version": PROTOCOL_VERSION,
        "toolkit": os.path.basename(os.path.dirname(os.path.dirname(main))),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "uname": list(os.uname()),
        "cpus": len(os.sched_getaffinity(0)),
        "clock": time.time(),
        "boot_id": _boot_id(),
    }


def _boot_id() -> str:
    """The kernel's, and when the first process was started: a container has its host's kernel."""
    from mock_cloud.agent.measure import procfs

    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            ticks = procfs.start_ticks(procfs.read_bounded("/proc/1/stat"))
            return f"{stream.read().strip()}/{ticks}"
    except OSError:
        return ""


def evidence(
    nonce: str, skip: list[str], trees: list[str], processes: int
) -> tuple[str, Iterator[bytes]]:
    """(sha256 of the evidence's records, the records packed, in pieces)."""
    from mock_cloud.agent.measure.evidence import measure

    text = measure(nonce, skip, trees, processes)
    return hashlib.sha256(text).hexdigest(), pack(text)


def accounts() -> Iterator[tuple[str, bytes]]:
    """The files that give the owners' names in RPM headers their numbers, each with its path."""
    for path in ACCOUNT_FILES:
        with open(path, "rb") as stream:
            data = stream.read(BODY_MAX + 1)
        if len(data) > BODY_MAX:
            raise Failure("too-large", f"{path} has more than {BODY_MAX} bytes")
        yield path, data


def headers(digests: list[str]) -> Iterator[tuple[FrameHeader, bytes]]:
    """The frames of the RPM headers asked for, in that order. Failure ``not-found``."""
    from mock_cloud.agent.measure.headers import read_headers

    known = read_headers()
    for digest in digests:
        blob = known.get(digest)
        if blob is None:
            raise Failure("not-found", f"no RPM header with sha256 {digest}")
        for start in range(0, max(1, len(blob)), CHUNK_BYTES):
            header: FrameHeader = {"digest": digest}
            if start == 0:
                header["size"] = len(blob)
            yield header, blob[start : start + CHUNK_BYTES]

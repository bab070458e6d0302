# SPDX-License-Identifier: GPL-2.0-or-later
"""Why repositories that come through the controller could not be had, for root.log.

dnf names a status; the controller, which asked the server, knows the words.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

from mock_cloud.agent.engine.context import Job
from mock_cloud.wire.job_request import REASONS_URL, tunnel_url

_WITHIN_S: Final = 5.0
_MAX_BYTES: Final = 16 << 10
_LOG: Final = "root.log"


def note_reasons(job: Job) -> None:
    """Add a line a reason to the job's root.log, if it has one. Raises nothing."""
    if not job.request.tunnel_port:
        return
    import urllib.request  # few jobs fail, and fewer of these have a tunnel

    handler = urllib.request.ProxyHandler({"http": tunnel_url(job.request)})
    try:
        with urllib.request.build_opener(handler).open(REASONS_URL, timeout=_WITHIN_S) as answer:
            lines = answer.read(_MAX_BYTES).decode("utf-8", "replace").splitlines()
        _append(os.path.join(job.results, _LOG), lines)
    except (OSError, ValueError):
        pass  # the tunnel is gone: the controller has said so


def _append(path: str, lines: list[str]) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(FileNotFoundError):
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "wb") as stream:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                stream.writelines(f"ERROR backend.py:0:  {line}\n".encode() for line in lines)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A command's phases for OpenTelemetry, where its environment asks for traces.

They are written as lines of JSON to a process of their own (`export_spans`), which has the SDK, and
which nobody waits for: a collector that is slow, wrong or away costs a build nothing, and neither
does an SDK that is not installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from mock_cloud.progress.timeline import BuildPhase

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_MAIN: Final = "from mock_cloud.progress.export_spans import main; main()"


def asks_for_spans(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variables name a collector, and do not switch traces off."""
    is_off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    return exporter == "otlp" and not is_off and any(environ.get(one) for one in _ENDPOINTS)


class Spans:
    """What one command tells of itself; nothing here waits, and nothing raises."""

    def __init__(self) -> None:
        self._zero_ns = time.time_ns() - time.monotonic_ns()
        """A clock that is set while the command runs changes no duration."""
        self._pipe: int | None = None

    def begin(self, began_s: float) -> None:
        """The command has begun, at that time of `time.monotonic`. Idempotent."""
        if self._pipe is None:
            self._pipe = _start_exporter()
            self._send("begin", at_ns=self._zero_ns + int(began_s * 1e9))

    def note(self, facts: Mapping[str, str | int]) -> None:
        """Attributes of the command."""
        self._send("note", facts=dict(facts))

    def detail(self, phase: BuildPhase) -> None:
        """Something happens within a phase."""
        self._send("detail", phase=phase.name, text=phase.detail)

    def ended(self, phase: BuildPhase) -> None:
        """A phase has ended."""
        began_ns = self._zero_ns + int(phase.began_s * 1e9)
        self._send("phase", phase=phase.name, began_ns=began_ns, bytes=phase.moved_bytes)

    def end(self, exit_code: int, kind: str) -> None:
        """The command has ended, by a failure of this kind if that is not empty. Idempotent."""
        self._send("end", exit=exit_code, kind=kind)
        self._close()

    def _send(self, event: str, **facts: object) -> None:
        if self._pipe is None:
            return
        now_ns = self._zero_ns + time.monotonic_ns()
        line = json.dumps({"event": event, "at_ns": now_ns, **facts}).encode() + b"\n"
        try:
            # At most PIPE_BUF bytes are written as one or not at all: pipe(7).
            is_whole = len(line) <= 4096 and os.write(self._pipe, line) == len(line)
        except BlockingIOError:  # it does not read: what happens now is not told
            return
        except OSError:
            is_whole = False
        if not is_whole:
            self._close()

    def _close(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            with suppress(OSError):
                os.close(pipe)


def _start_exporter() -> int | None:
    """The end of a pipe that it reads. It is started first, and is ready when phases end."""
    try:
        read, write = os.pipe()
        try:
            subprocess.Popen(
                [sys.executable, "-c", _MAIN],
                stdin=read,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError:
            os.close(write)
            raise
        finally:
            os.close(read)
    except OSError:
        return None
    os.set_blocking(write, False)
    return write

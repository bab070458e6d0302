# SPDX-License-Identifier: GPL-2.0-or-later
"""Starting jobs from a process without threads.

A job is a fork of the process that starts it, and the agent has threads, which a fork would
cut off while they hold locks. So a second process of the same toolkit starts them. It is made
when the node was measured, or at the controller's trust where an earlier verdict holds, and does
nothing before that trust: only then the agent passes a job on.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from typing import IO, BinaryIO, Final

from mock_cloud.agent.serve_wire import Failure, own_command, private_streams
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.frames import encode_frame, read_frame
from mock_cloud.wire.layout import LAUNCH

_END_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Process:
    child: subprocess.Popen[bytes]
    requests: IO[bytes]
    answers: IO[bytes]


class Launcher:
    """The agent's end. `start` is called by one thread at a time."""

    def __init__(self, workspace: str) -> None:
        self._workspace = workspace
        self._process: _Process | None = None
        self._has_swept = False

    def prepare(self) -> None:
        """Make the process, unless it is there."""
        self._ready()

    def start(self, job: str, request: bytes) -> None:
        """Start a job; Failure with the runner's reason.

        Before the first one the node is swept: by then no other agent or job runs there, unless
        the job is to work beside one.
        """
        process = self._ready()
        try:
            process.requests.write(
                encode_frame({"job": job, "sweep": not self._has_swept}, request)
            )
            process.requests.flush()
            answer = read_frame(process.answers)
        except (OSError, ValueError) as error:
            raise Failure("internal", f"the job launcher failed: {error}") from error
        if answer is None:
            raise Failure("internal", "the job launcher died")
        header, _ = answer
        if "code" in header:
            raise Failure(str(header["code"]), str(header["message"]))
        self._has_swept = True

    def close(self) -> None:
        """End the process; jobs go on. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.requests.close()
        try:
            process.child.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.child.kill()
            process.child.wait()
        process.answers.close()

    def _ready(self) -> _Process:
        if self._process is None or self._process.child.poll() is not None:
            self.close()
            command = [*own_command(), LAUNCH, "--workspace", self._workspace]
            pipe = subprocess.PIPE
            child = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd="/")
            if child.stdin is None or child.stdout is None:
                raise Failure("internal", "the job launcher has no pipes")
            self._process = _Process(child, child.stdin, child.stdout)
        return self._process


def main(words: list[str]) -> int:
    """``launch --workspace W``: how the agent starts this process."""
    os.umask(0o022)
    with private_streams() as (stream, sink):
        _load_ahead(stream)
        return serve_launches(stream, sink, words[1])


def _load_ahead(stream: BinaryIO) -> None:
    """Load what jobs need, as long as nothing is asked."""
    from mock_cloud.agent.engine.run import load_chroot_engine, load_mock_engine

    for load in (load_mock_engine, load_chroot_engine):
        if select.select([stream], [], [], 0)[0]:
            return
        load()


def serve_launches(stream: BinaryIO, sink: int, workspace: str) -> int:
    """The launcher's end: one answer for each request, until the agent closes the pipe."""
    from mock_cloud.agent.job import runner
    from mock_cloud.agent.job.sweep import sweep_workspace
    from mock_cloud.wire.decode import Malformed
    from mock_cloud.wire.job_request import parse_request

    while (frame := read_frame(stream)) is not None:
        header, body = frame
        answer: dict[str, str] = {}
        try:
            request = parse_request(body)
            if header["sweep"] and not request.beside:
                sweep_workspace(workspace, request.layers, owned=request.owned)
            runner.start(workspace, str(header["job"]), body)
        except Malformed as error:
            answer = {"code": "bad-request", "message": str(error)}
        except runner.RunnerError as error:
            answer = {"code": "runner", "message": str(error)}
        except OSError as error:
            failure = Failure.from_os_error(error, "the job's directory")
            answer = {"code": failure.code, "message": failure.message}
        os.write(sink, encode_frame(answer))  # short: a pipe takes it whole
    return 0

# SPDX-License-Identifier: GPL-2.0-or-later
"""Performs one job from its request to its outcome: the engine's edge.

Every failure becomes an exit code and a message here and nowhere else, and whatever happened,
nothing is left mounted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import traceback
from collections.abc import Iterator
from typing import Final, Protocol

from mock_cloud.agent.engine.builddir import pack_builddir
from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.engine.errors import Cancelled, EngineError, NoSpace, OutputTimeout
from mock_cloud.agent.engine.logs import Logs
from mock_cloud.wire.job_request import REASONS_URL, JobRequest, tunnel_url
from mock_cloud.wire.replies import KEEP_CHROOT, SILENT, Status, write_status
from mock_cloud.wire.terminal_log import TerminalWriter

_MESSAGE_MAX: Final = 4000
_REASONS_WITHIN_S: Final = 5.0
_REASONS_MAX_BYTES: Final = 16 << 10
_ROOT_LOG: Final = "root.log"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def perform_request(workspace: str, job_id: str, directory: str, request: JobRequest) -> Status:
    """Do what `request` asks. Returns the final status, never raises."""
    signal.signal(signal.SIGTERM, lambda *_: _cancel(directory))
    terminal = TerminalWriter(
        os.open(os.path.join(directory, "terminal"), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    )
    shown = request.config is not None and request.config.print_main_output
    logs = Logs(terminal, request.verbose, show_output=shown)
    logs.on_state = lambda name: write_status(directory, Status(name))
    job = Job(workspace, job_id, directory, request, logs)
    code, message = 1, ""
    engine: _Engine | None = None
    try:
        with _translated():
            engine = _engine_for(job)
            try:
                code = engine.perform()
            finally:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the clean-up is short and bounded
                engine.close()
    except EngineError as error:
        code, message = error.exit_code, error.message
        logs.error(message)
    except Exception as error:  # the edge: a defect in mock-cloud must be reported too
        message = f"internal error: {error!r}"
        logs.error(message)
        logs.debug(traceback.format_exc())
    if code:
        _note_reasons(job)
    job.discard_inputs()
    logs.close()
    trees = engine.trees() if engine else {}
    kept = engine.kept() if engine else []
    return Status("done", code, message[:_MESSAGE_MAX], trees, kept)


def load_mock_engine() -> None:
    """Load what its jobs need, for processes that are forked later."""
    import mock_cloud.agent.engine.mock.perform  # noqa: F401


def load_chroot_engine() -> None:
    """The same for the other one."""
    import mock_cloud.agent.engine.modes  # noqa: F401


def _engine_for(job: Job) -> _Engine:
    if job.request.mock is None:
        return _Chroot(job)
    # A job needs one of the engines only, and may be waiting for it.
    from mock_cloud.agent.engine.mock.perform import MockEngine

    return MockEngine(job, job.request.mock)


class _Engine(Protocol):
    """What performs a job. `close` is always called; `trees` and `kept` after it: see Status."""

    def perform(self) -> int: ...

    def close(self) -> None: ...

    def trees(self) -> dict[str, str]: ...

    def kept(self) -> list[str]: ...


class _Chroot:
    """The chroot engine."""

    def __init__(self, job: Job) -> None:
        from mock_cloud.agent.engine import modes
        from mock_cloud.agent.engine.buildroot import Buildroot

        self._job = job
        self._buildroot = Buildroot(job)
        self._perform = modes.perform_mode

    def perform(self) -> int:
        """The mode, then what the controller keeps of the chroot: also after a failed build."""
        try:
            code = self._perform(self._job, self._buildroot)
        except Cancelled:
            raise  # whoever stops a job does not wait for it
        except EngineError:
            self._pack()
            raise
        self._pack()
        return code

    def _pack(self) -> None:
        self._buildroot.shadow.finish()
        pack_builddir(self._job, self._buildroot.chroot.root)

    def close(self) -> None:
        self._buildroot.close()

    def trees(self) -> dict[str, str]:
        return self._buildroot.store.present()

    def kept(self) -> list[str]:
        return [self._buildroot.chroot.base] if self._buildroot.is_kept else []


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """A full disk is no defect, wherever it is met; what else the system refuses has a name."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            where = error.filename or "the workspace"
            raise NoSpace(f"no-space: the node's disk is full: {where}") from error
        raise EngineError(f"{error.filename or 'the engine'}: {error.strerror or error}") from error


def _cancel(directory: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with (
        contextlib.suppress(FileNotFoundError),
        open(os.path.join(directory, SILENT), encoding="utf-8") as stream,
    ):
        raise OutputTimeout(stream.read())
    keep = os.path.exists(os.path.join(directory, KEEP_CHROOT))
    raise Cancelled("Exiting on user interrupt", keep_chroot=keep)


def _note_reasons(job: Job) -> None:
    """Add to root.log, if there is one, why repositories could not be had. Raises nothing.

    dnf names a status; the controller, which asked the server, knows the words.
    """
    if not job.request.tunnel_port:
        return
    import urllib.request  # few jobs fail, and fewer of these have a tunnel

    handler = urllib.request.ProxyHandler({"http": tunnel_url(job.request)})
    try:
        with urllib.request.build_opener(handler).open(
            REASONS_URL, timeout=_REASONS_WITHIN_S
        ) as answer:
            lines = answer.read(_REASONS_MAX_BYTES).decode("utf-8", "replace").splitlines()
        _append_lines(os.path.join(job.results, _ROOT_LOG), lines)
    except (OSError, ValueError):
        pass  # the tunnel is gone: the controller has said so


def _append_lines(path: str, lines: list[str]) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "wb") as stream:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                stream.writelines(f"ERROR backend.py:0:  {line}\n".encode() for line in lines)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A job's logs while it runs: into files of the resultdir, and onto the terminal.

Everything from a node is hostile until it was checked. The terminal sees a sanitised text; files
keep the bytes.
"""

from __future__ import annotations

import getpass
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.paths import chain_results
from mock_cloud.console import Console
from mock_cloud.errors import (
    InputError,
    LocalResultError,
    MockCloudError,
    ResultDirError,
    ResultError,
)
from mock_cloud.file_owner import as_owner
from mock_cloud.invocation.model import PACKAGE_BUILDS, CommandLine
from mock_cloud.results.livelog import LiveLog
from mock_cloud.results.resultdir import ResultDir
from mock_cloud.steps.check.request import ChrootShadow, Work
from mock_cloud.wire.layout import MOCK_LIBDIR
from mock_cloud.wire.terminal_log import STDERR, STDOUT, TerminalDecoder, TerminalError
from mock_cloud.wire.terminal_text import Sanitizer

ATTESTATION_LOG: Final = "remote_attestation.log"
ORDER_LOG: Final = "remote_order.log"
LOGLESS_MODES: Final = ("shell", "clean")
"""Modes that leave no results."""
_LAST_LINES: Final = re.compile(rb"^INFO: (?:Done\(|Results and/or logs in: ).*\n?", re.MULTILINE)
"""What mock says when results are there, which they are not before they were fetched."""
_NEXT: Final = re.compile(rb"^INFO: Start\(", re.MULTILINE)
"""The next package of several begins."""


@contextmanager
def open_results(
    line: CommandLine, opts: ConfigOpts, work: Work, console: Console
) -> Iterator[ResultDir]:
    """Where results go, checked to be writable before anything is leased.

    The resultdir, or for --chain the local repository's results directory. It is emptied where it
    is mock's own, which goes with the chroot. ResultDirError, InputError.
    """
    path, fresh = work.paths.resultdir, work.paths.results_go_with_chroot and work.fresh
    packages: tuple[str, ...] = ()
    if line.mode == "chain":
        repository = Path(line.localrepo) if line.localrepo else own_repository(line)
        srpms = (item.name for item, _ in work.packed if item.role == "srpm")
        packages = tuple(name.replace(".src.rpm", "") for name in srpms)  # as mock has it
        path, fresh = chain_results(repository, opts), False
    elif work.paths.is_users_own:
        console.info(f"results go to {path}: {MOCK_LIBDIR} is not yours to write to")
    with ResultDir.open(path, fresh=fresh, packages=packages) as resultdir:
        resultdir.check_logs(() if packages else find_logs(line))
        yield resultdir


def find_logs(line: CommandLine) -> tuple[str, ...]:
    """mock's logs that this command writes, whatever becomes of it."""
    if line.mode == "shell":
        return ()
    return ("root.log", "state.log", *(("build.log",) if line.mode in PACKAGE_BUILDS else ()))


def own_repository(line: CommandLine) -> Path:
    """A new directory for a chain's local repository, as mock makes it. InputError."""
    prefix = line.tmp_prefix or f"{getpass.getuser()}-{os.getpid()}"
    try:
        with as_owner():
            return Path(tempfile.mkdtemp(prefix=f"mock-chain-{prefix}-", dir="/var/tmp"))
    except OSError as error:
        raise InputError(
            f"cannot make a local repository in /var/tmp: {error.strerror}",
            hint="name one with --localrepo",
        ) from error


class Mirror:
    """Takes a job's logs as they grow: into files, and onto the terminal.

    `raw`: the user's own shell; its bytes go to the terminal as they are.
    """

    def __init__(
        self,
        resultdir: ResultDir,
        console: Console,
        *,
        raw: bool,
        shadow: ChrootShadow | None = None,
    ) -> None:
        self.resultdir = resultdir
        self.shadow = shadow
        self.live: dict[str, LiveLog] = {}
        self._shown_bytes = 0
        self._raw = raw
        self._console = console
        self.on_output: Callable[[int, bytes], None] | None = None
        """Told each record of the terminal's, stream and bytes, before it is shown."""
        self.on_next: Callable[[], None] = lambda: None
        """Called when another package begins, before the last lines of the one before are shown."""
        self._decoder = TerminalDecoder()
        self._shown = {stream: Sanitizer() for stream in (1, 2)}
        self._held: list[tuple[int, bytes]] = []
        self._problem: MockCloudError | None = None

    def take(self, name: str, offset: int, data: bytes) -> None:
        """What `follow_job` calls. ResultError for a name or a stream that is refused.

        A log that cannot be written here goes on growing on the node, and is completed from there.
        """
        if name == "terminal":
            self._shown_bytes = offset + len(data)
            self._show(data)
            return
        try:
            log = self.log(name)
            if log.offset >= offset:  # else it could not be written before
                log.write(data, offset)
        except (LocalResultError, ResultDirError) as error:
            if self._problem is None:
                self._problem = error
                self._console.warning(f"{error.message}; the job goes on")

    def resume(self, begins: Mapping[str, int], names: Iterable[str]) -> None:
        """Go on with logs of another process: where each begins in its file, if that was there."""
        self.live |= {log.name: log for log in self.resultdir.resume_logs(begins, names)}

    def offsets(self) -> dict[str, int]:
        """How much of each log is here, for `follow_job` to go on from."""
        logs = {name: log.offset for name, log in self.live.items()}
        return {"terminal": self._shown_bytes, **logs}

    def close(self) -> None:
        for log in self.live.values():
            log.close()

    def log(self, name: str) -> LiveLog:
        """The file in which the job's log `name` grows. ResultError for a name that is refused."""
        if name not in self.live:
            if self.shadow is not None and self.shadow.is_log(name):
                self.live[name] = self.shadow.log(name)
            else:
                self.live[name] = self.resultdir.log(name)
        return self.live[name]

    def say_last(self, *, arrived: bool) -> None:
        """Print what was held back; the lines that speak of results only if those `arrived`."""
        held, self._held = self._held, []
        for stream, text in held:
            self._print(stream, text if arrived else _LAST_LINES.sub(b"", text))

    def _show(self, data: bytes) -> None:
        try:
            records = self._decoder.feed(data)
        except TerminalError as error:
            raise ResultError(f"the node's terminal stream is malformed: {error}") from error
        for stream, text in records:
            if not self._raw and stream == STDERR:
                if self._held and _NEXT.search(text):
                    self.on_next()
                    self.say_last(arrived=True)
                if self._held or _LAST_LINES.search(text):
                    self._held.append((stream, text))
                    continue
            self._print(stream, text)

    def _print(self, stream: int, text: bytes) -> None:
        if self.on_output is not None:
            self.on_output(stream, text)
        if stream == STDOUT and (self._raw or not sys.stdout.isatty()):
            self._console.output(text)
        elif stream == STDOUT:
            self._console.output(self._shown[stream].feed(text).encode())
        else:
            self._console.text(self._shown[stream].feed(text))

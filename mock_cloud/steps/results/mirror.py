# SPDX-License-Identifier: GPL-2.0-or-later
"""What comes back from a job: logs while it runs, results at its end, the exit code.

Everything is hostile until `results.staging` has checked it: names, sizes, digests. The
terminal sees a sanitised text; files keep the bytes.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

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
from mock_cloud.invocation.model import CommandLine
from mock_cloud.results.archive import unpack_archive, unpack_into
from mock_cloud.results.livelog import LiveLog
from mock_cloud.results.names import ManifestEntry, is_kind_of_result
from mock_cloud.results.owner import as_owner
from mock_cloud.results.ownlog import write_own_log
from mock_cloud.results.resultdir import ResultDir
from mock_cloud.results.staging import StagedFile, Staging
from mock_cloud.steps.check.request import ChrootShadow, Work
from mock_cloud.wire.chroot_packages import CHROOT_PACKAGES
from mock_cloud.wire.job_request import COPYOUT_NAME, GAINS_NAME, SCAN, SCAN_ARCHIVE, SHADOW_ARCHIVE
from mock_cloud.wire.replies import ResultFile
from mock_cloud.wire.terminal_log import STDERR, STDOUT, TerminalDecoder, TerminalError
from mock_cloud.wire.terminal_text import Sanitizer, printable, sanitize

if TYPE_CHECKING:
    from mock_cloud.remote.trusted import TrustedChannel

ATTESTATION_LOG: Final = "remote_attestation.log"
ORDER_LOG: Final = "remote_order.log"
_NOT_PLACED: Final = (COPYOUT_NAME, SHADOW_ARCHIVE, GAINS_NAME, CHROOT_PACKAGES)
"""Results that others ask for."""
_AT_A_TIME: Final = 64
_LAST_LINES: Final = re.compile(rb"^INFO: (?:Done\(|Results and/or logs in: ).*\n?", re.MULTILINE)
"""What mock says when results are there, which they are not before they were fetched."""
_NEXT: Final = re.compile(rb"^INFO: Start\(", re.MULTILINE)
"""The next package of several begins."""
_T = TypeVar("_T")


class Lasting(Protocol):
    """Calls `act` with the channel to the node, again with the next one where a line is lost."""

    def __call__(self, act: Callable[[TrustedChannel], _T]) -> _T: ...


_STRANGERS_SHOWN: Final = 5
_METADATA: Final = re.compile(r"[0-9a-f]{32,128}-[a-z_]+\.\w+(\.\w+)?")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results go. `fresh`: the directory is mock's own and was emptied with the chroot.

    `packages` are the directories that --chain has in it, empty for all other modes.
    """

    path: Path
    packages: tuple[str, ...]
    fresh: bool


def find_destination(line: CommandLine, opts: ConfigOpts, work: Work) -> Destination:
    """The resultdir, or for --chain the local repository's results directory."""
    if line.mode == "chain":
        repository = Path(line.localrepo) if line.localrepo else _own_repository(line)
        srpms = (item.name for item, _ in work.packed if item.role == "srpm")
        packages = tuple(name.replace(".src.rpm", "") for name in srpms)  # as mock has it
        return Destination(chain_results(repository, opts), packages, fresh=False)
    fresh = work.paths.results_go_with_chroot and work.fresh
    return Destination(work.paths.resultdir, (), fresh=fresh)


def _own_repository(line: CommandLine) -> Path:
    import getpass
    import tempfile

    prefix = line.tmp_prefix or f"{getpass.getuser()}-{os.getpid()}"
    try:
        with as_owner():
            return Path(tempfile.mkdtemp(prefix=f"mock-chain-{prefix}-", dir="/var/tmp"))
    except OSError as error:
        raise InputError(
            f"cannot make a local repository in /var/tmp: {error.strerror}",
            hint="name one with --localrepo",
        ) from error


_BUILDS: Final = ("rebuild", "buildsrpm")


def find_logs(line: CommandLine) -> tuple[str, ...]:
    """mock's logs that this command writes, whatever becomes of it."""
    if line.mode == "shell":
        return ()
    return ("root.log", "state.log", *(("build.log",) if line.mode in _BUILDS else ()))


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


@contextmanager
def open_results(destination: Destination) -> Iterator[ResultDir]:
    """The local directory, checked to be writable before anything is leased."""
    with ResultDir.open(
        destination.path, fresh=destination.fresh, packages=destination.packages
    ) as resultdir:
        yield resultdir


def collect(
    lasting: Lasting,
    job: str,
    mirror: Mirror,
    destination: Destination,
    console: Console,
    before_publishing: Callable[[], None],
    *,
    logs_only: bool = False,
    has_plugins: bool = False,
) -> tuple[Path, ...]:
    """Fetch what the job left, check it against the node's list, move it into place.

    `has_plugins`: what a plugin of the site's left under a name of its own stays on the node, and
    a warning says so. `logs_only`: the node, not the package, was at fault, so that packages may be
    half written. Live logs are completed and verified in place. Earlier results stay as they were
    unless all arrived and `before_publishing` did not object. ResultError, TransportError.
    """
    listed = lasting(lambda channel: channel.results(job))
    whole = [
        file
        for file in listed
        if Path(file.name).name not in _NOT_PLACED and (file.name.endswith(".log") or not logs_only)
    ]
    rest = []
    for file in whole:
        is_shadows = mirror.shadow is not None and mirror.shadow.is_log(file.name)
        log = mirror.log(file.name) if is_shadows else mirror.live.get(file.name)
        if log is None or not log.is_in_place:
            rest.append(file)
        else:
            _complete(lasting, job, file, log)
    if has_plugins:
        rest = _without_strangers(rest, console, chain=bool(destination.packages))
    with Staging(mirror.resultdir.path, job, packages=destination.packages) as staging:
        wanted = staging.accept(rest)
        total = sum(entry.size_bytes for entry in wanted)
        _fetch(lasting, job, rest, wanted, staging, _Progress(console, total))
        scans = [entry.name for entry in wanted if Path(entry.name).name == SCAN_ARCHIVE]
        for number, name in enumerate(scans):  # tried here, so that a bad one is not half there
            unpack_archive(staging.path / name, staging.path / f".scan-{number}")
        before_publishing()
        placed = staging.publish(replace_earlier=destination.fresh and not logs_only)
    if destination.packages:
        _remove_old_metadata(mirror.resultdir.path / "repodata", placed)
    for name in scans:
        unpack_into(destination.path / name, SCAN)
    placed = tuple(path for path in placed if path.name != SCAN_ARCHIVE)
    console.done()
    order_log = destination.path / ORDER_LOG
    try:
        write_own_log(order_log, sanitize(lasting(lambda channel: channel.order_log())))
    except MockCloudError as error:  # the results are there
        console.warning(error.message)
        return placed
    return (*placed, order_log)


@as_owner()
def _remove_old_metadata(directory: Path, placed: Sequence[Path]) -> None:
    """createrepo replaces its files, whose names begin with a digest; so do we."""
    current = {path for path in placed if path.parent == directory}
    if not current or directory.is_symlink():
        return
    for path in directory.iterdir():
        if path not in current and _METADATA.fullmatch(path.name):
            path.unlink()


def _complete(lasting: Lasting, job: str, file: ResultFile, log: LiveLog) -> None:
    """Fetch what of a log is not here yet. ResultError if all of it is not what the node lists."""
    from mock_cloud.remote.download import Fetch  # see `mock_cloud.session`

    if log.offset < file.size_bytes:
        lasting(
            lambda channel: channel.fetch(
                job, [Fetch(file, log.write, log.offset, is_checked=True)]
            )
        )
    log.verify(file.size_bytes, file.sha256)


def _without_strangers(
    listed: Sequence[ResultFile], console: Console, *, chain: bool
) -> list[ResultFile]:
    """Those whose names mock gives; the first few others are named."""
    known = [file for file in listed if is_kind_of_result(file.name, chain=chain)]
    strangers = [file.name for file in listed if file not in known]
    if strangers:
        shown = ", ".join(map(printable, strangers[:_STRANGERS_SHOWN]))
        console.warning(f"{len(strangers)} results that are not mock's own stay there: {shown}")
    return known


class _Progress:
    def __init__(self, console: Console, total_bytes: int) -> None:
        self._console = console
        self._total = total_bytes
        self._done = 0

    def __call__(self, count: int) -> None:
        self._done += count
        done, total = self._done >> 20, self._total >> 20
        self._console.progress(f"fetching results: {done} of {total} MiB")


def _fetch(
    lasting: Lasting,
    job: str,
    listed: Sequence[ResultFile],
    wanted: Sequence[ManifestEntry],
    staging: Staging,
    progress: _Progress,
) -> None:
    """Each from where it is, should a line be lost; one that arrived damaged once more."""
    from mock_cloud.remote.download import Fetch

    by_name = {file.name: file for file in listed}

    def fetch(channel: TrustedChannel, files: Sequence[StagedFile]) -> None:
        fetches = [
            Fetch(by_name[file.entry.name], file.write, file.offset, is_checked=True)
            for file in files
        ]
        channel.fetch(job, fetches, progress)

    for start in range(0, len(wanted), _AT_A_TIME):
        with ExitStack() as stack:
            files = [
                stack.enter_context(staging.file(entry))
                for entry in wanted[start : start + _AT_A_TIME]
            ]
            lasting(lambda channel, files=files: fetch(channel, files))  # type: ignore[misc]
            damaged = [file for file in files if not file.is_whole]
            for file in damaged:
                file.restart()
            if damaged:
                lasting(lambda channel, files=damaged: fetch(channel, files))  # type: ignore[misc]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 6: what the job left is fetched, checked, and moved into place; mock's exit code is told.

Everything is hostile until `results.staging` has checked it: names, sizes, digests.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol, TypeVar

from mock_cloud.cloud.jobs import JobRecord
from mock_cloud.console import Console
from mock_cloud.errors import (
    EXIT_INFRASTRUCTURE,
    CloudError,
    MockCloudError,
    TransportError,
)
from mock_cloud.file_owner import as_owner, find_owner
from mock_cloud.remote.download import Fetch
from mock_cloud.remote.reuse import Here
from mock_cloud.remote.trusted import TrustedChannel
from mock_cloud.results.archive import unpack_archive, unpack_into
from mock_cloud.results.livelog import LiveLog
from mock_cloud.results.names import ManifestEntry, is_kind_of_result
from mock_cloud.results.ownlog import write_own_log
from mock_cloud.results.staging import PlacedFiles, StagedFile, Staging
from mock_cloud.steps.context import Build
from mock_cloud.steps.results.copyout import bring_back, unpack_copyout
from mock_cloud.steps.results.mirror import LOGLESS_MODES, ORDER_LOG, Mirror
from mock_cloud.steps.results.signed_by_owner import OwnerCheck, accept, signed_by_owner
from mock_cloud.wire.chroot_packages import CHROOT_PACKAGES
from mock_cloud.wire.chunks import WORTH_BYTES
from mock_cloud.wire.job_request import (
    BUILDDIR_ARCHIVE,
    COPYOUT_NAME,
    GAINS_NAME,
    SCAN,
    SCAN_ARCHIVE,
    SHADOW_ARCHIVE,
)
from mock_cloud.wire.replies import JobEnd, ResultFile
from mock_cloud.wire.terminal_text import printable, sanitize

_PACKAGE_MANAGER_FAILED: Final = 30  # mock's YumError
_NOT_PLACED: Final = (
    BUILDDIR_ARCHIVE, COPYOUT_NAME, SHADOW_ARCHIVE, GAINS_NAME, CHROOT_PACKAGES,
)  # fmt: skip
"""Results that others ask for."""
_AT_A_TIME: Final = 64
_FULL: Final = "no-space: "
"""What the engine says of a full disk begins so."""
_STRANGERS_SHOWN: Final = 5
_SOURCE_PACKAGE: Final = ".src.rpm"
_METADATA: Final = re.compile(r"[0-9a-f]{32,128}-[a-z_]+\.\w+(\.\w+)?")
_T = TypeVar("_T")


class Lasting(Protocol):
    """Calls `act` with the channel to the node, again with the next one where a line is lost."""

    def __call__(self, act: Callable[[TrustedChannel], _T]) -> _T: ...


def is_nodes_fault(end: JobEnd) -> bool:
    """Whether the node, not the package, was at fault."""
    return end.exit in (None, EXIT_INFRASTRUCTURE)


@contextmanager
def bringing_results(build: Build, end: JobEnd) -> Iterator[None]:
    """Have results here and checked; unless the block objects, they are in place after it.

    What the job wrote for directories of the caller's comes last. ResultError, TransportError,
    LocalResultError: the results are still on the node.
    """
    row, mirror = build.row, build.mirror
    try:
        check = accept if is_nodes_fault(end) else signed_by_owner(build)
        if row.mode in LOGLESS_MODES:
            yield
        else:
            with publishing(
                build.connection.lasting,
                row,
                mirror,
                build.console,
                logs_only=is_nodes_fault(end),
                early=build.early,
                check=check,
                sent=() if build.work is None else build.planned.sent_files,
            ) as placed:
                yield
            build.placed += placed
            build.on_results(mirror.resultdir.path, tuple(placed))
        if not is_nodes_fault(end) and build.work is not None:
            _bring_back(build, end)
    except BaseException:
        mirror.say_last(arrived=False)
        raise
    mirror.say_last(arrived=True)
    if row.mode == "clean" and row.removes:  # as mock does with the chroot's directory
        shutil.rmtree(row.removes, ignore_errors=True)


def _bring_back(build: Build, end: JobEnd) -> None:
    lasting, work, job = build.connection.lasting, build.planned, build.job
    shadow, console = build.shadow, build.console
    if shadow is not None:
        lasting(lambda channel: shadow.collect(channel, job, end, console))
    if (builddir := build.builddir) is not None and not build.leased.beside:
        lasting(lambda channel: builddir.collect(channel, job, end))
    if work.returning:
        place = build.resultdir.path
        lasting(lambda channel: bring_back(channel, job, work.returning, place, console))
    copyout = work.copyout
    if build.row.mode == "copyout" and copyout is not None and end.exit in (0, 1):
        # 1: some of it could not be copied, and mock copies the rest.
        is_whole = end.exit == 0
        lasting(lambda channel: unpack_copyout(channel, job, work.args, copyout, whole=is_whole))


def exit_code(build: Build, end: JobEnd) -> int:
    """mock's. TransportError or CloudError where the node, not the package, was at fault."""
    console = build.console
    if end.exit is None:
        if build.row.builds:  # else the engine said so
            console.info(f"Results and/or logs in: {build.mirror.resultdir.path}")
        raise TransportError(
            f"{build.leased.address}: the job vanished from the node without an exit status",
            hint="it was killed there, for memory perhaps; build again, or on a larger node",
        )
    if end.exit == EXIT_INFRASTRUCTURE:
        error = CloudError(
            f"{build.leased.address}: {end.message}",
            hint="nothing is wrong with the package: give the node more room, build again",
        )
        error.kind = end.cause.value or ("disk" if _FULL in end.message else error.kind)
        raise error
    if end.exit == _PACKAGE_MANAGER_FAILED and not build.row.online:
        console.warning(
            "--offline: packages come from the node's own cache, and a new node has none: run this"
            " once without --offline, and again on the node that is kept then ([lease] idle_ttl);"
            " nothing is cached from repositories with gpgcheck=0"
        )
    return end.exit


@contextmanager
def publishing(
    lasting: Lasting,
    row: JobRecord,
    mirror: Mirror,
    console: Console,
    *,
    logs_only: bool = False,
    early: PlacedFiles | None = None,
    check: OwnerCheck = accept,
    sent: Sequence[Path] = (),
) -> Iterator[list[Path]]:
    """Fetch what the job left and check it against the node's list; after the block, into place.

    Where a plugin of the site's may have run (`row.uses_mock`), what it left under a name of its
    own stays on the node, and a warning says so. `logs_only`: packages may be half written. Live
    logs are completed and verified in place, and what was published `early` is not fetched again.
    `check` may refuse what is listed, before anything of it is fetched. What a package has in
    common with an earlier one of its name, or with source packages that were `sent`, stays there.
    Earlier results stay as they were unless all arrived and the block ended well; then the list has
    their paths. ResultError, TransportError.
    """
    directory, job = mirror.resultdir.path, row.id
    placed: list[Path] = []
    listed = lasting(lambda channel: channel.results(job))
    whole = [
        file
        for file in listed
        if Path(file.name).name not in _NOT_PLACED and (file.name.endswith(".log") or not logs_only)
    ]
    check(whole)
    rest, here = [], []
    for file in whole:
        if early and (path := early.find(file.name, file.sha256)) is not None:
            here.append(path)
            continue
        is_shadows = mirror.shadow is not None and mirror.shadow.is_log(file.name)
        log = mirror.log(file.name) if is_shadows else mirror.live.get(file.name)
        if log is None or not log.is_in_place:
            rest.append(file)
        else:
            _complete(lasting, job, file, log)
    if row.uses_mock:
        rest = _without_strangers(rest, console, chain=bool(row.packages))
    with Staging(directory, job, packages=row.packages) as staging:
        wanted = staging.accept(rest)
        total = sum(entry.size_bytes for entry in wanted)
        progress = _Progress(console, total)
        _fetch(lasting, job, rest, wanted, staging, progress, _Alike(directory, sent))
        scans = [entry.name for entry in wanted if Path(entry.name).name == SCAN_ARCHIVE]
        for number, name in enumerate(scans):  # tried here, so that a bad one is not half there
            unpack_archive(staging.path / name, staging.path / f".scan-{number}")
        yield placed
        arrived = staging.publish(replace_earlier=row.fresh and not logs_only)
    if row.packages:
        _remove_old_metadata(directory / "repodata", arrived)
    for name in scans:
        unpack_into(directory / name, SCAN)
    placed += [*here, *(path for path in arrived if path.name != SCAN_ARCHIVE)]
    console.done()
    try:
        text = sanitize(lasting(lambda channel: channel.order_log()))
        # Where several commands share a chroot, each one's orders are kept, as verdicts are.
        write_own_log(directory / ORDER_LOG, text, append=mirror.shadow is not None)
    except MockCloudError as error:  # the results are there
        console.warning(error.message)
    else:
        placed.append(directory / ORDER_LOG)


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
        message = f"fetching results: {self._done >> 20} of {self._total >> 20} MiB"
        self._console.progress(message, self._done, self._total)


class _Alike:
    """Files here that may have much in common with a result.

    None where sudo's or consolehelper's root acts for a user: who may move a directory under a
    path of his could have root copy another file into results that he reads.
    """

    def __init__(self, directory: Path, sent: Sequence[Path]) -> None:
        self._directory = directory
        self._sent = [path.resolve() for path in sent if path.name.endswith(_SOURCE_PACKAGE)]

    def __call__(self, entry: ManifestEntry) -> list[Path]:
        is_worth = entry.name.endswith(".rpm") and entry.size_bytes >= WORTH_BYTES
        if not is_worth or find_owner() is not None:
            return []
        found = [self._directory / entry.name]
        if entry.name.endswith(_SOURCE_PACKAGE):
            found += self._sent
        return [path for path in found if path.is_file() and path.stat().st_size >= WORTH_BYTES]


def _fetch(
    lasting: Lasting,
    job: str,
    listed: Sequence[ResultFile],
    wanted: Sequence[ManifestEntry],
    staging: Staging,
    progress: _Progress,
    alike: Callable[[ManifestEntry], Sequence[Path]],
) -> None:
    """Each from where it is, should a line be lost; all of one that arrived damaged once more."""
    by_name = {file.name: file for file in listed}
    here: dict[str, tuple[Here, ...]] = {}

    def find_here(channel: TrustedChannel, entry: ManifestEntry) -> tuple[Here, ...]:
        if entry.name not in here:
            paths = alike(entry)
            found = channel.find_here(job, by_name[entry.name], paths) if paths else ()
            here[entry.name] = found
        return here[entry.name]

    def fetch(channel: TrustedChannel, files: Sequence[StagedFile]) -> None:
        fetches = [
            Fetch(
                by_name[file.entry.name],
                file.write,
                file.offset,
                is_checked=True,
                here=find_here(channel, file.entry),
            )
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
                here[file.entry.name] = ()
            if damaged:
                lasting(lambda channel, files=damaged: fetch(channel, files))  # type: ignore[misc]

# SPDX-License-Identifier: GPL-2.0-or-later
"""The shadow directory around one command: what goes to the node before, what comes back after."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.values import read_words
from mock_cloud.console import Console
from mock_cloud.errors import AttestationRefused, ConfigError, MockCloudError, ResultError
from mock_cloud.invocation.hostfiles import HostFile
from mock_cloud.invocation.model import CommandLine
from mock_cloud.koji.tasks import check_task, ends_task
from mock_cloud.settings import Remote, ShadowChoice
from mock_cloud.steps.check.packing import pack_file
from mock_cloud.steps.check.request import ChrootShadow, Work
from mock_cloud.wire.job_request import SHADOW_ARCHIVE, SHADOW_LOGS, ShadowOrder
from mock_cloud.wire.replies import JobEnd
from mock_cloud.wire.shadow_tree import SHADOW_LOG

if TYPE_CHECKING:
    from mock_cloud.koji.shadow_directory import ShadowDir
    from mock_cloud.remote.trusted import TrustedChannel
    from mock_cloud.results.livelog import LiveLog

_INPUT_NAME: Final = "tmpdir.tree"
_WARNINGS_MAX: Final = 5
_REASONS_MAX: Final = 20


def is_wanted(line: CommandLine, remote: Remote) -> bool:
    """Whether this command keeps a shadow of its chroot."""
    choice = remote.build.shadow
    return choice is ShadowChoice.ALWAYS or (choice is ShadowChoice.AUTO and line.is_kojis)


class Shadow(ChrootShadow):
    """One command's dealings with its shadow directory. Made by `shadowed`."""

    def __init__(
        self, directory: ShadowDir, chroot_setup_cmd: Sequence[str] = (), *, kept: bool
    ) -> None:
        self.directory = directory
        self.kept = kept
        self._setup = chroot_setup_cmd

    def is_log(self, name: str) -> bool:
        place, _, last = name.rpartition("/")
        return place == SHADOW_LOGS and SHADOW_LOG.fullmatch(last) is not None

    def log(self, name: str) -> LiveLog:
        return self.directory.log(name.rpartition("/")[2])

    def begin(self) -> None:
        self.directory.begin()

    def reserved_after(self, work: Work, end: JobEnd) -> str:
        ends = ends_task(work.line, end.exit, self._setup)
        return work.root if end.chroots and not ends else ""

    def collect(self, channel: TrustedChannel, job: str, end: JobEnd, console: Console) -> None:
        from mock_cloud.koji.shadow_unpack import unpack_shadow
        from mock_cloud.steps.results.copyout import fetch_archive

        listed = next((file for file in channel.results(job) if file.name == SHADOW_ARCHIVE), None)
        base, made = self.directory.base, bool(end.chroots)
        if listed is None:
            if not made:
                self.directory.clear()
            return
        with tempfile.TemporaryDirectory(prefix=".mock-cloud-", dir=base) as scratch:
            archive = fetch_archive(channel, job, listed, Path(scratch))
            left_out = unpack_shadow(archive, self.directory.root, self.directory.tmpdir)
        for name in left_out[:_WARNINGS_MAX]:
            console.warning(f"a link in the chroot's {self.directory.tmpdir} leads out: {name!a}")
        self.directory.remember(made=made)

    def note_failure(self, results: Path, error: MockCloudError) -> None:
        # kojid names root.log for whoever looks for the reason; so it is there.
        lines = [error.message]
        if isinstance(error, AttestationRefused):
            from mock_cloud.attest.verdict import reason_text

            lines[:0] = [f"refused: {reason_text(one)}" for one in error.reasons[:_REASONS_MAX]]
        try:
            path = results / "root.log"
            with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write("".join(f"ERROR mock-cloud:0:  {line}\n" for line in lines))
        except OSError as problem:
            raise ResultError(f"cannot write {results}/root.log: {problem.strerror}") from problem


@contextmanager
def shadowed(
    work: Work, line: CommandLine, opts: ConfigOpts, remote: Remote
) -> Iterator[tuple[Work, Shadow | None]]:
    """`work` with what the node needs for the shadow, and the shadow; as it is where none is kept.

    The archive that goes with it lives as long as the block. UnsupportedByEngine for a task of
    Koji's that needs more of the chroot; ConfigError, ResultDirError.
    """
    setup = read_words(opts, "chroot_setup_cmd")
    if line.is_kojis:
        check_task(line, setup)
    if not is_wanted(line, remote):
        yield work, None
        return
    if remote.lease.idle_ttl_s <= 0:
        raise ConfigError(
            f"{remote.source}: [lease] idle_ttl = 0 ends a node with each command, and what"
            " Koji does takes several in one chroot",
            hint='set idle_ttl = "30m", or [build] shadow = "never"',
        )
    from mock_cloud.koji.shadow_directory import ShadowDir  # few keep one

    directory = ShadowDir(work.paths.basedir, remote.build.shadow_tmpdir)
    directory.open(fresh=work.fresh)
    kept = directory.is_made and not line.discards_chroot
    changes = directory.changes()
    order = ShadowOrder(
        tmpdir=directory.tmpdir,
        removed=list(changes.removed),
        whole=changes.whole,
        rpmdb=not directory.has_packages,
        kept=kept,
    )
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="mock-cloud-"))
        if line.is_kojis:
            from mock_cloud.koji.task_process import stopped_with_task

            stack.enter_context(stopped_with_task())
        work = replace(work, shadow=order)
        if changes.changed:
            archive = Path(scratch, _INPUT_NAME)
            directory.pack(changes, archive)
            packed = pack_file(HostFile(_INPUT_NAME, "tmpdir", archive))
            work = replace(work, packed=(*work.packed, packed))
        yield work, Shadow(directory, setup, kept=kept)

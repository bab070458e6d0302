# SPDX-License-Identifier: GPL-2.0-or-later
"""Of a command with several packages those that are done are published while it goes on.

The node's word is a reason to look, no more: each file is checked as at the end, and there the
node's last list decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from mock_cloud.errors import MockCloudError
from mock_cloud.remote.download import Fetch
from mock_cloud.remote.trusted import ResultsBeside
from mock_cloud.results.staging import Staging
from mock_cloud.settings import SecondLook
from mock_cloud.steps.context import Build
from mock_cloud.steps.lease.builders import find_host
from mock_cloud.wire.job_request import LIVE_LOGS
from mock_cloud.wire.replies import ResultFile

_MARK: Final = "success"


def is_published_early(build: Build) -> bool:
    """Whether packages of this command appear before its end.

    Not where a second look decides about all of them, or their owner signs for them, nor where
    earlier packages make way for them, nor in a directory that Koji watches.
    """
    row = build.row
    host = find_host(build.remote, build.leased)
    is_signed = host is not None and host.owner_key is not None
    is_judged = is_signed or build.remote.attest.second_look is SecondLook.ALWAYS
    is_free = not (is_judged or row.fresh or build.shadow is not None)
    return is_free and row.mode in ("rebuild", "chain") and _count(build) > 1


def bring_finished(build: Build) -> None:
    """Publish what is done by now. What fails here comes at the end, or fails there."""
    build.early.times += 1
    if build.early.times >= _count(build):
        return  # a node that says more often that a package is done than there are
    try:
        with build.connection.channel.beside() as channel:
            _bring(build, channel)
    except MockCloudError as error:
        build.console.debug(f"what is done is not published yet: {error.message}")


def _bring(build: Build, channel: ResultsBeside) -> None:
    row, early = build.row, build.early
    listed = channel.results(row.id)
    done = [one for one in listed if _is_done(one.name, listed, is_chain=bool(row.packages))]
    wanted = {one.name: one for one in done if early.find(one.name, one.sha256) is None}
    attempt = f"{row.id}.{early.times}"
    with Staging(build.mirror.resultdir.path, attempt, packages=row.packages) as staging:
        entries = staging.accept(wanted.values())
        with ExitStack() as stack:
            files = [stack.enter_context(staging.file(entry)) for entry in entries]
            channel.fetch(
                row.id, [Fetch(wanted[one.entry.name], one.write, is_checked=True) for one in files]
            )
        for entry, path in zip(entries, staging.publish(), strict=True):
            early.note(entry.name, entry.sha256, path)


def _count(build: Build) -> int:
    """The packages of the command; 0 for a job that was taken up and is not a chain."""
    return len(build.row.packages) or (0 if build.work is None else len(build.work.line.args))


def _is_done(name: str, listed: Sequence[ResultFile], *, is_chain: bool) -> bool:
    """Whether a result is whole while its job goes on.

    Packages are, and in a chain what lies beside the mark of a success, but for logs that grow in
    place.
    """
    directory, _, last = name.rpartition("/")
    if not is_chain:
        return not directory and last.endswith(".rpm")
    is_wanted = last == _MARK or (last.endswith((".rpm", ".log")) and last not in LIVE_LOGS)
    return is_wanted and any(one.name == f"{directory}/{_MARK}" for one in listed)

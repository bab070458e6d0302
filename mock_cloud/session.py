# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of one invocation on a remote node, from lease to results.

The order is held by types: inputs go through a TrustedChannel, which only `remote.trust` makes,
from a TrustedNode, which only `attest.verify` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.config.arches import choose_arch
from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.remotes import load_remote
from mock_cloud.config.reproducible import make_reproducible
from mock_cloud.config.stages import is_needless
from mock_cloud.console import Console
from mock_cloud.errors import (
    JournalError,
    LocalResultError,
    MockCloudError,
    ResultDirError,
    TransportError,
    UnsupportedByEngine,
)
from mock_cloud.exit_status import Stopped
from mock_cloud.invocation.model import CommandLine
from mock_cloud.places import state_dir
from mock_cloud.results.resultdir import ResultDir
from mock_cloud.settings import Remote, SecondLook
from mock_cloud.steps.check.checkout import checked_out
from mock_cloud.steps.check.chosen_engine import Engine, choose_engine
from mock_cloud.steps.check.fetching import fetched
from mock_cloud.steps.check.request import ChrootShadow, Shadowing, Work, prepare
from mock_cloud.steps.lease.attempts import Attempt, Plan, perform
from mock_cloud.steps.lease.clean_up import tidied
from mock_cloud.steps.results.mirror import (
    Destination,
    Mirror,
    find_destination,
    find_logs,
    open_results,
)
from mock_cloud.steps.send.repo_tunnel import plan_ways
from mock_cloud.toolkit.mock_kit import MockProgram
from mock_cloud.wire.layout import MOCK_LIBDIR

# SSH, verdicts and clouds take longer to load than all that step 1 does, which refuses much.
if TYPE_CHECKING:
    from mock_cloud.cloud.jobs import JobRecord
    from mock_cloud.cloud.leased import LeasedNode
    from mock_cloud.steps.job.run_job import OnResults


@dataclass(frozen=True, slots=True)
class _Task:
    """One invocation, checked on this machine: what all attempts at it share.

    `work` is for `engine`; `program` is this machine's mock, for remotes with another engine.
    """

    opts: ConfigOpts
    program: MockProgram | None
    engine: Engine
    work: Work
    destination: Destination
    resultdir: ResultDir
    console: Console
    on_results: OnResults
    shadow: ChrootShadow | None = None


def _ignore(_directory: Path, _placed: tuple[Path, ...]) -> None:
    pass


def run(
    line: CommandLine,
    opts: ConfigOpts,
    remote: Remote,
    console: Console,
    on_results: OnResults = _ignore,
    program: MockProgram | None = None,
    shadowing: Shadowing | None = None,
) -> int:
    """Perform `line` on a node of `remote` and return mock's exit code.

    1. Check everything that can be checked here. Then, on another node again if one fails:
    2. Lease a node. 3. Attest it. 4. Send inputs. 5. Do the job, logs streaming. 6. Fetch and
    check results. 7. Look at the node again, if the remote says so. 8. Release the node: warm
    after a job that ended, else destroyed.

    `program` is this machine's mock, if its code can go along; `shadowing` is Koji's. Raises
    MockCloudError, Stopped.
    """
    if is_needless(opts, line):
        console.info(f"--{line.mode}: nothing stays mounted on a node between commands")
        return 0
    configdir = Path(line.configdir) if line.configdir else None
    if remote.build.reproducible:
        make_reproducible(opts)
    engine = choose_engine(remote, program, console)
    choose_arch(opts, remote.arches, emulated=engine.uses_mock)
    with ExitStack() as stack:
        # 1
        line = stack.enter_context(checked_out(line, opts, program, console))
        line = stack.enter_context(fetched(line, console))
        work = stack.enter_context(prepare(line, opts, engine))
        _check_access(work, remote)
        for warning in work.warnings:
            console.warning(warning)
        shadow = None
        if shadowing is not None:
            work, shadow = stack.enter_context(shadowing(work, line, opts, remote))
        destination = find_destination(line, opts, work)
        if work.paths.is_users_own and not destination.packages:
            console.info(
                f"results go to {destination.path}: {MOCK_LIBDIR} is not yours to write to"
            )
        resultdir = stack.enter_context(open_results(destination))
        from mock_cloud.steps.job.job_list import (  # what is refused before loads no journal
            announced,
            can_be_left,
            describe_job,
            find_left,
            given_name,
        )

        resultdir.check_logs(() if destination.packages else find_logs(line))
        if given_name() and not can_be_left(work):
            raise UnsupportedByEngine(f"--{line.mode} cannot be left to itself: no --detach")
        stack.enter_context(tidied(state_dir(), configdir, console))
        if job := find_left(work, remote.name):
            console.info(f"job {job.id} of this command line is taken up: it is on its node still")
            return _take_up(job, remote, console, on_results)
        task = _Task(
            opts, program, engine, work, destination, resultdir, console, on_results, shadow
        )
        from mock_cloud.steps.attest.policies import tightened  # not before: it imports verdicts

        remote = tightened(remote)
        plan = Plan(
            is_repeatable=work.fresh or line.mode == "chain",
            load=lambda name: tightened(load_remote(name, configdir)),
            between=resultdir.restart_logs,
            console=console,
        )
        # 2 to 8
        stack.enter_context(announced(describe_job(work, destination, remote, "", resultdir)))
        try:
            return perform(remote, plan, lambda attempt: _try_once(task, attempt))
        except MockCloudError as error:
            if shadow is not None:
                shadow.note_failure(resultdir.path, error.message)
            raise


def _try_once(task: _Task, attempt: Attempt) -> int:
    """One attempt, with a node, a job and a staging directory of its own."""
    from mock_cloud.steps.attest.hardening import cared_for, plan_care
    from mock_cloud.steps.attest.known_good_sets import KnownGoods
    from mock_cloud.steps.attest.verdicts import look_again, trust_aloud
    from mock_cloud.steps.job.job_list import can_be_left, describe_job
    from mock_cloud.steps.job.run_job import (
        Run,
        cancelling,
        follow_run,
        noted_end,
        send_inputs,
        start_job,
        tunnelled,
    )
    from mock_cloud.steps.lease.builders import without_flagged
    from mock_cloud.steps.lease.node import Site, lease, reach
    from mock_cloud.steps.results.concluding import finish_job, left_for_later
    from mock_cloud.steps.sign.record import plan_record

    remote = without_flagged(attempt.remote)
    engine = choose_engine(remote, task.program, task.console)
    arch = choose_arch(task.opts, remote.arches, emulated=engine.uses_mock)
    site = Site.of_user(task.console, remote, arch)
    known_goods = KnownGoods(remote, arch)
    for warning in known_goods.warnings if attempt.number == 1 else ():
        task.console.warning(f"remote {remote.name}: {warning}")
    with ExitStack() as stack:
        work = task.work
        if engine != task.engine:  # a remote to fall back on may have another
            other = stack.enter_context(prepare(work.line, task.opts, engine))
            work = other.with_shadow_of(work)
        _check_access(work, remote)
        record = plan_record(work, remote, task.console)
        # 2
        leased = stack.enter_context(
            lease(
                remote,
                work.root,
                site,
                arch=arch,
                fresh=work.fresh,
                kept=task.shadow is not None and task.shadow.kept,
                discards=work.line.discards_chroot,
                shares=_shares(work, remote),
            )
        )
        attempt.leased = leased
        stack.enter_context(_explained(leased))
        known = known_goods.of(leased)
        with _left_as_found(leased):
            node = stack.enter_context(closing(reach(leased, remote, site)))
            # 3
            # Where several commands share a chroot, each verdict is kept.
            append = task.shadow is not None
            trusted = trust_aloud(
                node, leased, known, remote, site, work, task.resultdir.path, append=append
            )
            channel = trusted.channel
            stack.enter_context(closing(channel))
            care = plan_care(remote.provider, leased, remote.lease.grace_s)
            host_keys = stack.enter_context(cared_for(channel, leased, care, task.console))
            mirror = stack.enter_context(_mirrored(task))
            row = describe_job(work, task.destination, remote, leased.lease_id, task.resultdir)
            this = Run(
                row, remote, site, leased, care, host_keys, mirror, record.noting(task.on_results),
                work, node, channel, is_kept=can_be_left(work, leased),
            )  # fmt: skip
            stack.enter_context(closing(this))
            stack.enter_context(noted_end(this))
            # 4
            send_inputs(this, work)
            tunnel = stack.enter_context(tunnelled(this, work))
        # 5
        attempt.has_begun = True
        with cancelling(this):
            layers, shared = dict(trusted.layers), _lets_others_in(work, remote)
            start_job(this, work, layers, tunnel, shared=shared)
            record.prepare(this, work, known, trusted.attested)
            end = follow_run(this)
        tunnel.close()
        with _left_as_found(leased, this.leave), left_for_later(leased, this.row, this.is_kept):
            # 6 to 8
            return finish_job(
                this,
                end,
                lambda _: look_again(
                    this.node or node, leased, known, remote, site, task.resultdir.path
                ),
                lambda: record.write(this),
            )


def _take_up(job: JobRecord, remote: Remote, console: Console, on_results: OnResults) -> int:
    from mock_cloud.steps.job.attached import follow_left

    return follow_left(job, remote, console, on_results)


@contextmanager
def _explained(leased: LeasedNode) -> Iterator[None]:
    """Where the node is lost, the failure says why, if its cloud ended it and tells."""
    try:
        yield
    except TransportError as error:
        reason = leased.find_end() if error.retryable else ""
        if reason:
            error.message = f"{error.message}; the cloud ended the node: {reason}"
        raise


def _mirrored(task: _Task) -> closing[Mirror]:
    is_shell = task.work.line.mode == "shell"
    return closing(Mirror(task.resultdir, task.console, raw=is_shell, shadow=task.shadow))


@contextmanager
def _left_as_found(leased: LeasedNode, leave: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Where no job runs, a node outlives what is wrong with this machine; a warm one, Ctrl-C too.

    `leave` is called before it does.
    """
    try:
        yield
    except Stopped:
        leave()
        leased.spared = leased.builds > 1
        raise
    except (JournalError, LocalResultError, ResultDirError):
        leave()
        leased.spared = True
        raise


def _lets_others_in(work: Work, remote: Remote) -> bool:
    """Whether other commands may work in the chroot meanwhile, once its engine lets them.

    Not with a shadow of it here, which is one command's; and a second look wants a quiet node.
    """
    return work.shadow is None and remote.attest.second_look is not SecondLook.ALWAYS


def _shares(work: Work, remote: Remote) -> bool:
    """Whether the command can work in a chroot that another one uses: it empties none."""
    return _lets_others_in(work, remote) and not (work.fresh or work.line.discards_chroot)


def _check_access(work: Work, remote: Remote) -> None:
    """Refuse repositories that nodes of `remote` have no way to, before one is leased."""
    if work.needs_repositories:
        plan_ways(work.repositories, remote)

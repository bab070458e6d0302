# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of one invocation on a remote node, from lease to results: the file to read first.

The order is held by types: inputs go through a TrustedChannel, which only `remote.trust` makes,
from a TrustedNode, which only `attest.verify` makes. What a step needs is in the room of its name
in `mock_cloud.steps`; `Build` is what the steps share.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.overrides import make_reproducible
from mock_cloud.config.paths import COPY_MARK
from mock_cloud.config.remotes import load_remote
from mock_cloud.config.stages import is_needless
from mock_cloud.config.values import read_flag
from mock_cloud.console import Console
from mock_cloud.errors import InputError, MockCloudError, UnsupportedByEngine
from mock_cloud.invocation.model import CommandLine
from mock_cloud.jump_master import sharing_jumps
from mock_cloud.places import state_dir
from mock_cloud.results.resultdir import ResultDir
from mock_cloud.settings import Remote, SecondLook
from mock_cloud.steps.check.chosen_engine import choose_arch, choose_engine
from mock_cloud.steps.check.fetching import fetched
from mock_cloud.steps.check.request import Shadowing, prepare
from mock_cloud.steps.context import Build, OnResults
from mock_cloud.steps.results.mirror import Mirror, open_results
from mock_cloud.steps.send.repo_tunnel import check_ways
from mock_cloud.toolkit.mock_kit import MockProgram

# SSH, verdicts and clouds take longer to load than all that step 1 does, which refuses much: each
# function from there on imports what it calls.
if TYPE_CHECKING:
    from mock_cloud.cloud.jobs import JobRecord
    from mock_cloud.wire.replies import JobEnd


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
    build = Build(remote=remote, console=console, program=program, on_results=on_results)
    with ExitStack() as stack:
        stack.callback(console.end_phases)
        stack.enter_context(sharing_jumps())
        _check(build, line, opts, shadowing, stack)  # 1
        from mock_cloud.steps.attest.policies import tightened
        from mock_cloud.steps.job.job_list import (
            announced,
            describe_job,
            find_left,
            given_name,
        )
        from mock_cloud.steps.job.notifying import notifying
        from mock_cloud.steps.lease.attempts import Attempts
        from mock_cloud.steps.release.clean_up import cleaned_up

        configdir = line.configdir_path
        stack.enter_context(cleaned_up(state_dir(), configdir, console))
        if job := find_left(build.planned, remote.name):
            console.info(f"job {job.id} of this command line is taken up: it is on its node still")
            return take_up(job, remote, console, on_results)
        build.remote = tightened(remote)
        attempts = Attempts(
            build.remote,
            lambda name: tightened(load_remote(name, configdir)),
            console,
            is_repeatable=build.planned.fresh or line.mode == "chain",
        )
        stack.enter_context(notifying(given_name(), remote, console))
        stack.enter_context(announced(describe_job(build)))
        try:
            while True:
                attempt = build.on_node_of(attempts.remote)
                try:
                    return _try_once(attempt, is_first=attempts.number == 1)  # 2 to 8
                except MockCloudError as error:
                    note = attempts.go_on_after(
                        error, attempt.found_node, has_begun=attempt.has_begun
                    )
                    if note:
                        build.resultdir.restart_logs(note)
        except MockCloudError as error:
            if build.shadow is not None:
                build.shadow.note_failure(build.resultdir.path, error)
            raise


def _check(
    build: Build,
    line: CommandLine,
    opts: ConfigOpts,
    shadowing: Shadowing | None,
    stack: ExitStack,
) -> None:
    """Step 1: what the command needs of this machine, which is kept until `stack` ends."""
    remote, console = build.remote, build.console
    console.begin_phase("check")
    if remote.build.reproducible:
        make_reproducible(opts)
    build.opts = opts
    build.engine = choose_engine(remote, build.program, console)
    build.arch = choose_arch(opts, remote.arches, emulated=build.engine.uses_mock)
    build.checked_for = remote.name
    if read_flag(opts, "scm"):
        from mock_cloud.steps.check.checkout import checked_out  # few want it

        line = stack.enter_context(checked_out(line, opts, build.program, console))
    line = stack.enter_context(fetched(line, console))
    work = stack.enter_context(prepare(line, opts, build.engine))
    check_ways(work, remote)
    for warning in work.warnings:
        console.warning(warning)
    if shadowing is not None:
        work, build.shadow = stack.enter_context(shadowing(work, line, opts, remote))
    limit_mib = remote.build.copy_builddir_mib
    has_copy = (work.paths.rootdir / COPY_MARK).exists()  # which may be of another remote's
    if (limit_mib or has_copy) and build.shadow is None:
        from mock_cloud.steps.results.builddir_copy import plan_copy  # few want one

        build.builddir = plan_copy(opts, work.paths, limit_mib, console)
        work = replace(work, builddir=build.builddir.order if limit_mib else None)
    build.work = work
    packages = [Path(word).name for word in line.args] if work.builds else []
    console.note(remote=remote.name, mode=line.mode, chroot=work.root, package=" ".join(packages))
    build.resultdir = stack.enter_context(open_results(line, opts, work, console))
    from mock_cloud.steps.job.job_list import can_be_left, given_name

    if given_name() and not can_be_left(work):
        raise UnsupportedByEngine(f"--{line.mode} cannot be left to itself: no --detach")


def _try_once(build: Build, *, is_first: bool) -> int:
    """Steps 2 to 8 on a node, with a job and a staging directory of its own."""
    from mock_cloud.steps.attest.known_good_sets import KnownGoods
    from mock_cloud.steps.lease.builders import without_flagged
    from mock_cloud.steps.lease.node import leased_node, make_ready, reached, request_lease
    from mock_cloud.steps.release.ending import find_end_beside

    build.remote = remote = without_flagged(build.remote)
    with ExitStack() as stack:
        _fit_to_remote(build, stack)
        make_ready(build)
        known_goods = KnownGoods(remote, build.arch)
        for warning in known_goods.warnings if is_first else ():
            build.console.warning(f"remote {remote.name}: {warning}")
        _choose_signer(build)
        # 2
        build.console.begin_phase("node")
        leased = stack.enter_context(
            leased_node(build, request_lease(build), end_beside=find_end_beside(build))
        )
        # Not before, since who waits for a node may wait long, and not alone: SSH is large.
        from mock_cloud.steps.attest.hardening import hardened, plan_hardening
        from mock_cloud.steps.attest.verdicts import trust_node
        from mock_cloud.steps.job.connection import LastingConnection
        from mock_cloud.steps.job.job_list import can_be_left, describe_job, find_last_duration
        from mock_cloud.steps.job.run_job import cancelling, follow_to_end, noted_end, start_job
        from mock_cloud.steps.release.leaving import (
            explained_end,
            leave_node,
            left_as_found,
            left_for_later,
        )
        from mock_cloud.steps.send.inputs import send_inputs, tunnelled

        stack.enter_context(explained_end(leased))
        build.known = known_goods.of(leased)
        with left_as_found(leased):
            build.node = stack.enter_context(reached(build))
            # 3
            build.console.begin_phase("attest")
            channel = stack.enter_context(closing(trust_node(build)))
            build.hardening = plan_hardening(remote.provider, leased, build.grace_s)
            build.host_keys = stack.enter_context(
                hardened(channel, leased, build.hardening, build.console)
            )
            # 4
            build.console.begin_phase("send")
            is_shell = build.planned.line.mode == "shell"
            mirror = Mirror(build.resultdir, build.console, raw=is_shell, shadow=build.shadow)
            build.mirror = stack.enter_context(closing(mirror))
            build.row = describe_job(build, leased.lease_id)
            build.console.expect(find_last_duration(build.row))
            build.is_kept = can_be_left(build.planned, leased)
            build.connection = stack.enter_context(closing(LastingConnection(build, channel)))
            stack.enter_context(noted_end(build))
            send_inputs(build)
            tunnel = stack.enter_context(tunnelled(build))
        # 5
        build.console.begin_phase("job")
        build.has_begun = True
        with cancelling(build):
            start_job(build)
            if build.signer is not None:
                from mock_cloud.steps.sign.record import keep_draft

                keep_draft(build)
            end = follow_to_end(build)
        tunnel.close()
        with (
            left_as_found(leased, lambda: leave_node(build)),
            left_for_later(leased, build.row, build.is_kept),
        ):
            return _finish(build, end)


def take_up(
    job: JobRecord,
    remote: Remote,
    console: Console,
    on_results: OnResults = _ignore,
    *,
    is_cancelled: bool = False,
    is_keeper: bool = False,
) -> int:
    """Follow a job that nobody follows, and return mock's exit code as its own command would have.

    The node is reached under the lease's pinned host key, and is the one that was attested if it
    has not been started anew since (docs/decisions/0141). Until it is reached, whatever stops this
    leaves the job as it was. `is_cancelled`: stop it, keep its logs. `is_keeper`: in the
    background. MockCloudError, Stopped.
    """
    from mock_cloud.cloud.lease import Holder
    from mock_cloud.cloud.pool import reclaim
    from mock_cloud.steps.attest.hardening import HostKeys, plan_hardening
    from mock_cloud.steps.job.connection import LastingConnection
    from mock_cloud.steps.job.job_list import log_names, note_row, printed_path
    from mock_cloud.steps.job.notifying import notifying
    from mock_cloud.steps.job.run_job import (
        cancelling,
        end_job,
        follow_to_end,
        noted_end,
    )
    from mock_cloud.steps.lease.node import make_ready, node_price
    from mock_cloud.steps.release.ending import find_end_beside
    from mock_cloud.steps.release.leaving import left_alone, left_for_later
    from mock_cloud.steps.sign.signers import find_signer

    console.begin_phase("node")
    leased = reclaim(remote, job, state_dir())
    with ExitStack() as stack:
        stack.callback(console.end_phases)
        stack.enter_context(sharing_jumps())
        stack.enter_context(notifying(job.id if is_keeper else "", remote, console))
        stack.enter_context(leased)
        build = Build(remote=remote, console=console, arch=leased.arch, on_results=on_results)
        build.leased = leased
        leased.end_beside = find_end_beside(build)
        with left_alone(leased), left_for_later(leased, job):
            make_ready(build)
            build.resultdir = stack.enter_context(
                ResultDir.open(Path(job.resultdir), packages=job.packages)
            )
            mirror = Mirror(build.resultdir, console, raw=False)
            build.mirror = stack.enter_context(closing(mirror))
            mirror.resume(job.logs, log_names(job.packages))
            build.signer = find_signer(remote, console) if job.draft else None
            build.hardening = plan_hardening(remote.provider, leased, build.grace_s)
            is_renewable = build.hardening is not None and build.hardening.renew_host_key
            build.host_keys = HostKeys(None, leased, console, renewable=is_renewable)
            printed = str(printed_path(job.id)) if is_keeper else ""
            build.row = replace(job, holder=Holder.me(), printed=printed)
            build.is_kept = True
            if job.tunnelled:
                console.warning(
                    f"job {job.id} had repositories through this machine, which are closed now:"
                    " if it has not installed all packages, it fails"
                )
            build.connection = stack.enter_context(closing(LastingConnection(build)))
            note_row(build, build.row)
            build.tell(f"connecting to {leased.address}")
            build.connection.reach()
            console.take_node(node_price(leased, remote))
        stack.enter_context(noted_end(build))
        console.begin_phase("job")
        if is_cancelled:
            return end_job(build)
        with cancelling(build):
            end = follow_to_end(build)
        with left_for_later(leased, job):
            return _finish(build, end)


def _finish(build: Build, end: JobEnd) -> int:
    """Steps 6 to 8: the results come here before anything else."""
    from mock_cloud.steps.attest.verdicts import look_again
    from mock_cloud.steps.release.leaving import release_node
    from mock_cloud.steps.results.collecting import bringing_results, exit_code, is_nodes_fault

    console = build.console
    # 6
    console.begin_phase("results")
    try:
        with bringing_results(build, end):
            # 7
            if build.work is not None and build.remote.attest.second_look is SecondLook.ALWAYS:
                console.begin_phase("second look")
            build.connection.lasting(lambda _: look_again(build))
    except InputError:  # what was to be brought has no place here: no mistake costs the chroot
        release_node(build, end)
        raise
    if build.row.builds and not is_nodes_fault(end):
        from mock_cloud.steps.sign.record import sign_results

        sign_results(build)
    # 8
    console.begin_phase("release")
    release_node(build, end)
    console.keep_node(build.leased.kept_until_unix)
    code = exit_code(build, end)
    if code and console.is_explaining:
        from mock_cloud.steps.results.diagnosis import explain

        explain(build, end)
    return code


def _choose_signer(build: Build) -> None:
    """What signs is loaded by what builds."""
    if build.planned.builds:
        from mock_cloud.steps.sign.record import find_build_signer

        build.signer = find_build_signer(build)


def _fit_to_remote(build: Build, stack: ExitStack) -> None:
    """What step 1 found for the first remote, for this one: it may have another engine."""
    if build.remote.name != build.checked_for:
        engine = choose_engine(build.remote, build.program, build.console)
        build.arch = choose_arch(build.opts, build.remote.arches, emulated=engine.uses_mock)
        if engine != build.engine:
            other = stack.enter_context(prepare(build.planned.line, build.opts, engine))
            build.work, build.engine = other.with_shadow_of(build.planned), engine
        build.checked_for = build.remote.name
    check_ways(build.planned, build.remote)

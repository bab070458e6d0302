# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of one invocation on a remote node, from lease to results.

The order is held by types: inputs go through a TrustedChannel, which only `remote.trust` makes,
from a TrustedNode, which only `attest.verify` makes.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mock_cloud.agent.job.request import to_json
from mock_cloud.attest.verdict import NodeRefused, reason_text
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.config import ConfigOpts, choose_arch, load_remote
from mock_cloud.errors import (
    EXIT_INFRASTRUCTURE,
    CloudError,
    ForwardingRefused,
    InputError,
    LocalDiskFull,
    MockCloudError,
    ResultError,
    TransportError,
)
from mock_cloud.invocation import CommandLine
from mock_cloud.remote.replies import JobEnd
from mock_cloud.remote.trusted import TrustedChannel, trust
from mock_cloud.remote.unverified import UnverifiedNode
from mock_cloud.results import ResultDir, sanitize
from mock_cloud.session.attempts import Attempt, Plan, perform
from mock_cloud.session.attesting import Attested
from mock_cloud.session.checkout import checked_out
from mock_cloud.session.console import Console
from mock_cloud.session.engine import Engine, choose_engine
from mock_cloud.session.fetching import fetched
from mock_cloud.session.interrupts import Stopped
from mock_cloud.session.keyboard import passed_on
from mock_cloud.session.known_good import KnownGood, KnownGoods
from mock_cloud.session.lease_care import cared_for, plan_care
from mock_cloud.session.nodes import Site, attest, lease, reach
from mock_cloud.session.repo_tunnel import Tunnel, open_tunnel, plan_ways
from mock_cloud.session.request import Work, prepare
from mock_cloud.session.results import (
    ATTESTATION_LOG,
    ORDER_LOG,
    Destination,
    Mirror,
    collect,
    find_destination,
    open_results,
    unpack_copyout,
)
from mock_cloud.session.shadow import Shadow, note_failure, shadowed
from mock_cloud.session.state import state_dir
from mock_cloud.session.tidying import tidied
from mock_cloud.settings import Remote, SecondLook
from mock_cloud.toolkit.mock_kit import MockProgram

_DRAIN_S: Final = 20.0
_REASONS_SHOWN: Final = 20
_LOGLESS_MODES: Final = ("shell", "clean")
_BUILDING_MODES: Final = ("rebuild", "buildsrpm", "chain")

OnResults = Callable[[Path, tuple[Path, ...]], None]
"""Told the directory of results and the files that arrived in it, once they are in place."""


@dataclass(frozen=True, slots=True)
class Run:
    """One job on one trusted node: everything its steps share."""

    work: Work
    destination: Destination
    remote: Remote
    site: Site
    leased: LeasedNode
    node: UnverifiedNode
    channel: TrustedChannel
    mirror: Mirror
    job: str
    on_results: OnResults


@dataclass(frozen=True, slots=True)
class Task:
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
    shadow: Shadow | None = None


def _ignore(_directory: Path, _placed: tuple[Path, ...]) -> None:
    pass


def run(
    line: CommandLine,
    opts: ConfigOpts,
    remote: Remote,
    console: Console,
    on_results: OnResults = _ignore,
    program: MockProgram | None = None,
) -> int:
    """Perform `line` on a node of `remote` and return mock's exit code.

    1. Check everything that can be checked here. Then, on another node again if one fails:
    2. Lease a node. 3. Attest it. 4. Send inputs. 5. Do the job, logs streaming. 6. Fetch and
    check results. 7. Look at the node again, if the remote says so. 8. Release the node: warm
    after a job that ended, else destroyed.

    `program` is this machine's mock, if its code can go along. Raises MockCloudError, Stopped.
    """
    configdir = Path(line.configdir) if line.configdir else None
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
        work, shadow = stack.enter_context(shadowed(work, line, opts, remote))
        destination = find_destination(line, opts, work)
        resultdir = stack.enter_context(open_results(destination))
        stack.enter_context(tidied(state_dir(), configdir, console))
        task = Task(
            opts, program, engine, work, destination, resultdir, console, on_results, shadow
        )
        plan = Plan(
            is_repeatable=work.fresh or line.mode == "chain",
            load=lambda name: load_remote(name, configdir),
            between=resultdir.restart_logs,
            console=console,
        )
        # 2 to 8
        try:
            return perform(remote, plan, lambda attempt: _try_once(task, attempt))
        except MockCloudError as error:
            if shadow is not None:
                note_failure(resultdir.path, error.message)
            raise


def _try_once(task: Task, attempt: Attempt) -> int:
    """One attempt, with a node, a job and a staging directory of its own."""
    remote = attempt.remote
    engine = choose_engine(remote, task.program, task.console)
    arch = choose_arch(task.opts, remote.arches, emulated=engine.uses_mock)
    site = Site.of_user(task.console, remote, arch)
    known_goods = KnownGoods(remote, arch)
    with ExitStack() as stack:
        work = task.work
        if engine != task.engine:  # a remote to fall back on may have another
            other = stack.enter_context(prepare(work.line, task.opts, engine))
            work = other.with_shadow_of(work)
        _check_access(work, remote)
        # 2
        leased = stack.enter_context(
            lease(
                remote,
                work.root,
                site,
                arch=arch,
                fresh=work.fresh,
                kept=task.shadow is not None and task.shadow.kept,
            )
        )
        attempt.leased = leased
        stack.enter_context(_explained(leased))
        known = known_goods.of(leased)
        with _left_as_found(leased):
            node = stack.enter_context(closing(reach(leased, remote, site)))
            # 3
            attested = _attest(node, leased, known, remote, site, task)
            channel = stack.enter_context(closing(trust(node, attested.proof)))
            care = plan_care(remote.provider, leased)
            stack.enter_context(cared_for(channel, leased, care, task.console))
            mirror = stack.enter_context(_mirrored(task))
            job = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
            this = Run(
                work, task.destination, remote, site, leased, node, channel, mirror, job,
                task.on_results,
            )  # fmt: skip
            # 4
            _send(this)
            tunnel = stack.enter_context(_tunnel(this))
        # 5
        attempt.has_begun = True
        end = _perform(this, attested, tunnel)
        tunnel.close()
        with _left_as_found(leased):
            # 6, 7
            _publish(this, end, lambda: _look_again(this, known))
            # 8
            return _conclude(this, end)


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


def _mirrored(task: Task) -> closing[Mirror]:
    is_shell = task.work.line.mode == "shell"
    chain = task.destination.chain
    return closing(
        Mirror(task.resultdir, task.console, chain=chain, raw=is_shell, shadow=task.shadow)
    )


@contextmanager
def _left_as_found(leased: LeasedNode) -> Iterator[None]:
    """Where no job runs, a warm node outlives a command that ends for reasons of this machine."""
    try:
        yield
    except (Stopped, LocalDiskFull):
        leased.spared = leased.builds > 1
        raise


def _check_access(work: Work, remote: Remote) -> None:
    """Refuse repositories that nodes of `remote` have no way to, before one is leased."""
    if _needs_repositories(work):
        plan_ways(work.repositories, remote)


def _attest(
    node: UnverifiedNode,
    leased: LeasedNode,
    known: KnownGood,
    remote: Remote,
    site: Site,
    task: Task,
) -> Attested:
    """Attest the node, say so on the terminal and in `remote_attestation.log`."""
    started = time.monotonic()
    try:
        attested = attest(node, leased, known, remote, site)
    except NodeRefused as refused:
        _tell_refusal(refused, node, task.resultdir.path, site)
        raise
    # Where several commands share a chroot, each verdict is kept.
    append = task.shadow is not None
    _write_log(task.resultdir.path / ATTESTATION_LOG, attested.verdict.to_text(), append=append)
    counts = attested.verdict.counts
    site.console.info(
        f"remote {remote.name}: node trusted (tier 1): {counts['files']:,} files,"
        f" {counts['packages']} packages, {counts['processes']} processes measured"
        f" and verified in {time.monotonic() - started:.1f} s"
    )
    return attested


def _tell_refusal(refused: NodeRefused, node: UnverifiedNode, resultdir: Path, site: Site) -> None:
    _write_log(resultdir / ATTESTATION_LOG, refused.verdict.to_text())
    with suppress(MockCloudError):  # the verdict counts; the node's own word is an extra
        _write_log(resultdir / ORDER_LOG, sanitize(node.order_log()))
    for reason in refused.verdict.reasons[:_REASONS_SHOWN]:
        site.console.error(f"refused: {reason_text(reason)}")


def _write_log(path: Path, text: str, *, append: bool = False) -> None:
    try:
        with path.open("a" if append else "w", encoding="utf-8", errors="backslashreplace") as log:
            log.write(text)
    except OSError as error:
        raise ResultError(f"cannot write {path}: {error.strerror}") from error


def _send(this: Run) -> None:
    """Send the inputs that the node lacks."""
    console = this.site.console
    total = sum(blob.size_bytes for blob in this.work.blobs)
    sent = 0

    def progress(count: int) -> None:
        nonlocal sent
        sent += count
        console.progress(f"remote {this.remote.name}: sending {sent >> 20} of {total >> 20} MiB")

    this.channel.send_blobs(this.work.blobs, progress)
    console.done()


def _tunnel(this: Run) -> closing[Tunnel]:
    """The way to the repositories, if the job needs any. Spares a node whose sshd forwards none."""
    repositories = this.work.repositories
    if not _needs_repositories(this.work):
        return closing(Tunnel(repositories))
    try:
        return closing(open_tunnel(this.channel, repositories, this.remote, this.site.console))
    except ForwardingRefused:
        this.leased.spared = this.leased.builds > 1
        raise


def _needs_repositories(work: Work) -> bool:
    """Or their names, to find what is kept of them."""
    return work.line.mode != "clean"


def _perform(this: Run, attested: Attested, tunnel: Tunnel) -> JobEnd:
    """Start the job and follow it to its end; when stopped, stop it."""
    layers = dict(attested.proof.layers)
    request = to_json(this.work.request(layers, this.destination.path, tunnel))
    if this.mirror.shadow is not None:
        this.mirror.shadow.directory.begin()
    try:
        this.channel.start_job(this.job, request)
        with _keyboard(this):
            end = this.channel.follow_job(this.job, {}, this.mirror.take, idle_limit_s=None)
    except Stopped:
        _cancel(this, keep_logs=True)
        raise
    except LocalDiskFull:
        _cancel(this, keep_logs=False)
        raise
    this.leased.record_layers(end.layers)  # all that may be reused; none if the job vanished
    return end


@contextmanager
def _keyboard(this: Run) -> Iterator[None]:
    if this.work.line.mode != "shell":
        yield
        return

    def send(data: bytes, eof: bool) -> None:
        this.channel.job_input(this.job, data, eof=eof)

    def resize(rows: int, columns: int) -> None:
        this.channel.resize(this.job, rows, columns)

    with passed_on(send, resize, raw=this.work.pty is not None):
        yield


def _cancel(this: Run, *, keep_logs: bool) -> None:
    """Stop the job and take the rest of its logs. A warm node that confirms it is clean stays."""
    console = this.site.console
    console.warning("stopping the job on the node")

    def keep(name: str, offset: int, data: bytes) -> None:
        if keep_logs and name != "terminal":  # who stopped it has read enough
            this.mirror.take(name, offset, data)

    try:
        clean = this.channel.cancel_job(this.job)
        offsets = this.mirror.offsets()
        end = this.channel.follow_job(this.job, offsets, keep, idle_limit_s=_DRAIN_S)
        if clean and end.exit is not None:
            this.leased.record_layers(end.layers)
            _record_chroots(this, end)
            this.leased.reserve("")
            this.channel.forget(this.job)
            this.leased.spared = this.leased.builds > 1
    except MockCloudError as error:
        console.warning(f"the logs may be incomplete: {error.message}")


def _publish(this: Run, end: JobEnd, look_again: Callable[[], None]) -> None:
    line, console = this.work.line, this.site.console
    if line.mode not in _LOGLESS_MODES:
        placed = collect(
            this.channel,
            this.job,
            this.mirror,
            this.destination,
            console,
            look_again,
            logs_only=end.exit in (None, EXIT_INFRASTRUCTURE),
            has_plugins=this.work.uses_mock,
        )
        this.on_results(this.mirror.resultdir.path, placed)
    shadow = this.mirror.shadow
    if shadow is not None and end.exit not in (None, EXIT_INFRASTRUCTURE):
        shadow.collect(this.channel, this.job, end, console)
    if line.mode == "copyout" and this.work.copyout is not None and end.exit == 0:
        try:
            unpack_copyout(this.channel, this.job, len(this.work.args), this.work.copyout)
        except InputError:
            this.leased.spared = True  # the user's mistake must not cost the chroot
            raise


def _look_again(this: Run, known: KnownGood) -> None:
    """Measure once more, after everything arrived and before it is published."""
    if this.remote.attest.second_look is not SecondLook.ALWAYS:
        return
    with closing(reach(this.leased, this.remote, this.site)) as node:
        try:
            attest(node, this.leased, known, this.remote, this.site)
        except NodeRefused as refused:
            _tell_refusal(refused, node, this.mirror.resultdir.path, this.site)
            raise
    this.site.console.info(f"remote {this.remote.name}: the node is unchanged after the build")


def _conclude(this: Run, end: JobEnd) -> int:
    """Note what lives on the node now; say how it went; mock's exit code."""
    _record_chroots(this, end)
    if this.mirror.shadow is not None:
        this.leased.reserve(this.mirror.shadow.reserved_after(this.work, end))
    with suppress(MockCloudError):  # the results are here; the directory goes with the node
        this.channel.forget(this.job)
    if this.work.line.mode == "clean":
        _remove_local_results(this)
    elif this.work.mode in _BUILDING_MODES and not this.work.uses_mock:  # which says so itself
        this.site.console.info(f"Results and/or logs in: {this.mirror.resultdir.path}")
    if end.exit is None:
        raise TransportError(
            f"{this.leased.address}: the job vanished from the node without an exit status",
            hint="it was killed there, for memory perhaps; build again, or on a larger node",
        )
    if end.exit == EXIT_INFRASTRUCTURE:
        raise CloudError(
            f"{this.leased.address}: {end.message}",
            hint="nothing is wrong with the package: give the node more room, build again",
        )
    return end.exit


def _record_chroots(this: Run, end: JobEnd) -> None:
    root = this.work.root
    others = tuple(name for name in this.leased.chroots if name != root)
    this.leased.record_chroots((*others, root) if end.chroots else others)


def _remove_local_results(this: Run) -> None:
    """mock --clean removes the chroot's directory, the default resultdir in it included."""
    resultdir = this.work.paths.resultdir
    if this.work.paths.basedir in resultdir.parents:
        shutil.rmtree(resultdir, ignore_errors=True)

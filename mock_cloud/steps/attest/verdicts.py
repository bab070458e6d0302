# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps 3 and 7: the node is judged, and what that means for a command: a log, a line, its end."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from typing import Final

from mock_cloud.attest.verdict import NodeRefused, reason_text
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.console import Console
from mock_cloud.errors import AttestationRefused, ConnectionLost, MockCloudError, NodeGone
from mock_cloud.remote.trusted import TrustedChannel, trust, trust_held
from mock_cloud.remote.unverified import UnverifiedNode
from mock_cloud.results.ownlog import write_own_log
from mock_cloud.settings import Remote, SecondLook
from mock_cloud.steps.attest.attesting import Attested, Nature, attest_node, find_basis
from mock_cloud.steps.attest.known_good_sets import KnownGoods
from mock_cloud.steps.context import Build, NodeUse
from mock_cloud.steps.lease.builders import note_refused
from mock_cloud.steps.lease.node import reached
from mock_cloud.steps.results.mirror import ATTESTATION_LOG, LOGLESS_MODES, ORDER_LOG
from mock_cloud.wire.terminal_text import sanitize

_REASONS_SHOWN: Final = 20
_BOOT_S: Final = 60.0
"""How long a new node may take from its sshd's greeting to the end of its boot."""


def attest(use: NodeUse, *, agents: tuple[int, ...] = ()) -> Attested:
    """The verdict on the connected node. AttestationRefused; nothing was sent then.

    `agents` are pids of agents that we have there on other connections.
    """
    return attest_node(
        use.node,
        use.leased,
        use.toolkit,
        use.known,
        use.archive,
        nature=nature(use.remote, _boot_s(use.leased, use.remote), agents),
        on_phase=use.tell,
    )


def nature(remote: Remote, boot_s: float = 0.0, agents: tuple[int, ...] = ()) -> Nature:
    """What a remote's file says of its nodes, and what else is known; see `Nature`."""
    return Nature(remote.shares_kernel, boot_s, remote.attest.unsafe_containers, agents)


def _boot_s(leased: LeasedNode, remote: Remote) -> float:
    """How long the node may seem to boot: only one that a cloud has just made may at all."""
    is_new = leased.has_bootstrap_key and leased.builds == 1
    return min(_BOOT_S, remote.cloud.boot_timeout_s) if remote.cloud and is_new else 0.0


def trust_node(build: Build) -> TrustedChannel:
    """The node under a verdict: that is said, on the terminal and in `remote_attestation.log`.

    It is measured, but not beside another command, nor where the last one's verdict still holds.
    Notes the layers that a job may reuse. Raises NodeRefused, and what `attest` raises.
    """
    leased, remote = build.leased, build.remote
    verdict = leased.verdict
    if leased.beside or _still_holds(build):
        channel = trust_again(build, build.node)
        if channel is not None:
            said = f"the last command's verdict is {time.time() - verdict.measured_unix:.0f} s old"
            if leased.beside:
                said = f"beside job {leased.beside}, under its verdict"
            text = f"not measured again: {said}"
            whole = f"{text}, sha256 {verdict.sha256}\n"
            # Beside the verdict itself, where that was written to the same place.
            write_own_log(build.resultdir.path / ATTESTATION_LOG, whole, append=True)
            build.console.info(f"remote {remote.name}: {text}")
            build.layers = {} if leased.beside else leased.layers
            return channel
        if leased.beside:
            raise NodeGone(f"{leased.address}: the node has rebooted")
    build.attested = attested = _attest_and_tell(build)
    build.layers = attested.proof.layers
    return trust(build.node, attested.proof)


def _attest_and_tell(build: Build) -> Attested:
    started = time.monotonic()
    remote, console = build.remote, build.console
    attested = _attest_or_tell(build)
    # Where several commands share a chroot, each verdict is kept.
    append = build.shadow is not None
    log = build.resultdir.path / ATTESTATION_LOG
    write_own_log(log, attested.verdict.to_text(), append=append)
    if remote.attest.unsafe_containers:
        console.warning(
            f"remote {remote.name}: unsafe_containers is set: who runs a node's host can read and"
            " change this build unseen"
        )
    counts = attested.verdict.counts
    console.info(
        f"remote {remote.name}: node trusted (tier 1): {counts['files']:,} files,"
        f" {counts['packages']} packages, {counts['processes']} processes measured"
        f" and verified in {time.monotonic() - started:.1f} s"
    )
    return attested


def trust_again(
    use: NodeUse, node: UnverifiedNode, *, alone: bool = False
) -> TrustedChannel | None:
    """`node` under the verdict that its lease has; None if it was started anew since.

    `alone`: other connections that run an agent are ended. Never while others may know the
    private half of its host key: ConnectionLost.
    """
    leased = use.leased
    if leased.has_bootstrap_key:
        raise ConnectionLost(f"{leased.address}: the node has no host key of its own yet")
    node.start_agent(use.toolkit)
    if node.hello(secrets.token_hex(32)).boot_id != leased.verdict.boot_id:
        return None
    if alone:
        node.reload_sshd()
    return trust_held(node, leased.address.host_key, leased.verdict.sha256)


def _still_holds(build: Build) -> bool:
    """Whether the last command's verdict is good for this one too; for what builds none is."""
    leased, work, settings = build.leased, build.planned, build.remote.attest
    verdict = leased.verdict
    return (
        not work.builds
        and settings.second_look is SecondLook.NEVER
        and verdict.basis == find_basis(build.known, build.toolkit)
        and not leased.has_bootstrap_key
        and verdict.covers(
            work.root,
            made_anew=work.fresh or work.root not in leased.chroots,
            now_unix=time.time(),
            max_age_s=settings.verdict_max_age_s,
        )
    )


def look_again(build: Build) -> None:
    """Measure once more before results are published, if the remote asks for it. NodeRefused."""
    if build.remote.attest.second_look is not SecondLook.ALWAYS:
        return
    if build.row.mode in LOGLESS_MODES:  # it leaves no results
        return
    if build.work is None:  # the job was taken up
        build.known = KnownGoods(build.remote, build.leased.arch).of(build.leased)
    first = build.node  # the connection that the job was done over
    try:
        with reached(build) as build.node:
            _attest_or_tell(build, first.agent_pid)
    finally:
        build.node = first
    build.console.info(f"remote {build.remote.name}: the node is unchanged after the build")


def _attest_or_tell(build: Build, *agents: int) -> Attested:
    """`attest`; of a refusal the user, the logs and the ledger are told."""
    try:
        return attest(build, agents=agents)
    except NodeRefused as refused:
        directory, append = build.resultdir.path, build.shadow is not None
        write_own_log(directory / ATTESTATION_LOG, refused.verdict.to_text(), append=append)
        with suppress(MockCloudError):  # the verdict counts; the node's own word is an extra
            orders = sanitize(build.node.order_log())
            write_own_log(directory / ORDER_LOG, orders, append=append)
        show_reasons(refused, build.console)
        refused.hint = f"nothing was sent; {directory / ATTESTATION_LOG} has all reasons"
        note_refused(build.console, build.remote, build.leased, reason_text(refused.reasons[0]))
        raise


def show_reasons(refused: AttestationRefused, console: Console) -> None:
    """Print the reasons, one a line; what is said of the refusal at the end repeats none."""
    console.done()
    for reason in refused.reasons[:_REASONS_SHOWN]:
        console.error(f"refused: {reason_text(reason)}")
    if isinstance(refused, NodeRefused):
        refused.sum_up()

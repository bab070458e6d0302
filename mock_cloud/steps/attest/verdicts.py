# SPDX-License-Identifier: GPL-2.0-or-later
"""What a verdict on the node means for a command: its log, its line on the terminal, its end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mock_cloud.attest.verdict import NodeRefused, reason_text
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.console import Console
from mock_cloud.errors import AttestationRefused, ConnectionLost, MockCloudError, NodeGone
from mock_cloud.remote.trusted import TrustedChannel, trust, trust_held
from mock_cloud.remote.unverified import UnverifiedNode
from mock_cloud.results.ownlog import write_own_log
from mock_cloud.settings import Remote, SecondLook
from mock_cloud.steps.attest.attesting import Attested, find_basis
from mock_cloud.steps.attest.known_good_sets import KnownGood
from mock_cloud.steps.check.request import Work
from mock_cloud.steps.lease.builders import note_refused
from mock_cloud.steps.lease.node import Site, attest, reach
from mock_cloud.steps.results.mirror import ATTESTATION_LOG, ORDER_LOG
from mock_cloud.wire.terminal_text import sanitize

_REASONS_SHOWN: Final = 20


def attest_aloud(
    node: UnverifiedNode,
    leased: LeasedNode,
    known: KnownGood,
    remote: Remote,
    site: Site,
    resultdir: Path,
    *,
    append: bool,
) -> Attested:
    """Attest the node, say so on the terminal and in `remote_attestation.log`.

    `append` keeps earlier verdicts there. Raises NodeRefused, and what `nodes.attest` raises.
    """
    started = time.monotonic()
    try:
        attested = attest(node, leased, known, remote, site)
    except NodeRefused as refused:
        _tell_refusal(refused, node, resultdir, site)
        note_refused(site.console, remote, leased, reason_text(refused.reasons[0]))
        raise
    write_own_log(resultdir / ATTESTATION_LOG, attested.verdict.to_text(), append=append)
    if remote.attest.unsafe_containers:
        site.console.warning(
            f"remote {remote.name}: unsafe_containers is set: who runs a node's host can read and"
            " change this build unseen"
        )
    counts = attested.verdict.counts
    site.console.info(
        f"remote {remote.name}: node trusted (tier 1): {counts['files']:,} files,"
        f" {counts['packages']} packages, {counts['processes']} processes measured"
        f" and verified in {time.monotonic() - started:.1f} s"
    )
    return attested


@dataclass(frozen=True, slots=True)
class Trusted:
    """A node under a verdict: the way to send it things, and the layers that a job may reuse.

    `attested` if it was measured for this command.
    """

    channel: TrustedChannel
    layers: Mapping[str, str]
    attested: Attested | None = None


def trust_aloud(
    node: UnverifiedNode,
    leased: LeasedNode,
    known: KnownGood,
    remote: Remote,
    site: Site,
    work: Work,
    resultdir: Path,
    *,
    append: bool,
) -> Trusted:
    """The node under a verdict, and that said as `attest_aloud` says it.

    It is measured, but not beside another command, nor where the last one's verdict still holds.
    Raises what `attest_aloud` does.
    """
    verdict = leased.verdict
    if leased.beside or _still_holds(leased, known, remote, site, work):
        channel = trust_again(node, leased, site)
        if channel is not None:
            said = f"the last command's verdict is {time.time() - verdict.measured_unix:.0f} s old"
            if leased.beside:
                said = f"beside job {leased.beside}, under its verdict"
            text = f"not measured again: {said}"
            whole = f"{text}, sha256 {verdict.sha256}\n"
            # Beside the verdict itself, where that was written to the same place.
            write_own_log(resultdir / ATTESTATION_LOG, whole, append=True)
            site.console.info(f"remote {remote.name}: {text}")
            return Trusted(channel, {} if leased.beside else leased.layers)
        if leased.beside:
            raise NodeGone(f"{leased.address}: the node has rebooted")
    attested = attest_aloud(node, leased, known, remote, site, resultdir, append=append)
    return Trusted(trust(node, attested.proof), attested.proof.layers, attested)


def trust_again(
    node: UnverifiedNode, leased: LeasedNode, site: Site, *, alone: bool = False
) -> TrustedChannel | None:
    """A node under the verdict that its lease has; None if it was started anew since.

    `alone`: other connections that run an agent of ours are ended. Never while others may know the
    private half of its host key: ConnectionLost.
    """
    if leased.has_bootstrap_key:
        raise ConnectionLost(f"{leased.address}: the node has no host key of its own yet")
    node.start_agent(site.toolkit)
    if node.hello(secrets.token_hex(32)).boot_id != leased.verdict.boot_id:
        return None
    if alone:
        node.reload_sshd()
    return trust_held(node, leased.address.host_key, leased.verdict.sha256)


def _still_holds(
    leased: LeasedNode, known: KnownGood, remote: Remote, site: Site, work: Work
) -> bool:
    """Whether the last command's verdict is good for this one too; for what builds none is."""
    verdict = leased.verdict
    return (
        not work.builds
        and remote.attest.second_look is SecondLook.NEVER
        and verdict.basis == find_basis(known, site.toolkit)
        and not leased.has_bootstrap_key
        and verdict.covers(
            work.root,
            made_anew=work.fresh or work.root not in leased.chroots,
            now_unix=time.time(),
            max_age_s=remote.attest.verdict_max_age_s,
        )
    )


def look_again(
    first: UnverifiedNode,
    leased: LeasedNode,
    known: KnownGood,
    remote: Remote,
    site: Site,
    resultdir: Path,
) -> None:
    """Measure once more before results are published, if the remote asks for it.

    `first` is the connection that the job was done over. Raises NodeRefused.
    """
    if remote.attest.second_look is not SecondLook.ALWAYS:
        return
    with closing(reach(leased, remote, site)) as node:
        try:
            attest(node, leased, known, remote, site, agents=(first.agent_pid,))
        except NodeRefused as refused:
            _tell_refusal(refused, node, resultdir, site)
            note_refused(site.console, remote, leased, reason_text(refused.reasons[0]))
            raise
    site.console.info(f"remote {remote.name}: the node is unchanged after the build")


def _tell_refusal(refused: NodeRefused, node: UnverifiedNode, resultdir: Path, site: Site) -> None:
    write_own_log(resultdir / ATTESTATION_LOG, refused.verdict.to_text())
    with suppress(MockCloudError):  # the verdict counts; the node's own word is an extra
        write_own_log(resultdir / ORDER_LOG, sanitize(node.order_log()))
    show_reasons(refused, site.console)
    refused.hint = f"nothing was sent; {resultdir / ATTESTATION_LOG} has all reasons"


def show_reasons(refused: AttestationRefused, console: Console) -> None:
    """Print the reasons, one a line; what is said of the refusal at the end repeats none."""
    console.done()
    for reason in refused.reasons[:_REASONS_SHOWN]:
        console.error(f"refused: {reason_text(reason)}")
    if isinstance(refused, NodeRefused):
        refused.sum_up()

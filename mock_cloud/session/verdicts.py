# SPDX-License-Identifier: GPL-2.0-or-later
"""What a verdict on the node means for a command: its log, its line on the terminal, its end."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from mock_cloud.attest.verdict import NodeRefused, reason_text
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.errors import AttestationRefused, MockCloudError
from mock_cloud.remote.trusted import TrustedChannel, trust_held
from mock_cloud.remote.unverified import UnverifiedNode
from mock_cloud.results.ownlog import write_own_log
from mock_cloud.session.attesting import Attested
from mock_cloud.session.console import Console
from mock_cloud.session.known_good import KnownGood
from mock_cloud.session.nodes import Site, attest, reach
from mock_cloud.session.results import ATTESTATION_LOG, ORDER_LOG
from mock_cloud.settings import Remote, SecondLook
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


def join_aloud(
    node: UnverifiedNode, leased: LeasedNode, remote: Remote, site: Site, resultdir: Path
) -> TrustedChannel:
    """Rely on the verdict of the command that holds the node, and say so in the same places.

    Raises TransportError.
    """
    node.start_agent(site.toolkit)
    channel = trust_held(node, leased.address.host_key, leased.verdict_sha256)
    said = f"not measured again: beside job {leased.beside}, under its verdict"
    text = f"{said}, sha256 {leased.verdict_sha256}\n"
    write_own_log(resultdir / ATTESTATION_LOG, text, append=True)
    site.console.info(f"remote {remote.name}: {said}")
    return channel


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

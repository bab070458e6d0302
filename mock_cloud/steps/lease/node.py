# SPDX-License-Identifier: GPL-2.0-or-later
"""Getting a node and reaching it: lease, connection, verdict, giving back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mock_cloud.attest.verdict import NodeRefused, Verdict
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.cloud.pool import acquire
from mock_cloud.cloud.sweep import sweep
from mock_cloud.console import Console
from mock_cloud.errors import ConfigError, HostKeyMismatch, TransportError
from mock_cloud.model import Toolkit
from mock_cloud.places import cache_dir, state_dir
from mock_cloud.remote.connect import connect
from mock_cloud.remote.trusted import trust
from mock_cloud.remote.unverified import UnverifiedNode
from mock_cloud.settings import Remote
from mock_cloud.steps.attest.attesting import Archive, Attested, Nature, attest_node
from mock_cloud.steps.attest.hardening import cared_for, plan_care
from mock_cloud.steps.attest.known_good_sets import KnownGood, KnownGoods
from mock_cloud.steps.attest.policies import tightened
from mock_cloud.steps.check.chosen_engine import find_toolkit
from mock_cloud.steps.lease.clean_up import tidied

NODE_DEADLINE_S: Final = 300.0
_BOOT_S: Final = 60.0
"""How long a new node may take from its sshd's greeting to the end of its boot."""
_SHARES_OUR_KERNEL: Final = ("local",)
_LOOKING: Final = "(attest)"


@dataclass(frozen=True, slots=True)
class Site:
    """Where this user's state is kept, what is pushed to nodes, who is told what happens.

    `toolkit` is for nodes of one architecture.
    """

    archive: Archive
    toolkit: Toolkit
    console: Console

    @classmethod
    def of_user(cls, console: Console, remote: Remote, arch: str) -> Site:
        """For nodes of `remote` with this architecture.

        Also ends local nodes that commands which died left behind. Raises what `find_toolkit`
        does.
        """
        archive = Archive(cache_dir(), state_dir())
        site = cls(archive, find_toolkit(remote, arch, console), console)
        for swept in sweep(site.archive.state_dir):
            console.info(f"node {swept.lease_id} was ended: {swept.reason}")
        return site


@contextmanager
def lease(  # noqa: PLR0913
    remote: Remote,
    chroot: str,
    site: Site,
    *,
    arch: str,
    fresh: bool = False,
    kept: bool = False,
    discards: bool = False,
    shares: bool = False,
    purpose: str = "",
) -> Iterator[LeasedNode]:
    """A node of `remote`; afterwards it is kept warm, or destroyed if the block raised.

    With `shares` it may be one that another command works on in this chroot, and keeps.

    With a `purpose` other than builds it is none that builds have used, nor will use.
    """

    def tell(phase: str) -> None:
        show = site.console.info if phase.startswith("waiting") else site.console.phase
        show(f"remote {remote.name}: {phase}")

    def acquire_one() -> LeasedNode:
        return acquire(
            remote,
            chroot,
            state_dir=site.archive.state_dir,
            deadline_s=_deadline_s(remote),
            arch=arch,
            on_phase=tell,
            fresh=fresh,
            kept=kept,
            discards=discards,
            shares=shares,
            toolkit=f"{site.toolkit.digest}{purpose}",
        )

    leased = acquire_one()
    while leased.adopted:
        # Its job may still run there, which no verdict allows, and half of its work is done.
        with leased:
            site.console.warning(
                f"remote {remote.name}: the node {leased.address} is ended with the chroots on it:"
                " the command that used it died"
            )
            leased.destroy()
        leased = acquire_one()
    with leased:
        warm = "shared" if leased.beside else "warm" if leased.builds > 1 else "new"
        kind = f" ({leased.kind})" if leased.kind else ""
        site.console.info(f"remote {remote.name}: {warm} node {leased.address}{kind}")
        try:
            yield leased
        except BaseException:
            if leased.chroots and not (leased.spared or leased.beside):
                site.console.done()
                site.console.warning(
                    f"remote {remote.name}: the node {leased.address} is ended, and with it"
                    f" what was in the chroots {', '.join(leased.chroots)}"
                )
            raise


def _deadline_s(remote: Remote) -> float:
    """Time enough for a node to become free, and for a new one that is replaced once."""
    return NODE_DEADLINE_S + (0.0 if remote.cloud is None else 2 * remote.cloud.boot_timeout_s)


def reach(leased: LeasedNode, remote: Remote, site: Site) -> UnverifiedNode:
    """Connect to the node's sshd with the pinned key; the console's tail if that fails."""
    site.console.phase(f"remote {remote.name}: connecting to {leased.address}")
    try:
        return connect_leased(leased, remote)
    except TransportError:
        for line in leased.console_tail().splitlines()[-5:]:
            site.console.warning(f"node console: {line}")
        raise


def connect_leased(
    leased: LeasedNode, remote: Remote, within_s: float | None = None
) -> UnverifiedNode:
    """With the key that the node was being given, if any, else the one it had: both are ours.

    Within `within_s` seconds, by default the remote's `connect_timeout`.
    """
    options = {
        "deadline_s": remote.build.connect_timeout_s if within_s is None else within_s,
        "silence_timeout_s": remote.build.silence_timeout_s,
    }
    coming = leased.next_host_key
    if coming is not None:
        try:
            address = replace(leased.address, host_key=coming)
            node = connect(address, leased.client_key, **options)
        except HostKeyMismatch:
            pass  # it did not get so far
        else:
            leased.adopt_next_host_key()
            return node
    return connect(leased.address, leased.client_key, **options)


def shares_kernel(remote: Remote) -> bool:
    """Whether its nodes run this machine's own kernel, and see its network."""
    return remote.provider in _SHARES_OUR_KERNEL


def nature(remote: Remote, boot_s: float = 0.0, agents: tuple[int, ...] = ()) -> Nature:
    """What a remote's file says of its nodes, and what else is known; see `Nature`."""
    return Nature(shares_kernel(remote), boot_s, remote.attest.unsafe_containers, agents)


def attest(
    node: UnverifiedNode,
    leased: LeasedNode,
    known: KnownGood,
    remote: Remote,
    site: Site,
    *,
    agents: tuple[int, ...] = (),
) -> Attested:
    """The verdict on a connected node. AttestationRefused; nothing was sent then.

    `agents` are pids of agents that we have there on other connections.
    """

    def tell(phase: str) -> None:
        show = site.console.info if phase.startswith("waiting") else site.console.phase
        show(f"remote {remote.name}: {phase}")

    return attest_node(
        node,
        leased,
        site.toolkit,
        known,
        site.archive,
        nature=nature(remote, _boot_s(leased, remote), agents),
        on_phase=tell,
    )


def _boot_s(leased: LeasedNode, remote: Remote) -> float:
    """How long the node may seem to boot: only one that a cloud has just made may at all."""
    is_new = leased.has_bootstrap_key and leased.builds == 1
    return min(_BOOT_S, remote.cloud.boot_timeout_s) if remote.cloud and is_new else 0.0


def node_arch(remote: Remote, wanted: str) -> str:
    """The architecture `wanted` of the remote's, by default its first. ConfigError."""
    if wanted and wanted not in remote.arches:
        raise ConfigError(
            f"{remote.source}: it has no nodes of arch {wanted!r}",
            hint=f"there are: {', '.join(remote.arches)}",
        )
    return wanted or remote.arches[0]


def look_at_node(
    remote: Remote, console: Console, configdir: Path | None = None, *, arch: str = ""
) -> Verdict:
    """Lease, attest and give back a node; the verdict, trusted or refused."""
    remote = tightened(remote)
    arch = node_arch(remote, arch)
    site = Site.of_user(console, remote, arch)
    known_goods = KnownGoods(remote, arch)
    for warning in known_goods.warnings:
        console.warning(f"remote {remote.name}: {warning}")
    try:
        with (
            tidied(site.archive.state_dir, configdir, console),
            lease(remote, _LOOKING, site, arch=arch) as leased,
            closing(reach(leased, remote, site)) as node,
        ):
            attested = attest(node, leased, known_goods.of(leased), remote, site)
            care = plan_care(remote.provider, leased)
            if care is not None:  # it is kept for a build, and must end if none comes
                channel = trust(node, attested.proof)
                with closing(channel), cared_for(channel, leased, care, console):
                    pass
            console.done()
            return attested.verdict
    except NodeRefused as refused:
        console.done()
        return refused.verdict

# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 2: a node is leased, and reached under its pinned host key."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.cloud.leased import EndBeside, LeasedNode
from mock_cloud.cloud.orphans import reap_local
from mock_cloud.cloud.pool import acquire
from mock_cloud.console import Console
from mock_cloud.errors import ConfigError, HostKeyMismatch, TransportError
from mock_cloud.invocation.model import ANY_HOST, PART
from mock_cloud.places import cache_dir, state_dir
from mock_cloud.progress.timeline import NodePrice
from mock_cloud.settings import Remote
from mock_cloud.steps.attest.attesting import Archive
from mock_cloud.steps.check.chosen_engine import find_toolkit
from mock_cloud.steps.context import Build, NodeUse

if TYPE_CHECKING:
    from mock_cloud.remote.unverified import UnverifiedNode

NODE_DEADLINE_S: Final = 300.0
_REBOOT_PAUSE_S: Final = 1.0


def begin_use(remote: Remote, arch: str, console: Console) -> NodeUse:
    """What a command of mock-cloud's own needs for a node of `remote` with this architecture.

    Raises what `make_ready` does.
    """
    use = NodeUse(remote=remote, arch=arch, console=console)
    make_ready(use)
    return use


def make_ready(use: NodeUse) -> None:
    """Have what is pushed to nodes of the remote; end local nodes that commands which died left.

    Raises what `find_toolkit` does.
    """
    use.archive = Archive(cache_dir(), state_dir())
    use.toolkit = find_toolkit(use.remote, use.arch, use.console)
    for reaped in reap_local(use.archive.state_dir):
        reaped.tell(use.console.info, use.console.warning)


def request_lease(build: Build) -> LeaseRequest:
    """What the command needs of a node."""
    work = build.planned
    is_part = os.environ.get(PART, ANY_HOST) != ANY_HOST
    return LeaseRequest(
        work.root,
        hosts=tuple(host.name for host in build.remote.hosts) if is_part else (),
        fresh=work.fresh,
        kept=build.shadow is not None and build.shadow.kept,
        # A chain cleans before each package, and needs no chroot for those that are built already.
        discards=work.line.discards_chroot or (work.line.mode == "chain" and work.clean),
        # It can work in a chroot that another one uses: it empties none.
        shares=build.lets_others_in and not (work.fresh or work.line.discards_chroot),
    )


@contextmanager
def leased_node(
    use: NodeUse,
    request: LeaseRequest,
    *,
    purpose: str = "",
    end_beside: EndBeside | None = None,
) -> Iterator[LeasedNode]:
    """A node of the remote; afterwards it is kept warm, or destroyed if the block raised.

    With a `purpose` other than builds it is none that builds have used, nor will use. With
    `end_beside` nobody waits until it is destroyed.
    """
    remote, console = use.remote, use.console
    request = replace(request, arch=use.arch, toolkit=f"{use.toolkit.digest}{purpose}")

    def acquire_one() -> LeasedNode:
        return acquire(
            remote,
            request,
            state_dir=use.archive.state_dir,
            deadline_s=_deadline_s(remote),
            on_phase=use.tell,
        )

    leased = acquire_one()
    while leased.adopted:
        # Its job may still run there, which no verdict allows, and half of its work is done.
        with leased:
            console.warning(
                f"remote {remote.name}: the node {leased.address} is ended with the chroots on it:"
                " the command that used it died"
            )
            leased.destroy()
        leased = acquire_one()
    use.leased = leased
    leased.end_beside = end_beside
    with leased:
        warm = "shared" if leased.beside else "warm" if leased.builds > 1 else "new"
        kind = f" ({leased.kind})" if leased.kind else ""
        console.info(f"remote {remote.name}: {warm} node {leased.address}{kind}")
        console.take_node(node_price(leased, remote))
        console.note(node=str(leased.address), lease=leased.lease_id, node_state=warm)
        try:
            yield leased
        except BaseException:
            if leased.chroots and not (leased.spared or leased.beside):
                console.done()
                console.warning(
                    f"remote {remote.name}: the node {leased.address} is ended, and with it"
                    f" what was in the chroots {', '.join(leased.chroots)}"
                )
            raise


def node_price(leased: LeasedNode, remote: Remote) -> NodePrice | None:
    """What the node costs; None if nobody knows."""
    price = leased.price_per_hour
    currency = "" if remote.budget is None else remote.budget.currency
    return None if price is None else NodePrice(price, currency)


def _deadline_s(remote: Remote) -> float:
    """Time enough for a node to become free, and for a new one that is replaced once."""
    return NODE_DEADLINE_S + (0.0 if remote.cloud is None else 2 * remote.cloud.boot_timeout_s)


@contextmanager
def reached(use: NodeUse) -> Iterator[UnverifiedNode]:
    """A connection to the node's sshd with the pinned key; the console's tail if that fails."""
    use.tell(f"connecting to {use.leased.address}")
    with _console_shown(use):
        node = connect_leased(use.leased, use.remote)
    with closing(node):
        yield node


@contextmanager
def rebooted(use: NodeUse) -> Iterator[UnverifiedNode]:
    """As `reached`, for a node that was told to reboot, with its toolkit pushed anew.

    That it has rebooted is its own word, and so is all else until the next verdict.
    """
    use.console.phase(f"remote {use.remote.name}: waiting until the node has rebooted")
    with _console_shown(use):
        node = _connect_rebooted(use)
    with closing(node):
        node.push_toolkit(use.toolkit)  # packages' scripts were root beside the one that is there
        yield node


def _connect_rebooted(use: NodeUse) -> UnverifiedNode:
    cloud = use.remote.cloud
    within_s = NODE_DEADLINE_S if cloud is None else cloud.boot_timeout_s
    deadline_s = time.monotonic() + within_s
    while (left_s := deadline_s - time.monotonic()) > 0:
        with ExitStack() as stack:
            node = connect_leased(use.leased, use.remote, left_s)
            stack.callback(node.close)
            with suppress(TransportError):  # it is on its way down
                node.start_agent(use.toolkit)
                if node.hello(secrets.token_hex(32)).boot_id != use.leased.verdict.boot_id:
                    stack.pop_all()
                    return node
        time.sleep(_REBOOT_PAUSE_S)
    raise TransportError(
        f"{use.leased.address}: the node has not rebooted within {within_s:g} s",
        hint="raise boot_timeout",
    )


@contextmanager
def _console_shown(use: NodeUse) -> Iterator[None]:
    """Shows the end of the node's console if it cannot be reached."""
    try:
        yield
    except TransportError:
        for line in use.leased.console_tail().splitlines()[-5:]:
            use.console.warning(f"node console: {line}")
        raise


def connect_leased(
    leased: LeasedNode, remote: Remote, within_s: float | None = None
) -> UnverifiedNode:
    """With the key that the node was being given, if any, else the one it had: both are ours.

    Within `within_s` seconds, by default the remote's `connect_timeout`.
    """
    from mock_cloud.remote.connect import connect  # who waits for a node has no use for SSH

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


def node_arch(remote: Remote, wanted: str) -> str:
    """The architecture `wanted` of the remote's, by default its first. ConfigError."""
    if wanted and wanted not in remote.arches:
        raise ConfigError(
            f"{remote.source}: it has no nodes of arch {wanted!r}",
            hint=f"there are: {', '.join(remote.arches)}",
        )
    return wanted or remote.arches[0]

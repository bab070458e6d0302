# SPDX-License-Identifier: GPL-2.0-or-later
"""Who builds: stable names of builders, what the ledger has of them, and what is noted there."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from mock_cloud.cloud.hosts.handle import host_name
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.console import Console
from mock_cloud.errors import CloudError, MockCloudError
from mock_cloud.ledger.entries import FLAGS, RESOLUTIONS, EventKind, LedgerEvent
from mock_cloud.ledger.store import Ledger
from mock_cloud.places import state_dir
from mock_cloud.settings import HostSettings, Remote

_REASON_MAX: Final = 500


def name_builder(remote: Remote, leased: LeasedNode) -> str:
    """The builder that a node is: a lent machine by its host key, or whose cloud it is.

    A cloud's nodes come and go, with keys of their own: what stays is the remote's account.
    """
    host = find_host(remote, leased)
    return f"{remote.provider}:{remote.name}" if host is None else name_host(host)


def find_host(remote: Remote, leased: LeasedNode) -> HostSettings | None:
    """What the remote's file says of the lent machine that the node is."""
    return next((one for one in remote.hosts if one.name == host_name(leased.handle)), None)


def name_host(host: HostSettings) -> str:
    """A lent machine's name: its host key's fingerprint; with a CA, its own name and the CA's."""
    if host.host_key is not None:
        return f"host:{host.host_key.fingerprint}"
    return f"host:{host.name}:{host.host_ca.fingerprint if host.host_ca else ''}"


def find_flagged(ledger: Ledger) -> dict[str, int]:
    """Builders with an open flag, and the number of the last one's entry."""
    flags = {}
    for entry in ledger.find((*FLAGS, *RESOLUTIONS)):
        if entry.event.kind in FLAGS:
            flags[entry.number] = entry.event.builder
        else:
            flags.pop(entry.event.flag, None)
    return {name: number for number, name in flags.items()}


def without_flagged(remote: Remote) -> Remote:
    """The remote without builders that have an open flag. CloudError if none is left then."""
    flagged = find_flagged(Ledger(state_dir()))
    if not flagged:
        return remote
    hosts = tuple(host for host in remote.hosts if name_host(host) not in flagged)
    mine = f"{remote.provider}:{remote.name}"
    if mine in flagged or (remote.hosts and not hosts):
        names = {name_host(host) for host in remote.hosts} | {mine}
        numbers = sorted(number for name, number in flagged.items() if name in names)
        raise CloudError(
            f"remote {remote.name}: flagged, and gets no work until a person has looked at it",
            hint=f"mock-cloud trust show {numbers[0]}, then mock-cloud trust resolve {numbers[0]}",
        )
    return replace(remote, hosts=hosts)


def note(console: Console, event: LedgerEvent) -> None:
    """An entry in the ledger; where it cannot be written, a warning."""
    try:
        Ledger(state_dir()).append(event)
    except MockCloudError as error:
        console.warning(f"not noted in the ledger: {error.message}")


def note_refused(console: Console, remote: Remote, leased: LeasedNode, reason: str) -> None:
    """The node was refused, and why, in short."""
    builder, now_unix = name_builder(remote, leased), int(time.time())
    note(console, LedgerEvent(EventKind.REFUSED, builder, now_unix, reason=reason[:_REASON_MAX]))

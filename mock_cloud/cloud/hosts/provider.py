# SPDX-License-Identifier: GPL-2.0-or-later
"""The `ssh` provider: machines that others lend, one build at a time on each.

Nothing is made, so a lease is a claim: a small file on the host itself, which every controller
respects. It ends when the lease is given back, or by its age; our data goes with it. The machine
itself is never restarted or switched off, and nothing of its owner's is touched.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from mock_cloud.cloud.hosts.client import (
    WIPE_TIMEOUT_S,
    Answer,
    Free,
    HostUnusable,
    Taken,
    Unfit,
    ask,
    find_host_key,
)
from mock_cloud.cloud.hosts.handle import Handle, HostPlace, parse_handle
from mock_cloud.cloud.hosts.route import Hop, find_route
from mock_cloud.cloud.hosts.scripts import CHECK, CLAIM, LOOK, RELEASE, ROOM_KIB
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.provider import (
    Bootstrap,
    CreatedNode,
    Finding,
    FoundNode,
    HostSilent,
    NodeOrder,
    NodesTaken,
    OnHandle,
    OnPhase,
    look,
)
from mock_cloud.errors import (
    CleanupError,
    CloudError,
    ConfigError,
    HostKeyMismatch,
    MockCloudError,
)
from mock_cloud.model import NodeAddress
from mock_cloud.settings import HostSettings
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import load_json
from mock_cloud.wire.files import replace_file

_NAME: Final = "ssh"
_ASKED_AT_ONCE: Final = 16
_FORGOTTEN_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class _Reached:
    """A host with the way to it found and the key to pin known."""

    place: HostPlace
    hops: tuple[Hop, ...] = ()


class HostsProvider:
    """Hosts of one remote. Without settings it knows those that the journal's leases name."""

    def __init__(self, state_dir: Path, hosts: Sequence[HostSettings]) -> None:
        self._state_dir = state_dir
        self._hosts = tuple(hosts)
        self._recent_failures = RecentFailures(state_dir)

    def examine(self) -> list[Finding]:
        """See `Provider.examine`."""
        return [look(f"host {host.name}", partial(examine_host, host)) for host in self._hosts]

    def quote(self, arch: str) -> float | None:
        """See `Provider.quote`: they are lent."""
        return 0.0

    def create(
        self,
        order: NodeOrder,
        bootstrap: Bootstrap,
        *,
        timeout_s: float,
        on_handle: OnHandle = lambda handle: None,
        on_phase: OnPhase = lambda phase: None,
    ) -> CreatedNode:
        """See `Provider.create`: claims the first host that is free and fit.

        HostKeyMismatch at once; NodesTaken if others hold all that could be used.
        """
        deadline = time.monotonic() + timeout_s
        taken: dict[str, Taken] = {}
        problems: list[str] = []
        doubtful: tuple[HostPlace, ...] = ()
        for host in self._candidates(order.arch):
            if time.monotonic() >= deadline:
                problems.append(f"{host.name}: no time was left to ask it")
                continue
            try:
                reached = _reach(host)
            except HostUnusable as error:
                self._pass_over(host, error, problems, on_phase)
                continue
            on_handle(str(Handle((*doubtful, reached.place), order.expires_unix)))
            try:
                answer = _claim(reached, order, host.arch)
            except HostUnusable as error:
                self._pass_over(host, error, problems, on_phase)
                doubtful = (*doubtful, reached.place) if error.claimed else doubtful
                continue
            except HostKeyMismatch:
                on_handle(str(Handle(doubtful, order.expires_unix)))  # it was told nothing
                raise
            if isinstance(answer, Taken) and answer.lease == order.lease_id:
                kind = f"{host.name}, lent by {host.owner}"
                on_phase(f"host {kind}")
                handle = str(Handle((*doubtful, reached.place), order.expires_unix))
                return CreatedNode(reached.place.address, handle, {}, price_per_hour=0.0, kind=kind)
            if isinstance(answer, Taken):
                taken[host.name] = answer
            else:
                why = answer.why if isinstance(answer, Unfit) else "it took no claim"
                problems.append(f"{host.name}: {why}")
        on_handle(str(Handle(doubtful, order.expires_unix)))
        raise _nothing_free(order, taken, problems)

    def _pass_over(
        self, host: HostSettings, error: HostUnusable, problems: list[str], on_phase: OnPhase
    ) -> None:
        problems.append(f"{host.name}: {error.message}")
        on_phase(f"host {host.name} cannot be used: {error.message}")
        self._recent_failures.note(host.name)

    def destroy(self, lease_id: str, handle: str) -> None:
        """See `Provider.destroy`: our processes and files go, the machine stays.

        A claim that is long over is not asked for any more where nobody answers.
        """
        known = parse_handle(handle)
        left = []
        for place in known.places if handle else self._find_claims(lease_id):
            try:
                answer = ask(place.address, RELEASE, lease_id, timeout_s=WIPE_TIMEOUT_S)
            except MockCloudError as error:
                left.append(f"{place.name}: {error.message}")
            else:
                if not isinstance(answer, Free):
                    left.append(f"{place.name}: {_shown(answer)}")
        if left and not (handle and time.time() > known.until_unix + _FORGOTTEN_S):
            raise CleanupError(
                f"the claim of lease {lease_id} may be left on a host: {'; '.join(left)}",
                hint="it ends by itself with the lease; mock-cloud release tries again",
            )

    def is_running(self, lease_id: str, handle: str) -> bool:
        """See `Provider.is_running`: the claim on the host is this lease's. HostSilent."""
        places = parse_handle(handle).places
        if not places:
            return False
        try:
            answer = ask(places[-1].address, LOOK)
        except HostUnusable as error:
            raise HostSilent(error.message, hint=error.hint) from error
        return isinstance(answer, Taken) and answer.lease == lease_id

    def list_nodes(self) -> Sequence[FoundNode]:
        """See `Provider.list_nodes`: the claims on hosts that can be reached."""
        known = {place.address: place for place in self._leased_places()}
        named = {place.name for place in known.values()}
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            unleased = (host for host in self._hosts if host.name not in named)
            reached = [place for place in pool.map(_find_place, unleased) if place is not None]
            places = [*known.values(), *reached]
            answers = pool.map(_look, places)
            return [
                _found(place, answer)
                for place, answer in zip(places, answers, strict=True)
                if isinstance(answer, Taken)
            ]

    def find_end(self, handle: str) -> str:
        """See `Provider.find_end`: nobody says."""
        return ""

    def console_tail(self, handle: str) -> str:
        """See `Provider.console_tail`: nobody shows us a lent machine's console."""
        return ""

    def _find_claims(self, lease_id: str) -> tuple[HostPlace, ...]:
        found = (node for node in self.list_nodes() if node.lease_id == lease_id)
        return tuple(place for node in found for place in parse_handle(node.handle).places)

    def _candidates(self, arch: str) -> list[HostSettings]:
        """Hosts of `arch`: those that failed recently last, then by capacity, then as written."""
        hosts = [host for host in self._hosts if host.arch == arch]
        if not hosts:
            raise ConfigError(f"the remote has no host of architecture {arch}")
        failed = self._recent_failures.failed()
        return sorted(hosts, key=lambda host: (failed.get(host.name, 0.0), -host.capacity))

    def _leased_places(self) -> Iterable[HostPlace]:
        for lease in Journal(self._state_dir).leases():
            if lease.provider == _NAME:
                yield from parse_handle(lease.handle).places


def examine_host(host: HostSettings) -> str:
    """Whether a lease could have this host, in a few words. CloudError, HostKeyMismatch if not."""
    reached = _reach(host)
    answer = ask(reached.place.address, CHECK, host.arch, str(ROOM_KIB), hops=reached.hops)
    if isinstance(answer, Unfit):
        raise CloudError(f"{reached.place.address}: {answer.why}", hint="ask its owner")
    state = f"used by {answer.owner}" if isinstance(answer, Taken) else "free"
    return f"{reached.place.address}, lent by {host.owner}: {state}"


def _reach(host: HostSettings) -> _Reached:
    route = find_route(host)
    key = find_host_key(host, route)
    address = NodeAddress(route.host, route.port, host.user, key, route.proxy, route.keys)
    return _Reached(HostPlace(host.name, address), route.hops)


def _claim(reached: _Reached, order: NodeOrder, arch: str) -> Answer:
    life_s = max(1, int(order.expires_unix - time.time()))
    words = (arch, str(ROOM_KIB), order.lease_id, order.owner, order.remote, str(life_s))
    return ask(reached.place.address, CLAIM, *words, hops=reached.hops, timeout_s=WIPE_TIMEOUT_S)


def _nothing_free(
    order: NodeOrder, taken: dict[str, Taken], problems: list[str]
) -> CloudError | NodesTaken:
    busy = [
        f"{name} is used by {who.owner} for up to {who.left_s} s" for name, who in taken.items()
    ]
    text = "; ".join([*busy, *problems])
    if taken:
        return NodesTaken(
            f"no host of remote {order.remote} is free: {text}",
            leases=tuple(who.lease for who in taken.values()),
            hint="try again later; a host does one build at a time",
        )
    return CloudError(
        f"no host of remote {order.remote} can be used: {text}",
        hint=f"mock-cloud doctor {order.remote} checks them",
    )


def _find_place(host: HostSettings) -> HostPlace | None:
    try:
        return _reach(host).place
    except MockCloudError:
        return None  # a host that cannot be reached runs nothing that could be ended


def _look(place: HostPlace) -> Answer | None:
    try:
        return ask(place.address, LOOK)
    except MockCloudError:
        return None


def _found(place: HostPlace, claim: Taken) -> FoundNode:
    until = time.time() + claim.left_s
    return FoundNode(
        claim.lease,
        claim.owner,
        str(Handle((place,), until)),
        running=True,
        remote=claim.remote,
        expires_unix=until,
    )


def _shown(answer: Answer) -> str:
    return answer.why if isinstance(answer, Unfit) else "its claim is still there"


_KEEP_S: Final = 600.0


class RecentFailures:
    """Names of hosts that failed in the last ten minutes, in a file of the state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "hosts-failed.json"

    def failed(self) -> dict[str, float]:
        """When each failed, in unix seconds."""
        try:
            raw = load_json(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        now = time.time()
        return {
            str(name): when
            for name, when in (raw.items() if isinstance(raw, dict) else ())
            if isinstance(when, float) and now - _KEEP_S < when <= now
        }

    def note(self, name: str) -> None:
        """This host failed now."""
        with contextlib.suppress(OSError):
            replace_file(self._path, json.dumps({**self.failed(), name: time.time()}).encode())

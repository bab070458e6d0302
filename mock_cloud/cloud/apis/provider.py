# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes from a cloud: what all APIs have in common, from the offers to the clean-up."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from mock_cloud.cloud.apis.adapter import (
    TAG_EXPIRES,
    TAG_LEASE,
    TAG_REMOTE,
    CloudApi,
    Instance,
    InstanceState,
    Launch,
    Offer,
)
from mock_cloud.cloud.apis.texts import (
    CloudIsOut,
    NoCapacity,
    OutcomeUnknown,
    QuotaReached,
    cloud_init_complaints,
    one_line,
    tail_of_console,
)
from mock_cloud.cloud.apis.userdata import files_of_user_data, make_user_data
from mock_cloud.cloud.apis.waiting import (
    LOOK_FOR_S,
    NodeSilent,
    wait_for_greeting,
    wait_for_made,
    wait_until_running,
)
from mock_cloud.cloud.apis.way import check_way, find_node_way
from mock_cloud.cloud.images import TAG_OWNER
from mock_cloud.cloud.owner import is_same_user
from mock_cloud.cloud.provider import (
    Bootstrap,
    CreatedNode,
    Finding,
    FoundNode,
    NodeOrder,
    OnHandle,
    OnPhase,
    look,
)
from mock_cloud.errors import CleanupError, CloudError, ConfigError, MockCloudError
from mock_cloud.model import SSH_PORT, NodeAddress
from mock_cloud.settings import CloudSettings, NodeSettings, Remote
from mock_cloud.wire.dataclass import dataclass

_TRIES: Final = 2
"""A node that boots and never answers is replaced once."""
_LOGIN: Final = "root"
_LIVING: Final = (InstanceState.PENDING, InstanceState.RUNNING)


@dataclass(frozen=True, slots=True)
class _Made:
    """An instance that exists by now, and what it was made from.

    `is_repeated`: it was asked for twice, and nobody knows what the first call made.
    """

    instance: Instance
    offer: Offer
    launch: Launch
    is_repeated: bool


class CloudProvider:
    """The provider of one remote whose nodes come from `api`. `owner` is who asks.

    `look_for_s` is how long it looks for an instance whose order was not answered.
    """

    def __init__(
        self,
        api: CloudApi,
        settings: CloudSettings,
        remote: Remote,
        *,
        owner: str,
        look_for_s: float = LOOK_FOR_S,
    ) -> None:
        self._owner = owner
        self._look_for_s = look_for_s
        self._api = api
        self._settings = settings
        self._remote = remote

    def examine(self) -> list[Finding]:
        """See `Provider.examine`; at the end what a node costs."""
        found: list[Finding] = []
        if self._settings.jump or self._settings.reach_command:
            found.append(look("way to nodes", self._check_way))
        for arch in self._remote.arches:
            found += self._api.examine(arch)
            if all(finding.ok for finding in found):
                found.append(look(f"price for {arch}", partial(self._cost, arch)))
        return found

    def quote(self, arch: str) -> float | None:
        """See `Provider.quote`: the dearest of all offers that may be taken."""
        prices = [self._price(arch, offer) for offer in self._api.offers(arch)]
        known = [price for price in prices if price is not None]
        return max(known) if known and len(known) == len(prices) else None

    def create(
        self,
        order: NodeOrder,
        bootstrap: Bootstrap,
        *,
        timeout_s: float,
        on_handle: OnHandle,
        on_phase: OnPhase,
    ) -> CreatedNode:
        """See `Provider.create`. A node that boots but never answers is replaced once."""
        check_way(self._settings, self._remote.source)
        deadline = time.monotonic() + timeout_s
        silent_nodes = 0
        lacking: dict[Offer, str] = {}
        with self._api.calls.telling(on_phase):
            for number in itertools.count():
                with self._undoing(order.lease_id):
                    made = self._launch(order, bootstrap, number, lacking, on_phase)
                    on_handle(made.instance.handle)
                try:
                    with self._undoing(order.lease_id, made.instance.handle):
                        address = self._wait(made, deadline, on_phase)
                        self._end_twins(made)
                except NodeSilent as silent:
                    silent_nodes += 1
                    if silent_nodes == _TRIES or time.monotonic() >= deadline:
                        raise
                    on_phase(f"{silent.message.splitlines()[0]}: taking another node")
                except NoCapacity as none:
                    # Some APIs accept the order first, and find no room for it afterwards.
                    lacking[made.offer] = none.message
                    on_phase(f"no {made.offer} to be had")
                else:
                    return self._created(order, bootstrap, made, address)
        raise AssertionError("it is tried until a node answers or no offer is left")

    def destroy(self, lease_id: str, handle: str) -> None:
        """See `Provider.destroy`. What is tagged with the lease goes too, not the handle alone.

        A lease's id is no secret: what bears it and another owner's name is not touched.
        """
        problems: dict[str, list[str]] = {}
        with self._noting(problems, handle):
            if handle:
                self._api.terminate(handle)
        # An order whose answer was lost, a duplicate, a node that was replaced and did not go.
        with self._noting(problems, f"the nodes of lease {lease_id}"):
            for instance in self._api.list_tagged(lease_id):
                if instance.handle != handle and self._is_ours(instance.tags):
                    self._api.terminate(instance.handle)
        with self._noting(problems, f"what else lease {lease_id} has"):
            for leftover in self._api.list_leftovers(lease_id):
                if self._is_ours(leftover.tags):
                    self._api.remove(leftover)
        if problems:
            raise CleanupError(
                f"remote {self._remote.name}: "
                + "; ".join(
                    f"{', '.join(left)} could not be removed: {cause}"
                    for cause, left in problems.items()
                ),
                hint="it is tagged and will be tried again; mock-cloud nodes lists it",
            )

    def is_running(self, lease_id: str, handle: str) -> bool:
        """See `Provider.is_running`."""
        instance = self._api.find(handle) if handle else None
        return instance is not None and instance.state in _LIVING

    def list_nodes(self) -> Sequence[FoundNode]:
        """See `Provider.list_nodes`. Leftovers have no handle: they go with their lease."""
        found = [
            _found(item.tags, item.handle, running=item.state in _LIVING)
            for item in self._api.list_tagged()
        ]
        known = {(node.lease_id, node.owner) for node in found}
        for leftover in self._api.list_leftovers():
            whose = (leftover.tags[TAG_LEASE], leftover.tags[TAG_OWNER])
            if whose not in known:
                known.add(whose)
                found.append(_found(leftover.tags, "", running=False))
        return found

    def find_end(self, handle: str) -> str:
        """See `Provider.find_end`."""
        try:
            instance = self._api.find(handle)
        except MockCloudError:
            return ""
        if instance is None or instance.state in _LIVING:
            return ""
        return one_line(instance.reason)

    def console_tail(self, handle: str) -> str:
        """See `Provider.console_tail`."""
        try:
            with self._api.calls.aside():
                return tail_of_console(self._api.console(handle))
        except MockCloudError:  # it is for the message of another failure, which must not be lost
            return ""

    def _launch(
        self,
        order: NodeOrder,
        bootstrap: Bootstrap,
        number: int,
        lacking: dict[Offer, str],
        on_phase: OnPhase,
    ) -> _Made:
        """Ask for one offer after the other; each has a token of its own in this lease.

        `lacking` holds those that were not to be had, and why: they are not asked for again.
        """
        now_unix = time.time()
        user_data = make_user_data(bootstrap, expires_unix=order.expires_unix, now_unix=now_unix)
        tags = {
            TAG_LEASE: order.lease_id,
            TAG_OWNER: order.owner,
            TAG_REMOTE: order.remote,
            TAG_EXPIRES: str(int(order.expires_unix)),
        }
        quota: QuotaReached | None = None
        for index, offer in enumerate(self._api.offers(order.arch)):
            if offer in lacking:
                continue
            name = bootstrap.hostname if number == 0 else f"{bootstrap.hostname}-{number}"
            token = f"{order.lease_id}-{number}-{index}"
            on_phase(f"asking {self._api.calls.service} for {offer}")
            try:
                return self._launch_one(Launch(name, token, user_data, tags), offer, on_phase)
            except NoCapacity as none:
                lacking[offer] = none.message
                on_phase(f"no {offer} to be had")
            except QuotaReached as reached:
                if not reached.is_of_size:
                    raise
                quota = reached
                lacking[offer] = reached.message
                on_phase(f"no {offer} within the quota")
        text = f"{self._api.calls.service} has no {order.arch} node now: " + "; ".join(
            f"{offer}: {reason}" for offer, reason in lacking.items()
        )
        if quota is not None:
            raise QuotaReached(text, hint=quota.hint, is_of_size=True)
        raise NoCapacity(
            text, hint=f"add zones or sizes to {self._remote.source}, or try again later"
        )

    def _launch_one(self, launch: Launch, offer: Offer, on_phase: OnPhase) -> _Made:
        try:
            return _Made(self._api.launch(launch, offer), offer, launch, is_repeated=False)
        except OutcomeUnknown as unknown:
            try:
                if not self._api.has_tokens:
                    late = wait_for_made(self._api, launch, self._look_for_s, on_phase)
                    if late is not None:
                        return _Made(late, offer, launch, is_repeated=False)
                # Whatever the first call did: the token makes this one find it.
                again = self._api.launch(launch, offer)
                return _Made(again, offer, launch, is_repeated=not self._api.has_tokens)
            except (ConfigError, CloudIsOut) as error:  # which say that nothing was done
                raise unknown from error

    def _end_twins(self, made: _Made) -> None:
        """Of an order that was repeated: end what the first call made after all.

        What it makes later still goes with the lease, by its tags.
        """
        if made.is_repeated:
            with suppress(MockCloudError):
                for twin in self._api.find_made(made.launch):
                    if twin.handle != made.instance.handle:
                        self._api.terminate(twin.handle)

    def _wait(self, made: _Made, deadline: float, on_phase: OnPhase) -> str:
        """The address at which the node's sshd answers."""
        handle = made.instance.handle
        deadline = min(deadline, time.monotonic() + self._settings.boot_timeout_s)
        _, address = wait_until_running(
            self._api, handle, self._settings.reach, deadline=deadline, on_phase=on_phase
        )
        on_phase(f"{handle} boots at {address}")
        try:
            way = find_node_way(self._settings, address, handle)
            wait_for_greeting(self._api, handle, address, way, deadline=deadline)
        except NodeSilent as silent:
            raise self._with_console(silent, handle) from silent
        return address

    def _with_console(self, silent: NodeSilent, handle: str) -> NodeSilent:
        """The same failure with what the node and the API have to say about it."""
        try:
            with self._api.calls.aside():
                text = self._api.console(handle)
        except MockCloudError:
            text = ""
        lines = cloud_init_complaints(text) or tail_of_console(text, lines=5).splitlines()
        shown = "".join(f"\n  console: {line}" for line in lines)
        if self._settings.jump or self._settings.reach_command:
            hint = "does jump or reach_command lead to port 22 there, and has the image cloud-init?"
        else:
            hint = self._api.explain_silence(handle) or (
                "does its security group admit this machine to port 22, and has the image"
                " cloud-init?"
            )
        return NodeSilent(f"{silent.message}{shown}", hint=hint)

    def _created(
        self, order: NodeOrder, bootstrap: Bootstrap, made: _Made, address: str
    ) -> CreatedNode:
        way = find_node_way(self._settings, address, made.instance.handle)
        return CreatedNode(
            NodeAddress(address, SSH_PORT, _LOGIN, bootstrap.host_key.public, way),
            made.instance.handle,
            files_of_user_data(bootstrap),
            has_bootstrap_key=True,
            price_per_hour=self._price(order.arch, made.offer),
            kind=str(made.offer),
        )

    def _price(self, arch: str, offer: Offer) -> float | None:
        written = self._node(arch).price_per_hour
        return written if written is not None else self._api.price(offer)

    def _cost(self, arch: str) -> str:
        price, budget = self.quote(arch), self._remote.budget
        if price is None:
            if budget is not None:
                raise ConfigError(
                    f"nobody tells what a node of {arch} costs, and there is a budget",
                    hint=f"write price_per_hour into [node.{arch}] of {self._remote.source}",
                )
            return "the API does not tell"
        currency = "USD" if budget is None else budget.currency
        return f"at most {price:.4g} {currency} an hour for a node"

    def _check_way(self) -> str:
        check_way(self._settings, self._remote.source)
        jump = self._settings.jump
        return f"through {jump}" if jump else f"by {self._settings.reach_command[0]}"

    def _node(self, arch: str) -> NodeSettings:
        return self._remote.nodes[arch]

    def _is_ours(self, tags: Mapping[str, str]) -> bool:
        """Whether it was made with this state directory, or one of this person's that was lost."""
        owner = tags[TAG_OWNER]
        return owner == self._owner or is_same_user(self._owner, owner)

    @contextmanager
    def _undoing(self, lease_id: str, handle: str = "") -> Iterator[None]:
        """Whatever leaves the block, Ctrl-C too: what was made for the lease is terminated.

        Where the API refused the first call, or was never reached, nothing was made.
        """
        try:
            yield
        except BaseException as error:
            if not handle and isinstance(error, (ConfigError, CloudIsOut)):
                raise
            try:
                self.destroy(lease_id, handle)
            except CleanupError as left:
                if isinstance(error, CloudError):
                    error.message = f"{error.message}; and {left.message}"
            raise

    @contextmanager
    def _noting(self, problems: dict[str, list[str]], what: str) -> Iterator[None]:
        """One step of a clean-up: its failure is noted by cause, and the next step made as well."""
        try:
            yield
        except MockCloudError as error:
            cause = next((one for one in problems if one in error.message), error.message)
            problems.setdefault(cause, []).append(what)


def _found(tags: Mapping[str, str], handle: str, *, running: bool) -> FoundNode:
    try:
        expires_unix = float(tags.get(TAG_EXPIRES, ""))
    except ValueError:
        expires_unix = None
    return FoundNode(
        tags[TAG_LEASE],
        tags.get(TAG_OWNER, ""),
        handle,
        running,
        tags.get(TAG_REMOTE, ""),
        expires_unix,
    )

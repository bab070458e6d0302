# SPDX-License-Identifier: GPL-2.0-or-later
"""A provider whose nodes are entries of a dictionary, and a record of what it was asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mock_cloud.cloud.lease import Lease, LeaseState
from mock_cloud.cloud.provider import Bootstrap, CreatedNode, FoundNode, NodeOrder
from mock_cloud.errors import CleanupError, CloudError
from mock_cloud.model import NodeAddress


@dataclass
class CloudInMemory:
    """`nodes` by lease. `hidden` ones exist, but a listing does not show them yet.

    `on_list` happens while a listing is made, `is_out` makes every call fail.
    """

    nodes: dict[str, FoundNode] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)
    on_list: Callable[[], None] = lambda: None
    is_out: bool = False
    price: float | None = 1.0

    def add(
        self,
        lease_id: str,
        owner: str,
        *,
        running: bool = True,
        remote: str = "ec2",
        expires_unix: float | None = 9e9,
    ) -> None:
        self.nodes[lease_id] = FoundNode(
            lease_id, owner, f"i-{lease_id}", running, remote, expires_unix
        )

    def quote(self, arch: str) -> float | None:
        self.calls.append(("quote", arch))
        return self.price

    def create(self, order: NodeOrder, bootstrap: Bootstrap, **_: object) -> CreatedNode:
        self.calls.append(("create", order.lease_id))
        self.add(order.lease_id, order.owner, expires_unix=order.expires_unix)
        address = NodeAddress("192.0.2.1", 22, "root", bootstrap.host_key.public)
        return CreatedNode(address, f"i-{order.lease_id}", {}, price_per_hour=self.price)

    def destroy(self, lease_id: str, handle: str) -> None:
        self.calls.append(("destroy", lease_id))
        if self.is_out:
            raise CleanupError("the API is out")
        self.nodes.pop(lease_id, None)

    def is_running(self, lease_id: str, handle: str) -> bool:
        self.calls.append(("is_running", lease_id))
        if self.is_out:
            raise CloudError("the API is out")
        return lease_id in self.nodes and self.nodes[lease_id].running

    def list_nodes(self) -> Sequence[FoundNode]:
        self.calls.append(("list_nodes", ""))
        if self.is_out:
            raise CloudError("the API is out")
        found = [node for name, node in self.nodes.items() if name not in self.hidden]
        self.on_list()
        return found

    def find_end(self, handle: str) -> str:
        return ""

    def console_tail(self, handle: str) -> str:
        return ""

    def destroyed(self) -> list[str]:
        return [lease_id for verb, lease_id in self.calls if verb == "destroy"]


def lease_of(owner: str, lease_id: str, **changes: object) -> Lease:
    """An idle lease of the remote "ec2", made now, with an hour to live."""
    now = time.time()
    lease = Lease(
        id=lease_id,
        remote="ec2",
        owner=owner,
        provider="ec2",
        settings="0" * 64,
        state=LeaseState.READY,
        created_unix=now,
        expires_unix=now + 3600.0,
        idle_ttl_s=600.0,
        idle_since_unix=now,
        handle=f"i-{lease_id}",
    )
    return replace(lease, **changes)  # type: ignore[arg-type]

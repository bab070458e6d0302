# SPDX-License-Identifier: GPL-2.0-or-later
"""What an adapter is: one cloud API, reduced to what a lease needs.

`provider.CloudProvider` holds what all clouds have in common: trying offers in order, waiting,
user-data, clean-up. An adapter translates calls, states and failures, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import Enum
from typing import Protocol

from mock_cloud.cloud.apis.calls import Calls
from mock_cloud.cloud.provider import Finding
from mock_cloud.model import Secret
from mock_cloud.settings import Reach
from mock_cloud.wire.dataclass import dataclass

TAG_LEASE = "mock-cloud-lease"
TAG_REMOTE = "mock-cloud-remote"
TAG_EXPIRES = "mock-cloud-expires"
"""Tags of everything that is made: id, owner and remote as they are, expiry in unix seconds."""


class InstanceState(Enum):
    """Where an instance is in its life, whatever the API calls it."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPED = "stopped"
    """Powered off, and still paid for on some clouds."""
    FAILED = "failed"
    """It will not run any more, and still exists."""
    ENDED = "ended"
    """Gone, though the API may list it for a while."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as the API tells of it. `reason` is the API's own word on its state.

    `tags` are those of mock-cloud that it has. `addresses` are the ones it has so far, never names.
    `lacks_capacity` says that it failed because the cloud had no room for it: another offer may do.
    """

    handle: str
    state: InstanceState
    tags: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[Reach, str] = field(default_factory=dict)
    reason: str = ""
    created_unix: float = 0.0
    lacks_capacity: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to get a node: what is tried, best first. Empty strings: the API's own choice."""

    image: str
    size: str
    zone: str = ""
    subnet: str = ""
    spot: bool = False

    def __str__(self) -> str:
        words = [self.size, self.image, self.zone, "spot" if self.spot else ""]
        return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True)
class Launch:
    """What an instance is to be, whichever offer it comes from.

    `token` makes the call repeatable: the API makes at most one instance of a token, where it
    knows tokens; elsewhere the adapter looks for `name`, which is as unique and has the lease's id
    in it, before it calls again.
    `user_data` holds the bootstrap host key: a secret until that is replaced.
    """

    name: str
    token: str
    user_data: Secret
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that was made with an instance and can outlive it; `kind` as the API names it."""

    kind: str
    handle: str
    tags: Mapping[str, str]


class CloudApi(Protocol):
    """One API of one remote. Each call has a deadline of its own and retries what may be retried.

    All raise CloudError or one of `failures`, ConfigError for what the user must mend. `calls` is
    how it calls: what waits for it says there who is to be told why.
    """

    @property
    def calls(self) -> Calls: ...

    @property
    def has_tokens(self) -> bool:
        """Whether the API itself makes at most one instance of a token."""

    def offers(self, arch: str) -> Sequence[Offer]:
        """All ways to get a node of `arch` that the remote's file allows, best first."""

    def price(self, offer: Offer) -> float | None:
        """What it costs per hour at most, if the API or libcloud's tables tell."""

    def examine(self, arch: str) -> Sequence[Finding]:
        """Whether the API has all that the remote's file names for `arch`; makes nothing.

        Credentials, images, sizes, places, groups, quota, as far as it can be asked.
        """

    def launch(self, launch: Launch, offer: Offer) -> Instance:
        """Make the instance, or adopt the one that an earlier call of this token made.

        Of several with one token the oldest is kept. After any failure that leaves the outcome
        open the caller looks with `find_made`, calls again with the same token or terminates by
        tag.
        """

    def find_made(self, launch: Launch) -> Sequence[Instance]:
        """Those instances of this launch that may be used, the oldest first.

        One that is being made need not show yet, where the API has no tokens.
        """

    def complete(self, instance: Instance) -> bool:
        """Give an instance what its API attaches only once it exists, such as an address.

        Asked while it lacks the address that is wanted, again and again. Idempotent. Whether there
        is anything of that kind that it may yet get.
        """

    def find(self, handle: str) -> Instance | None:
        """The instance now; None if the API does not know it (any more, or yet)."""

    def list_tagged(self, lease_id: str = "") -> Sequence[Instance]:
        """All instances with our tags, of all owners, that have not ended.

        With `lease_id` those of this lease only: giving a node back should not list an account.
        """

    def list_leftovers(self, lease_id: str = "") -> Sequence[Leftover]:
        """Volumes, addresses, keys, groups with our tags that no instance has any more.

        With `lease_id` those of this lease only. What goes by itself with an ending instance is
        none.
        """

    def terminate(self, handle: str) -> None:
        """End an instance. Idempotent; returns when the API has accepted it."""

    def remove(self, leftover: Leftover) -> None:
        """Remove one leftover. Idempotent."""

    def console(self, handle: str) -> str:
        """The console's text so far; empty if the API has none."""

    def explain_silence(self, handle: str) -> str:
        """Why this machine may not reach the node's sshd, as far as the API tells; else empty.

        Asked once, when a running node never answered. For a hint: never raises CloudError.
        """

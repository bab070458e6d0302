# SPDX-License-Identifier: GPL-2.0-or-later
"""What a provider is: code that turns an order into a node, and lists and ends its nodes.

A provider keeps no state of its own that a sweep would need: whatever it makes carries the
lease's id and owner, so that `list_nodes` finds it again after any crash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from enum import Enum
from typing import Protocol

from mock_cloud.errors import CloudError, MockCloudError
from mock_cloud.model import HostKey, KeyPair, NodeAddress
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import HOST_KEY_FILE


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `mend` says how to mend it; with `ok`, what will be to mend soon."""

    what: str
    ok: bool
    found: str
    mend: str = ""


def look(what: str, ask: Callable[[], str]) -> Finding:
    """What `ask` says of `what`; its failure, if it is a MockCloudError, with the hint."""
    try:
        return Finding(what, True, ask())
    except MockCloudError as error:
        return Finding(what, False, error.message, error.hint or "")


@dataclass(frozen=True, slots=True)
class CloudItem:
    """One thing that a cloud has: the `value` for a remote's file, and what it is."""

    value: str
    text: str


class Choices(Protocol):
    """What a cloud has of what a remote's file names, by the file's keys."""

    def find(self, key: str, arch: str, like: str = "") -> Sequence[CloudItem]:
        """Best first; none for a key that the API does not list. CloudError, ConfigError.

        `like` is a part of a name, for keys of which there are too many to show.
        """

    def is_search(self, key: str, word: str) -> bool:
        """Whether `word` can be no value of `key`, but a part of names to look for."""


"""Where sshd reads its key; the public half beside it has ``.pub`` at its end."""


class InjectedType(Enum):
    """Kind of an injected file, in the letters that evidence uses."""

    FILE = "f"
    DIRECTORY = "d"
    LINK = "l"
    CHARACTER = "c"


@dataclass(frozen=True, slots=True)
class InjectedFile:
    """One file that the provider itself put on a node.

    `mode` is the permission bits (0o7777). `content` is a file's bytes, a link's target or
    a device's ``MAJOR:MINOR``; empty for a directory. A file whose content is not kept has
    `sha256` (hex) and `size_bytes` in its place.
    """

    type: InjectedType
    mode: int
    uid: int = 0
    gid: int = 0
    content: bytes = field(default=b"", repr=False)
    sha256: str = ""
    size_bytes: int = 0

    def without_content(self) -> InjectedFile:
        """A file by its digest: what the journal keeps, since some hold a secret."""
        if self.type is not InjectedType.FILE or self.sha256:
            return self
        digest = hashlib.sha256(self.content).hexdigest()
        return replace(self, content=b"", sha256=digest, size_bytes=len(self.content))


def host_key_files(pair: KeyPair) -> dict[str, InjectedFile]:
    """The files that make `pair` a node's host key, complete."""
    public = f"{pair.public}\n".encode()
    return {
        HOST_KEY_FILE: InjectedFile(InjectedType.FILE, 0o600, content=pair.private.reveal()),
        f"{HOST_KEY_FILE}.pub": InjectedFile(InjectedType.FILE, 0o644, content=public),
    }


@dataclass(frozen=True, slots=True)
class ExpectedMount:
    """One mount that a node has from its birth: its point and file system type."""

    point: str
    type: str


@dataclass(frozen=True, slots=True)
class NodeOrder:
    """Which node is wanted, and for whom: what a provider tags the node with.

    `lease_id` is unique and was journalled before, so it serves as idempotency token too.
    `owner` is the journal's: a user of a machine with one state directory. `arch` is one of
    the remote's. `expires_unix` is when the node must be gone.
    """

    lease_id: str
    remote: str
    owner: str
    arch: str
    expires_unix: float


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What a node must have before anyone can connect: keys and a name."""

    host_key: KeyPair
    client_key: HostKey
    hostname: str


@dataclass(frozen=True, slots=True)
class CreatedNode:
    """A node whose sshd answers.

    `handle` is the provider's own name for it, opaque to everyone else. `injected` maps a path
    to what the provider put there, complete. `mounts` are the node's mounts, in mount order; none
    where only the image's manifest knows them. `has_bootstrap_key` says that the host key went
    through somebody else's hands (an API, a metadata service) and is to be replaced.
    `price_per_hour` is in the budget's currency, None if nobody knows. `kind` says in a few words
    what it is, for listings: size, zone, image, spot or not.
    """

    address: NodeAddress
    handle: str
    injected: Mapping[str, InjectedFile]
    mounts: tuple[ExpectedMount, ...] = ()
    has_bootstrap_key: bool = False
    price_per_hour: float | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class FoundNode:
    """A node that exists according to the provider, whatever the journal says.

    `expires_unix` is what it was tagged with, None where the provider keeps no tags.
    """

    lease_id: str
    owner: str
    handle: str
    running: bool
    remote: str = ""
    expires_unix: float | None = None


OnHandle = Callable[[str], None]
"""Told a node's handle as soon as the provider knows it, long before the node can be used."""

OnPhase = Callable[[str], None]
"""Told what happens, in a few words for the user."""


class NodesTaken(CloudError):
    """There are no more nodes than there are, and others work on all of them.

    `leases` are the ids of leases that hold them, of any owner; our own may be ended instead.
    """

    def __init__(self, message: str, *, leases: tuple[str, ...], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.leases = leases


class HostSilent(CloudError):
    """Only the node itself can say whether it runs, and it does not answer: its line may be cut."""


class Provider(Protocol):
    """How the pool talks to one kind of nodes."""

    def examine(self) -> Sequence[Finding]:
        """What a node needs and whether it is there: for `mock-cloud doctor`. Makes nothing.

        May ask the API, within a minute. Raises nothing that a user could mend.
        """

    def quote(self, arch: str) -> float | None:
        """The most that a node of `arch` may cost per hour; None if nobody knows.

        In the budget's currency; 0 for what costs nothing. Asks the API only if it must.
        CloudError, ConfigError.
        """

    def create(
        self,
        order: NodeOrder,
        bootstrap: Bootstrap,
        *,
        timeout_s: float,
        on_handle: OnHandle,
        on_phase: OnPhase,
    ) -> CreatedNode:
        """Make the node and wait until its sshd answers.

        Whatever was made before a failure is removed or found by `list_nodes`. CloudError,
        ConfigError. CloudIsOut and ConfigError before `on_handle`: nothing was made.
        """

    def destroy(self, lease_id: str, handle: str) -> None:
        """End the node of this lease and all it owns. Idempotent.

        `handle` is empty when the order's outcome was never recorded. CleanupError names what
        is left.
        """

    def is_running(self, lease_id: str, handle: str) -> bool:
        """Whether the node of this lease still runs, by the cheapest question.

        CloudError where that is not known; of that HostSilent.
        """

    def list_nodes(self) -> Sequence[FoundNode]:
        """All nodes of this provider, of all owners, running or half removed. CloudError.

        With them whatever else was made for a lease and outlived its node, as not running.
        """

    def find_end(self, handle: str) -> str:
        """Why the node ended, in its cloud's own words; empty if it runs or nobody says why.

        It is for the message of another failure: raises nothing.
        """

    def console_tail(self, handle: str) -> str:
        """The end of the node's console, for a message; empty if there is none."""

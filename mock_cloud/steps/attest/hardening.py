# SPDX-License-Identifier: GPL-2.0-or-later
"""What a trusted node is told before it works: when to end, what to close, a key of our own.

A local node needs none of it: it has a supervisor on this machine, its key never left it, and its
network is this machine's own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.console import Console
from mock_cloud.errors import CloudError, HostKeyMismatch, MockCloudError
from mock_cloud.model import HostKey
from mock_cloud.remote.connect import connect
from mock_cloud.remote.hardening_requests import (
    Request,
    arm_timer,
    close_metadata,
    replace_host_key,
)
from mock_cloud.remote.trusted import TrustedChannel
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.wire.dataclass import dataclass

_OF_THIS_MACHINE: Final = ("local",)
_LENT: Final = ("ssh",)

_GRACE_LEAST_S: Final = 120
_GRACE_SLACK_S: Final = 60
"""The node waits longer than the journal: a warm node must not end while it is taken again."""

_PROOF_S: Final = 15.0
_ATTEMPT_S: Final = 5.0
_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Hardening:
    """What is done to a node. `power_off`: we made it, else what we put there is wiped.

    `close_metadata` changes the node's own routing, so it is for nodes that mock-cloud made only.
    `replace_host_key` at once; `renew_host_key` after foreign code ran (docs/decisions/0057).
    `grace_s` is how long its jobs wait for a controller that is not heard of.
    """

    power_off: bool
    close_metadata: bool
    replace_host_key: bool
    renew_host_key: bool
    grace_s: float = 0.0


def is_owned(provider: str) -> bool:
    """Whether nodes of `provider` are the controller's alone: no machines that somebody lends."""
    return provider not in _LENT


def plan_hardening(provider: str, leased: LeasedNode, grace_s: float = 0.0) -> Hardening | None:
    """What a node of `provider` needs; None if nothing. `grace_s`: see `Hardening`."""
    if provider in _OF_THIS_MACHINE:
        return None
    is_ours = is_owned(provider)
    return Hardening(
        power_off=is_ours,
        close_metadata=is_ours,
        replace_host_key=is_ours and leased.has_bootstrap_key,
        renew_host_key=is_ours,
        grace_s=grace_s,
    )


@contextmanager
def hardened(
    channel: TrustedChannel, leased: LeasedNode, hardening: Hardening | None, console: Console
) -> Iterator[HostKeys]:
    """Tell the node all of it in one round trip; then see, beside the block, that its key changed.

    The channel goes on under the key that its verdict is bound to. A node whose key could not
    be replaced serves this once, and is destroyed at the block's end. MockCloudError if the node
    cannot be made to end by itself, or to keep its metadata to itself: nothing is sent to it then.
    """
    keys = HostKeys(
        channel, leased, console, renewable=hardening is not None and hardening.renew_host_key
    )
    if hardening is None:
        yield keys
        return
    requests = [timer(leased, hardening)]
    if hardening.close_metadata:
        requests.append(close_metadata())
    if hardening.replace_host_key:
        pair = make_key_pair()
        leased.record_next_host_key(pair)
        requests.append(replace_host_key(pair))
    refused = channel.harden(*requests)
    if hardening.replace_host_key:
        keys.expect(pair.public, refused[0] if refused else None)
    try:
        yield keys
    except BaseException:
        keys.stop()  # both keys stay in the journal, should the node outlive this
        raise
    keys.settle()


class HostKeys:
    """The keys that a node is given in one command. One is proven before the next is made."""

    def __init__(
        self,
        channel: TrustedChannel | None,
        leased: LeasedNode,
        console: Console,
        *,
        renewable: bool,
    ) -> None:
        self._channel = channel
        self._leased = leased
        self._console = console
        self._renewable = renewable
        self._proof: _Proof | None = None

    def expect(self, key: HostKey, failure: MockCloudError | None) -> None:
        """The node was told to take `key`, and may have refused."""
        self._proof = _Proof(self._leased, key, failure)
        self._proof.start()

    def settle(self) -> bool:
        """Whether the node has the key that it was told to take. Else it is destroyed."""
        proof, self._proof = self._proof, None
        failure = proof.settle() if proof is not None else None
        if failure is None:
            return True
        self._console.warning(
            f"{self._leased.address}: the host key could not be replaced, so the node is not used"
            f" again: {failure.message}"
        )
        self._renewable = False
        self._leased.destroy()
        return False

    def go_on_with(self, channel: TrustedChannel) -> None:
        """The node is reached over another connection from now on."""
        self._channel = channel

    def stop(self) -> None:
        """End what is still being done."""
        if self._proof is not None:
            self._proof.stop()

    def renew(self) -> None:
        """Give the node a key that was not there while foreign code ran, where its key is ours.

        A node that is not seen to have it is destroyed: nobody is believed under the old one.
        """
        if self._channel is None or not self._renewable or not self.settle():
            return
        pair = make_key_pair()
        self._leased.record_next_host_key(pair)
        try:
            refused = self._channel.harden(replace_host_key(pair))
        except MockCloudError as error:
            refused = [error]
        self.expect(pair.public, refused[0] if refused else None)
        self.settle()


def timer(leased: LeasedNode, hardening: Hardening, *, idle: bool = False) -> Request:
    """When the node ends by itself. `idle`: no job of it waits for a controller any more."""
    life_s = int(leased.expires_unix - time.time())
    if life_s <= 0:
        raise CloudError(
            f"lease {leased.lease_id} expired before its node was ready",
            hint="run the command again; raise [lease] max_ttl if nodes take so long",
        )
    least_s = 0.0 if idle else hardening.grace_s
    grace_s = max(_GRACE_LEAST_S, int(max(leased.idle_ttl_s, least_s)) + _GRACE_SLACK_S)
    return arm_timer(leased.lease_id, life_s, grace_s, power_off=hardening.power_off)


class _Proof:
    """Connects with the new key and no other, in a thread of its own."""

    def __init__(self, leased: LeasedNode, key: HostKey, failure: MockCloudError | None) -> None:
        self._leased = leased
        self._address = replace(leased.address, host_key=key)
        self._failure = failure
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="host-key", daemon=True)

    def start(self) -> None:
        if self._failure is None:
            self._failure = CloudError("nobody has seen the new key yet")
            self._thread.start()

    def settle(self) -> MockCloudError | None:
        """Why the node is not known to have the new key; None if it has, and the lease says so."""
        if self._thread.ident is not None:
            self._thread.join()  # bounded by its own deadline
        return self._failure

    def stop(self) -> None:
        """End the thread, whatever it has seen, after one attempt at most."""
        self._done.set()
        self.settle()

    def _run(self) -> None:
        deadline = time.monotonic() + _PROOF_S
        while not self._done.is_set():
            try:
                connect(self._address, self._leased.client_key, deadline_s=_ATTEMPT_S).close()
                self._leased.adopt_next_host_key()
            except HostKeyMismatch as error:  # sshd has not started anew yet
                self._failure = error
            except MockCloudError as error:
                self._failure = error
            else:
                self._failure = None
                return
            if time.monotonic() > deadline:
                return
            self._done.wait(_PAUSE_S)

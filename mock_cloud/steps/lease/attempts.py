# SPDX-License-Identifier: GPL-2.0-or-later
"""Which failures are tried again: on another node, or at another remote when one has none to give.

Only the infrastructure's failures are tried again. A build that fails by itself is not, nor is
anything after a refused verdict or a wrong host key, and an interrupt is obeyed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.console import Console
from mock_cloud.errors import (
    EXIT_INFRASTRUCTURE,
    CloudError,
    ConfigError,
    JournalError,
    MockCloudError,
    UnsupportedByEngine,
)
from mock_cloud.settings import Ec2Settings, Market, Remote


class Attempts:
    """The remotes and nodes that one invocation is tried on: `remote` is the one to try now.

    `number` counts the nodes. `is_repeatable`: the job makes its chroot anew, so that another node
    will do as well. `load` reads a remote's file by its name.
    """

    def __init__(
        self, first: Remote, load: Callable[[str], Remote], console: Console, *, is_repeatable: bool
    ) -> None:
        self.number = 1
        self.remote = first
        self._console = console
        self._is_repeatable = is_repeatable
        self._fallbacks = _fallbacks(first, load, console)
        self._without_node: MockCloudError | None = None

    def go_on_after(
        self, error: MockCloudError, leased: LeasedNode | None, *, has_begun: bool
    ) -> str:
        """Choose what is tried next, after this failure on the node `leased`, if there was one.

        `has_begun`: the job may have. What the logs are to say comes back, empty for nothing.

        1. A remote that has no node to give: its fallback remotes take its place, in order.
        2. A node that failed: another one, as often as the remote's `retries` says, and on demand
           if the remote's market is spot-first.
        3. Anything else, and whatever comes when neither is left, is raised as it is.
        """
        remote = self.remote
        if leased is None:
            self._without_node = without_node = self._find_cause(error)
            self._console.done()
            other = next(self._fallbacks, None)
            if other is None:
                raise without_node from without_node.__cause__
            self._console.warning(f"remote {remote.name}: {error.message}")
            self._console.warning(f"remote {other.name} is tried in place of {remote.name}")
            self.remote = other
            return ""
        left = remote.build.retries - self.number
        if left < 0 or not self._may_repeat(error, leased, has_begun=has_begun):
            raise error
        self._console.done()
        self._console.warning(error.message)
        self._console.warning(
            f"remote {remote.name}: {_fate(leased)}"
            f"another one is tried{'' if left else ', the last'}"
        )
        note = f"mock-cloud: attempt {self.number} ended: {error.message}; on another node:"
        self.number += 1
        self.remote = _steadier(remote)
        return note

    def _find_cause(self, error: MockCloudError) -> MockCloudError:
        """What to raise if no remote has a node: the first one's. Raises what no ladder helps."""
        earlier = self._without_node
        if isinstance(error, CloudError) and not isinstance(error, JournalError):
            return earlier or error
        # A fallback that is not fit for this build is one that has no node for it.
        if earlier is not None and isinstance(error, (ConfigError, UnsupportedByEngine)):
            return earlier
        raise error

    def _may_repeat(self, error: MockCloudError, leased: LeasedNode, *, has_begun: bool) -> bool:
        """Whether the failure was the infrastructure's, and nothing that lived there is lost."""
        if not error.retryable or error.exit_code != EXIT_INFRASTRUCTURE:
            return False
        node_was_new = leased.builds == 1 and not leased.beside
        return self._is_repeatable or (node_was_new and not has_begun)


def _fate(leased: LeasedNode) -> str:
    if leased.is_ending:
        return "the node is being ended, and "
    return "the node was ended, and " if leased.is_ended else ""


def _steadier(remote: Remote) -> Remote:
    """The same remote without nodes that its cloud may take back, where it has others."""
    cloud = remote.cloud
    if isinstance(cloud, Ec2Settings) and cloud.market is Market.SPOT_FIRST:
        return replace(remote, cloud=replace(cloud, market=Market.ON_DEMAND))
    return remote


def _fallbacks(first: Remote, load: Callable[[str], Remote], console: Console) -> Iterator[Remote]:
    """The remotes that take the place of `first`, each once, with those that they name themselves.

    One whose file is wrong or missing is named and left out.
    """
    names, seen = list(first.fallback), {first.name}
    while names:
        name = names.pop(0)
        if name in seen:
            continue
        seen.add(name)
        try:
            remote = load(name)
        except ConfigError as error:
            console.warning(f"fallback {name}: {error.message}")
            continue
        names = [*remote.fallback, *names]
        yield remote

# SPDX-License-Identifier: GPL-2.0-or-later
"""Trying an invocation again: on another node when one failed, at another remote when one has none.

Only the infrastructure's failures are tried again. A build that fails by itself is not, nor is
anything after a refused verdict or a wrong host key, and whoever interrupts is obeyed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

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


@dataclass(slots=True)
class Attempt:
    """One try on one node. Whoever performs it notes how far it came.

    `leased` is its node, None until there is one. `has_begun`: the job may run by now.
    """

    number: int
    remote: Remote
    leased: LeasedNode | None = None
    has_begun: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What may be done when an attempt fails.

    `is_repeatable`: the job makes its chroot anew, so that another node will do as well. `load`
    reads a remote's file by its name. `between` is called with a line for the logs before
    another node is tried.
    """

    is_repeatable: bool
    load: Callable[[str], Remote]
    between: Callable[[str], None]
    console: Console


def perform(first: Remote, plan: Plan, try_once: Callable[[Attempt], int]) -> int:
    """What `try_once` returns, as soon as an attempt ends without the infrastructure's failing.

    1. A remote that has no node to give: its fallback remotes take its place, in order.
    2. A node that failed: another one, as often as the remote's `retries` says, and on demand
       if the remote's market is spot-first.
    3. Anything else, and whatever comes when neither is left, is raised as it is.
    """
    others = _fallbacks(first, plan)
    remote, without_node, failed = first, None, 0
    while True:
        attempt = Attempt(failed + 1, remote)
        try:
            return try_once(attempt)
        except MockCloudError as error:
            if attempt.leased is None:
                without_node = _without_node(attempt, first, without_node, error)
                plan.console.done()
                other = next(others, None)
                if other is None:
                    raise without_node from without_node.__cause__
                plan.console.warning(f"remote {remote.name}: {error.message}")
                plan.console.warning(f"remote {other.name} is tried in place of {remote.name}")
                remote = other
            else:
                failed += 1
                if failed > remote.build.retries or not _may_repeat(attempt, plan, error):
                    raise
                _tell(attempt, plan, error)
                remote = _steadier(remote)


def _without_node(
    attempt: Attempt, first: Remote, earlier: MockCloudError | None, error: MockCloudError
) -> MockCloudError:
    """The error to raise if no remote has a node: the first one's. Raises what no ladder helps."""
    if isinstance(error, CloudError) and not isinstance(error, JournalError):
        return earlier or error
    # A fallback that is not fit for this build is one that has no node for it.
    if earlier is not None and isinstance(error, (ConfigError, UnsupportedByEngine)):
        return earlier
    raise error


def _may_repeat(attempt: Attempt, plan: Plan, error: MockCloudError) -> bool:
    """Whether the failure was the infrastructure's, and nothing that lived on the node is lost."""
    if not error.retryable or error.exit_code != EXIT_INFRASTRUCTURE:
        return False
    leased = attempt.leased
    node_was_new = leased is not None and leased.builds == 1 and not leased.beside
    return plan.is_repeatable or (node_was_new and not attempt.has_begun)


def _tell(attempt: Attempt, plan: Plan, error: MockCloudError) -> None:
    left = attempt.remote.build.retries - attempt.number
    plan.console.done()
    plan.console.warning(error.message)
    plan.console.warning(
        f"remote {attempt.remote.name}: the node was ended, and another one is tried"
        + ("" if left else ", the last")
    )
    plan.between(f"mock-cloud: attempt {attempt.number} ended: {error.message}; on another node:")


def _steadier(remote: Remote) -> Remote:
    """The same remote without nodes that its cloud may take back, where it has others."""
    cloud = remote.cloud
    if isinstance(cloud, Ec2Settings) and cloud.market is Market.SPOT_FIRST:
        return replace(remote, cloud=replace(cloud, market=Market.ON_DEMAND))
    return remote


def _fallbacks(first: Remote, plan: Plan) -> Iterator[Remote]:
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
            remote = plan.load(name)
        except ConfigError as error:
            plan.console.warning(f"fallback {name}: {error.message}")
            continue
        names = [*remote.fallback, *names]
        yield remote

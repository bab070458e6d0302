# SPDX-License-Identifier: GPL-2.0-or-later
"""Which failures are tried again, where, and how often."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.apis.texts import CloudIsOut, CredentialsRefused, NoCapacity, QuotaReached
from mock_cloud.cloud.budget import BudgetReached
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, LeaseState
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.console import Console
from mock_cloud.errors import (
    AttestationRefused,
    ChrootLocked,
    CloudError,
    ConfigError,
    ConnectionLost,
    HostKeyMismatch,
    LocalDiskFull,
    MockCloudError,
    RemoteCommandError,
    ResultError,
    TransportError,
)
from mock_cloud.exit_status import Stopped
from mock_cloud.model import NodeAddress
from mock_cloud.settings import AttestSettings, BuildSettings, Ec2Settings, Market, Remote
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.steps.lease.attempts import Attempts
from tests.unit.cloud.cloud_in_memory import CloudInMemory, lease_of


def remote(name: str, *fallback: str, retries: int = 1) -> Remote:
    return Remote(
        name=name,
        provider="ec2",
        arches=("x86_64",),
        attest=AttestSettings(Path("/nowhere"), (), ()),
        build=BuildSettings(retries=retries),
        fallback=fallback,
    )


Step = MockCloudError | BaseException | int
"""What one attempt comes to. Before it comes, a node is leased unless the step is in `Bare`."""


class Bare:
    """A failure before there is a node."""

    def __init__(self, error: MockCloudError) -> None:
        self.error = error


class Story:
    """Attempts that come to what was written down, and a record of them."""

    def __init__(self, place: Path, *steps: Step | Bare, builds: int = 1, begun: bool = True):
        self.journal = Journal(place / "state")
        self.steps = list(steps)
        self.builds, self.begun = builds, begun
        self.tried: list[tuple[str, int]] = []
        self.markets: list[Market] = []
        self.noted: list[str] = []
        self.screen = io.StringIO()

    def run(self, first: Remote, *others: Remote, repeatable: bool = True) -> int:
        known = {one.name: one for one in others}

        def load(name: str) -> Remote:
            if name not in known:
                raise ConfigError(f"no remote {name!r}")
            return known[name]

        console = Console(stream=self.screen)
        attempts = Attempts(first, load, console, is_repeatable=repeatable)
        while True:
            self.tried.append((attempts.remote.name, attempts.number))
            if isinstance(attempts.remote.cloud, Ec2Settings):
                self.markets.append(attempts.remote.cloud.market)
            step = self.steps.pop(0)
            if isinstance(step, int):
                return step
            leased = None if isinstance(step, Bare) else self._node()
            error = step.error if isinstance(step, Bare) else step
            if not isinstance(error, MockCloudError):
                raise error
            note = attempts.go_on_after(error, leased, has_begun=bool(leased) and self.begun)
            if note:
                self.noted.append(note)

    def _node(self) -> LeasedNode:
        address = NodeAddress("192.0.2.1", 22, "root", make_key_pair().public)
        lease = lease_of(
            self.journal.owner,
            f"a{len(self.tried)}",
            state=LeaseState.BUSY,
            holder=Holder.me(),
            address=address,
            builds=self.builds,
        )
        self.journal.key_path(lease.id).write_text("key")
        return LeasedNode(lease, self.journal, CloudInMemory(), max_builds=9, adopted=False)


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionLost("the connection is lost"),
        TransportError("the job vanished"),
        CloudError("no space"),
        RemoteCommandError("the agent failed", code="x"),
    ],
)
def test_a_node_that_failed_is_replaced(tmp_path: Path, failure: MockCloudError) -> None:
    story = Story(tmp_path, failure, 0)
    assert story.run(remote("ec2")) == 0
    assert story.tried == [("ec2", 1), ("ec2", 2)]
    (note,) = story.noted
    assert "attempt 1 ended" in note and failure.message in note
    assert failure.message in story.screen.getvalue()
    assert "another one is tried" in story.screen.getvalue()
    assert "was ended" not in story.screen.getvalue()  # nobody ended it


@pytest.mark.parametrize(
    ("market", "markets"),
    [
        (Market.SPOT_FIRST, [Market.SPOT_FIRST, Market.ON_DEMAND]),
        (Market.SPOT, [Market.SPOT, Market.SPOT]),
    ],
)
def test_after_a_spot_node_one_on_demand_where_that_is_allowed(
    tmp_path: Path, market: Market, markets: list[Market]
) -> None:
    story = Story(tmp_path, ConnectionLost("lost"), 0)
    assert story.run(replace(remote("ec2"), cloud=Ec2Settings("here", market=market))) == 0
    assert story.markets == markets


def test_it_is_replaced_as_often_as_the_remote_says(tmp_path: Path) -> None:
    lost = [ConnectionLost(f"lost {number}") for number in range(4)]
    with pytest.raises(ConnectionLost, match="lost 3"):
        Story(tmp_path, *lost).run(remote("ec2", retries=3))
    story = Story(tmp_path, lost[0])
    with pytest.raises(ConnectionLost, match="lost 0"):
        story.run(remote("ec2", retries=0))
    assert story.noted == []


@pytest.mark.parametrize("code", [0, 1, 10, 30, 75, 77])
def test_a_job_that_ended_is_never_tried_again(tmp_path: Path, code: int) -> None:
    story = Story(tmp_path, code)
    assert story.run(remote("ec2", "other"), remote("other")) == code
    assert len(story.tried) == 1 and story.screen.getvalue() == ""


@pytest.mark.parametrize(
    "error",
    [
        AttestationRefused("refused", reasons=()),
        HostKeyMismatch("another key"),
        ResultError("a name that is refused"),
        LocalDiskFull("full"),
        ConfigError("wrong"),
        Stopped(2),
        KeyboardInterrupt(),
    ],
)
def test_what_another_node_would_not_mend_is_raised_at_once(
    tmp_path: Path, error: BaseException
) -> None:
    story = Story(tmp_path, error)
    with pytest.raises(type(error)) as caught:
        story.run(remote("ec2", "other"), remote("other"))
    assert caught.value is error and len(story.tried) == 1


@pytest.mark.parametrize(
    ("builds", "begun", "tries"), [(1, True, 1), (1, False, 2), (2, False, 1), (2, True, 1)]
)
def test_what_lives_in_a_chroot_is_not_lost_by_trying_again(
    tmp_path: Path, builds: int, begun: bool, tries: int
) -> None:
    """A shell, or a build without cleaning: only a new node on which nothing was done is alike."""
    lost = ConnectionLost("lost")
    story = Story(tmp_path, lost, lost, builds=builds, begun=begun)
    with pytest.raises(ConnectionLost):
        story.run(remote("ec2"), repeatable=False)
    assert len(story.tried) == tries


# Remotes without a node to give


@pytest.mark.parametrize(
    "none",
    [
        NoCapacity("no capacity"),
        QuotaReached("quota"),
        CloudIsOut("out"),
        BudgetReached("spent"),
        CloudError("no node became free"),
    ],
)
def test_another_remote_takes_its_place_aloud(tmp_path: Path, none: CloudError) -> None:
    story = Story(tmp_path, Bare(none), 0)
    assert story.run(remote("ec2", "stack"), remote("stack")) == 0
    assert [name for name, _ in story.tried] == ["ec2", "stack"]
    said = story.screen.getvalue()
    assert none.message in said and "remote stack is tried in place of ec2" in said


def test_without_a_fallback_the_failure_is_the_remotes_own(tmp_path: Path) -> None:
    none = NoCapacity("no capacity")
    with pytest.raises(NoCapacity) as caught:
        Story(tmp_path, Bare(none)).run(remote("ec2"))
    assert caught.value is none


def test_each_remote_is_tried_once_whoever_names_it(tmp_path: Path) -> None:
    steps: Sequence[Bare] = [Bare(NoCapacity(f"none {number}")) for number in range(9)]
    story = Story(tmp_path, *steps)
    with pytest.raises(NoCapacity, match="none 0"):
        story.run(
            remote("a", "b", "c", "a"),
            remote("b", "a", "d", "b"),
            remote("c", "b", "a"),
            remote("d", "c"),
        )
    assert [name for name, _ in story.tried] == ["a", "b", "d", "c"]


def test_a_fallback_whose_file_is_wrong_is_named_and_left_out(tmp_path: Path) -> None:
    story = Story(tmp_path, Bare(NoCapacity("none")), 0)
    assert story.run(remote("a", "lost", "b"), remote("b")) == 0
    assert "fallback lost: no remote 'lost'" in story.screen.getvalue()


def test_a_fallback_that_is_not_fit_is_as_one_without_nodes(tmp_path: Path) -> None:
    steps = (Bare(NoCapacity("none")), Bare(ConfigError("no aarch64 here")), 0)
    assert Story(tmp_path, *steps).run(remote("a", "b", "c"), remote("b"), remote("c")) == 0
    story = Story(tmp_path, *steps[:2])
    with pytest.raises(NoCapacity):
        story.run(remote("a", "b"), remote("b"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: CredentialsRefused("wrong key"),
        lambda: ConfigError("unknown image"),
        lambda: ChrootLocked("in use"),
        lambda: HostKeyMismatch("another key"),
    ],
)
def test_what_the_user_must_mend_is_not_passed_over(
    tmp_path: Path, make: Callable[[], MockCloudError]
) -> None:
    error = make()
    story = Story(tmp_path, Bare(error))
    with pytest.raises(type(error)) as caught:
        story.run(remote("a", "b"), remote("b"))
    assert caught.value is error


def test_a_node_of_a_fallback_is_replaced_too(tmp_path: Path) -> None:
    story = Story(tmp_path, Bare(NoCapacity("none")), ConnectionLost("lost"), 0)
    assert story.run(remote("a", "b"), remote("b")) == 0
    assert story.tried == [("a", 1), ("b", 1), ("b", 2)]

# SPDX-License-Identifier: GPL-2.0-or-later
from dataclasses import replace

import pytest

from mock_cloud.cloud.claim import Create, Evict, Join, LeaseRequest, Take, Wait, choose, find_lost
from mock_cloud.cloud.hosts.handle import Handle, HostPlace
from mock_cloud.cloud.lease import Guest, Holder, Lease, LeaseState, NextHostKey, Sharing
from mock_cloud.errors import ChrootGone, ChrootLocked
from mock_cloud.model import NodeAddress
from mock_cloud.sshkeys import make_key_pair

NOW = 1000.0
KEY = make_key_pair().public
DEAD = Holder(1, "another-boot/1")
WISH = LeaseRequest("f40", fresh=False, remote="lab", owner="me@here:0", settings="s", max_nodes=2)
READY = Lease(
    id="a",
    remote="lab",
    owner="me@here:0",
    provider="local",
    settings="s",
    state=LeaseState.READY,
    created_unix=0.0,
    expires_unix=9e9,
    idle_ttl_s=60.0,
    idle_since_unix=10.0,
)


def busy(lease: Lease, chroot: str, holder: Holder | None = None) -> Lease:
    return replace(
        lease,
        state=LeaseState.BUSY,
        holder=holder or Holder.me(),
        chroot=chroot,
        chroots=tuple({*lease.chroots, chroot}),
        idle_since_unix=None,
    )


def test_nothing_there_makes_a_node() -> None:
    assert choose([], WISH, NOW) == Create()


def test_a_part_with_hosts_of_its_own_is_not_hindered_by_others() -> None:
    """Duplicates of one remote build in one chroot at once, each on its owner's machines."""
    part = replace(WISH, fresh=True, hosts=("beta",), settings="of beta")

    def on(host: str) -> str:
        return str(Handle((HostPlace(host, NodeAddress("h", 22, "root", KEY)),), 0.0))

    at_work = busy(replace(READY, handle=on("alpha"), settings="of alpha"), "f40")
    others = [at_work, replace(at_work, id="b", state=LeaseState.CREATING, handle="")]
    assert choose(others, part, NOW) == Create()
    with pytest.raises(ChrootLocked):
        choose(others, replace(part, hosts=()), NOW)
    own = replace(READY, id="c", handle=on("beta"), settings="of beta")
    assert choose([*others, own], part, NOW) == Take(own)
    idle = replace(READY, id="d", handle=on("beta"))  # of the whole remote, and in the way
    assert choose([*others, idle], part, NOW) == Evict(idle)
    assert choose([*others, busy(idle, "f41")], part, NOW) == Create()  # which waits for the host
    assert choose([*others, replace(idle, handle=on("alpha"))], part, NOW) == Create()


def test_after_a_job_that_waits_to_be_taken_up_its_chroot_may_have_been_made_anew() -> None:
    left = replace(busy(READY, "f40", DEAD), id="b", job="job-1")
    with pytest.raises(ChrootLocked, match="that of job job-1"):
        choose([left], WISH, NOW)
    anew = replace(READY, id="c", chroots=("f40",))
    assert choose([left, anew], WISH, NOW) == Take(anew)


def test_who_is_not_first_in_the_queue_gets_its_home_and_nothing_else() -> None:
    home = replace(READY, id="b", chroots=("f40",))
    for leases in ([], [READY], [busy(READY, "other"), busy(READY, "another")]):
        choice = choose(leases, WISH, NOW, is_first=False)
        assert isinstance(choice, Wait) and choice.queues
    assert choose([READY, home], WISH, NOW, is_first=False) == Take(home)
    at_work = choose([busy(home, "other")], WISH, NOW)
    assert isinstance(at_work, Wait) and not at_work.queues


def test_the_home_of_the_chroot_comes_before_another_warm_node() -> None:
    home = replace(READY, id="b", chroots=("f40",), idle_since_unix=1.0)
    assert choose([READY, home], WISH, NOW) == Take(home)


def test_the_node_used_last_is_taken() -> None:
    later = replace(READY, id="b", idle_since_unix=20.0)
    assert choose([READY, later], WISH, NOW) == Take(later)


@pytest.mark.parametrize("field", ["remote", "owner"])
def test_nodes_of_others_are_invisible(field: str) -> None:
    other = replace(READY, **{field: "other"})
    assert choose([other] * 5, WISH, NOW) == Create()
    locked = busy(other, "f40")
    assert choose([locked], WISH, NOW) == Create()


def test_a_node_of_other_settings_is_not_used_and_goes_first_at_the_limit() -> None:
    stale = replace(READY, settings="old")
    assert choose([stale], WISH, NOW) == Create()
    assert choose([stale, busy(replace(READY, id="b"), "el9")], WISH, NOW) == Evict(stale)


def test_a_chroot_at_work_is_locked_at_once() -> None:
    with pytest.raises(ChrootLocked, match="f40"):
        choose([busy(READY, "f40"), replace(READY, id="b")], WISH, NOW)


SHARED = replace(busy(READY, "f40"), sharing=Sharing("job-1"))


def test_a_command_that_shares_joins_one_that_does() -> None:
    assert choose([SHARED], replace(WISH, shares=True), NOW) == Join(SHARED)


@pytest.mark.parametrize(
    ("wish", "lease"),
    [
        (WISH, SHARED),
        (replace(WISH, shares=True, settings="other"), SHARED),
        (replace(WISH, shares=True), replace(SHARED, sharing=Sharing())),
        (replace(WISH, shares=True), replace(SHARED, state=LeaseState.RELEASING)),
        # A key that others may know is none to trust a second connection by.
        (replace(WISH, shares=True), replace(SHARED, has_bootstrap_key=True)),
        (
            replace(WISH, shares=True),
            replace(SHARED, next_host_key=NextHostKey(make_key_pair().public, {})),
        ),
        # The holder died, and its job may run on: the node is as good as gone.
        (
            replace(WISH, shares=True),
            replace(SHARED, holder=DEAD, sharing=Sharing("job-1", (Guest(Holder.me(), "job-2"),))),
        ),
    ],
)
def test_nobody_joins_where_that_would_not_be_safe(wish: LeaseRequest, lease: Lease) -> None:
    with pytest.raises(ChrootLocked):
        choose([lease], wish, NOW)


def test_a_node_with_a_living_guest_is_held() -> None:
    left = replace(SHARED, holder=DEAD, sharing=Sharing("", (Guest(Holder.me()),)))
    assert left.held and not left.abandoned
    gone = replace(left, sharing=Sharing("", (Guest(DEAD),)))
    assert gone.abandoned


def test_a_chroot_whose_home_works_on_another_waits_for_it() -> None:
    home = busy(replace(READY, chroots=("f40",)), "el9")
    choice = choose([home, replace(READY, id="b")], WISH, NOW)
    assert isinstance(choice, Wait)
    assert "lease a (busy" in choice.holders[0] and "chroot el9" in choice.holders[0]


def test_a_chroot_made_anew_need_not_wait_for_its_home() -> None:
    home = busy(replace(READY, chroots=("f40",)), "el9")
    fresh = replace(WISH, fresh=True)
    warm = replace(READY, id="b")
    assert choose([home, warm], fresh, NOW) == Take(warm)
    assert choose([home], fresh, NOW) == Create()


def test_an_abandoned_node_is_taken_for_its_own_chroot_only() -> None:
    orphan = busy(READY, "f40", DEAD)
    assert choose([orphan], WISH, NOW) == Take(orphan)
    assert choose([orphan], replace(WISH, chroot="el9"), NOW) == Create()


def test_at_the_limit_an_abandoned_node_makes_room() -> None:
    orphan = replace(busy(READY, "el9", DEAD), id="o")
    working = busy(replace(READY, id="b"), "el8")
    assert choose([orphan, working], WISH, NOW) == Evict(orphan)


def test_at_the_limit_one_waits_and_learns_for_whom() -> None:
    one, two = busy(READY, "el8"), busy(replace(READY, id="b"), "el9")
    choice = choose([one, two], WISH, NOW)
    assert isinstance(choice, Wait)
    assert len(choice.holders) == 2
    assert f"process {Holder.me().pid} of me@here:0" in choice.holders[1]


def test_nodes_being_made_or_released_count_but_are_not_taken() -> None:
    made = replace(READY, state=LeaseState.CREATING, chroot="el8", holder=Holder.me())
    going = replace(READY, id="b", state=LeaseState.RELEASING)
    assert isinstance(choose([made, going], WISH, NOW), Wait)


def test_a_node_with_less_than_half_its_life_left_is_not_used_for_a_new_chroot() -> None:
    old = replace(READY, created_unix=0.0, expires_unix=1900.0, chroots=("f40",))
    fresh = replace(WISH, fresh=True)
    assert choose([old], replace(WISH, chroot="el9"), NOW) == Create()
    assert choose([old], fresh, NOW) == Create()
    assert choose([old], replace(fresh, max_nodes=1), NOW) == Evict(old)
    assert choose([old], fresh, 950.0) == Take(old)


def test_a_chroot_that_lives_there_is_used_to_the_end_of_its_node() -> None:
    old = replace(READY, created_unix=0.0, expires_unix=1001.0, chroots=("f40",))
    assert choose([old], WISH, NOW) == Take(old)


def test_a_node_that_is_kept_for_a_chroot_serves_that_one_alone() -> None:
    kept = replace(READY, chroots=("f41",), reserved="f41")
    one = replace(WISH, max_nodes=1)
    assert choose([kept], replace(WISH, chroot="f41", kept=True), NOW) == Take(kept)
    assert choose([kept], WISH, NOW) == Create()
    waiting = choose([kept], one, NOW)
    assert isinstance(waiting, Wait) and "kept for chroot f41" in waiting.holders[0]
    left = busy(kept, "f41", DEAD)
    assert choose([left], one, NOW) == Evict(left)  # its user is dead, and nobody comes back


def test_a_chroot_that_must_be_there_is_not_made_anew_elsewhere() -> None:
    wish = replace(WISH, kept=True)
    for leases in ([], [READY]):
        with pytest.raises(ChrootGone, match="f40 on remote lab is gone"):
            choose(leases, wish, NOW)
    home = busy(replace(READY, chroots=("f40",)), "f41")
    assert isinstance(choose([home], wish, NOW), Wait)


def test_a_chroot_on_a_node_of_other_settings_is_not_made_anew_beside_it() -> None:
    stale = replace(READY, settings="old", chroots=("f40",))
    with pytest.raises(ChrootGone, match="lives on lease a, which was made before"):
        choose([stale], WISH, NOW)
    assert choose([stale], replace(WISH, fresh=True), NOW) == Create()
    assert choose([stale], replace(WISH, discards=True), NOW) == Create()


@pytest.mark.parametrize(
    ("ended_unix", "why"),
    [
        (500.0, r"ended at \d{4}-\d\d-\d\d \d\d:\d\d$"),
        (5000.0, "ended at .*, idle for longer than idle_ttl .60 s.$"),
        (9e9, r"reached the end of its life \(max_ttl\) at"),
    ],
)
def test_a_chroot_that_was_lost_is_missed_until_it_is_made_anew(
    ended_unix: float, why: str
) -> None:
    gone = replace(
        READY, state=LeaseState.GONE, chroots=("f40",), idle_since_unix=480.0, ended_unix=ended_unix
    )
    earlier = replace(gone, id="b", ended_unix=1.0)
    lost = find_lost([earlier, gone], WISH)
    assert lost == gone
    with pytest.raises(ChrootGone, match=f"f40 on remote lab is gone: its node {why}"):
        choose([READY], WISH, NOW, lost=lost)
    assert choose([READY], replace(WISH, fresh=True), NOW, lost=lost) == Take(READY)
    assert choose([READY], replace(WISH, discards=True), NOW, lost=lost) == Take(READY)
    assert find_lost([gone], replace(WISH, chroot="el9")) is None
    assert find_lost([replace(gone, owner="other")], WISH) is None


def test_at_the_limit_a_node_without_chroots_makes_room_first() -> None:
    old = replace(READY, settings="old", chroots=("el9",), idle_since_unix=1.0)
    bare = replace(READY, id="b", settings="old", idle_since_unix=20.0)
    assert choose([old, bare], WISH, NOW) == Evict(bare)
    assert choose([old], replace(WISH, max_nodes=1), NOW) == Evict(old)


def test_the_chroot_of_a_dead_command_is_on_the_node_that_it_used() -> None:
    orphan = replace(READY, state=LeaseState.BUSY, holder=DEAD, chroot="f40")
    assert choose([orphan], WISH, NOW) == Take(orphan)

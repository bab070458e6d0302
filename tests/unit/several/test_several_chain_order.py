# SPDX-License-Identifier: GPL-2.0-or-later
"""Which package of a chain may begin: in the end each was built as on one node."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from mock_cloud.several.chain_order import ChainLink, ChainOrder, LinkPhase


def link(name: str, *needs: str) -> ChainLink:
    return ChainLink(name, f"{name}.src.rpm", name, frozenset(needs))


def built(one: ChainLink, order: ChainOrder, *provides: str) -> list[ChainLink]:
    one.provides = one.packages = frozenset((one.name, *provides))
    return order.end(one, is_built=True)


def begin(order: ChainOrder) -> ChainLink | None:
    found = order.find_next()
    if found is not None:
        order.begin(found)
    return found


def names(links: Iterable[ChainLink]) -> list[str]:
    return [one.name for one in links]


@pytest.mark.parametrize(
    "need", ["alpha", "alpha-devel", "pkgconfig(alpha)", "python3dist(alpha)", "libalpha.so.1()"]
)
def test_what_seems_to_need_one_before_waits_for_it(need: str) -> None:
    alpha, beta = link("alpha"), link("beta", need)
    order = ChainOrder([alpha, beta])
    assert begin(order) is alpha and begin(order) is None
    built(alpha, order)
    assert order.find_next() is beta and order.begin(beta) == ("alpha",)


def test_what_needs_nothing_of_those_before_begins_with_them() -> None:
    order = ChainOrder([link("alpha"), link("beta", "gcc"), link("gamma", "make")])
    assert [begin(order), begin(order), begin(order)] == order.links and begin(order) is None


def test_one_that_asked_for_what_another_turns_out_to_provide_is_built_again() -> None:
    alpha, beta = link("alpha"), link("beta", "webserver")
    order = ChainOrder([alpha, beta])
    begin(order), begin(order)
    assert built(beta, order) == []
    assert built(alpha, order, "webserver") == [beta] and beta.phase is LinkPhase.WAITING
    assert order.find_next() is beta and order.begin(beta) == ("alpha",)
    assert built(beta, order) == [] and order.find_next() is None


def test_one_whose_chroot_had_an_older_package_is_built_again() -> None:
    alpha, beta = link("alpha"), link("beta", "make")
    order = ChainOrder([alpha, beta])
    begin(order), begin(order)
    assert built(alpha, order) == []
    beta.installed = frozenset({"make", "alpha"})  # the distribution's
    assert built(beta, order) == [beta]


def test_one_that_failed_beside_one_before_it_is_tried_with_it() -> None:
    alpha, beta, gamma = links = [link("alpha"), link("beta"), link("gamma")]
    order = ChainOrder(links)
    begin(order), begin(order)
    assert order.end(beta, is_built=False) == []
    assert begin(order) is gamma  # whether the failure stands nobody knows
    assert built(alpha, order) == [beta] and order.find_next() is beta


def test_a_failure_that_stands_ends_the_chain_unless_it_goes_on() -> None:
    for goes_on in (False, True):
        alpha, beta = link("alpha"), link("beta", "alpha")
        order = ChainOrder([alpha, beta], goes_on=goes_on)
        begin(order)
        assert order.end(alpha, is_built=False) == []
        assert order.find_next() is (beta if goes_on else None)
        assert order.begin(beta) == ()


def test_what_was_built_with_one_that_is_built_again_is_built_again_too() -> None:
    alpha, beta, gamma = links = [link("alpha"), link("beta", "webserver"), link("gamma", "beta")]
    order = ChainOrder(links)
    begin(order), begin(order)
    built(beta, order)
    assert begin(order) is gamma
    built(gamma, order)
    assert built(alpha, order, "webserver") == [beta]
    assert begin(order) is beta and begin(order) is None
    assert built(beta, order) == [gamma] and begin(order) is gamma


def test_earlier_directories_are_there_and_later_ones_are_not() -> None:
    alpha, beta = link("alpha"), link("beta")
    order = ChainOrder([alpha, beta], there=["own"])
    assert order.begin(beta) == ("own",)
    built(beta, order)
    assert order.begin(alpha) == ("own",)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_ends_first_each_was_built_with_all_that_changes_it(seed: int) -> None:
    """Random chains on random numbers of nodes, against the same chain on one."""
    chance = random.Random(seed)  # noqa: S311  no secret
    count = chance.randint(2, 9)
    gives = {f"p{n}": f"cap{n}" if chance.random() < 0.7 else f"p{n}-devel" for n in range(count)}
    needs = {
        f"p{n}": frozenset(gives[f"p{m}"] for m in range(count) if chance.random() < 0.3)
        for n in range(count)
    }
    fails_without = {
        name: frozenset(one for one in needs[name] if chance.random() < 0.4) for name in gives
    }
    goes_on = chance.random() < 0.5

    def outcome(name: str, has: frozenset[str]) -> tuple[bool, frozenset[str]]:
        used = needs[name] & has
        return fails_without[name] <= has, used

    alone: dict[str, tuple[bool, frozenset[str]]] = {}
    for name in gives:
        has = frozenset(gives[one] for one, (is_built, _) in alone.items() if is_built)
        alone[name] = outcome(name, has)
        if not alone[name][0] and not goes_on:
            break

    links = [ChainLink(name, name, name, needs[name]) for name in gives]
    order = ChainOrder(links, goes_on=goes_on)
    running: dict[str, tuple[ChainLink, frozenset[str]]] = {}
    ended: dict[str, tuple[bool, frozenset[str]]] = {}
    jobs = chance.randint(1, 4)
    for _ in range(1000):
        while len(running) < jobs and (one := order.find_next()) is not None:
            seen = order.begin(one)
            running[one.name] = one, frozenset(gives[name] for name in seen)
        if not running:
            break
        one, has = running.pop(chance.choice(sorted(running)))
        ended[one.name] = outcome(one.name, has)
        is_built = ended[one.name][0]
        one.provides = frozenset({gives[one.name]}) if is_built else frozenset()
        order.end(one, is_built=is_built)
    else:
        raise AssertionError("it does not end")
    for name, found in alone.items():
        assert ended[name] == found

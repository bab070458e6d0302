# SPDX-License-Identifier: GPL-2.0-or-later
"""Our dataclasses do what the standard library's do: its own are the reference."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import field
from typing import Any

import pytest

from mock_cloud.wire.dataclass import dataclass

Decorator = Callable[..., Any]


def _declare(decorator: Decorator, **options: bool) -> dict[str, Any]:
    @decorator(**options)
    class Point:
        x: int
        y: str = "why"
        many: list[int] = field(default_factory=list)
        unseen: int = field(default=3, repr=False)
        uncompared: int = field(default=4, compare=False)
        named: int = field(default=5, kw_only=True)

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError("negative")

    @decorator(**options)
    class Deeper(Point):
        """With a parent."""

        z: int = 1

    @decorator(**options)
    class Empty:
        pass

    @decorator(**options)
    class Own:
        x: int = 1

        def __repr__(self) -> str:
            return "mine"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    @decorator(**options)
    class Computed:
        x: int
        double: int = field(init=False, default=0)
        never: int = field(init=False)
        made: list[int] = field(init=False, default_factory=list)

    @decorator(**options)
    class Single:
        self: int

    return {
        one.__name__: one
        for one in (Point, Deeper, Empty, Own, Computed, Single)
    }  # fmt: skip


@pytest.fixture(
    params=[
        {"frozen": True, "slots": True}, {"frozen": True}, {"slots": True}, {},
        {"frozen": True, "slots": True, "kw_only": True},
    ],
    ids=lambda options: "+".join(options) or "plain",
)  # fmt: skip
def both(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same classes, by us and by the standard library."""
    return _declare(dataclass, **request.param), _declare(dataclasses.dataclass, **request.param)


_CASES: dict[str, Callable[[dict[str, Any]], object]] = {
    "values": lambda of: dataclasses.asdict(of["Point"](x=1, many=[2])),
    "in order": lambda of: of["Deeper"](1, "b", [], 9, 8, 7),
    "too many": lambda of: of["Point"](1, "b", [], 9, 8, 7),
    "one lacks": lambda of: of["Point"](),
    "unknown": lambda of: of["Point"](x=1, other=2),
    "the second time": lambda of: (of["Point"](x=1), of["Point"](x=1, other=2)),
    "no list is shared": lambda of: of["Point"](x=1).many is of["Point"](x=1).many,
    "checked afterwards": lambda of: of["Deeper"](x=-1),
    "text": lambda of: repr(of["Deeper"](x=1)),
    "nothing in it": lambda of: (repr(of["Empty"]()), of["Empty"]() == of["Empty"]()),
    "its own methods": lambda of: (repr(of["Own"]()), of["Own"]() == 3, hash(of["Own"]())),
    "equal": lambda of: of["Point"](x=1, uncompared=1) == of["Point"](x=1, uncompared=2),
    "unequal": lambda of: of["Point"](x=1, unseen=1) == of["Point"](x=1, unseen=2),
    "of another class": lambda of: of["Point"](x=1) == of["Deeper"](x=1),
    "with nothing like it": lambda of: of["Point"](x=1) == 1,
    "hash": lambda of: hash(of["Empty"]()),
    "hash of a list": lambda of: hash(of["Point"](x=1)),
    "hashes are alike": lambda of: hash(of["Single"](self=1)) == hash(of["Single"](self=1)),
    "set": lambda of: setattr(of["Point"](x=1), "x", 2),
    "delete": lambda of: delattr(of["Point"](x=1), "x"),
    "replace": lambda of: dataclasses.replace(of["Point"](x=1), y="z"),
    "replace, checked": lambda of: dataclasses.replace(of["Point"](x=1), x=-1),
    "computed": lambda of: of["Computed"](x=1),
    "computed, what is not": lambda of: of["Computed"](x=1).never,
    "computed, anew": lambda of: (of["Computed"](x=1).made, of["Computed"](x=1).double),
    "computed, given": lambda of: of["Computed"](x=1, double=2),
    "called self": lambda of: of["Single"](self=1),
    "copied": lambda of: copy.deepcopy(of["Point"](x=1, many=[2])),
    "fields": lambda of: [(one.name, one.type) for one in dataclasses.fields(of["Deeper"])],
    "to be matched": lambda of: of["Deeper"].__match_args__,
}


@pytest.mark.parametrize("case", _CASES)
def test_they_do_the_same(both: tuple[dict[str, Any], dict[str, Any]], case: str) -> None:
    ours, standard = (_outcome(_CASES[case], classes) for classes in both)
    assert ours == standard


def _outcome(case: Callable[[dict[str, Any]], object], classes: dict[str, Any]) -> str:
    try:
        return repr(case(classes))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True)
class Travelling:
    """pickle looks for it in its module."""

    x: int
    y: tuple[str, ...] = ()


def test_a_frozen_one_is_pickled() -> None:
    one = Travelling(1, ("a",))
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301


def test_a_frozen_one_gets_no_other_attribute() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="none_of_it"):
        Travelling(1).none_of_it = 2  # type: ignore[attr-defined]


def test_nothing_is_compiled_before_there_is_an_instance() -> None:
    first = _declare(dataclass, frozen=True)["Point"]
    before = first.__init__
    first(x=1)
    assert first.__init__ is not before
    compiled = first.__init__
    first(x=2)
    assert first.__init__ is compiled

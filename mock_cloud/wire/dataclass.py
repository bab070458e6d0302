# SPDX-License-Identifier: GPL-2.0-or-later
"""`dataclasses.dataclass`, whose `__init__` is compiled when a class makes its first instance.

The standard one writes six methods as text for each class and compiles them at import. That was
half of the start-up of every command, which uses one class in four (decision 138). Here `__eq__`,
`__hash__`, `__repr__` and what freezes a class are the same few functions for all of them.

Types are checked as with the standard decorator. Its parameters `order` and `unsafe_hash` are
not here.
"""

from __future__ import annotations

import dataclasses
import operator
import reprlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414
else:

    def dataclass(*, frozen: bool = False, slots: bool = False, kw_only: bool = False) -> Any:
        """As the standard library's, with the parameters of the same names."""

        def make(described: type) -> type:
            own = vars(described)
            named = frozenset(name for name in own if name in _METHODS and own[name] is not None)
            described.__doc__ = described.__doc__ or described.__name__  # else a text of signature
            made = dataclasses.dataclass(
                init=False, repr=False, eq=False, slots=slots, kw_only=kw_only
            )(described)
            for name, method in _methods(made, frozen, slots).items():
                if name not in named:
                    setattr(made, name, method)
            return made

        return make


_METHODS = frozenset(("__init__", "__repr__", "__eq__", "__hash__"))


def _methods(made: type, frozen: bool, slots: bool) -> dict[str, Any]:
    fields = dataclasses.fields(made)
    methods: dict[str, Any] = {
        "__init__": _first_init(made, frozen, slots),
        "__repr__": _repr,
        "__eq__": _eq(_values([one.name for one in fields if one.compare])),
        "__hash__": None,
    }
    if frozen:
        hashed = [one.name for one in fields if (one.compare if one.hash is None else one.hash)]
        methods["__hash__"] = _hash(_values(hashed))
        methods |= {"__setattr__": _refuse_set, "__delattr__": _refuse_delete}
        if slots:  # copy and pickle would set attributes
            methods |= {"__getstate__": _state, "__setstate__": _set_state}
    return methods


def _first_init(made: Any, frozen: bool, slots: bool) -> Any:
    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        made.__init__ = compiled = _compile_init(made, frozen, slots)
        compiled(self, *args, **kwargs)

    return __init__


def _compile_init(made: type, frozen: bool, slots: bool) -> Any:
    """The `__init__` that the standard decorator would make, without a class to carry it."""
    fields = dataclasses.fields(made)
    me = "__dataclass_self__" if any(one.name == "self" for one in fields) else "self"
    known = {"__name__": made.__module__, "__unset__": object(), "__set__": object.__setattr__}
    plain: list[str] = [me]
    named: list[str] = []
    body: list[str] = []
    for one in fields:
        name = value = word = one.name
        default = f"__default_{name}__"
        if one.default_factory is not dataclasses.MISSING:
            known[default] = one.default_factory
            word, value = f"{name}=__unset__", f"{default}()"
            if one.init:
                value += f" if {name} is __unset__ else {name}"
        elif one.default is not dataclasses.MISSING:
            known[default] = one.default
            word = f"{name}={default}"
            value = name if one.init else default
        if one.init:
            (named if one.kw_only else plain).append(word)
        elif value == name or (value == default and not slots):
            continue  # it has no value, or its class has it
        body.append(f"__set__({me}, {name!r}, {value})" if frozen else f"{me}.{name} = {value}")
    if hasattr(made, "__post_init__"):
        body.append(f"{me}.__post_init__()")
    words = ", ".join([*plain, "*", *named] if named else plain)
    exec(f"def __init__({words}):\n " + "\n ".join(body or ["pass"]), known)  # noqa: S102
    compiled: Any = known["__init__"]
    compiled.__qualname__ = f"{made.__qualname__}.__init__"  # stands in TypeErrors
    return compiled


def _values(names: list[str]) -> Any:
    """A function that gives a tuple of an instance's values."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda self: tuple(getattr(self, name) for name in names)


def _eq(values: Any) -> Any:
    def __eq__(self: Any, other: object) -> Any:  # noqa: N807
        if other.__class__ is self.__class__:
            return values(self) == values(other)
        return NotImplemented

    return __eq__


def _hash(values: Any) -> Any:
    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


@reprlib.recursive_repr()
def _repr(self: Any) -> str:
    shown = (
        f"{one.name}={getattr(self, one.name)!r}" for one in dataclasses.fields(self) if one.repr
    )
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse_set(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, one.name) for one in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for one, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Which package of a chain may begin, and which was built too early: on one node each is built
against all before it.

A guess by names lets packages begin that seem to need nothing of those before them. What those turn
out to provide decides afterwards: one that would have been built otherwise is built again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from enum import Enum
from pathlib import Path
from typing import Final

from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.rpmfile import read_package, requirements
from mock_cloud.wire.rpmheader import Header, HeaderError, Tag, Type

_WORD: Final = re.compile(r"[^\s()<>=]+(?:\([^\s]*\))*")
"""A capability, also in a rich dependency, whose operators are words that nobody provides."""
_PREFIXES: Final = re.compile(r"^(?:python3?|perl|rust|golang|ruby|rubygem|nodejs|ghc|R|lib)-?")
_SIGNS: Final = re.compile(r"[^a-z0-9]")
_SHORT: Final = 3


class LinkPhase(Enum):
    """`WAITING` also for one that is to be built again."""

    WAITING = "waiting"
    RUNNING = "running"
    BUILT = "built"
    FAILED = "failed"


@dataclass(slots=True)
class ChainLink:
    """One package of a chain, in its place there.

    `name` is its directory's in the local repository, `needs` what it asks for. Of one that was
    built: `provides`, and `packages` by name. `installed` are the names of the packages that its
    last build had; `without` are those before it that were not there when that began.
    """

    name: str
    word: str
    source: str
    needs: frozenset[str]
    phase: LinkPhase = LinkPhase.WAITING
    provides: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    installed: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()

    @property
    def is_over(self) -> bool:
        return self.phase in (LinkPhase.BUILT, LinkPhase.FAILED)

    def may_need(self, other: ChainLink) -> bool:
        """Whether it seems to ask for something of `other`, of which the source's name is known."""
        stem = _plain(_PREFIXES.sub("", other.source))
        own = f"{other.source}-"
        return any(
            need == other.source
            or need.startswith(own)
            or (len(stem) >= _SHORT and stem in _plain(need))
            for need in self.needs
        )

    def differs_with(self, other: ChainLink) -> bool:
        """Whether its build, which was without `other`, would be another one with it."""
        return bool(self.needs & other.provides) or bool(self.installed & other.packages)


def read_link(name: str, word: str) -> ChainLink:
    """The link for the source package at `word`, which was looked at. HeaderError, OSError."""
    header = read_package(word)
    needs = (found for text in requirements(header) for found in _WORD.findall(text))
    return ChainLink(name, word, header.string(Tag.NAME) or name, frozenset(needs))


def read_built(paths: Iterable[Path]) -> tuple[frozenset[str], frozenset[str]]:
    """What packages provide, their files too, and what they are called. HeaderError, OSError."""
    provides: set[str] = set()
    names: set[str] = set()
    for path in paths:
        header = read_package(str(path))
        names.add(header.string(Tag.NAME) or "")
        provides.update(header.strings(Tag.PROVIDENAME), _files(header))
    return frozenset(provides), frozenset(names)


def _files(header: Header) -> list[str]:
    directories = header.strings(Tag.DIRNAMES)
    places = header.integers(Tag.DIRINDEXES, Type.INT32)
    names = header.strings(Tag.BASENAMES)
    if len(places) != len(names):
        raise HeaderError("DIRINDEXES are not as many as BASENAMES")
    return [
        f"{directories[place]}{name}"
        for place, name in zip(places, names, strict=True)
        if place < len(directories)
    ]


@dataclass(slots=True)
class ChainOrder:
    """The links of one round, in their order. `there` were built before it, or earlier.

    Without `goes_on` nothing begins after a failure that stands.
    """

    links: list[ChainLink]
    there: Collection[str] = ()
    goes_on: bool = False

    def find_next(self) -> ChainLink | None:
        """One that may begin now, if any; the first."""
        for number, link in enumerate(self.links):
            before = self.links[:number]
            if not self.goes_on and any(self._has_failed(one) for one in before):
                return None
            if link.phase is LinkPhase.WAITING and self._may_begin(link, before):
                return link
        return None

    def begin(self, link: ChainLink) -> tuple[str, ...]:
        """`link` begins; the directories that it may use."""
        before, _ = self._around(link)
        link.without = frozenset(one.name for one in before if not one.is_over)
        link.phase = LinkPhase.RUNNING
        return (*self.there, *(one.name for one in before if one.phase is LinkPhase.BUILT))

    def end(self, link: ChainLink, *, is_built: bool) -> list[ChainLink]:
        """`link` has ended; those that are to be built again, for they were without it or others.

        Such a one waits for all before it, and so ends once more at most for each of those.
        """
        link.phase = LinkPhase.BUILT if is_built else LinkPhase.FAILED
        before, after = self._around(link)
        if any(one.phase is LinkPhase.BUILT and _was_wrong(link, one) for one in before):
            return self._again([link])
        if not is_built:
            return []
        return self._again([one for one in after if one.is_over and _was_wrong(one, link)])

    def _again(self, links: list[ChainLink]) -> list[ChainLink]:
        for link in links:
            link.phase = LinkPhase.WAITING
            for one in self._around(link)[1]:  # what they had of it will be another build
                if one.phase is not LinkPhase.WAITING:
                    one.without |= {link.name}
        return links

    def _around(self, link: ChainLink) -> tuple[list[ChainLink], list[ChainLink]]:
        number = self.links.index(link)
        return self.links[:number], self.links[number + 1 :]

    def _may_begin(self, link: ChainLink, before: list[ChainLink]) -> bool:
        """One that was built too early waits for all before it, as if there were one node."""
        left = [one for one in before if not one.is_over]
        return not left if link.without or link.installed else not any(map(link.may_need, left))

    def _has_failed(self, link: ChainLink) -> bool:
        """Whether it failed, and would have on one node: with all before it that were built."""
        return link.phase is LinkPhase.FAILED and all(
            one.is_over for one in self._around(link)[0] if one.name in link.without
        )


def _was_wrong(link: ChainLink, other: ChainLink) -> bool:
    """Whether the build of `link` was without `other`, and would be another one, or not fail."""
    is_other = link.phase is LinkPhase.FAILED or link.differs_with(other)
    return other.name in link.without and is_other


def _plain(text: str) -> str:
    return _SIGNS.sub("", text.lower())

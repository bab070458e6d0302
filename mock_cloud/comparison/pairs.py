# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages of several builds, each compared with the one of its name in the first build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mock_cloud.comparison.levels import Level, Sameness, compare_packages, identify
from mock_cloud.comparison.unpacking import CannotUnpack
from mock_cloud.errors import InputError
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.rpmheader import HeaderError

PACKAGES_MAX: Final = 10_000
"""In one directory; more is refused."""


class NotComparable(InputError):
    """What one side has is not a package, or none of the other's: of two builds, a difference.

    Not raised for what this machine cannot read or unpack.
    """


@dataclass(frozen=True, slots=True)
class Compared:
    """A package of the first build, and what another build has of that name.

    `package` is its file name, `left` and `right` where both are; None: that build has none, which
    is no agreement.
    """

    package: str
    other: Path
    left: Path | None
    right: Path | None
    sameness: Sameness

    @property
    def agrees(self) -> bool:
        return self.sameness.level.agrees


def compare_builds(first: Path, others: Sequence[Path]) -> list[Compared]:
    """Each package of each of `others` with the one of `first`: by builds, then by names.

    All are directories, in which and below which packages are found by their names, or all are
    package files, whose names do not matter. Agreement holds between `others`, too: what is left
    out of account at L1 does not depend on the pair.

    NotComparable for directories without packages of one name, or with two of one name, for
    packages of different names, versions or architectures, and for one that is damaged; InputError
    for what is neither.
    """
    found = [_find_packages(place) for place in (first, *others)]
    return [one for place, theirs in zip(others, found[1:], strict=True)
            for one in _compare(first, found[0], place, theirs)]  # fmt: skip


def _find_packages(place: Path) -> Mapping[str, Path]:
    """Packages by their file name; the one of a path that is a file has the empty name."""
    if place.is_file():
        return {"": place}
    if not place.is_dir():
        raise InputError(f"{place}: no such file or directory")
    found: dict[str, Path] = {}
    for path in sorted(place.rglob("*.rpm")):
        if path.name in found:
            if path.samefile(found[path.name]):
                continue  # of packages that were built at once: see `results.own_directory`
            raise NotComparable(
                f"{place} has two packages {path.name}: {found[path.name]} and {path}",
                hint="name the directories that the packages are in",
            )
        found[path.name] = path
        if len(found) > PACKAGES_MAX:
            raise InputError(f"{place} has more than {PACKAGES_MAX} packages")
    if not found:
        raise InputError(f"{place} has no packages", hint="name directories of results")
    return found


def _compare(
    first: Path, ours: Mapping[str, Path], other: Path, theirs: Mapping[str, Path]
) -> Iterator[Compared]:
    if ("" in ours) != ("" in theirs):
        kinds = ["a file" if "" in one else "a directory" for one in (ours, theirs)]
        raise InputError(
            f"{first} is {kinds[0]} and {other} is {kinds[1]}",
            hint="compare directories with directories, packages with packages",
        )
    if ours.keys().isdisjoint(theirs):
        raise NotComparable(
            f"no package of {first} has a namesake in {other}: these are not builds of one source",
            hint=f"there are {_few(ours)}, and here {_few(theirs)}",
        )
    if "" in ours:
        _check_alike(first, other)
    for name in sorted(ours.keys() | theirs.keys()):
        left, right = ours.get(name), theirs.get(name)
        if left is None or right is None:
            alone = f"only in {other if left is None else first}"
            yield Compared(name, other, left, right, Sameness(Level.DIFFERENT, (alone,)))
        else:
            yield Compared(left.name, other, left, right, _compare_files(left, right))


def _few(packages: Mapping[str, Path]) -> str:
    return ", ".join(sorted(packages)[:3])


def _check_alike(left: Path, right: Path) -> None:
    names = []
    for path in (left, right):
        try:
            with path.open("rb") as stream:
                names.append(identify(stream))
        except (HeaderError, OSError) as error:
            raise _unreadable(path, error) from error
    if names[0] != names[1]:
        raise NotComparable(
            f"{left} is {names[0]} and {right} is {names[1]}: these are not builds of one package"
        )


def _compare_files(left: Path, right: Path) -> Sameness:
    for path in (left, right):  # so that an error names the right one
        try:
            with path.open("rb") as stream:
                identify(stream)
        except (HeaderError, OSError) as error:
            raise _unreadable(path, error) from error
    try:
        with left.open("rb") as ours, right.open("rb") as theirs:
            return compare_packages(ours, theirs)
    except (HeaderError, OSError) as error:
        raise _kind(error)(f"{left} or {right}: {_text(error)}") from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return _kind(error)(f"{path}: {_text(error)}", hint="packages (.rpm) can be compared")


def _kind(error: Exception) -> type[InputError]:
    is_ours = isinstance(error, (OSError, CannotUnpack))
    return InputError if is_ours else NotComparable


def _text(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Renders pages: HTML of one file, which asks no network and runs no script.

Whatever is shown may be a node's or a stranger's words: Jinja2 escapes each value, and the page's
own policy (CSP) allows nothing but its style sheet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mock_cloud import __version__
from mock_cloud.comparison.levels import Level
from mock_cloud.comparison.pairs import Compared
from mock_cloud.errors import InputError
from mock_cloud.model import utc_text
from mock_cloud.provenance.files import digest_file
from mock_cloud.report.logs import Phase
from mock_cloud.report.story import BuildStory
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.terminal_text import printable

INSTALLED_MAX: Final = 5000
"""Packages of a build chroot that are listed; the others are counted."""

_TEMPLATES: Final = Path(__file__).parent / "templates"
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class Extras:
    """What this machine knows of a build beyond its directory; empty where it knows nothing."""

    rating: str = ""
    cost: str = ""


@dataclass(frozen=True, slots=True)
class _Bar:
    name: str
    depth: int
    seconds: float | None
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class _Cell:
    """A package of one build: its level with the first build's, and its digest."""

    level: str
    agrees: bool
    sha256: str
    differences: tuple[str, ...]
    volatile: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    package: str
    cells: tuple[_Cell, ...]


def render_report(
    stories: Sequence[BuildStory],
    extras: Mapping[Path, Extras],
    compared: Sequence[Compared],
    unlike: str,
) -> str:
    """The page about one build, or several of one source side by side.

    `compared` are their packages; `unlike` says why they were not compared.
    """
    return _render(
        "report.html",
        stories=stories,
        extras=extras,
        rows=_rows(compared),
        wrong=sum(not one.agrees for one in compared),
        places=[story.place for story in stories],
        unlike=unlike,
        bars={story.place: list(_bars(story.phases)) for story in stories},
        installed_max=INSTALLED_MAX,
    )


def render_comparison(
    places: Sequence[Path], compared: Sequence[Compared], diffs: Mapping[str, str]
) -> str:
    """The page that `compare --html` writes; `diffs` are diffoscope's texts by package."""
    return _render(
        "comparison.html",
        places=places,
        rows=_rows(compared),
        agree=all(one.agrees for one in compared),
        wrong=sum(not one.agrees for one in compared),
        count=len(compared),
        diffs=diffs,
    )


def write_page(path: Path, page: str) -> None:
    """Write the file, whole or not at all. InputError."""
    try:
        replace_file(path, page.encode())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _render(name: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": size_text, "shown": printable, "utc": utc_text, "duration": duration_text,
        "counted": _counted,
    }  # fmt: skip
    page = environment.get_template(name)
    made = utc_text(int(time.time()))
    return page.render(version=__version__, made=made, levels=_LEVELS, **values)


_LEVELS: Final = {
    Level.SAME_FILE.value: "L0: the same file",
    Level.SAME_BUILD.value: "L1: the same build",
    Level.SAME_CONTENTS.value: "L2: the same contents",
    Level.DIFFERENT.value: "different",
}


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size_text(size_bytes: float) -> str:
    """As people read it: 1.4 MiB."""
    number = 0
    while size_bytes >= 1024 and number < len(_UNITS) - 1:
        size_bytes /= 1024
        number += 1
    return f"{size_bytes:.{1 if number else 0}f} {_UNITS[number]}"


def duration_text(seconds: float) -> str:
    """As people read it: 2 h 05 min, 4 min 03 s, 1.2 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _bars(phases: Sequence[Phase]) -> Iterator[_Bar]:
    """In percent of the whole."""
    moments = [
        moment for one in phases for moment in (one.start_s, one.end_s) if moment is not None
    ]
    total = max(moments, default=0.0) or 1.0
    for one in phases:
        end = total if one.end_s is None else one.end_s
        seconds = None if one.end_s is None else one.end_s - one.start_s
        left, width = 100 * one.start_s / total, 100 * (end - one.start_s) / total
        yield _Bar(one.name, min(one.depth, 8), seconds, round(left, 2), round(width, 2))


def _rows(compared: Sequence[Compared]) -> list[_Row]:
    """A row a package: the first build's digest, then each other's with its level."""
    rows: dict[str, list[_Cell]] = {}
    for one in compared:
        cells = rows.setdefault(one.package, [_Cell("", True, _digest(one.left), (), ())])
        sameness = one.sameness
        cells.append(
            _Cell(
                sameness.level.value, one.agrees, _digest(one.right), sameness.differences,
                sameness.volatile,
            )
        )  # fmt: skip
    return [_Row(name, tuple(cells)) for name, cells in rows.items()]


def _digest(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return digest_file(path)
    except OSError:
        return ""

# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud compare`: whether builds are the same, package by package."""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mock_cloud.comparison.levels import Level
from mock_cloud.comparison.pairs import Compared, compare_builds
from mock_cloud.console import Console, print_table
from mock_cloud.errors import EXIT_DIFFERENT, InputError
from mock_cloud.process import CommandFailed, converse
from mock_cloud.wire.terminal_text import sanitize

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_DIFF_S: Final = 1800.0
_DIFF_MAX: Final = 64 << 20
_SHOWN: Final = 6


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "compare",
        help="say whether builds are the same, package by package",
        description="Compare the packages of one build with those of others. L0: the same file. L1:"
        " the same payload and header, but for build host, times and signatures. L2: the same"
        " files, dependencies and scriptlets; texts differ. Only L0 and L1 are agreement. Exit"
        " status 0 when all agree, 1 when one does not.",
        epilog="examples: mock-cloud compare results-a results-b; mock-cloud compare --json"
        " a/hello-2.10-1.x86_64.rpm b/hello-2.10-1.x86_64.rpm; mock-cloud compare --diff A B;"
        " mock-cloud compare --diff --html difference.html A B",
    )
    parser.add_argument("first", type=Path, metavar="PATH", help="a resultdir, or one package")
    parser.add_argument("others", type=Path, nargs="+", metavar="PATH", help="what to compare with")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument(
        "--diff", action="store_true", help="show what differs (L3), by diffoscope if there is one"
    )
    parser.add_argument("--html", type=Path, metavar="FILE",
                        help="write the same, and with --diff what differs, as a page")  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    diffoscope = _find_diffoscope() if arguments.diff else ""
    compared = compare_builds(arguments.first, arguments.others)
    if arguments.json:
        print(json.dumps([_to_json(one) for one in compared], indent=2))
    else:
        _print(compared)
    diffs = {}
    for one in compared:
        if diffoscope and not one.agrees and one.left and one.right:
            diffs[f"{one.package} of {one.other}"] = text = _diff(diffoscope, one, console)
            if arguments.html is None:
                print(text, end="")
    if arguments.html is not None:
        # Jinja2 is not loaded for what is printed.
        from mock_cloud.report.page import render_comparison, write_page

        page = render_comparison([arguments.first, *arguments.others], compared, diffs)
        write_page(arguments.html, page)
    return 0 if all(one.agrees for one in compared) else EXIT_DIFFERENT


def _print(compared: Sequence[Compared]) -> None:
    counts = Counter(one.sameness.level for one in compared)
    found = ", ".join(f"{level.value} {counts[level]}" for level in Level if counts[level])
    wrong = [one for one in compared if not one.agrees]
    said = f"not the same build: {len(wrong)} of {len(compared)} packages do not agree"
    print(f"{said if wrong else f'the same build: {len(compared)} packages agree'} ({found})")
    several = len({one.other for one in compared}) > 1
    rows = [("PACKAGE", *(("WITH",) if several else ()), "LEVEL", "DIFFERS IN")]
    for one in compared:
        place = (str(one.other),) if several else ()
        names = one.sameness.differences or one.sameness.volatile
        shown = ", ".join(names[:_SHOWN]) + (
            f", {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        )
        rows.append((one.package, *place, one.sameness.level.value, shown))
    print_table(rows)


def _to_json(one: Compared) -> dict[str, Any]:
    return {
        "package": one.package,
        "left": str(one.left) if one.left else None,
        "right": str(one.right) if one.right else None,
        "level": one.sameness.level.value,
        "agrees": one.agrees,
        "differences": list(one.sameness.differences),
        "volatile": list(one.sameness.volatile),
    }


def _find_diffoscope() -> str:
    found = shutil.which("diffoscope")
    if found is None:
        raise InputError(
            "--diff needs diffoscope, and there is none", hint="pip install diffoscope"
        )
    return found


def _diff(diffoscope: str, one: Compared, console: Console) -> str:
    """What diffoscope, which ends with 1 then, says of a difference; a warning if it fails."""
    argv = [diffoscope, "--text", "-", "--text-color=never", str(one.left), str(one.right)]
    try:
        ended = converse(argv, timeout_s=_DIFF_S, output_max_bytes=_DIFF_MAX)
    except CommandFailed as error:
        console.warning(f"{one.package}: {error.message}")
        return ""
    if ended.status not in (0, 1):
        console.warning(f"{one.package}: diffoscope ended with {ended.status}:"
                        f" {sanitize(ended.stderr).strip()[-300:]}")  # fmt: skip
    return sanitize(ended.stdout)

# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud report`: a page about finished builds, for people."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud import places
from mock_cloud.cli.verify import find_own_key, find_verify_keys
from mock_cloud.comparison.pairs import Compared, compare_builds
from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError, InputError, MockCloudError
from mock_cloud.ledger.ratings import RULES_NAME, rate, read_rules
from mock_cloud.ledger.store import Ledger
from mock_cloud.provenance.requirements import Requirements, read_requirements
from mock_cloud.report.page import Extras, render_report, size_text, write_page
from mock_cloud.report.story import BuildStory, Outcome, read_story

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "report",
        help="write an HTML page about finished builds",
        description="Write one HTML page, which needs no other file and no network: whether the"
        " results can be relied on, how long each phase took, what was built from what, the failing"
        " lines of the logs and the logs. Of several directories, their packages are compared side"
        " by side. What is not verified is not told. Exit status 0 if the page was written,"
        " whatever it says.",
        epilog="examples: mock-cloud report results -o report.html; mock-cloud report"
        " results/disagreed-*/* --keys builder.pub -o alpha-and-beta.html",
    )
    parser.add_argument("places", type=Path, nargs="+", metavar="DIR", help="resultdirs")
    parser.add_argument("--output", "-o", type=Path, required=True, metavar="FILE",
                        help="where the page goes")  # fmt: skip
    parser.add_argument(
        "--keys", type=Path, action="append", metavar="FILE",
        help="public keys (OpenSSH ed25519) that may have signed; repeatable (default: your own)",
    )  # fmt: skip
    parser.add_argument("--policy", type=Path, metavar="FILE",
                        help="what must be so, as for verify; TOML")  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    directories: list[Path] = arguments.places
    output: Path = arguments.output
    for place in directories:
        if not place.is_dir():
            raise InputError(f"{place}: not a directory of results")
        if output.absolute().is_relative_to(place.absolute()):
            raise CommandLineError(
                f"{output} is in {place}, and verify would refuse a file that the build did not"
                " leave"
            )
    if len({place.absolute() for place in directories}) != len(directories):
        raise CommandLineError("a directory is named twice")
    named = arguments.keys is not None or find_own_key() is not None
    keys = find_verify_keys(arguments.keys) if named else []
    wanted = Requirements() if arguments.policy is None else read_requirements(arguments.policy)
    stories = [read_story(place, keys, wanted) for place in directories]
    compared, unlike = _compare(directories)
    extras = {one.place: _find_extras(one, console) for one in stories}
    page = render_report(stories, extras, compared, unlike)
    write_page(output, page)
    counts = {outcome.value: sum(one.outcome is outcome for one in stories) for outcome in Outcome}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    plural = "s" if len(stories) > 1 else ""
    print(f"{output}: {len(stories)} build{plural} ({said}), {size_text(output.stat().st_size)}")
    return 0


def _compare(directories: Sequence[Path]) -> tuple[list[Compared], str]:
    """Their packages, or why they can't be compared."""
    if len(directories) < 2:
        return [], ""
    try:
        return compare_builds(directories[0], directories[1:]), ""
    except InputError as error:
        return [], error.message


def _find_extras(story: BuildStory, console: Console) -> Extras:
    """What this machine's ledger and journal have of the build; a warning where they are broken."""
    state = places.state_home() / "mock-cloud"
    if story.provenance is None or not state.is_dir():
        return Extras()
    try:
        rating = _find_rating(state, story.provenance.used.node.builder)
        return Extras(rating, _find_cost(state, story.provenance.job))
    except MockCloudError as error:
        console.warning(f"left out of the report: {error.message}")
        return Extras()


def _find_rating(state: Path, builder: str) -> str:
    entries = Ledger(state).read()
    rules = read_rules(places.config_home() / RULES_NAME)
    found = rate(entries, rules, time.time()).get(builder)
    return "" if found is None else found.rating.value


def _find_cost(state: Path, job_id: str) -> str:
    """What the node cost while the job ran, in the budget's currency; empty if nobody knows."""
    from mock_cloud.cloud.journal import Journal

    journal = Journal(state)
    job = journal.find_job(job_id)
    lease = None if job is None else journal.find(job.lease)
    if job is None or lease is None or lease.price_per_hour is None or job.ended_unix is None:
        return ""
    hours = (job.ended_unix - job.started_unix) / 3600
    return f"{hours * lease.price_per_hour:.4f} (at {lease.price_per_hour:g} an hour)"

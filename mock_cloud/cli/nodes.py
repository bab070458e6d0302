# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud nodes`: what is held in your name, and until when."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.cloud.listing import NodeRow, list_budgets, list_rows
from mock_cloud.cloud.orphans import reap_local
from mock_cloud.config.remotes import list_remotes, load_remote
from mock_cloud.console import Console, print_table
from mock_cloud.errors import MockCloudError
from mock_cloud.places import state_dir
from mock_cloud.settings import Budget

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_HEAD = (
    "LEASE", "REMOTE", "STATE", "ADDRESS", "KIND", "BUILDS", "AGE", "ENDS IN", "PER HOUR", "COST",
    "CHROOTS",
)  # fmt: skip


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "nodes",
        help="list the nodes held in your name",
        description="List the nodes held in your name: state, address, when each ends, what it"
        " costs per hour and has cost so far, and what is left of today's budgets.",
        epilog="example: mock-cloud nodes --json",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--configdir", metavar="DIR", type=Path, help="instead of /etc/mock")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    for reaped in reap_local(state_dir()):
        reaped.tell(console.info, console.warning)
    rows = list_rows(state_dir())
    budgets = list_budgets(state_dir(), _find_budgets(arguments.configdir, console))
    if arguments.json:
        left = {budget.remote: budget.left for budget in budgets}
        nodes = [{**row.to_json(), "budget_left": left.get(row.remote)} for row in rows]
        print(json.dumps(nodes, indent=2))
        return 0
    if rows:
        print_table([_HEAD, *(_cells(row) for row in rows)])
        for row in rows:
            if row.problem:
                console.warning(f"{row.lease} could not be ended: {row.problem}")
    else:
        console.info("no nodes")
    for budget in budgets:
        console.info(
            f"remote {budget.remote}: {budget.left:.2f} of {budget.per_day:.2f}"
            f" {budget.currency} left today (UTC): {budget.spent:.2f} spent,"
            f" {budget.reserved:.2f} reserved"
        )
    return 0


def _find_budgets(configdir: Path | None, console: Console) -> dict[str, Budget]:
    """The budgets of all remotes; a file with a mistake is named, and hides no node."""
    budgets = {}
    for file in list_remotes(configdir):
        try:
            budget = load_remote(file.name, configdir).budget
        except MockCloudError as error:
            console.warning(error.message)
            continue
        if budget is not None:
            budgets[file.name] = budget
    return budgets


def _cells(row: NodeRow) -> tuple[str, ...]:
    now = time.time()
    return (
        row.lease,
        row.remote,
        row.state,
        row.address or "-",
        row.kind or "-",
        str(row.builds),
        _duration(now - row.created_unix),
        _duration(row.ends_unix - now),
        _amount(row.price_per_hour),
        _amount(row.cost),
        " ".join(row.chroots) or "-",
    )


def _amount(amount: float | None) -> str:
    return "?" if amount is None else f"{amount:.2f}"


def _duration(seconds: float) -> str:
    left = max(0, int(seconds))
    if left < 120:
        return f"{left}s"
    return f"{left // 60}m" if left < 7200 else f"{left // 3600}h{left % 3600 // 60:02d}m"

# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud nodes`: what is held in your name, and until when."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from mock_cloud.cli.tables import print_table
from mock_cloud.cloud.listing import NodeRow, list_rows
from mock_cloud.cloud.sweep import sweep
from mock_cloud.session.console import Console
from mock_cloud.session.state import state_dir

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

_HEAD = ("LEASE", "REMOTE", "STATE", "ADDRESS", "BUILDS", "AGE", "ENDS IN", "CHROOTS")


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "nodes",
        help="list the nodes held in your name",
        description="List the nodes held in your name: state, address, and when each ends.",
        epilog="example: mock-cloud nodes --json",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    for swept in sweep(state_dir()):
        console.info(f"node {swept.lease_id} was ended: {swept.reason}")
    rows = list_rows(state_dir())
    if arguments.json:
        print(json.dumps([row.to_json() for row in rows], indent=2))
    elif rows:
        print_table([_HEAD, *(_cells(row) for row in rows)])
    else:
        console.info("no nodes")
    return 0


def _cells(row: NodeRow) -> tuple[str, ...]:
    now = time.time()
    return (
        row.lease,
        row.remote,
        row.state,
        row.address or "-",
        str(row.builds),
        _duration(now - row.created_unix),
        _duration(row.ends_unix - now),
        " ".join(row.chroots) or "-",
    )


def _duration(seconds: float) -> str:
    left = max(0, int(seconds))
    if left < 120:
        return f"{left}s"
    return f"{left // 60}m" if left < 7200 else f"{left // 3600}h{left % 3600 // 60:02d}m"

# SPDX-License-Identifier: GPL-2.0-or-later
"""The evidence: everything measured, as one JSON object of schema mock-cloud/evidence/1.

Facts only; the controller judges. docs/protocol.md ("Evidence") is the contract.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from typing import Any, Final

from mock_cloud.agent.measure import headers, tree, walk
from mock_cloud.agent.measure.live import LiveFacts, measure_live

SCHEMA: Final = "mock-cloud/evidence/1"


def measure(
    nonce: str,
    skip: list[str],
    trees: list[str],
    processes: int | None,
    root: str = "/",
) -> bytes:
    """The evidence as JSON (ASCII). `processes`: how many workers; None or 0: one a core.

    With a `root` other than "/" only files, trees and RPM headers of that tree are measured,
    under the paths they would have on the node. Raises ValueError for malformed paths,
    OSError if `root` cannot be opened, `pool.WorkerFailed`.
    """
    started_s = time.monotonic()
    live: list[LiveFacts] = []
    files = tree.measure_files(
        root=root,
        skip=skip,
        trees=trees,
        processes=processes,
        meanwhile=(lambda own: live.append(measure_live(own))) if root == "/" else None,
    )
    unreadable = list(files.unreadable)
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "nonce": nonce,
        "clock": int(time.time()),
        "boot_id": _boot_id(),
        "uname": list(os.uname()),
        "skip": skip,
        "trees": {
            path: {"sha256": found.sha256, "files": found.files, "bytes": found.size_bytes}
            for path, found in files.trees.items()
        },
        "self": os.getpid(),
        **_rpm_facts(root, unreadable),
        **(live[0] if live else LiveFacts()).as_json(),
    }
    if live:
        unreadable += live[0].unreadable
    facts["unreadable"] = unreadable
    facts["duration_s"] = round(time.monotonic() - started_s, 3)
    return _join(facts, files.rows_json)


def _join(facts: Mapping[str, Any], rows_json: str) -> bytes:
    """One object of `facts` and the rows, which the workers encoded already."""
    head = json.dumps(facts, separators=(",", ":"))
    return b"".join((head[:-1].encode(), b',"files":[', rows_json.encode(), b"]}"))


def _rpm_facts(root: str, unreadable: list[tuple[str, str]]) -> dict[str, Any]:
    database = headers.find_database(root)
    if database is None:
        return {"rpmdb": None, "headers": []}
    listed: list[list[str | int]] = []
    try:
        for blob in headers.iter_headers(root):
            listed.append([hashlib.sha256(blob).hexdigest(), len(blob)])
    except OSError as error:
        unreadable.append((database.path, walk.errno_name(error)))
        listed = []
    return {"rpmdb": {"path": database.path, "backend": database.backend}, "headers": listed}


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as text:
        return text.read().strip()

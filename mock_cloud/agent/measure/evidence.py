# SPDX-License-Identifier: GPL-2.0-or-later
"""The evidence: everything measured, as records of schema mock-cloud/evidence/4.

Facts only; the controller judges. docs/protocol.md ("Evidence") is the contract.
"""

from __future__ import annotations

import hashlib
import os
from itertools import chain
from typing import Any, Final

from mock_cloud.agent.measure import headers, pool, texts, tree, walk
from mock_cloud.agent.measure.live import LiveFacts, measure_live
from mock_cloud.wire.records import encode_records, encode_rows

_SCHEMA: Final = "mock-cloud/evidence/4"
_PROBLEM_MAX: Final = 200


def measure(
    nonce: str,
    skip: list[str],
    trees: list[str],
    processes: int | None,
    root: str = "/",
) -> bytes:
    """The evidence as records (ASCII). `processes`: how many workers; None or 0: one a core.

    With a `root` other than "/" only files, trees and RPM headers of that tree are measured,
    under the paths they would have on the node. Raises ValueError for malformed paths,
    OSError if `root` cannot be opened, `pool.WorkerFailed`.
    """
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
        "schema": _SCHEMA,
        "nonce": nonce,
        "uname": list(os.uname()),
        "skip": skip,
        "trees": {
            path: {"sha256": found.sha256, "files": found.files, "bytes": found.size_bytes}
            for path, found in files.trees.items()
        },
        "self": os.getpid(),
        "texts": texts.measure_texts(root),
        **_rpm_facts(root),
        **(live[0] if live else LiveFacts()).as_json(),
    }
    if live:
        unreadable += live[0].unreadable
    facts["unreadable"] = unreadable
    # The workers encoded the rows already.
    rows = encode_rows("files", files.rows_json.encode(), pool.SEPARATOR.encode())
    return b"".join(chain(encode_records(facts), rows))


def _rpm_facts(root: str) -> dict[str, Any]:
    """Every database, the headers of all of them, and why one can't be read."""
    databases: list[list[str | None]] = []
    listed: list[list[str | int]] = []
    for database in headers.find_databases(root):
        found: list[list[str | int]] = []
        problem = None
        try:
            for blob in headers.read_database(root, database):
                found.append([hashlib.sha256(blob).hexdigest(), len(blob)])
        except OSError as error:
            problem = f"{walk.errno_name(error)}: {error.strerror}"[:_PROBLEM_MAX]
        listed += [] if problem else found
        databases.append([database.path, database.backend, problem])
    return {"rpmdb": databases, "headers": listed}

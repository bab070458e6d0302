# SPDX-License-Identifier: GPL-2.0-or-later
"""The evidence: everything measured, as records of schema mock-cloud/evidence/4.

Facts only; the controller judges. docs/protocol.md ("Evidence") is the contract.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from mock_cloud.agent.measure import headers, opening, pool, tree, walk
from mock_cloud.agent.measure.live import LiveFacts, measure_live
from mock_cloud.wire.records import encode_records, encode_rows
from mock_cloud.wire.text_places import (
    NETWORK_PLACES,
    TEXT_FILES,
    TEXT_MAX,
    TEXTS_MAX,
    is_network_file,
)

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
        "texts": measure_texts(root),
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


def measure_texts(root: str = "/") -> list[list[str]]:
    """Path and bytes, in base64, of each that is a regular file and small enough."""
    found: list[list[str]] = []
    for path in _paths(root):
        data = _read(root, path)
        if data is not None and len(found) < TEXTS_MAX:
            found.append([path, base64.b64encode(data).decode("ascii")])
    return found


def _paths(root: str) -> Iterator[str]:
    yield from TEXT_FILES
    for directory in NETWORK_PLACES:
        try:
            fd = opening.open_in_root(root, directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            names = sorted(os.listdir(fd))
        finally:
            os.close(fd)
        yield from (f"{directory}/{name}" for name in names if is_network_file(directory, name))


def _read(root: str, path: str) -> bytes | None:
    """None for what is no small regular file; which one it is, the digest beside it tells."""
    try:
        fd = opening.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        # A pipe or a device is not read from; more than one read is not needed of a small file.
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        data = os.read(fd, TEXT_MAX + 1) if is_file else None
    except OSError:
        return None
    finally:
        os.close(fd)
    return data if data is not None and len(data) <= TEXT_MAX else None

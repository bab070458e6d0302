# SPDX-License-Identifier: GPL-2.0-or-later
"""Which repository dnf has each package of a chroot from: as dnf itself noted it there.

dnf 4 keeps it in history.sqlite (libdnf/transaction of libdnf: tables rpm, repo, trans_item), dnf 5
in nevras.toml (libdnf5/system/state.cpp of dnf5). Scriptlets may have written both: hostile input.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from typing import Any, Final

from mock_cloud.agent.measure import headers

_HISTORY: Final = "/var/lib/dnf/history.sqlite"
_NEVRAS: Final = "/usr/lib/sysimage/libdnf5/nevras.toml"
_SIZE_MAX: Final = 64 << 20
_ROWS_MAX: Final = 200_000
_EPOCH_0: Final = re.compile(r"-0:(?=[^-]*-[^-]*$)")


def find_repositories(root: str) -> dict[str, str]:
    """Package (see `plain_nevra`) → repository's id; empty where none can be read."""
    for path, read in ((_HISTORY, _read_history), (_NEVRAS, _read_nevras)):
        try:
            with headers.copied(root, path, _SIZE_MAX) as copy:
                return read(copy)
        except (OSError, sqlite3.Error, ValueError, RecursionError):
            continue
    return {}


def plain_nevra(nevra: str) -> str:
    """Without an epoch of 0, which rpm has where a package says so, and dnf never."""
    return _EPOCH_0.sub("-", nevra)


def _read_history(path: str) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        names = {number: name for number, name in _rows(connection, "repo", "id, repoid")}
        packages = {
            row[0]: _nevra(*row[1:])
            for row in _rows(connection, "rpm", "item_id, name, epoch, version, release, arch")
        }
        items = _rows(connection, "trans_item", "item_id, repo_id")
        found = {packages.get(item, ""): names.get(repo, "") for item, repo in items}
    return {nevra: repo for nevra, repo in found.items() if nevra and _is_id(repo)}


def _rows(connection: sqlite3.Connection, table: str, columns: str) -> list[Any]:
    """In the order in which they were written. A view could count for ever: it is none of dnf's."""
    kind = connection.execute("SELECT type FROM sqlite_master WHERE name = ?", (table,))
    if kind.fetchone() != ("table",):
        raise ValueError(f"no table {table}")
    query = f"SELECT {columns} FROM {table} ORDER BY rowid LIMIT {_ROWS_MAX}"  # noqa: S608
    return connection.execute(query).fetchall()


def _nevra(name: Any, epoch: Any, version: Any, release: Any, arch: Any) -> str:
    before = f"{epoch}:" if epoch else ""
    return f"{name}-{before}{version}-{release}.{arch}"


def _read_nevras(path: str) -> dict[str, str]:
    try:
        import tomllib
    except ImportError:  # Python 3.10's toolkit has none
        return {}
    with open(path, "rb") as stream:
        table = tomllib.load(stream).get("nevras")
    found = table.items() if isinstance(table, dict) else ()
    return {
        plain_nevra(nevra): value["from_repo"]
        for nevra, value in found
        if isinstance(value, dict) and _is_id(value.get("from_repo"))
    }


def _is_id(text: Any) -> bool:
    return isinstance(text, str) and 0 < len(text) <= 400 and text.isprintable()

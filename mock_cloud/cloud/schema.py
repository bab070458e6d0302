# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's table, and how one that an earlier version wrote becomes this one's.

A journal may name nodes that live and cost money, so it is never put aside: each step turns
one version into the next, all of them in the caller's one transaction.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections.abc import Callable
from typing import Any, Final

from mock_cloud.wire.json_strict import load_json

VERSION: Final = 6

CREATE_TABLE: Final = """
CREATE TABLE lease (
    id TEXT PRIMARY KEY,
    remote TEXT NOT NULL,
    owner TEXT NOT NULL,
    provider TEXT NOT NULL,
    settings TEXT NOT NULL,
    state TEXT NOT NULL,
    created_unix REAL NOT NULL,
    expires_unix REAL NOT NULL,
    idle_ttl_s REAL NOT NULL,
    idle_since_unix REAL,
    builds INTEGER NOT NULL,
    chroot TEXT NOT NULL,
    chroots TEXT NOT NULL,
    holder TEXT,
    address TEXT,
    handle TEXT NOT NULL,
    injected TEXT NOT NULL,
    mounts TEXT NOT NULL,
    layers TEXT NOT NULL,
    verdict_sha256 TEXT NOT NULL,
    has_bootstrap_key INTEGER NOT NULL DEFAULT 0,
    next_host_key TEXT,
    arch TEXT NOT NULL DEFAULT '',
    kind TEXT NOT NULL DEFAULT '',
    price_per_hour REAL,
    ended_unix REAL,
    end_attempts INTEGER NOT NULL DEFAULT 0,
    end_tried_unix REAL,
    end_problem TEXT NOT NULL DEFAULT '',
    reserved TEXT NOT NULL DEFAULT ''
) STRICT
"""


def migrate(db: sqlite3.Connection, version: int, owner: str) -> None:
    """Bring the table from `version` to `VERSION`. ValueError if a row is damaged.

    `owner` is ours: versions before 5 had it without its random word.
    """
    for step in _STEPS[version - 1 :]:
        step(db, owner)


def _give_addresses_a_proxy(db: sqlite3.Connection, _: str) -> None:
    """1 → 2: an address has a proxy command, empty for none."""
    _rewrite(db, "address", lambda fields: [*fields, []] if len(fields) == 4 else fields)


def _forget_contents(db: sqlite3.Connection, _: str) -> None:
    """2 → 3: what was injected is kept by digest; host keys can be replaced."""

    def digest(files: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {path: _by_digest(*fields) for path, fields in files.items()}

    _rewrite(db, "injected", digest)
    db.execute("ALTER TABLE lease ADD COLUMN has_bootstrap_key INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE lease ADD COLUMN next_host_key TEXT")


def _by_digest(kind: str, mode: int, uid: int, gid: int, content: str) -> list[Any]:
    data = base64.b64decode(content, validate=True)
    if kind != "f":
        return [kind, mode, uid, gid, content, "", 0]
    return [kind, mode, uid, gid, "", hashlib.sha256(data).hexdigest(), len(data)]


def _name_fields_of_addresses(db: sqlite3.Connection, _: str) -> None:
    """3 → 4: an address is an object, and may name keys of the user."""
    names = ("host", "port", "user", "host_key", "proxy")
    _rewrite(
        db,
        "address",
        lambda fields: {**dict(zip(names, fields, strict=True)), "user_keys": None},
    )


def _name_owners_and_costs(db: sqlite3.Connection, owner: str) -> None:
    """4 → 5: the owner has the state directory's word; what a node costs; how its end went."""
    person, _, word = owner.partition("/")
    db.execute("UPDATE lease SET owner = ? WHERE owner = ?", (f"{person}/{word}", person))
    for column in (
        "arch TEXT NOT NULL DEFAULT ''",
        "kind TEXT NOT NULL DEFAULT ''",
        "price_per_hour REAL",
        "ended_unix REAL",
        "end_attempts INTEGER NOT NULL DEFAULT 0",
        "end_tried_unix REAL",
        "end_problem TEXT NOT NULL DEFAULT ''",
    ):
        db.execute(f"ALTER TABLE lease ADD COLUMN {column}")
    # There were local nodes only.
    db.execute("UPDATE lease SET price_per_hour = 0 WHERE provider = 'local'")
    db.execute("UPDATE lease SET ended_unix = expires_unix WHERE state = 'gone'")


def _reserve_for_a_chroot(db: sqlite3.Connection, _: str) -> None:
    """5 → 6: a node may be kept for one chroot."""
    db.execute("ALTER TABLE lease ADD COLUMN reserved TEXT NOT NULL DEFAULT ''")


def _rewrite(db: sqlite3.Connection, column: str, change: Callable[[Any], Any]) -> None:
    """Apply `change` to the JSON in `column` of every row."""
    rows = db.execute(f"SELECT id, {column} FROM lease WHERE {column} IS NOT NULL")  # noqa: S608
    for lease_id, text in rows.fetchall():
        try:
            value = json.dumps(change(load_json(text)))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"lease {lease_id!r}: {column}: {error}") from error
        db.execute(f"UPDATE lease SET {column} = ? WHERE id = ?", (value, lease_id))  # noqa: S608


_STEPS: Final = (
    _give_addresses_a_proxy,
    _forget_contents,
    _name_fields_of_addresses,
    _name_owners_and_costs,
    _reserve_for_a_chroot,
)

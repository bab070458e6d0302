# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's table, and leases as its rows: writing, and strict reading back."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Mapping
from typing import Final

from mock_cloud.cloud.lease import Holder, LastVerdict, Lease, LeaseState, NextHostKey, Sharing
from mock_cloud.cloud.provider import ExpectedMount, InjectedFile, InjectedType
from mock_cloud.model import HostKey, NodeAddress
from mock_cloud.wire.decode import decode_bytes, to_json

_COLUMNS: Final = (
    "id", "remote", "owner", "provider", "settings", "state", "created_unix", "expires_unix",
    "idle_ttl_s", "idle_since_unix", "builds", "chroot", "chroots", "holder", "address",
    "handle", "injected", "mounts", "layers", "verdict", "has_bootstrap_key",
    "next_host_key", "arch", "kind", "price_per_hour", "ended_unix", "end_attempts",
    "end_tried_unix", "end_problem", "reserved", "sharing", "job", "grace_s",
)  # fmt: skip

VERSION: Final = 10
"""Of the tables; a journal of another one is refused."""

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
    verdict TEXT NOT NULL,
    has_bootstrap_key INTEGER NOT NULL,
    next_host_key TEXT,
    arch TEXT NOT NULL,
    kind TEXT NOT NULL,
    price_per_hour REAL,
    ended_unix REAL,
    end_attempts INTEGER NOT NULL,
    end_tried_unix REAL,
    end_problem TEXT NOT NULL,
    reserved TEXT NOT NULL,
    sharing TEXT NOT NULL,
    job TEXT NOT NULL,
    grace_s REAL NOT NULL
) STRICT
"""

SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM lease"  # noqa: S608 (constants only)
REPLACE: Final = (
    f"INSERT OR REPLACE INTO lease ({', '.join(_COLUMNS)})"  # noqa: S608 (constants only)
    f" VALUES ({', '.join('?' * len(_COLUMNS))})"
)


class RowError(ValueError):
    """A row is not one that this version wrote."""


def to_row(lease: Lease) -> tuple[str | float | int | None, ...]:
    """The values of `REPLACE`, in order."""
    holder, address = lease.holder, lease.address
    return (
        lease.id,
        lease.remote,
        lease.owner,
        lease.provider,
        lease.settings,
        lease.state.value,
        lease.created_unix,
        lease.expires_unix,
        lease.idle_ttl_s,
        lease.idle_since_unix,
        lease.builds,
        lease.chroot,
        json.dumps(lease.chroots),
        None if holder is None else json.dumps([holder.pid, holder.started]),
        None if address is None else to_json(address).decode(),
        lease.handle,
        _dump_injected(lease.injected),
        json.dumps([[mount.point, mount.type] for mount in lease.mounts]),
        json.dumps(dict(lease.layers)),
        to_json(lease.verdict).decode(),
        int(lease.has_bootstrap_key),
        _dump_next_key(lease.next_host_key),
        lease.arch,
        lease.kind,
        lease.price_per_hour,
        lease.ended_unix,
        lease.end_attempts,
        lease.end_tried_unix,
        lease.end_problem,
        lease.reserved,
        to_json(lease.sharing).decode(),
        lease.job,
        lease.grace_s,
    )


def parse_row(row: sqlite3.Row) -> Lease:
    """The lease in a row of `SELECT`. RowError."""
    try:
        return Lease(
            id=row["id"],
            remote=row["remote"],
            owner=row["owner"],
            provider=row["provider"],
            settings=row["settings"],
            state=LeaseState(row["state"]),
            created_unix=row["created_unix"],
            expires_unix=row["expires_unix"],
            idle_ttl_s=row["idle_ttl_s"],
            idle_since_unix=row["idle_since_unix"],
            builds=row["builds"],
            chroot=row["chroot"],
            chroots=decode_bytes(tuple[str, ...], row["chroots"]),
            holder=None if row["holder"] is None else _parse_holder(row["holder"]),
            address=None if row["address"] is None else decode_bytes(NodeAddress, row["address"]),
            handle=row["handle"],
            injected=parse_injected(row["injected"]),
            mounts=parse_mounts(row["mounts"]),
            layers=decode_bytes(dict[str, str], row["layers"]),
            verdict=decode_bytes(LastVerdict, row["verdict"]),
            has_bootstrap_key=bool(row["has_bootstrap_key"]),
            next_host_key=_parse_next_key(row["next_host_key"]),
            arch=row["arch"],
            kind=row["kind"],
            price_per_hour=row["price_per_hour"],
            ended_unix=row["ended_unix"],
            end_attempts=row["end_attempts"],
            end_tried_unix=row["end_tried_unix"],
            end_problem=row["end_problem"],
            reserved=row["reserved"],
            sharing=decode_bytes(Sharing, row["sharing"]),
            job=row["job"],
            grace_s=row["grace_s"],
        )
    except ValueError as error:
        raise RowError(f"lease {row['id']!r}: {error}") from error


def _parse_holder(text: str) -> Holder:
    return Holder(*decode_bytes(tuple[int, str], text))


def _dump_injected(injected: Mapping[str, InjectedFile]) -> str:
    return json.dumps(
        {
            path: [
                file.type.value,
                file.mode,
                file.uid,
                file.gid,
                base64.b64encode(file.content).decode(),
                file.sha256,
                file.size_bytes,
            ]
            for path, file in injected.items()
        }
    )


def parse_injected(text: str) -> dict[str, InjectedFile]:
    """Path → file from its JSON form. ValueError."""
    rows = decode_bytes(dict[str, tuple[InjectedType, int, int, int, str, str, int]], text)
    return {
        path: InjectedFile(
            kind, mode, uid, gid, base64.b64decode(content, validate=True), digest, size
        )
        for path, (kind, mode, uid, gid, content, digest, size) in rows.items()
    }


def _dump_next_key(coming: NextHostKey | None) -> str | None:
    return None if coming is None else json.dumps([str(coming.key), _dump_injected(coming.files)])


def _parse_next_key(text: str | None) -> NextHostKey | None:
    if text is None:
        return None
    key, files = decode_bytes(tuple[HostKey, str], text)
    return NextHostKey(key, parse_injected(files))


def parse_mounts(text: str) -> tuple[ExpectedMount, ...]:
    """Mounts from their JSON form. ValueError."""
    return tuple(ExpectedMount(*one) for one in decode_bytes(list[tuple[str, str]], text))

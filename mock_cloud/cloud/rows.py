# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases as rows of the journal's table: writing, and strict reading back."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from mock_cloud.cloud.addresses import dump_address, parse_address
from mock_cloud.cloud.lease import Holder, Lease, LeaseState, NextHostKey
from mock_cloud.cloud.provider import ExpectedMount, InjectedFile, InjectedType
from mock_cloud.model import HostKey, NodeAddress
from mock_cloud.wire.json_strict import load_json

_COLUMNS: Final = (
    "id", "remote", "owner", "provider", "settings", "state", "created_unix", "expires_unix",
    "idle_ttl_s", "idle_since_unix", "builds", "chroot", "chroots", "holder", "address",
    "handle", "injected", "mounts", "layers", "verdict_sha256", "has_bootstrap_key",
    "next_host_key", "arch", "kind", "price_per_hour", "ended_unix", "end_attempts",
    "end_tried_unix", "end_problem", "reserved",
)  # fmt: skip

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
        None if address is None else json.dumps(dump_address(address)),
        lease.handle,
        _dump_injected(lease.injected),
        json.dumps([[mount.point, mount.type] for mount in lease.mounts]),
        json.dumps(dict(lease.layers)),
        lease.verdict_sha256,
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
            chroots=tuple(_text(name) for name in _list(row["chroots"])),
            holder=_parse_holder(row["holder"]),
            address=_parse_address(row["address"]),
            handle=row["handle"],
            injected=parse_injected(row["injected"]),
            mounts=parse_mounts(row["mounts"]),
            layers={_text(key): _text(value) for key, value in _object(row["layers"]).items()},
            verdict_sha256=row["verdict_sha256"],
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
        )
    except ValueError as error:
        raise RowError(f"lease {row['id']!r}: {error}") from error


def _parse_holder(text: str | None) -> Holder | None:
    if text is None:
        return None
    pid, started = _list(text, 2)
    return Holder(_number(pid), _text(started))


def _parse_address(text: str | None) -> NodeAddress | None:
    if text is None:
        return None
    return parse_address(load_json(text))


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
    files = {}
    for path, fields in _object(text).items():
        kind, mode, uid, gid, content, digest, size = _fields(fields, 7)
        files[path] = InjectedFile(
            InjectedType(kind),
            _number(mode),
            _number(uid),
            _number(gid),
            base64.b64decode(_text(content), validate=True),
            _text(digest),
            _number(size),
        )
    return files


def _dump_next_key(coming: NextHostKey | None) -> str | None:
    return None if coming is None else json.dumps([str(coming.key), _dump_injected(coming.files)])


def _parse_next_key(text: str | None) -> NextHostKey | None:
    if text is None:
        return None
    key, files = _list(text, 2)
    return NextHostKey(HostKey.parse(_text(key)), parse_injected(_text(files)))


def parse_mounts(text: str) -> tuple[ExpectedMount, ...]:
    """Mounts from their JSON form. ValueError."""
    return tuple(
        ExpectedMount(_text(point), _text(kind))
        for point, kind in (_fields(item, 2) for item in _list(text))
    )


def _list(text: str, length: int | None = None) -> list[Any]:
    return _fields(load_json(text), length)


def _fields(value: object, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or length not in (None, len(value)):
        raise ValueError(f"not a list of {length or 'any'} items")
    return value


def _object(text: str) -> dict[str, Any]:
    value = load_json(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError("not an integer")
    return value

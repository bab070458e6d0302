# SPDX-License-Identifier: GPL-2.0-or-later
"""A journal that an earlier version wrote keeps its living leases."""

import base64
import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, LeaseState
from mock_cloud.cloud.provider import InjectedFile, InjectedType
from mock_cloud.cloud.schema import VERSION
from mock_cloud.errors import ConfigError
from mock_cloud.model import NodeAddress
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.wire.decode import encode

SCHEMA_1 = """
CREATE TABLE lease (
    id TEXT PRIMARY KEY, remote TEXT NOT NULL, owner TEXT NOT NULL, provider TEXT NOT NULL,
    settings TEXT NOT NULL, state TEXT NOT NULL, created_unix REAL NOT NULL,
    expires_unix REAL NOT NULL, idle_ttl_s REAL NOT NULL, idle_since_unix REAL,
    builds INTEGER NOT NULL, chroot TEXT NOT NULL, chroots TEXT NOT NULL, holder TEXT,
    address TEXT, handle TEXT NOT NULL, injected TEXT NOT NULL, mounts TEXT NOT NULL,
    layers TEXT NOT NULL, verdict_sha256 TEXT NOT NULL
) STRICT
"""
KEY = make_key_pair().public


def write_earlier(state_dir: Path, version: int, **values: object) -> None:
    """A journal of schema 1 to 4 with a lease at work and one that is gone."""
    state_dir.mkdir(exist_ok=True)
    secret = base64.b64encode(b"private").decode()
    file, link = ["f", 0o600, 0, 0, secret], ["l", 0o777, 0, 0, base64.b64encode(b"to").decode()]
    if version >= 3:
        file = ["f", 0o600, 0, 0, "", hashlib.sha256(b"private").hexdigest(), 7]
        link += ["", 0]
    proxy = [] if version == 1 else ["nc", "%h"]
    address: object = ["127.1.2.3", 22, "root", str(KEY), *([proxy] if version > 1 else [])]
    if version >= 4:
        address = encode(NodeAddress("127.1.2.3", 22, "root", KEY, tuple(proxy)))
    row: dict[str, object] = {
        "id": "a1",
        "remote": "lab",
        "owner": Journal(state_dir / "elsewhere").owner.partition("/")[0],
        "provider": "local",
        "settings": "0" * 64,
        "state": "busy",
        "created_unix": 1000.0,
        "expires_unix": 9e9,
        "idle_ttl_s": 60.0,
        "idle_since_unix": None,
        "builds": 3,
        "chroot": "one",
        "chroots": '["one"]',
        "holder": json.dumps([Holder.me().pid, Holder.me().started]),
        "address": json.dumps(address),
        "handle": "h",
        "injected": json.dumps({"/etc/key": file, "/etc/link": link}),
        "mounts": '[["/", "overlay"]]',
        "layers": "{}",
        "verdict_sha256": "cd",
        **values,
    }
    db = sqlite3.connect(state_dir / "leases.sqlite")
    db.execute(SCHEMA_1)
    if version >= 3:
        db.execute("ALTER TABLE lease ADD COLUMN has_bootstrap_key INTEGER NOT NULL DEFAULT 0")
        db.execute("ALTER TABLE lease ADD COLUMN next_host_key TEXT")
        row["has_bootstrap_key"] = 1
    for lease in (row, {**row, "id": "b2", "state": "gone", "address": None, "injected": "{}"}):
        marks = ", ".join("?" * len(lease))
        db.execute(
            f"INSERT INTO lease ({', '.join(lease)}) VALUES ({marks})",  # noqa: S608
            tuple(lease.values()),
        )
    db.execute(f"PRAGMA user_version = {version}")
    db.commit()
    db.close()


def schema_version(state_dir: Path) -> int:
    db = sqlite3.connect(state_dir / "leases.sqlite")
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    return version


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_lease_at_work_stays_ours(tmp_path: Path, version: int) -> None:
    write_earlier(tmp_path, version)
    journal = Journal(tmp_path)
    (lease,) = journal.leases()
    assert (lease.id, lease.state, lease.held) == ("a1", LeaseState.BUSY, True)
    assert lease.owner == journal.owner
    assert lease.address is not None and lease.address.host_key == KEY
    assert lease.address.proxy == (() if version == 1 else ("nc", "%h"))
    digest = hashlib.sha256(b"private").hexdigest()
    assert lease.injected == {
        "/etc/key": InjectedFile(InjectedType.FILE, 0o600, sha256=digest, size_bytes=7),
        "/etc/link": InjectedFile(InjectedType.LINK, 0o777, content=b"to"),
    }
    assert lease.has_bootstrap_key is (version >= 3)
    assert (lease.price_per_hour, lease.ended_unix, lease.end_attempts) == (0.0, None, 0)
    gone = journal.find("b2")
    assert gone is not None and gone.ended_unix == 9e9
    assert schema_version(tmp_path) == VERSION
    assert Journal(tmp_path).leases() == [lease]  # and once is enough


def test_what_was_somebody_elses_stays_so(tmp_path: Path) -> None:
    write_earlier(tmp_path, 1, owner="you@there:7")
    (lease,) = Journal(tmp_path).leases()
    assert lease.owner == "you@there:7"


def test_the_price_of_what_was_no_local_node_is_unknown(tmp_path: Path) -> None:
    write_earlier(tmp_path, 4, provider="ec2")
    (lease,) = Journal(tmp_path).leases()
    assert lease.price_per_hour is None


@pytest.mark.parametrize(
    ("column", "value"),
    [("injected", "[1]"), ("injected", '{"/x": ["f"]}'), ("address", "no json"), ("address", "7")],
)
def test_a_damaged_row_is_named_and_nothing_is_changed(
    tmp_path: Path, column: str, value: str
) -> None:
    write_earlier(tmp_path, 1, **{column: value})
    before = schema_version(tmp_path)
    with pytest.raises(ConfigError, match="lease 'a1'"):
        Journal(tmp_path)
    assert schema_version(tmp_path) == before
    db = sqlite3.connect(tmp_path / "leases.sqlite")
    columns = [row[1] for row in db.execute("PRAGMA table_info(lease)")]
    db.close()
    assert "price_per_hour" not in columns

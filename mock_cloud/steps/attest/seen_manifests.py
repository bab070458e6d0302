# SPDX-License-Identifier: GPL-2.0-or-later
"""What this user's controller remembers of signed manifests: serials, revocations, the time.

One SQLite file in the state directory. Commands may run at the same time; each decides and
remembers in one transaction. A damaged file is an error, never an empty memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mock_cloud.attest.envelope import refusal
from mock_cloud.attest.validity import CLOCK_TOLERANCE_S, SignedManifest
from mock_cloud.errors import ConfigError
from mock_cloud.model import utc_text
from mock_cloud.sqlite_file import OtherVersion, make_private, opened, transaction
from mock_cloud.wire.dataclass import dataclass

_VERSION: Final = 1
_NOTE_EVERY_S: Final = 3600.0
"""The time is noted no more often, so that most commands only read."""
_TABLES: Final = (
    "CREATE TABLE serial (signer TEXT, image TEXT, arch TEXT, serial INTEGER NOT NULL,"
    " sha256 TEXT NOT NULL, seen_unix REAL NOT NULL, PRIMARY KEY (signer, image, arch))",
    "CREATE TABLE revocation (envelope BLOB PRIMARY KEY)",
    "CREATE TABLE clock (row INTEGER PRIMARY KEY CHECK (row = 1), latest_unix REAL NOT NULL)",
)


@dataclass(frozen=True, slots=True)
class SeenManifest:
    """The newest manifest that was accepted of one image, by one of its signers."""

    signer: str
    image: str
    arch: str
    serial: int
    sha256: str
    seen_unix: float


class SeenManifests:
    """The memory in one state directory, which is there and open to its owner only. ConfigError."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "manifests.sqlite"
        try:
            with self._explained():
                make_private(self.path, _VERSION, *_TABLES)
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be used: {error.strerror}",
                hint="it says which manifests were seen: set XDG_STATE_HOME to another directory",
            ) from error

    def check(self, signed: SignedManifest, now_unix: float, *, remember: bool = True) -> None:
        """Refuse a manifest that is older than one seen before of the same image and signer.

        Otherwise it is what counts from now on, unless this is only a look. AttestationRefused:
        ``manifest.rolled-back``; ConfigError if the clock was set back.
        """
        manifest, validity = signed.manifest, signed.validity
        with self._transaction() as db:
            _check_clock(db, now_unix)
            for signer in sorted(signed.signers):
                key = (signer, validity.image, manifest.arch)
                row = db.execute(
                    "SELECT serial, sha256, seen_unix FROM serial"
                    " WHERE (signer, image, arch) = (?, ?, ?)",
                    key,
                ).fetchone()
                if row is not None:
                    if type(row[0]) is not int:
                        raise sqlite3.DatabaseError("a serial is not a number")
                    _check_serial(signed, signer, row[0], row[1])
                is_noted = row is not None and row[0] == validity.serial
                if remember and not (is_noted and now_unix < row[2] + _NOTE_EVERY_S):
                    values = (*key, validity.serial, manifest.sha256, now_unix)
                    db.execute("REPLACE INTO serial VALUES (?, ?, ?, ?, ?, ?)", values)
            if remember:
                _note_time(db, max(now_unix, validity.issued_unix))

    def find_serial(self, signer: str, image: str, arch: str) -> int:
        """The largest serial seen of this signer's manifests of the image; 0 if there was none."""
        wanted = (signer, image, arch)
        found = [one for one in self.newest() if (one.signer, one.image, one.arch) == wanted]
        return found[0].serial if found else 0

    def newest(self) -> list[SeenManifest]:
        """All that is remembered, by image."""
        with self._transaction() as db:
            rows = db.execute("SELECT * FROM serial ORDER BY image, arch, signer").fetchall()
        return [SeenManifest(*row) for row in rows]

    def is_empty(self) -> bool:
        """Whether nothing was ever checked, or signed, with this memory."""
        with self._transaction() as db:
            return db.execute("SELECT 1 FROM clock").fetchone() is None

    def note_time(self, unix: float) -> None:
        """It was that late at least, as whoever signs now says."""
        with self._transaction() as db:
            _note_time(db, unix)

    def revocations(self) -> list[bytes]:
        """The envelopes that were remembered, of all signers."""
        with self._transaction() as db:
            return [bytes(row[0]) for row in db.execute("SELECT envelope FROM revocation")]

    def remember_revocations(self, envelopes: Iterable[bytes]) -> None:
        """They hold from now on, also when their files are gone."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO revocation VALUES (?)", [(one,) for one in envelopes]
            )

    def reset_clock(self, now_unix: float) -> None:
        """Take this for the latest time that was seen, whatever was."""
        with self._transaction() as db:
            db.execute("REPLACE INTO clock VALUES (1, ?)", (now_unix,))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._explained(), opened(self.path, _VERSION) as db, transaction(db):
            yield db

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, OtherVersion) as error:
            raise ConfigError(
                f"the memory of seen manifests {self.path} cannot be used: {error}",
                hint="if it is damaged, move it away: what is newest and what was revoked is"
                " learned anew then, and an older manifest would pass until it expires",
            ) from error


def _check_serial(signed: SignedManifest, signer: str, serial: int, sha256: str) -> None:
    manifest, validity = signed.manifest, signed.validity
    if validity.serial < serial:
        raise refusal(
            "manifest.rolled-back",
            f"its serial {validity.serial} of {validity.image} is older than {serial}, which was"
            f" seen here before, signed by {signer}",
            hint="name the newer manifest and its image; to go back on purpose, sign the older one"
            " anew: mock-cloud known-good sign --renew",
        )
    if validity.serial == serial and manifest.sha256 != sha256:
        raise refusal(
            "manifest.rolled-back",
            f"another manifest of {validity.image} has the same serial {serial} by {signer}",
            hint="one of the two was signed with a clock or key copied elsewhere: sign anew",
        )


def _check_clock(db: sqlite3.Connection, now_unix: float) -> None:
    row = db.execute("SELECT latest_unix FROM clock").fetchone()
    if row is not None and now_unix < row[0] - CLOCK_TOLERANCE_S:
        raise ConfigError(
            f"this machine's clock says {utc_text(now_unix)}, and it was {utc_text(row[0])} when"
            " a manifest was checked before: whether one has expired can't be told",
            hint="set the clock; if it was wrong then: mock-cloud known-good seen --reset-clock",
        )


def _note_time(db: sqlite3.Connection, unix: float) -> None:
    db.execute(
        "INSERT INTO clock VALUES (1, :unix) ON CONFLICT (row) DO UPDATE SET latest_unix = :unix"
        " WHERE :unix > latest_unix + :step",
        {"unix": unix, "step": _NOTE_EVERY_S},
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs that outlive the command that began them: all that another command must know to take one up.

A job belongs to its node. What is journalled here is what this machine has to do once it ends:
where its results and logs go, and what is signed of it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import field
from enum import Enum
from typing import Final

from mock_cloud.cloud.lease import Holder
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import decode_bytes, to_json

CREATE_JOBS: Final = """
CREATE TABLE job (
    id TEXT PRIMARY KEY,
    started_unix REAL NOT NULL,
    row TEXT NOT NULL
) STRICT
"""
REPLACE_JOB: Final = "INSERT OR REPLACE INTO job (id, started_unix, row) VALUES (?, ?, ?)"
SELECT_JOBS: Final = "SELECT row FROM job ORDER BY started_unix, id"
SELECT_JOB: Final = "SELECT row FROM job WHERE id = ?"
FORGET_JOBS: Final = "DELETE FROM job WHERE started_unix < ?"


class JobPhase(Enum):
    """`STARTING`: it is in no node's hands yet. `ENDED`: nothing is to be done for it any more."""

    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One row. Times in unix seconds.

    `argv` are mock's words, typed in `cwd`; `fingerprint` is the digest of what they named then.
    `mode` is what the node was told. `logs` are the sizes in bytes that files in `resultdir` had
    before the job: its own begin there. `packages` are --chain's directories; `fresh`: earlier
    packages make way. `removes`: a directory of results that goes with the chroot. `printed` is the
    file with what a command in the background prints, empty if that went to a terminal. `draft` is
    the provenance (JSON) without what only the results say, empty if none is written. `holder` is
    the command that follows it, or did. `tunnelled`: it has repositories through that. `exit` and
    `problem` say how it ended, if that is known.
    """

    id: str
    remote: str
    configdir: str
    argv: tuple[str, ...]
    cwd: str
    mode: str
    chroot: str
    resultdir: str
    packages: tuple[str, ...]
    fresh: bool
    started_unix: float
    holder: Holder
    state: JobPhase = JobPhase.STARTING
    lease: str = ""
    fingerprint: str = ""
    builds: bool = False
    uses_mock: bool = False
    online: bool = True
    foreign: bool = False
    removes: str = ""
    logs: dict[str, int] = field(default_factory=dict)
    tunnelled: bool = False
    draft: str = ""
    printed: str = ""
    ended_unix: float | None = None
    exit: int | None = None
    problem: str = ""

    @property
    def is_followed(self) -> bool:
        """Whether a living command is at work for it."""
        return self.state is not JobPhase.ENDED and self.holder.alive


def to_job_row(job: JobRecord) -> tuple[str, float, str]:
    """The values of `REPLACE_JOB`."""
    return job.id, job.started_unix, to_json(job).decode()


def parse_job_row(row: sqlite3.Row) -> JobRecord:
    """The job in a row of `SELECT_JOBS`. ValueError."""
    return decode_bytes(JobRecord, row["row"])

# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs as the user of this machine sees them: names, states, what a detached one prints."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mock_cloud.cloud.budget import cost
from mock_cloud.cloud.jobs import JobPhase, JobRecord
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, Lease
from mock_cloud.console import Console
from mock_cloud.errors import ConfigError, InputError, JournalError, MockCloudError
from mock_cloud.exit_status import Stopped
from mock_cloud.invocation.model import DETACHED
from mock_cloud.model import DAY_S
from mock_cloud.places import state_dir
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.job_request import LIVE_LOGS
from mock_cloud.wire.terminal_text import sanitize

if TYPE_CHECKING:
    from mock_cloud.cloud.leased import LeasedNode
    from mock_cloud.steps.check.request import Work
    from mock_cloud.steps.context import Build

_NAME: Final = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")
_SRPM: Final = re.compile(r"([^/]+)-[^-/]+-[^-/]+\.src\.rpm$")
_LOOK_S: Final = 0.1
_MAIN: Final = "import sys; from mock_cloud.cli import main; sys.exit(main(sys.argv[1:]))"


def make_job_name() -> str:
    """A new job's name, which says when it was made."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"


def given_name() -> str:
    """The name that `mock --detach` gave this command's job; empty if it did not begin it."""
    name = os.environ.get(DETACHED, "")
    return name if _NAME.fullmatch(name) else ""


def printed_path(job: str) -> Path:
    """The file with what a job's command in the background prints. ConfigError."""
    return _directory() / f"{job}.out"


def evidence_path(job: str) -> Path:
    """Where the evidence for a job's provenance waits for its results. ConfigError."""
    return _directory() / f"{job}.evidence"


def _directory() -> Path:
    path = state_dir() / "jobs"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot use {path}: {error.strerror}") from error
    return path


def log_names(packages: Sequence[str]) -> list[str]:
    """The logs that grow in place, relative to the resultdir; `packages` are --chain's."""
    directories = [f"{package}/" for package in packages] or [""]
    return [f"{directory}{name}" for directory in directories for name in sorted(LIVE_LOGS)]


def begin_detached(words: Sequence[str], console: Console) -> int:
    """Run mock's command line `words` in the background; its job's name goes to standard output.

    What is wrong with the command line or its inputs is found before this returns, with its exit
    code.
    """
    name = make_job_name()
    path, journal = printed_path(name), Journal(state_dir())
    known = {job.id for job in journal.jobs()}
    for old in path.parent.iterdir():
        if old.stem not in known and old.stat().st_mtime < time.time() - DAY_S:
            old.unlink(missing_ok=True)
    with path.open("wb") as printed:
        child = subprocess.Popen(
            [sys.executable, "-m", "mock_cloud.launcher", *words],
            env={**os.environ, DETACHED: name},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
    try:
        while journal.find_job(name) is None:
            code = child.poll()
            if code is not None:
                console.text(sanitize(path.read_bytes()))
                path.unlink()
                return code
            time.sleep(_LOOK_S)
    except BaseException:
        child.terminate()
        child.wait()
        raise
    console.info(f"the build goes on in the background: mock-cloud attach {name}")
    print(name)
    return 0


@contextmanager
def announced(job: JobRecord) -> Iterator[None]:
    """A job of a command in the background is in the journal before it has a node, and its end."""
    if job.id != given_name():
        yield
        return
    journal = Journal(state_dir())
    journal.note_job(job)
    try:
        yield
    except (MockCloudError, Stopped) as error:
        now = journal.find_job(job.id)
        if now is not None and now.state is JobPhase.STARTING:
            journal.note_job(ended(now, error.exit_code, str(error)))
        raise


def can_be_left(work: Work, leased: LeasedNode | None = None) -> bool:
    """Whether another command can take the job up: one whose results are all in the resultdir."""
    line = work.line
    bound = line.mode in ("shell", "copyout") or work.shadow is not None or bool(work.returning)
    return not bound and not (leased and leased.beside)


def describe_job(build: Build, lease: str = "") -> JobRecord:
    """The row of a job that begins now, with its logs' begins in the files that are there."""
    work, results = build.planned, build.resultdir
    line, paths = work.line, work.paths
    name = given_name()
    return JobRecord(
        id=name or make_job_name(),
        remote=build.remote.name,
        configdir=line.configdir or "",
        argv=_as_typed(line.argv),
        cwd=os.getcwd(),  # noqa: PTH109  as it was typed
        mode=line.mode,
        chroot=work.root,
        resultdir=str(results.path),
        packages=tuple(results.packages),
        fresh=results.fresh,
        started_unix=time.time(),
        holder=Holder.me(),
        lease=lease,
        fingerprint=work.fingerprint,
        builds=work.builds,
        uses_mock=work.uses_mock,
        online=line.online,
        foreign=work.runs_foreign_code,
        removes=str(paths.resultdir) if paths.results_go_with_chroot else "",
        logs=results.begin_logs(log_names(tuple(results.packages))) if lease else {},
        printed=str(printed_path(name)) if name else "",
    )


def note_row(build: Build, row: JobRecord) -> None:
    """Write down what is known of the job now. What hinders that does not hinder the job."""
    build.row = row
    if build.is_kept:
        try:
            build.leased.note_job(row)
        except JournalError as error:
            build.console.warning(error.message)


def find_log(job: JobRecord, name: str | None) -> tuple[Path, int]:
    """The file with the job's log `name`, and where it begins in it; the first that there is."""
    place = Path(job.resultdir)
    names = log_names(job.packages)
    if name is not None and name not in names:
        raise InputError(f"job {job.id} has no {name!r}", hint=f"it has {', '.join(names)}")
    there = [one for one in names if name in (None, one) and (place / one).exists()]
    builds = [one for one in there if one.endswith("build.log")]
    found = name or (builds[-1:] or there or names)[0]
    return place / found, job.logs.get(found, 0)


def ended(job: JobRecord, exit_code: int | None, problem: str = "") -> JobRecord:
    """The row of a job for which nothing is to be done any more."""
    return replace(
        job, state=JobPhase.ENDED, ended_unix=time.time(), exit=exit_code, problem=problem
    )


@dataclass(frozen=True, slots=True)
class JobView:
    """A job and what is true of it now.

    `state`: ``starting``, ``running`` (a command follows it), ``left`` (none does, and it goes on
    or has ended on its node), ``ended``, or ``lost`` with its node. `until_unix` is when the node
    ends if nobody takes the job up. `cost` so far, None if nobody knows.
    """

    job: JobRecord
    state: str
    until_unix: float | None = None
    cost: float | None = None

    def to_json(self) -> dict[str, object]:
        job = self.job
        return {
            "job": job.id, "state": self.state, "remote": job.remote, "chroot": job.chroot,
            "mode": job.mode, "argv": list(job.argv), "cwd": job.cwd, "resultdir": job.resultdir,
            "pid": job.holder.pid if job.is_followed else 0, "lease": job.lease,
            "started_unix": job.started_unix, "ended_unix": job.ended_unix,
            "until_unix": self.until_unix, "cost": self.cost, "exit": job.exit,
            "problem": job.problem,
        }  # fmt: skip


def view_jobs() -> list[JobView]:
    """All jobs of the last weeks, oldest first."""
    journal = Journal(state_dir())
    journal.note_abandoned()
    leases = {lease.id: lease for lease in journal.leases()}
    return [_view(job, leases.get(job.lease)) for job in journal.jobs()]


def find_view(name: str) -> JobView:
    """The job called `name`, or the only one whose name ends so. InputError."""
    found = [one for one in view_jobs() if one.job.id.endswith(name)]
    if len(found) != 1 or not name:
        what = "several jobs are called" if found else "no job is called"
        raise InputError(f"{what} {name!r}", hint="mock-cloud jobs lists them")
    return found[0]


def _as_typed(argv: Sequence[str]) -> tuple[str, ...]:
    """Whether it was detached makes no other command line of it."""
    return tuple(word for word in argv if word != "--detach")


def find_left(work: Work, remote: str) -> JobRecord | None:
    """The newest job that this very command line began and that nobody follows any more.

    With the same inputs and configuration, too: what changed since wants another build.
    """
    wanted = (_as_typed(work.line.argv), os.getcwd(), remote, work.fingerprint)  # noqa: PTH109
    for one in reversed(view_jobs()):
        job = one.job
        if one.state == "left" and (job.argv, job.cwd, job.remote, job.fingerprint) == wanted:
            return job
    return None


def find_last_duration(job: JobRecord) -> float | None:
    """How many seconds the last job took that built the same packages well in such a chroot."""
    wanted = _likeness(job)
    for one in reversed(Journal(state_dir()).jobs()):
        if one.exit == 0 and one.ended_unix is not None and _likeness(one) == wanted:
            return one.ended_unix - one.started_unix
    return None


def _likeness(job: JobRecord) -> tuple[str, str, list[str]]:
    """What stays from one version of a package to the next."""
    names = [found[1] for found in map(_SRPM.search, job.argv) if found]
    return job.mode, job.chroot, names


def _view(job: JobRecord, lease: Lease | None) -> JobView:
    if job.state is JobPhase.ENDED:
        return JobView(job, "ended")
    if job.state is JobPhase.STARTING:
        return JobView(job, "starting" if job.is_followed else "lost")
    if lease is None or lease.job != job.id:
        return JobView(job, "lost")
    spent = cost(lease, time.time())
    if job.is_followed:
        return JobView(job, "running", lease.expires_unix, spent)
    since = lease.idle_since_unix or time.time()
    until = min(lease.expires_unix, since + max(lease.idle_ttl_s, lease.grace_s))
    return JobView(job, "left", until, spent)


def start_keeper(job: JobRecord, *words: str, after: int = 0) -> None:
    """Have a command in the background take the job up, once the process `after` has ended.

    InputError where it cannot be started: the job is left all the same, for `mock-cloud attach`.
    """
    command = [sys.executable, "-c", _MAIN, "attach", job.id, f"--after={after}", *words]
    try:
        with printed_path(job.id).open("ab") as printed:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                cwd="/",
                start_new_session=True,
            )
    except OSError as error:
        raise InputError(
            f"job {job.id} goes on alone: {error.strerror}", hint=f"mock-cloud attach {job.id}"
        ) from error

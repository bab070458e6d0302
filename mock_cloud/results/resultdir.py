# SPDX-License-Identifier: GPL-2.0-or-later
"""The local result directory: there before a node is bought, live while it builds."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from mock_cloud.errors import ResultDirError
from mock_cloud.file_owner import as_owner, make_directories
from mock_cloud.results.livelog import LiveLog
from mock_cloud.results.names import check_live_log
from mock_cloud.results.staging import Staging, remove_stale


class ResultDir:
    """An open result directory. Use it as a context manager; leaving closes the logs."""

    def __init__(self, path: Path, *, fresh: bool, packages: Collection[str]) -> None:
        self.path = path
        self.packages = packages
        self.fresh = fresh
        self._logs: dict[str, LiveLog] = {}
        self._ended: set[str] = set()

    @classmethod
    @as_owner()
    def open(cls, path: Path, *, fresh: bool = False, packages: Collection[str] = ()) -> ResultDir:
        """Open `path`, made if need be, as the invoking user. ResultDirError (exit 70).

        `fresh`: logs start empty and earlier packages go, as with mock's own resultdir,
        which is emptied with the chroot. Otherwise logs are appended to where mock does.
        `packages`: results of --chain lie in a directory for each of these.
        Staging directories of attempts that died are removed.
        """
        try:
            make_directories(path)
            # The one sure test: access(2) knows nothing of read-only and full file systems.
            with tempfile.TemporaryFile(dir=path, prefix=".mock-cloud-test-") as probe:
                probe.write(b"\0" * 4096)
                probe.flush()
        except OSError as error:
            raise ResultDirError(
                f"cannot use the result directory {path}: {error.strerror}",
                hint="choose another with --resultdir, for instance --resultdir ~/mock",
            ) from error
        remove_stale(path)
        return cls(path, fresh=fresh, packages=packages)

    def __enter__(self) -> ResultDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_logs(self, names: Iterable[str]) -> None:
        """ResultDirError if one of these logs could not be written, before a node is had for it."""
        with as_owner():
            for name in names:
                LiveLog.check(self.path, name)

    def begin_logs(self, names: Iterable[str]) -> dict[str, int]:
        """Where in each file that is there an attempt's log begins. ResultDirError.

        One that starts empty is emptied now, so that nobody mistakes what it held.
        """
        begins = {}
        with as_owner():
            for name in names:
                path = self.path / name
                if not path.exists():
                    continue
                LiveLog.check(self.path, name)
                if self.fresh and name not in self._ended:
                    LiveLog.open(self.path, name, append=False).close()
                    self._ended.add(name)
                begins[name] = path.stat().st_size
        return begins

    def resume_logs(self, begins: Mapping[str, int], names: Iterable[str]) -> list[LiveLog]:
        """Those of an attempt that another process began. LocalResultError, ResultDirError."""
        found = []
        with as_owner():
            for name in names:
                log = LiveLog.resume(self.path, name, begins.get(name, 0))
                if log is not None:
                    self._logs[name] = log
                    found.append(log)
        return found

    def log(self, name: str) -> LiveLog:
        """The live log `name`, opened on first use. ResultError for a name that is refused.

        One that was closed is opened anew for a further attempt: what comes is appended.
        """
        known = self._logs.get(name)
        if known is None or known.closed:
            check_live_log(name, packages=self.packages)
            empty = self.fresh and known is None and name not in self._ended
            with as_owner():
                self._logs[name] = LiveLog.open(self.path, name, append=not empty)
        return self._logs[name]

    @property
    def logs(self) -> tuple[LiveLog, ...]:
        """The logs opened so far."""
        return tuple(self._logs.values())

    @as_owner()
    def restart_logs(self, note: str = "") -> None:
        """Begin a new attempt: close the logs; what comes is appended to what is there.

        They get the line `note` in between, and stay the same files.
        """
        self._ended |= self._logs.keys()
        self.close()
        for name in sorted(self._ended):
            if note:
                log = LiveLog.open(self.path, name, append=True)
                try:
                    log.write(f"\n{note}\n".encode(errors="backslashreplace"))
                finally:
                    log.close()

    def stage(self, attempt: str) -> Staging:
        """A staging directory for the attempt; enter it with `with`."""
        return Staging(self.path, attempt, packages=self.packages)

    def close(self) -> None:
        """Flush and close the logs. Idempotent."""
        while self._logs:
            self._logs.popitem()[1].close()

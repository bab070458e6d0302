# SPDX-License-Identifier: GPL-2.0-or-later
"""What the controller keeps of a chroot: the node's half of a shadow directory.

dnf's logs are copied to results/shadow/ while they grow, where they are followed like any other
log. At the job's end results/shadow.tree has the packages' database and what the job changed in
the directory that both sides share. All it needs of an engine is the path of the chroot's root.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import field
from typing import Final

from mock_cloud.agent.engine import outside, processes
from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.engine.errors import EngineError, PackageError
from mock_cloud.wire import shadow_tree
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.job_request import SHADOW_ARCHIVE, SHADOW_LOGS, ShadowOrder

_LOGS: Final = "var/log"
_LOGS_MAX: Final = 16
_LOG_MAX_BYTES: Final = 256 << 20
_POLL_S: Final = 0.5
_EXIT_INFRASTRUCTURE: Final = 75


@dataclass(slots=True)
class ShadowPacker:
    """For one job, if its request has an order; else every method does nothing.

    `root` is the chroot's root as the node sees it, `uid` the build user's id in it.

    1. `poll` at any time, and often: the logs grow. 2. `begin` once the chroot is there, before
    anything of the user's runs in it. 3. `finish` at the end, while it is there still.
    """

    job: Job
    root: str
    uid: int
    _offsets: dict[str, int] = field(default_factory=dict)
    _old_logs: dict[str, int] = field(default_factory=dict)
    _before: shadow_tree.Listing | None = None
    _rpmdb_before: shadow_tree.Listing = field(default_factory=dict)
    _looked_at: float = 0.0

    @property
    def _order(self) -> ShadowOrder | None:
        return self.job.request.shadow

    def refuse_new_chroot(self) -> None:
        """Call it before a chroot is made anew unless that is what was asked for.

        EngineError (75) if the controller counts on an earlier one.
        """
        if self._order is not None and self._order.kept:
            raise EngineError(
                f"the chroot {os.path.basename(os.path.dirname(self.root))} is gone from the node,"
                " and all that was done in it: start with --init again",
                _EXIT_INFRASTRUCTURE,
            )

    def begin(self, *, fresh: bool, may_be_replaced: bool = False) -> None:
        """Bring the shared directory into the chroot. `fresh`: this job made the chroot.

        `may_be_replaced`: somebody else may put another in its place before the job ends; it is
        no mount then, which could not be undone before `close`. Idempotent. OSError, EngineError.
        """
        order = self._order
        if order is None or self._before is not None:
            return
        if not fresh:
            self._skip_old_logs(hold=may_be_replaced)
            self._rpmdb_before = self._list_rpmdb()
        inputs = self.job.inputs_of("tmpdir")
        # /dev/null where nothing was changed: an archive without members.
        path = self.job.take_input(inputs[0]) if inputs else os.devnull
        with open(path, "rb") as stream:

            def place() -> bytes:
                owner = (self.uid, _group_of(self.uid))
                shadow_tree.place_shadow(
                    stream, order.tmpdir, order.removed, owner, whole=order.whole
                )
                return json.dumps(shadow_tree.take_listing(order.tmpdir)).encode()

            answer = processes.call(processes.Place(root=self.root), place)
        self._before = json.loads(answer)

    def poll(self, *, now: bool = False) -> None:
        """Copy what dnf's logs gained; unless `now`, at most twice a second."""
        moment = time.monotonic()
        if self._order is None or (not now and moment - self._looked_at < _POLL_S):
            return
        self._looked_at = moment
        for name in self._log_names():
            with contextlib.suppress(PackageError, OSError):  # it comes and goes with the chroot
                self._copy_log(name)

    def finish(self) -> None:
        """Copy the rest of the logs and pack results/shadow.tree. OSError, EngineError."""
        order = self._order
        if order is None or not os.path.isdir(self.root):
            return
        self.poll(now=True)
        before, rpmdb = self._before or {}, self._list_rpmdb()
        if not rpmdb:
            return  # there is no chroot, or none any more
        wanted = order.rpmdb or rpmdb != self._rpmdb_before
        place = processes.Place(root=self.root)
        with open(os.path.join(self.job.results, SHADOW_ARCHIVE), "wb") as stream:

            def pack() -> bytes:
                packages = shadow_tree.find_rpmdb() if wanted else ""
                shadow_tree.pack_shadow(stream, order.tmpdir, before, packages)
                return b""

            processes.call(place, pack)

    def close(self) -> None:
        """Let go of the chroot's files. Idempotent."""
        while self._old_logs:
            os.close(self._old_logs.popitem()[1])

    # logs

    def _log_names(self) -> list[str]:
        try:
            names = outside.list_files(self.root, _LOGS)
        except (PackageError, OSError):
            return []
        return [name for name in names if shadow_tree.SHADOW_LOG.fullmatch(name)][:_LOGS_MAX]

    def _skip_old_logs(self, *, hold: bool) -> None:
        for name in self._log_names():
            with contextlib.suppress(PackageError, OSError):
                descriptor = outside.open_file(self.root, f"{_LOGS}/{name}")
                self._offsets[name] = os.fstat(descriptor).st_size
                if hold:  # while it is open, no other file has its inode number
                    self._old_logs[name] = descriptor
                else:
                    os.close(descriptor)

    def _copy_log(self, name: str) -> None:
        source = outside.open_file(self.root, f"{_LOGS}/{name}")
        try:
            size = os.fstat(source).st_size
            offset = self._offsets.get(name, 0)
            if self._was_replaced(name, source) or size < offset:
                offset = 0  # dnf began another file under this name
            if size == offset:
                return
            directory = os.path.join(self.job.results, SHADOW_LOGS)
            os.makedirs(directory, mode=0o755, exist_ok=True)
            with open(os.path.join(directory, name), "ab") as target:
                end = min(size, offset + max(0, _LOG_MAX_BYTES - target.tell()))
                while offset < end:
                    data = os.pread(source, min(end - offset, 1 << 20), offset)
                    if not data:
                        break
                    target.write(data)
                    offset += len(data)
            self._offsets[name] = max(offset, size)
        finally:
            os.close(source)

    def _was_replaced(self, name: str, source: int) -> bool:
        """Whether the log is another one than `begin` found. Says so once."""
        old = self._old_logs.get(name)
        if old is None or os.path.sameopenfile(source, old):
            return False
        os.close(self._old_logs.pop(name))
        return True

    # the packages' database

    def _list_rpmdb(self) -> shadow_tree.Listing:
        def look() -> bytes:
            where = shadow_tree.find_rpmdb()
            return json.dumps(shadow_tree.take_listing(f"/{where}") if where else {}).encode()

        found: shadow_tree.Listing = json.loads(
            processes.call(processes.Place(root=self.root), look)
        )
        return found


def _group_of(uid: int) -> int:
    """The user's group by the chroot's own /etc/passwd; 0 if it has no such user."""
    with contextlib.suppress(OSError), open("/etc/passwd", "rb") as stream:
        for line in stream:
            fields = line.split(b":")
            if len(fields) > 3 and fields[2] == str(uid).encode() and fields[3].isdigit():
                return int(fields[3])
    return 0

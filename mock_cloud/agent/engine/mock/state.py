# SPDX-License-Identifier: GPL-2.0-or-later
"""What mock leaves on a node for later jobs: chroots, its bootstrap chroot, its caches.

They lie in two trees a chroot name, /var/lib/mock/ROOT/mock.JOB and W/dnf/KEY.JOB, which mock
sees as /var/lib/mock and its cache. Both are renamed for each job before anything is written,
so that a path the controller recorded never has another content, even if the job is cut off.

A third one, beside the caches, has what was found of their files when they were recorded: what
has not changed since is not read again for the next record (decision 0095).
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import stat
from typing import Final

from mock_cloud.agent.engine import layers
from mock_cloud.agent.engine.cache import Cache
from mock_cloud.agent.engine.chroot import MOCK_TREE, Chroot
from mock_cloud.agent.engine.errors import RootLocked
from mock_cloud.agent.measure.files import Seen
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.layout import MOCK_LIBDIR

_BOOTSTRAP: Final = "-bootstrap"
_NOTE: Final = "mock-cloud-options"
_CCACHE: Final = "ccache"
_MODE: Final = 0o2775  # W and the namespace keep others out


class MockState:
    """The trees of the chroot called `name`, for one job. Take it, then close it.

    `foreign`: code that nobody signed may become root in it. The caches are read then, and what is
    written there is lost, as is mock's bootstrap chroot: they serve other chroots too.
    """

    def __init__(
        self, workspace: str, job_id: str, name: str, store: layers.LayerStore, *, foreign: bool
    ) -> None:
        self._foreign = foreign
        self.chroot = Chroot(name, job_id)
        self._job_id = job_id
        self._store = store
        self._chroots = Cache(self.chroot.base, MOCK_TREE, job_id)
        key = layers.key_of(kind="mock", root=name)
        self._cache = Cache(os.path.join(workspace, "dnf"), key, job_id)
        seen = layers.key_of(kind="mock-seen", root=name)
        self._seen = Cache(os.path.join(workspace, "dnf"), seen, job_id)
        self._is_taken = False
        self._joins = False
        self._cache_digest: str | None = None
        """Of the cache, while it is as the verdict found it."""

    @property
    def chroots(self) -> str:
        """The node's path of what mock sees as /var/lib/mock."""
        return self._chroots.path

    @property
    def root(self) -> str:
        """The node's path of the chroot's root."""
        return os.path.join(self.chroots, self.chroot.name, "root")

    @property
    def joined(self) -> str:
        """Where mock sees the root of a chroot that another job made; empty if this one does."""
        return os.path.join(MOCK_LIBDIR, self.chroot.name, "root") if self._joins else ""

    @property
    def cache(self) -> str:
        return self._cache.path

    @property
    def written_cache(self) -> str:
        """Where what is written to the cache goes, if it is not to be kept; else empty."""
        return f"{self.cache}.written" if self._foreign else ""

    def take(self, gid: int) -> None:
        """Make the trees that the verdict covers this job's own, empty ones where there are none.

        The group `gid` may write there, as mock's package has it. A chroot that the other
        engine made is removed: one name is one chroot. RootLocked if another job has it.
        """
        _sweep(self._job_id, self._store, but=self.chroot.name)
        self.chroot.lock()
        self._is_taken = True
        self.chroot.delete()
        self._chroots.find(self._store.may_reuse)
        self._cache.find(self._store.may_reuse)
        self._seen.find(self._store.may_reuse)
        if self._has_owner(gid):
            self._cache_digest = self._store.digest_of(self.cache)
        self._prepare(gid, self._chroots, self._cache)
        self._seen.prepare()
        self.chroot.share()  # from here on mock's own lock decides

    def join(self, gid: int) -> None:
        """Use the chroots of the job that has them now, with a cache of this job's own.

        What mock mounts in a chroot is seen by the mock that made it only, so this job gets the
        kernel's file systems there from us. RootLocked if no chroot is initialised.
        """
        self.chroot.join()
        self._chroots.find(lambda _: True)
        if not os.path.exists(os.path.join(self.root, ".initialized")):
            raise RootLocked
        self._is_taken = self._joins = True
        self.chroot.root = self.root
        self.chroot.mount_plain(self.root)
        self.chroot.mount_kernel_filesystems()
        self._prepare(gid, self._cache)

    def _prepare(self, gid: int, *trees: Cache) -> None:
        for tree in trees:
            tree.prepare()
            os.chown(tree.path, 0, gid)
            os.chmod(tree.path, _MODE)
        if self.written_cache:
            upper = os.path.join(self.written_cache, "upper")
            os.makedirs(upper)
            os.chown(upper, 0, gid)  # it stands for the cache's own directory
            os.chmod(upper, _MODE)

    def check_cached(self, digest: str) -> None:
        """Remove cached chroots that were made for other options than `digest` stands for."""
        note = os.path.join(self.cache, _NOTE)
        with contextlib.suppress(FileNotFoundError), open(note, encoding="ascii") as stream:
            if stream.read() == digest:
                return
        self._cache_digest = None
        for path in glob.glob(os.path.join(glob.escape(self.cache), "*", "root_cache")):
            shutil.rmtree(path)
        with open(note, "w", encoding="ascii") as stream:
            stream.write(digest)

    def close(self, *, record: bool) -> None:
        """Keep what a later job can use, and measure it unless `record` is False. Idempotent.

        Unmeasured trees are removed by the next job of this name, or the next one at all.
        """
        if self._is_taken:
            self._close_chroots(record=record)
            self._close_cache(record=record)
            if record and not self._joins:
                self._store.record(self._seen.path)
        self._is_taken = False
        self.chroot.unlock()

    def _record(self, tree: str, name: str) -> None:
        """Record `tree`; what was found of its files the last time is in the file `name`."""
        if self._joins:
            self._store.record(tree)
            return
        known: Seen = {}
        path = os.path.join(self._seen.path, name)
        # As true as the trees that it tells of: the verdict covers both.
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as stream:
            known = json.load(stream)
        seen = self._store.record_changes(tree, known)
        with contextlib.suppress(OSError):  # it saves time only: a full disk keeps the old one
            replace_file(path, json.dumps(seen).encode())

    def _close_chroots(self, *, record: bool) -> None:
        self.chroot.unmount()
        if not self.chroot.take_alone():
            return  # the last job does it
        if self._foreign or self.chroot.was_shared:
            self._drop_all_but_the_chroot()
        if record:
            if not self._has_chroots():
                shutil.rmtree(self.chroots)
            if os.path.isdir(self.chroots):
                self._record(self.chroots, "chroots.json")

    def _close_cache(self, *, record: bool) -> None:
        if self.written_cache:
            shutil.rmtree(self.written_cache, ignore_errors=True)
        if self._joins:
            shutil.rmtree(self.cache)
            return
        # A build's own user writes there, and no key signed what it runs.
        for path in glob.glob(os.path.join(glob.escape(self.cache), "*", _CCACHE)):
            self._cache_digest = None
            shutil.rmtree(path)
        if record and self._foreign and self._cache_digest is not None:
            self._store.record_as(self.cache, self._cache_digest)  # it was only read
        elif record and os.path.isdir(self.cache):
            self._record(self.cache, "cache.json")

    def _has_owner(self, gid: int) -> bool:
        """Whether the cache's directory is as `take` makes it, which is part of its digest."""
        try:
            facts = os.lstat(self.cache)
        except FileNotFoundError:
            return False
        return (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (0, gid, _MODE)

    def _drop_all_but_the_chroot(self) -> None:
        for entry in os.scandir(self.chroots):
            if entry.name == self.chroot.name:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)

    @property
    def is_kept(self) -> bool:
        """Whether there is a chroot that a user would look for, not mock's own alone."""
        return any(not name.endswith(_BOOTSTRAP) for name in self._initialised())

    def _has_chroots(self) -> bool:
        return bool(self._initialised())

    def _initialised(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [name for name in os.listdir(self.chroots)
                    if _has_content(os.path.join(self.chroots, name, "root"))]  # fmt: skip
        return []


def _has_content(directory: str) -> bool:
    try:
        return bool(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _sweep(job_id: str, store: layers.LayerStore, *, but: str) -> None:
    """Remove trees that no verdict covers, of chroots that no job works in.

    Not of the chroot `but`: closing a file gives up this process's lock on it (fcntl(2)).
    """
    for name in os.listdir(MOCK_LIBDIR):
        base = os.path.join(MOCK_LIBDIR, name)
        if name == but or all(store.may_reuse(path) for path in _list_trees(base)):
            continue
        chroot = Chroot(name, job_id)
        with contextlib.suppress(RootLocked), contextlib.ExitStack() as stack:
            chroot.lock()
            stack.callback(chroot.unlock)
            Cache(base, MOCK_TREE, job_id).find(store.may_reuse)


def _list_trees(base: str) -> list[str]:
    """What mock left in the chroot's directory `base`."""
    try:
        names = os.listdir(base)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [os.path.join(base, name) for name in names if name.startswith(f"{MOCK_TREE}.")]

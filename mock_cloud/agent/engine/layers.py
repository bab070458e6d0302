# SPDX-License-Identifier: GPL-2.0-or-later
"""Layers: directory trees that chroots stand on, made once for what went into them.

A layer's key is the sha256 over everything that decides its content. Whether a layer found
on the disk may be used is not decided here but by the controller, which compared its tree
digest with what was recorded when it was made: only those in `verified` are reused.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any, Final

from mock_cloud.agent.measure.files import Seen
from mock_cloud.agent.measure.tree import digest_changes, digest_tree
from mock_cloud.wire.dataclass import dataclass

FORMAT: Final = 1
_KEPT_LAYERS: Final = 12
_OVERLAY_XATTR: Final = "trusted.overlay."


def key_of(**parts: Any) -> str:
    """sha256 (hex) over the canonical JSON of `parts` and the format of our layers."""
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """`layer.json`: for people and for pruning; nothing is decided by it.

    `created` is in seconds since the epoch; `revisions` are the repositories' at that time.
    """

    key: str
    kind: str
    created: float
    revisions: Mapping[str, str]
    requirements: list[str]
    tree: str
    files: int
    size_bytes: int


class Draft:
    """A layer that is being made, in a directory no other job uses."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.root = os.path.join(path, "root")
        os.makedirs(self.root, mode=0o755)
        os.chmod(self.root, 0o755)  # noqa: S103 (it becomes the root directory)

    def discard(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class LayerStore:
    """The layers under WORKSPACE/layers, as one job sees them.

    `verified` maps a tree's path (``…/layers/KEY/root``) to the digest the controller's verdict
    covers. `made` maps what this job made to its digest. Close it to give up the locks.
    """

    def __init__(self, workspace: str, job_id: str, verified: Mapping[str, str]) -> None:
        self.directory = os.path.join(workspace, "layers")
        self.made: dict[str, str] = {}
        self._job_id = job_id
        self._verified = dict(verified)
        self._locks: dict[str, int] = {}
        os.makedirs(self.directory, mode=0o700, exist_ok=True)

    def find(self, key: str) -> str | None:
        """The root of a layer that may be used, held against removal; None if there is none.

        A layer that no verdict covers is removed, unless another job stands on it.
        """
        path = os.path.join(self.directory, key)
        root = os.path.join(path, "root")
        if root in self.made or (root in self._verified and os.path.isdir(root)):
            if not self._hold(key, fcntl.LOCK_SH):
                return None
            with contextlib.suppress(FileNotFoundError):
                os.utime(os.path.join(path, "layer.json"))
            return root
        if os.path.isdir(path) and self._hold(key, fcntl.LOCK_EX):
            _remove(path)
            self._release(key)
        return None

    def may_reuse(self, path: str) -> bool:
        """Whether the verdict covers the tree at `path`, or it was made by this very job."""
        return path in self.made or path in self._verified

    def present(self) -> dict[str, str]:
        """Every tree that the next job may be let use: path → digest, for the controller."""
        known = {**self._verified, **self.made}
        return {path: digest for path, digest in known.items() if os.path.isdir(path)}

    def draft(self, key: str) -> Draft:
        """A place to make the layer `key` in; pass it to `keep` or discard it."""
        name = f"{key}.tmp.{self._job_id}"
        self._hold(name, fcntl.LOCK_EX)
        return Draft(os.path.join(self.directory, name))

    def keep(
        self, draft: Draft, key: str, kind: str, *, revisions: Mapping[str, str],
        requirements: list[str],
    ) -> str:  # fmt: skip
        """Make `draft` the layer `key` and return its root.

        If another job holds a layer of that name, ours gets a name of its own and ends with us.
        """
        name = key
        taken = not self._hold(name, fcntl.LOCK_EX)
        if taken or os.path.exists(os.path.join(self.directory, name)):
            name = f"{key}.{self._job_id}"
            self._hold(name, fcntl.LOCK_EX)
        measured = digest_tree(draft.root)
        facts = LayerFacts(
            key, kind, time.time(), dict(revisions), requirements,
            measured.sha256, measured.files, measured.size_bytes,
        )  # fmt: skip
        with open(os.path.join(draft.path, "layer.json"), "w", encoding="utf-8") as stream:
            json.dump(asdict(facts), stream)
        path = os.path.join(self.directory, name)
        os.rename(draft.path, path)
        root = os.path.join(path, "root")
        self.made[root] = measured.sha256
        self._hold(name, fcntl.LOCK_SH)
        return root

    def record(self, path: str) -> None:
        """Measure a tree that this job changed, so that a later one may trust it."""
        self.made[path] = digest_tree(path).sha256

    def record_changes(self, path: str, known: Seen) -> Seen:
        """The same, but of files that are `known` it is believed; what is known of it now.

        What is recorded wrongly for it is what the next verdict does not find: see `record_as`.
        """
        measured, seen = digest_changes(path, known)
        self.made[path] = measured.sha256
        return seen

    def digest_of(self, path: str) -> str | None:
        """The digest that the verdict has of the tree at `path`."""
        return self._verified.get(path)

    def record_as(self, path: str, digest: str) -> None:
        """Note a tree that this job moved here and did not change.

        If it was changed after all, the next verdict says so: it is measured for that.
        """
        self.made[path] = digest

    def remove_all(self, keys: set[str] | None = None, in_use: Collection[str] = ()) -> None:
        """Remove the layers `keys`, or all that no other job holds.

        `in_use` are roots that stay: kept chroots stand on them.
        """
        for name in self._names():
            if os.path.join(self.directory, name, "root") in in_use:
                continue
            if (keys is None or name in keys) and self._hold(name, fcntl.LOCK_EX):
                _remove(os.path.join(self.directory, name))
                self.made.pop(os.path.join(self.directory, name, "root"), None)
                self._release(name)

    def prune(self, in_use: set[str]) -> None:
        """Remove drafts of dead jobs and, past a number, the layers unused for longest.

        `in_use` are the roots that kept chroots stand on.
        """
        ages = []
        for name in self._names():
            path = os.path.join(self.directory, name)
            private = "." in name
            if os.path.join(path, "root") in in_use or (private and name in self._locks):
                continue
            ages.append((0.0 if private else _last_use(path), name))
        ages.sort()
        surplus = max(0, len(ages) - _KEPT_LAYERS)
        for position, (used, name) in enumerate(ages):
            if (position < surplus or used == 0.0) and name not in self._locks:
                self.remove_all({name})

    def close(self) -> None:
        """Give up all locks; layers with a name of their own (see `keep`) are removed."""
        for name in list(self._locks):
            self._release(name)

    def _names(self) -> list[str]:
        return sorted(name for name in os.listdir(self.directory) if not name.endswith(".lock"))

    def _hold(self, name: str, how: int) -> bool:
        descriptor = self._locks.get(name)
        if descriptor is None:
            path = os.path.join(self.directory, f"{name}.lock")
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if name not in self._locks:
                os.close(descriptor)
            return False
        self._locks[name] = descriptor
        return True

    def _release(self, name: str) -> None:
        descriptor = self._locks.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)


def freeze(upper: str, lower: str) -> bool:
    """Make an overlay's upper directory fit to be a layer of its own; False if it can't be.

    The kernel marks new directories opaque to save look-ups and notes where copies came from.
    Such extended attributes would have to be trusted with the tree, so they are removed; where
    an opaque directory really hides one of `lower`, or a directory of it was renamed, the tree
    cannot be a layer.
    """
    for directory, below, files in os.walk(upper):
        for path in (directory, *(os.path.join(directory, name) for name in below + files)):
            for name in _overlay_xattrs(path):
                inside = os.path.relpath(path, upper)
                beneath = os.path.join(lower, inside)
                if name.endswith(".redirect"):
                    return False
                if name.endswith(".opaque") and inside != "." and os.path.lexists(beneath):
                    return False
                os.removexattr(path, name, follow_symlinks=False)
    return True


def _overlay_xattrs(path: str) -> list[str]:
    names = os.listxattr(path, follow_symlinks=False)
    return [name for name in names if name.startswith(_OVERLAY_XATTR)]


def _last_use(path: str) -> float:
    try:
        return os.stat(os.path.join(path, "layer.json")).st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(path: str) -> None:
    """Out of the way in one step, then deleted, so that a crash leaves no half layer."""
    doomed = f"{path}.doomed"
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed)

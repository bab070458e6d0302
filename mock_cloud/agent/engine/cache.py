# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf's cache for one configuration: metadata and packages.

It lies at WORKSPACE/dnf/KEY.JOB, where JOB is the job that last changed it: a path that the
controller recorded is never written to again, so its digest holds even if a job is cut off.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import stat
from collections.abc import Callable, Iterator


class Cache:
    """The cache of the configuration `key` below `directory`, for the job `job_id`."""

    def __init__(self, directory: str, key: str, job_id: str) -> None:
        self._directory = directory
        self._key = key
        self._own = os.path.join(directory, f"{key}.{job_id}")
        self.path = self._own

    def find(self, may_reuse: Callable[[str], bool]) -> None:
        """Take the cache that may be used; remove those of this configuration that may not."""
        for path in self._existing():
            if may_reuse(path) and self.path == self._own:
                self.path = path
            else:
                shutil.rmtree(path)

    def prepare(self) -> None:
        """Make the cache this job's own: from now on it is written to."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        if self.path != self._own:
            os.rename(self.path, self._own)
            self.path = self._own
        os.makedirs(self._own, mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def written_beside(self) -> Iterator[str]:
        """A directory for an overlay over the cache, for a command that runs foreign code.

        Of what it writes there, packages are taken into the cache, as bare bytes: dnf compares
        each with the metadata when it uses it, unless attributes of the file say that this was
        done before. All else is dropped: no verdict could cover it.
        """
        scratch = f"{self.path}.written"
        shutil.rmtree(scratch, ignore_errors=True)
        os.mkdir(scratch, 0o700)
        try:
            yield scratch
            for repository in _directories(os.path.join(scratch, "upper")):
                self._take_packages(repository)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _take_packages(self, written: str) -> None:
        kept = os.path.join(self.path, os.path.basename(written))
        packages = os.path.join(written, "packages")
        if not os.path.isdir(kept) or packages not in _directories(written):
            return
        os.makedirs(os.path.join(kept, "packages"), mode=0o755, exist_ok=True)
        for entry in os.scandir(packages):
            facts = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
                continue
            if not entry.name.endswith(".rpm"):
                continue
            for name in os.listxattr(entry.path):
                os.removexattr(entry.path, name)
            os.chown(entry.path, 0, 0)
            os.chmod(entry.path, 0o644)
            os.rename(entry.path, os.path.join(kept, "packages", entry.name))

    def drop_packages(self) -> None:
        """Remove the packages that were downloaded: a layer holds what was in them.

        They would only be measured again and again.
        """
        for directory in glob.glob(os.path.join(glob.escape(self.path), "*", "packages")):
            shutil.rmtree(directory)

    def drop_metadata(self, repo_id: str) -> None:
        """Remove dnf's metadata of one repository, as fetched and as it was prepared."""
        path = glob.escape(os.path.join(self.path, repo_id))
        for directory in glob.glob(f"{path}-*/repodata"):
            shutil.rmtree(directory)
        for file in (*glob.glob(f"{path}.solv"), *glob.glob(f"{path}-*.solvx")):
            os.unlink(file)

    def remove(self) -> None:
        for path in self._existing():
            shutil.rmtree(path)
        self.path = self._own

    def _existing(self) -> list[str]:
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return []
        return [os.path.join(self._directory, n) for n in names if n.startswith(f"{self._key}.")]


def _directories(path: str) -> list[str]:
    """What is a directory in `path`, and no link to one."""
    with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []

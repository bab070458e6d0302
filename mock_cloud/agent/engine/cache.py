# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf's cache for one configuration: metadata and packages.

It lies at WORKSPACE/dnf/KEY.JOB, where JOB is the job that last changed it: a path that the
controller recorded is never written to again, so its digest holds even if a job is cut off.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable


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

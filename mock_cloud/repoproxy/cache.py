# SPDX-License-Identifier: GPL-2.0-or-later
"""What was fetched of repositories, kept on this machine for the next build.

A directory a repository, in it a file for each checksum. Nothing is shared between repositories:
what a repository lists is no proof that it has it, and must not open what came from another one.
The whole cache is one user's, and nobody else can read it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from mock_cloud.repoproxy.metadata import ListedFile

CACHE_MAX_BYTES: Final = 10 << 30
_DRAFT: Final = ".draft-"


class RepositoryCache:
    """The files of one repository, called `identity` (any text), below the directory `root`.

    `root` is made for this user alone. OSError where it cannot be.
    """

    def __init__(self, root: Path, identity: str) -> None:
        self._directory = root / hashlib.sha256(identity.encode()).hexdigest()[:32]
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def find(self, listed: ListedFile) -> int | None:
        """A descriptor of the file, if it is there; one of another size is what a crash left."""
        path = self._directory / _name(listed)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        if listed.size not in (None, os.fstat(descriptor).st_size):
            os.close(descriptor)
            return None
        with suppress(OSError):
            os.utime(descriptor)  # what was used last is dropped last
        return descriptor

    @contextmanager
    def draft(self) -> Iterator[IO[bytes]]:
        """A file to write to, which is gone with the block unless it was kept. OSError."""
        with tempfile.NamedTemporaryFile(
            prefix=_DRAFT, dir=self._directory, delete=False
        ) as stream:
            try:
                yield stream.file
            finally:
                with suppress(FileNotFoundError):
                    Path(stream.name).unlink()

    def keep(self, draft: IO[bytes], listed: ListedFile) -> None:
        """Let what was written to the draft be what `listed` is; it was checked. OSError."""
        draft.flush()
        Path(draft.name).rename(self._directory / _name(listed))


def trim(root: Path, max_bytes: int = CACHE_MAX_BYTES) -> None:
    """Drop what was not used for longest, of all repositories, until the rest has `max_bytes`."""
    found = []
    for path in root.glob("*/*"):
        with suppress(OSError):
            facts = path.lstat()
            found.append((facts.st_mtime, facts.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= max_bytes:
            return
        with suppress(OSError):
            path.unlink()
            total -= size


def _name(listed: ListedFile) -> str:
    return f"{listed.kind}-{listed.digest}"

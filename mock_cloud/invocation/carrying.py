# SPDX-License-Identifier: GPL-2.0-or-later
"""Files and directories of this machine that go along with a mock on a node."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mock_cloud.errors import ConfigError, UnsupportedByEngine
from mock_cloud.file_owner import may_write
from mock_cloud.invocation.hostfiles import HostFile
from mock_cloud.invocation.names import find_name_problem
from mock_cloud.wire.job_request import JOB_DIRECTORY, OUTPUT
from mock_cloud.wire.terminal_text import printable

DIRECTORY_MAX_BYTES: Final = 256 << 20
"""A directory that a configuration names is sent with every job: no larger one is."""

IMAGE_MAX_BYTES: Final = 8 << 30
"""Container images and offline repositories."""

_ENTRIES_MAX: Final = 20_000

_SECRET: Final = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY")
_SECRET_BYTES: Final = 64 << 10
"""How much of a file is searched for a private key: they stand at its beginning."""


class Carrier:
    """Collects what goes along; says where each thing lies on the node.

    `returns`: the directories here that get what a job writes to theirs, by the place of that on
    the node. `packages`: which of them are for packages only.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, Path], HostFile] = {}
        self.returns: dict[str, Path] = {}
        self.packages: set[str] = set()
        self._taken: set[tuple[str, str]] = set()

    def file(self, path: Path, what: str, *, max_bytes: int = DIRECTORY_MAX_BYTES) -> str:
        """Take a regular file along. `what` is for ConfigError, UnsupportedByEngine."""
        size = _measure(path, what)
        _check_size(size, max_bytes, path, what)
        _refuse_secret(path, what)
        return self._place(path, "file")

    def tree(
        self,
        path: Path,
        what: str,
        *,
        max_bytes: int = DIRECTORY_MAX_BYTES,
        keys_allowed: bool = False,
    ) -> str:
        """The same for a directory with all that is in it. Sources may have keys (for tests)."""
        total = 0
        for number, entry in enumerate(_walk(path, what)):
            if entry.is_symlink() or not entry.is_file():
                continue
            total += entry.stat().st_size
            _check_size(total, max_bytes, path, what)
            if number > _ENTRIES_MAX:
                raise UnsupportedByEngine(
                    f"{what}: {printable(str(path))} has more than {_ENTRIES_MAX} entries",
                    hint="name a smaller directory",
                )
            if not keys_allowed:
                _refuse_secret(entry, what)
        return self._place(path, "tree")

    def path(self, path: Path, what: str, *, max_bytes: int = DIRECTORY_MAX_BYTES) -> str:
        """A file or a directory, whichever it is."""
        if path.is_dir():
            return self.tree(path, what, max_bytes=max_bytes)
        return self.file(path, what, max_bytes=max_bytes)

    def returned_tree(self, path: Path, what: str) -> str:
        """A directory that goes along, and gets what a job writes to it."""
        place = self.tree(path, what)
        self.returns[place.removeprefix(f"{JOB_DIRECTORY}/")] = path.resolve()
        return place

    def output(self, path: Path, what: str) -> str:
        """A directory, empty on the node, of which the packages come to `path` here. ConfigError.

        `path` is made then, if only the one above it is there.
        """
        real = path.resolve()
        holder = real if real.is_dir() else real.parent
        if not holder.is_dir() or (holder != real and real.exists()):
            raise ConfigError(f"{what}: {printable(str(real))} is not a directory")
        if not may_write(holder):
            raise ConfigError(f"{what}: cannot write to {printable(str(holder))}")
        place = next((name for name in self.packages if self.returns[name] == real), "")
        if not place:
            place = f"{OUTPUT}/{len(self.packages)}"
            self.returns[place] = real
            self.packages.add(place)
        return f"{JOB_DIRECTORY}/{place}"

    def _place(self, path: Path, role: str) -> str:
        real = path.resolve()  # a link to a directory is that directory
        if (role, real) not in self.files:
            name = self._name(path.absolute().name, role)
            self.files[role, real] = HostFile(name, role, real)
        return f"{JOB_DIRECTORY}/inputs/{role}/{self.files[role, real].name}"

    def _name(self, base: str, role: str) -> str:
        # It stands in configuration files and lists of words.
        base = re.sub(r"[^A-Za-z0-9._+-]", "_", base)
        base = base if find_name_problem(base) is None else role
        name, number = base, 1
        while (role, name) in self._taken:
            number += 1
            name = f"{number}.{base}"
        self._taken.add((role, name))
        return name


def _measure(path: Path, what: str) -> int:
    try:
        facts = path.stat()
    except OSError as error:
        raise ConfigError(f"{what}: {printable(str(path))}: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise UnsupportedByEngine(
            f"{what}: {printable(str(path))} is neither a file nor a directory",
            hint="what lies on this machine only cannot be there on a node",
        )
    return facts.st_size


def _walk(path: Path, what: str) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise ConfigError(f"{what}: {error.filename}: {error.strerror}") from error

    for directory, names, files in os.walk(path, onerror=fail):
        for name in (*names, *files):
            yield Path(directory, name)


def _check_size(size: int, limit: int, path: Path, what: str) -> None:
    if size > limit:
        raise UnsupportedByEngine(
            f"{what}: {printable(str(path))} is larger than {limit >> 20} MiB,"
            " too large to go along with every job",
            hint="put what the build needs into a package, or into a smaller directory",
        )


def _refuse_secret(path: Path, what: str) -> None:
    """Private keys never reach a node, not even a trusted one."""
    try:
        with path.open("rb") as stream:
            found = _SECRET.search(stream.read(_SECRET_BYTES))
    except OSError as error:
        raise ConfigError(f"{what}: {printable(str(path))}: {error.strerror}") from error
    if found:
        raise UnsupportedByEngine(
            f"{what}: {printable(str(path))} is a private key, which stays on this machine",
            hint="keep keys out of what the build gets to see",
        )

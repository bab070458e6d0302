# SPDX-License-Identifier: GPL-2.0-or-later
"""What every part of a job shares: the request, its directories, logs, and inputs."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Final

from mock_cloud.agent.engine.errors import EngineError, ModeUsageError
from mock_cloud.agent.engine.logs import Logs
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.job_request import EngineConfig, Input, JobRequest

_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """One job on the node. `directory` is W/jobs/ID."""

    workspace: str
    id: str
    directory: str
    request: JobRequest
    logs: Logs

    @property
    def config(self) -> EngineConfig:
        """What the chroot engine is told; only its jobs have it."""
        if self.request.config is None:
            raise EngineError("the request is not for the chroot engine")
        return self.request.config

    @property
    def shown_results(self) -> str:
        """Where the user will find the results, for messages."""
        return self.request.resultdir or self.results

    @property
    def results(self) -> str:
        return os.path.join(self.directory, "results")

    def shown(self, path: str) -> str:
        """What the user calls the input or the result at `path`, for messages."""
        name = os.path.basename(path)
        if os.path.dirname(path) == self.results:
            return os.path.join(self.shown_results, name)
        return self.request.shown.get(name, name)

    def inputs_of(self, role: str) -> list[Input]:
        return [item for item in self.request.inputs if item.role == role]

    def find_input(self, name: str) -> Input:
        """The input called `name`. UsageError if the request has none."""
        for item in self.request.inputs:
            if item.name == name:
                return item
        raise ModeUsageError(f"the request has no input called {name!r}")

    def take_input(self, item: Input, directory: str = "") -> str:
        """A copy of the input under its own name, in `directory` or W/jobs/ID/inputs.

        It is checked against its digest while it is copied: a blob may have been on the node
        for long. EngineError (75) if it is missing or differs.
        """
        directory = directory or os.path.join(self.directory, "inputs")
        os.makedirs(directory, mode=0o755, exist_ok=True)
        target = os.path.join(directory, item.name)
        with self.blobs() as read, open(target, "wb") as writer:
            for block in read(item.digest, item.name):
                writer.write(block)
        return target

    @contextlib.contextmanager
    def blobs(self) -> Iterator[Callable[..., Iterator[bytes]]]:
        """What reads a blob by its digest while the block lasts, from within a chroot too.

        A second argument is the name for messages. See `take_input` for what it raises.
        """
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = os.open(os.path.join(self.workspace, "blobs"), flags)
        try:
            yield functools.partial(_read_blob, descriptor)
        finally:
            os.close(descriptor)

    def discard_inputs(self) -> None:
        for name in ("inputs", "mock"):
            shutil.rmtree(os.path.join(self.directory, name), ignore_errors=True)


def _read_blob(directory: int, digest: str, name: str = "") -> Iterator[bytes]:
    shown, found = name or digest[:12], hashlib.sha256()
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(digest, flags, dir_fd=directory)
    except FileNotFoundError as error:
        raise EngineError(f"the input {shown} is not on the node", 75) from error
    with open(descriptor, "rb", buffering=0) as reader:
        while block := reader.read(_BLOCK):
            found.update(block)
            yield block
    if found.hexdigest() != digest:
        raise EngineError(f"the input {shown} is not what was sent", 75)


def remove_earlier(results: str) -> None:
    """Take the links to what earlier chains built out of the repository again."""
    for entry in os.scandir(results):
        if entry.is_dir(follow_symlinks=False):
            remove_links(entry.path)


def remove_links(directory: str) -> None:
    """Remove the links in `directory`, and it if it is empty then."""
    for entry in os.scandir(directory):
        if entry.is_symlink():
            os.unlink(entry.path)
    with contextlib.suppress(OSError):
        os.rmdir(directory)

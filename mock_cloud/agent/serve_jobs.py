# SPDX-License-Identifier: GPL-2.0-or-later
"""Observing jobs: logs as they grow, results when they are there.

A job belongs to the node, not to a connection. Nothing here starts or keeps one alive; the
runner does that in processes of their own.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Final

from mock_cloud.agent.job import running
from mock_cloud.agent.serve_wire import CHUNK_BYTES, Failure
from mock_cloud.wire.chunks import COARSE, Chunk, coarse_chunks, fine_chunks, pack_chunks
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.files import digest_of
from mock_cloud.wire.frames import HEADER_MAX, FrameHeader
from mock_cloud.wire.job_request import SOURCE_ROLES, can_travel, is_live_log, parse_request
from mock_cloud.wire.owner_statement import (
    NAMESPACE,
    OWNER_AGENT,
    OWNER_KEY,
    STATEMENT_MAX,
    OwnedPackage,
    OwnerStatement,
)
from mock_cloud.wire.replies import read_status
from mock_cloud.wire.rpmfile import digest_parts
from mock_cloud.wire.rpmheader import HeaderError

_POLL_S: Final = 0.02
_POLL_IDLE_S: Final = 0.1
_IDLE_AFTER_S: Final = 2.0
_SIGN_S: Final = 60.0
_CHUNKS_A_FRAME: Final = 1 << 14
_VANISHED_GRACE_S: Final = 1.0  # a job that is being started has no process yet
_TAIL_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC

Send = Callable[[FrameHeader, bytes], None]


class JobFiles:
    """The files of one job, opened without following links."""

    def __init__(self, workspace: str, name: str) -> None:
        self.workspace = workspace
        self.name = name
        self.directory = os.path.join(workspace, "jobs", name)  # a name that was checked
        self.results = os.path.join(self.directory, "results")
        if not os.path.isdir(self.directory):
            raise Failure("no-job", f"there is no job {name}")

    def open_result(self, name: str) -> int:
        """A descriptor of a regular file below ``results``; every part is opened as it is.

        `name` was checked by `serve_wire.result_name`.
        """
        *parents, last = name.split("/")
        try:
            here = os.open(self.results, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for part in parents:
                below = _open_at(here, part, os.O_DIRECTORY)
                os.close(here)
                here = below
            try:
                fd = _open_at(here, last, os.O_NONBLOCK)
            finally:
                os.close(here)
        except OSError as error:
            raise Failure.from_os_error(error, f"result {name}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Failure("not-found", f"result {name} is not a regular file")
        return fd

    def names(self) -> Iterator[str]:
        """Regular files below ``results``, as paths relative to it.

        A job that runs (its createrepo_c above all) may take away what was just listed.
        """
        for where, directories, files in os.walk(self.results):
            directories.sort()
            for file in sorted(files):
                path = os.path.join(where, file)
                try:
                    mode = os.lstat(path).st_mode
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(mode):
                    yield os.path.relpath(path, self.results)


def _open_at(directory: int, name: str, flags: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=directory)


def has_started(workspace: str, name: str, request: bytes) -> bool:
    """Whether this very job was started before: its answer may have been lost on the way."""
    try:
        with open(os.path.join(workspace, "jobs", name, "request.json"), "rb") as stream:
            return stream.read() == request
    except FileNotFoundError:
        return False


def list_results(job: JobFiles, send: Send) -> list[dict[str, Any]]:
    """Name, size in bytes, sha256 and permission bits of each result.

    Where there are more than fit into a frame, only the last are returned; the others are sent.
    One whose name cannot travel stays, and the engine that left it has warned of it.
    """
    page: list[dict[str, Any]] = []
    size = 0
    for name in filter(can_travel, job.names()):
        facts = _facts(job, name)
        size += len(json.dumps(facts))
        if size > HEADER_MAX // 2:
            send({"files": page, "more": True}, b"")
            page, size = [], 0
        page.append(facts)
    return page


def _facts(job: JobFiles, name: str) -> dict[str, Any]:
    with open(job.open_result(name), "rb", buffering=0) as stream:
        mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
        digest, size = digest_of(stream)
    return {"name": name, "size": size, "sha256": digest, "mode": mode}


def sign_by_owner(job: JobFiles, nonce: str) -> FrameHeader:
    """The statement about the job's packages, and the machine's owner's signature of it.

    By `ssh-keygen`, with the owner's key on this machine, or the one that an SSH agent of the
    owner's has. Failure ``no-owner-key``, ``owner-key``, ``too-large``.
    """
    with open(os.path.join(job.directory, "request.json"), "rb") as stream:
        request = parse_request(stream.read())
    sources = {one.digest for one in request.inputs if one.role in SOURCE_ROLES}
    names = [name for name in filter(can_travel, job.names()) if name.endswith(".rpm")]
    statement = to_json(
        OwnerStatement(
            job.name, nonce, tuple(sorted(sources)), {name: _owned(job, name) for name in names}
        )
    )
    if len(statement) > STATEMENT_MAX:
        raise Failure("too-large", f"{len(names)} packages in one statement")
    key = next((one for one in (OWNER_KEY, f"{OWNER_KEY}.pub") if os.path.exists(one)), None)
    if key is None:
        raise Failure("no-owner-key", f"there is no {OWNER_KEY} on the node")
    environ = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "SSH_AUTH_SOCK": OWNER_AGENT}
    argv = ["/usr/bin/ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", key]
    try:
        done = subprocess.run(
            argv, input=statement, capture_output=True, env=environ, timeout=_SIGN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure("owner-key", f"ssh-keygen on the node: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        raise Failure("owner-key", f"ssh-keygen on the node: {said}")
    return {"statement": statement.decode(), "signature": done.stdout.decode("ascii", "replace")}


def _owned(job: JobFiles, name: str) -> OwnedPackage:
    with open(job.open_result(name), "rb") as stream:
        digest = digest_of(stream)[0]
        stream.seek(0)
        try:
            return OwnedPackage(digest, *digest_parts(stream))
        except HeaderError as error:
            raise Failure("owner-key", f"{name} is not a package: {error}") from error


def send_result(job: JobFiles, name: str, offset: int, length: int, send: Send) -> None:
    """Stream `length` bytes at `offset`. Failure ``not-found`` when the file is shorter."""
    fd = job.open_result(name)
    try:
        if os.fstat(fd).st_size < offset + length:
            raise Failure("not-found", f"result {name} ends before byte {offset + length}")
        left = length
        while left:
            data = os.pread(fd, min(left, CHUNK_BYTES), offset)
            if not data:
                raise Failure("not-found", f"result {name} became shorter")
            offset += len(data)
            left -= len(data)
            send({"more": True}, data)
    finally:
        os.close(fd)


def send_chunks(job: JobFiles, name: str, ranges: list[tuple[int, int]], send: Send) -> None:
    """Stream how a result is cut: into coarse chunks, or `ranges` of it into fine ones."""
    with open(job.open_result(name), "rb", buffering=0) as stream:
        found: Iterator[tuple[Chunk, bytes]] = coarse_chunks(stream)
        if ranges:
            found = (
                fine
                for start, end in ranges
                if end - start <= COARSE.most
                for fine in fine_chunks(start, os.pread(stream.fileno(), end - start, start))
            )
        while page := [chunk for chunk, _ in itertools.islice(found, _CHUNKS_A_FRAME)]:
            send({"more": True}, pack_chunks(page))


def forget(job: JobFiles) -> None:
    """Remove the job's directory. Failure ``busy`` while it runs."""
    if _state(job) == "running":
        raise Failure("busy", f"job {job.name} still runs")
    try:
        shutil.rmtree(job.directory)
    except OSError as error:
        raise Failure.from_os_error(error, f"the directory of job {job.name}") from error


def follow(
    job: JobFiles, offsets: dict[str, int], send: Send, stopped: threading.Event
) -> FrameHeader | None:
    """Stream what is appended to the logs until the job ended and all of it was sent.

    Returns the keys of the final frame: ``exit`` is null if the job vanished without leaving
    one. None if `stopped` was set first.
    """
    tails = _Tails(job, offsets, send)
    busy_at = time.monotonic()
    vanished_at: float | None = None
    while not stopped.is_set():
        state, now = _state(job), time.monotonic()
        if state != "vanished":
            vanished_at = None
        elif vanished_at is None:
            vanished_at = now
        gone = vanished_at is not None and now - vanished_at > _VANISHED_GRACE_S
        if tails.send_new():
            busy_at = now
        elif gone or state == "finished":
            status = read_status(job.directory)
            found = asdict(status) if status else {}
            return {"exit": found.get("exit"), "status": found}
        else:
            stopped.wait(_POLL_S if now - busy_at < _IDLE_AFTER_S else _POLL_IDLE_S)
    return None


def _state(job: JobFiles) -> str:
    """A value of `running.JobState`."""
    try:
        return str(running.state(job.workspace, job.name).value)
    except FileNotFoundError as error:
        raise Failure("no-job", f"job {job.name} was forgotten") from error


class _Tails:
    """Byte offsets of a job's terminal and logs; sends what lies beyond them."""

    def __init__(self, job: JobFiles, offsets: dict[str, int], send: Send) -> None:
        self._job = job
        self._offsets = dict(offsets)
        self._send = send

    def send_new(self) -> bool:
        """Send what was appended. Whether there was anything."""
        sent = self._send_new("terminal", os.path.join(self._job.directory, "terminal"))
        for name in self._job.names():
            if is_live_log(name):
                sent |= self._send_new(name, None)
        return sent

    def _send_new(self, name: str, path: str | None) -> bool:
        try:
            fd = os.open(path, _TAIL_FLAGS) if path else self._job.open_result(name)
        except (FileNotFoundError, Failure):
            return False  # not there yet, or renamed between the listing and now
        offset = start = self._offsets.get(name, 0)
        try:
            while data := os.pread(fd, CHUNK_BYTES, offset):
                self._send({"log": name, "offset": offset, "more": True}, data)
                offset += len(data)
        finally:
            os.close(fd)
        self._offsets[name] = offset
        return offset > start

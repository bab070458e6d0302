# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory of this machine, served read-only: regular files that lie in it, and byte ranges."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Final

from mock_cloud.repoproxy.allow import LocalFile
from mock_cloud.repoproxy.http1 import Client, ProxyRequest

_BLOCK_BYTES: Final = 256 << 10
_RANGE: Final = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


def send_file(client: Client, request: ProxyRequest, file: LocalFile) -> None:
    """Answer GET or HEAD; 404 for whatever is not a regular file in the directory."""
    body = request.method == "GET"
    try:
        descriptor = open_inside(file.directory, file.path)
    except OSError:
        client.answer(HTTPStatus.NOT_FOUND, "no such file", body=body)
        return
    send_open(client, request, descriptor)


def send_open(client: Client, request: ProxyRequest, descriptor: int) -> None:
    """The same with an open regular file, which is closed."""
    body = request.method == "GET"
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        facts = os.fstat(descriptor)
        wanted = find_range(request.headers.get("range", ""), facts.st_size)
        if wanted is not None and wanted[0] >= wanted[1]:
            headers = {"Content-Range": f"bytes */{facts.st_size}"}
            client.start(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers, 0)
            return
        start, end = wanted or (0, facts.st_size)
        headers = {
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
            "Last-Modified": formatdate(facts.st_mtime, usegmt=True),
        }
        if wanted is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{facts.st_size}"
        status = HTTPStatus.OK if wanted is None else HTTPStatus.PARTIAL_CONTENT
        client.start(status, headers, end - start)
        for data in _blocks(stream.fileno(), start, end) if body else ():
            client.send(data)


def find_range(header: str, size: int) -> tuple[int, int] | None:
    """The first byte and the one after the last that a Range header asks for (RFC 9110, 14.2).

    None: all of it, which is also the answer to several ranges. Empty if it lies outside.
    """
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if found is None:
        return None
    if found[3] is not None:
        return max(0, size - int(found[3])), size
    end = min(int(found[2]) + 1, size) if found[2] else size
    return (int(found[1]), end) if not found[2] or int(found[2]) >= int(found[1]) else None


def open_inside(directory: Path, path: str) -> int:
    """A descriptor of the regular file at `path` below `directory`. OSError.

    Links may lead from one place inside to another. Where they lead is found first; then the
    file is opened part by part, following none, so that whoever changes one meanwhile gets
    an error and not another file.
    """
    root = directory.resolve()
    found = (root / path.lstrip("/")).resolve()
    if found == root or not found.is_relative_to(root):
        raise FileNotFoundError(path)
    parts = found.relative_to(root).parts
    with contextlib.ExitStack() as stack:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        here = os.open(root, flags | os.O_DIRECTORY)
        stack.callback(os.close, here)
        for part in parts[:-1]:
            here = os.open(part, flags | os.O_DIRECTORY, dir_fd=here)
            stack.callback(os.close, here)
        descriptor = os.open(parts[-1], flags | os.O_NONBLOCK, dir_fd=here)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(path)
    return descriptor


def _blocks(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        data = os.pread(descriptor, min(_BLOCK_BYTES, end - start), start)
        if not data:
            raise OSError("the file became shorter")  # the client must see a cut
        yield data
        start += len(data)

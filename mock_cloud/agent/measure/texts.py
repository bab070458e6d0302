# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of small files that the controller judges by what they say."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator

from mock_cloud.agent.measure import opening
from mock_cloud.wire.text_places import (
    NETWORK_PLACES,
    TEXT_FILES,
    TEXT_MAX,
    TEXTS_MAX,
    is_network_file,
)


def measure_texts(root: str = "/") -> list[list[str]]:
    """Path and bytes, in base64, of each that is a regular file and small enough."""
    found: list[list[str]] = []
    for path in _paths(root):
        data = _read(root, path)
        if data is not None and len(found) < TEXTS_MAX:
            found.append([path, base64.b64encode(data).decode("ascii")])
    return found


def _paths(root: str) -> Iterator[str]:
    yield from TEXT_FILES
    for directory in NETWORK_PLACES:
        try:
            fd = opening.open_in_root(root, directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            names = sorted(os.listdir(fd))
        finally:
            os.close(fd)
        yield from (f"{directory}/{name}" for name in names if is_network_file(directory, name))


def _read(root: str, path: str) -> bytes | None:
    """None for what is no small regular file; which one it is, the digest beside it tells."""
    try:
        fd = opening.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        # A pipe or a device is not read from; more than one read is not needed of a small file.
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        data = os.read(fd, TEXT_MAX + 1) if is_file else None
    except OSError:
        return None
    finally:
        os.close(fd)
    return data if data is not None and len(data) <= TEXT_MAX else None

# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that the controller itself writes into a resultdir: verdict, order log, provenance."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mock_cloud.file_owner import as_owner, create
from mock_cloud.results.disk import translate


@as_owner()
def write_own_log(path: Path, text: str, *, append: bool = False) -> None:
    """Write `text` to a new file at `path`, or with `append` to the end of the one that is there.

    Never through a link: one in its place makes way. LocalResultError.
    """
    flags = os.O_WRONLY | os.O_NOFOLLOW
    flags |= os.O_APPEND if append and not path.is_symlink() else os.O_EXCL
    try:
        if flags & os.O_EXCL:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        descriptor = create(path, flags)
        with open(descriptor, "wb") as log:  # noqa: PTH123  a descriptor
            log.write(text.encode(errors="backslashreplace"))
    except OSError as error:
        raise translate(error, path) from error


@as_owner()
def write_own_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all, in place of what is there. LocalResultError."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        with open(create(new, os.O_WRONLY | os.O_NOFOLLOW | os.O_EXCL), "wb") as stream:  # noqa: PTH123
            stream.write(data)
        new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise translate(error, path) from error


@as_owner()
def remove_own_file(path: Path) -> None:
    """Remove it, if it is there. LocalResultError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise translate(error, path) from error

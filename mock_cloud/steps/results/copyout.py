# SPDX-License-Identifier: GPL-2.0-or-later
"""What comes back to places the user named: what --copyout copied, and what a job wrote."""

from __future__ import annotations

import fnmatch
import glob
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mock_cloud.console import Console
from mock_cloud.errors import InputError, ResultError, TransportError
from mock_cloud.file_owner import as_owner
from mock_cloud.results.archive import unpack_archive
from mock_cloud.results.disk import check_space, translate
from mock_cloud.results.returning import Returning, put_back
from mock_cloud.wire.job_request import COPYOUT_NAME, GAINS_NAME
from mock_cloud.wire.replies import ResultFile
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    from mock_cloud.remote.trusted import TrustedChannel

_LEFT_OUT_SHOWN: Final = 5


def fetch_archive(channel: TrustedChannel, job: str, listed: ResultFile, directory: Path) -> Path:
    """Fetch an archive into `directory`, where there must be room to unpack it as well.

    ResultError, LocalDiskFull, TransportError.
    """
    from mock_cloud.remote.download import Fetch  # see `mock_cloud.session`

    check_space(directory, 2 * listed.size_bytes)
    path = directory / "archive"
    try:
        with as_owner():
            stream = path.open("wb")
        with stream:
            channel.fetch(job, [Fetch(listed, stream.write)])
    except OSError as error:
        raise translate(error, path) from error
    return path


def bring_back(
    channel: TrustedChannel,
    job: str,
    returning: Sequence[Returning],
    scratch_in: Path,
    console: Console,
) -> None:
    """Put what the job wrote into directories of the caller's there; a warning names what stays.

    The archive is fetched into the directory `scratch_in`. ResultError, InputError.
    """
    archive = next((file for file in channel.results(job) if file.name == GAINS_NAME), None)
    if archive is None:
        return
    places = {str(number): place for number, place in enumerate(returning)}
    with _scratch(scratch_in) as scratch:
        left_out = put_back(fetch_archive(channel, job, archive, scratch), places)
    if left_out:
        shown = ", ".join(map(printable, left_out[:_LEFT_OUT_SHOWN]))
        console.warning(f"{len(left_out)} files that were written stay on the node: {shown}")


def unpack_copyout(
    channel: TrustedChannel, job: str, patterns: Sequence[str], destination: Path, *, whole: bool
) -> None:
    """Put what matched `patterns` on the node at `destination`, as mock copies it.

    `whole`: the node copied all of it; else there may be nothing, and that was said already.
    InputError where the user's destination is in the way; ResultError for what nobody asked for.
    """
    archive = next((file for file in channel.results(job) if file.name == COPYOUT_NAME), None)
    if archive is None:
        if whole:
            raise TransportError("the node packed nothing for --copyout")
        return
    with _scratch(_holder(destination)) as scratch:
        tree = scratch / "tree"
        unpack_archive(fetch_archive(channel, job, archive, scratch), tree)
        items = sorted(tree.iterdir())
        many = max(len(patterns), len(items)) > 1
        if many and not destination.is_dir():
            raise InputError(f"several files, and {destination} is not a directory")
        for item in items:
            _place(item, destination, patterns, many=many)


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """A directory in `place`, made and removed as its user. InputError where he may not write."""
    try:
        with as_owner():
            made = tempfile.TemporaryDirectory(prefix=".mock-cloud-", dir=place)
    except OSError as error:
        raise InputError(f"cannot write to {place}: {error.strerror}") from error
    try:
        yield Path(made.name)
    finally:
        with as_owner():
            made.cleanup()


def _holder(destination: Path) -> Path:
    return destination if destination.is_dir() else destination.parent


def _place(item: Path, destination: Path, patterns: Sequence[str], *, many: bool) -> None:
    # mock copies a directory onto the destination itself, which must not exist; a file
    # goes into a directory or takes the destination's name.
    is_directory = item.is_dir() and not item.is_symlink()
    into = destination.is_dir() and (many or not is_directory)
    if into and not any(_matches(item.name, pattern, is_directory) for pattern in patterns):
        raise ResultError(f"the node copied {printable(item.name)}, which nobody asked for")
    target = destination / item.name if into else destination
    if is_directory and os.path.lexists(target):
        raise InputError(f"--copyout: {target} exists already", hint="name a new directory")
    try:
        with as_owner():
            item.replace(target)
    except OSError as error:
        raise InputError(f"--copyout: cannot write {target}: {error.strerror}") from error


def _matches(name: str, pattern: str, is_directory: bool) -> bool:
    """Whether what `pattern` (a path in the chroot) matches may have this name."""
    last = os.path.basename(os.path.normpath(f"/{pattern}")) or "root"  # noqa: PTH119  no path here
    if last == "~":
        return is_directory and not name.startswith(".")
    if not glob.has_magic(last):
        return name == last
    if name.startswith(".") and not last.startswith("."):
        return False  # as glob(7) has it
    return fnmatch.fnmatchcase(name, last)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Edits of files that are not ours: planned first, then made, each in one step.

A file keeps its mode, owner and extended attributes, and a link to it stays a link. What
stands in somebody else's file is one block between two marks, so that it can be found again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from mock_cloud.errors import ConfigError
from mock_cloud.wire.dataclass import dataclass

_BEGIN: Final = "# >>> mock-cloud launcher >>>"
_END: Final = "# <<< mock-cloud launcher <<<"
_NOTE: Final = (
    "# Written by `mock-cloud launcher enable`; `mock-cloud launcher disable` removes it."
)


@dataclass(frozen=True, slots=True)
class Edit:
    """One change that is wanted: what it does, where, and the doing of it.

    `of_link`: a link itself is made or removed, and what it leads to is not touched.
    """

    what: str
    path: Path
    make: Callable[[], None]
    of_link: bool = False


def make_edits(edits: Sequence[Edit], *, dry_run: bool = False) -> Iterator[Edit]:
    """Make `edits` in order, and yield each when it is made, or would be. ConfigError.

    Nothing is begun if one of them could not be made.
    """
    for edit in edits:
        check_writable(edit.path, of_link=edit.of_link)
    for edit in edits:
        if not dry_run:
            try:
                edit.make()
            except OSError as error:
                raise ConfigError(f"cannot write {edit.path}: {error.strerror}") from error
        yield edit


def check_writable(path: Path, *, of_link: bool = False) -> None:
    """ConfigError unless `path` could be replaced or made; see `Edit`."""
    place = path.resolve().parent if path.exists() and not of_link else path.parent
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        hint = None if os.geteuid() == 0 else "as root, or choose another way: --user"
        raise ConfigError(f"cannot write {path}: {place} is not writable", hint=hint)


def read_edited(path: Path) -> str:
    """The file's text, empty if there is no file. ConfigError. Any bytes survive `write_file`."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def write_file(path: Path, text: str) -> None:
    """Replace the file in one step, or make it for all to read. Raises OSError."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            if path.exists():
                facts = path.stat()
                os.fchown(stream.fileno(), facts.st_uid, facts.st_gid)
                shutil.copystat(path, name)
                os.utime(name)
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def find_block(text: str) -> str | None:
    """What stands between our marks, without the note; None if they are not there.

    ConfigError if somebody has taken one of the marks away.
    """
    span = _span(text)
    if span is None:
        return None
    lines = text[span[0] : span[1]].splitlines()[1:-1]
    return "".join(f"{line}\n" for line in lines if line != _NOTE)


def with_block(text: str, block: str) -> str:
    """`text` with `block` (whole lines) between our marks: where one stands, else at the end."""
    marked = f"{_BEGIN}\n{_NOTE}\n{block}{_END}\n"
    span = _span(text)
    if span is not None:
        return text[: span[0]] + marked + text[span[1] :]
    return text + ("" if not text or text.endswith("\n") else "\n") + marked


def without_block(text: str) -> str:
    """`text` as it was before `with_block`, but for a newline at its end."""
    span = _span(text)
    return text if span is None else text[: span[0]] + text[span[1] :]


def _span(text: str) -> tuple[int, int] | None:
    lines = text.splitlines(keepends=True)
    marks = [(number, line.rstrip("\r\n")) for number, line in enumerate(lines)]
    begins = [number for number, line in marks if line == _BEGIN]
    ends = [number for number, line in marks if line == _END]
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise ConfigError(
            f"a block of mock-cloud's is damaged: {len(begins)} first and {len(ends)} last lines",
            hint=f"remove what stands between {_BEGIN!r} and {_END!r}, and these lines",
        )
    return sum(map(len, lines[: begins[0]])), sum(map(len, lines[: ends[0] + 1]))


def edit_block(path: Path, block: str | None) -> list[Edit]:
    """The edit that makes `block` the one in `path`, or takes it out (None); none if it is so."""
    try:
        before = read_edited(path)
        after = without_block(before) if block is None else with_block(before, block)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error
    if after == before:
        return []
    what = "take our block out" if block is None else "write our block"
    return [Edit(what, path, lambda: write_file(path, after))]

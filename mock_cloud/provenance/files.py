# SPDX-License-Identifier: GPL-2.0-or-later
"""The files in a directory of results, and whether they are those that a provenance is about."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from mock_cloud.errors import ConfigError, Reason
from mock_cloud.provenance.statement import (
    EVIDENCE_NAME,
    PROVENANCE_NAME,
    FileDigests,
    PackageDigests,
    Provenance,
    ProvenanceRefused,
)
from mock_cloud.wire.files import digest_of
from mock_cloud.wire.rpmfile import digest_parts
from mock_cloud.wire.rpmheader import HeaderError

_FILES_MAX: Final = 100_000
_DEPTH_MAX: Final = 16
_SIGNATURES_MAX: Final = 1 << 20
"""Bytes by which a package may grow that is signed: a few signatures, and the space before them."""
_OWN: Final = (PROVENANCE_NAME, EVIDENCE_NAME)
_MARKS: Final = ("success", "fail")
"""Empty files by which a chain knows what it has built: made by anybody, it says nothing else."""


def digest_file(path: Path) -> str:
    """sha256 (hex) of a regular file, never of what a link leads to. OSError."""
    with open_regular(path) as stream:
        return digest_of(stream)[0]


def digest_package(path: Path) -> PackageDigests:
    """Of the package file's immutable header and of its payload. HeaderError, OSError."""
    with open_regular(path) as stream:
        return PackageDigests(*digest_parts(stream))


def open_regular(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return open(descriptor, "rb")  # noqa: PTH123  a descriptor


def find_result_files(place: Path, own: Collection[str] = _OWN) -> list[str]:
    """Names of all in the directory that is not a directory, but for `own`: what is about it.

    Relative, sorted. ProvenanceRefused for more than 100,000, or nested too deep; ConfigError where
    it can't be read.
    """
    found: list[str] = []

    def visit(directory: Path, prefix: str, depth: int) -> None:
        if depth > _DEPTH_MAX:
            raise _too_much(prefix, f"nested deeper than {_DEPTH_MAX} directories")
        with os.scandir(directory) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    visit(Path(entry.path), f"{name}/", depth + 1)
                elif name not in own:
                    found.append(name)
                if len(found) > _FILES_MAX:
                    raise _too_much(name, f"more than {_FILES_MAX} files")

    try:
        visit(place, "", 0)
    except OSError as error:
        raise ConfigError(f"cannot read {place}: {error.strerror}") from error
    return sorted(found)


def _too_much(name: str, why: str) -> ProvenanceRefused:
    return ProvenanceRefused((Reason("result.extra", name[:200], "a directory of results", why),))


def check_files(
    place: Path, provenance: Provenance, own: Collection[str], *, resigned: bool
) -> Iterator[Reason]:
    """Why the directory does not hold what the provenance is about; nothing if it does.

    ``result.missing``, ``.changed``, ``.extra``, ``.unreadable``; ``.resigned`` for a package whose
    signature alone is another one than it had, unless `resigned` says that it may be. `own` are the
    names of the provenance and its evidence.
    """
    there = find_result_files(place, own)
    wanted: Mapping[str, str] = {**provenance.results, **provenance.logs}
    for name in sorted(wanted.keys() - set(there)):
        yield Reason("result.missing", name, f"sha256 {wanted[name]}", "no such file")
    for name in there:
        if name not in wanted:
            if name in _MARKS and _is_empty(place / name):
                continue
            yield Reason("result.extra", name, "nothing", "a file that the build did not leave")
            continue
        try:
            found = _check_file(place / name, name, provenance, wanted[name])
        except HeaderError as error:
            found = Reason("result.changed", name, f"sha256 {wanted[name]}", str(error))
        except OSError as error:
            found = Reason("result.unreadable", name, "a file", str(error.strerror))
        if found is not None and not (resigned and found.code == "result.resigned"):
            yield found


def _is_empty(path: Path) -> bool:
    facts = path.lstat()
    return stat.S_ISREG(facts.st_mode) and facts.st_size == 0


def _check_file(path: Path, name: str, provenance: Provenance, wanted: str) -> Reason | None:
    """Read no further than its size allows. HeaderError, OSError."""
    built = provenance.used.packages.get(name)
    size, most = path.lstat().st_size, provenance.used.sizes[name]
    if size > most + (_SIGNATURES_MAX if built is not None else 0):
        return Reason("result.changed", name, f"{most} bytes", f"{size} bytes")
    digest = digest_file(path)
    if digest == wanted:
        return None
    if built is not None and digest_package(path) == built:
        found = f"sha256 {digest}: signed otherwise since, header and payload as built"
        return Reason("result.resigned", name, f"sha256 {wanted}", found)
    return Reason("result.changed", name, f"sha256 {wanted}", f"sha256 {digest}")


def read_sizes(place: Path, names: Iterable[str]) -> dict[str, int]:
    """Their sizes in bytes. OSError."""
    return {name: (place / name).lstat().st_size for name in sorted(names)}


def digest_files(place: Path, names: list[str]) -> FileDigests:
    """Of these files. OSError."""
    return {name: digest_file(place / name) for name in sorted(names)}

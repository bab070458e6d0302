# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file names a node may put into a local directory."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final, Protocol

from mock_cloud.errors import ResultError
from mock_cloud.invocation.names import find_name_problem
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.job_request import LIVE_LOGS, SCAN_ARCHIVE
from mock_cloud.wire.terminal_text import printable

# A resultdir may be any directory of the user's, `--resultdir .` in a source tree included:
# a node must not be able to replace a Makefile there. Suffixes are what mock itself writes.
_PLAIN: Final = re.compile(r".+\.(?:rpm|log)", re.DOTALL)
# What mock's own plugins write besides (buildroot_lock, chroot_scan, expand_spec,
# export_buildroot_image, system_monitor, whose file is spelt so).
_OF_PLUGINS: Final = frozenset({
    "buildroot_lock.json", "buildroot-oci.tar", "chroot_scan.tar.gz", SCAN_ARCHIVE,
    "expanded-spec.txt",
    "system_monior.json", "system_monitor.json",
})  # fmt: skip
_REPODATA_NAME: Final = "repodata"
CHAIN_MARKS: Final = frozenset({"success", "fail"})
_REPODATA: Final = re.compile(
    r"(?:[0-9a-f]{32,128}-)?[a-z_]+\.(?:xml|sqlite)(?:\.(?:gz|bz2|xz|zst|zck))?"
)


def check_name(name: str, *, packages: Collection[str] = ()) -> str:
    """`name` if a node may use it for a result, else ResultError saying why not.

    A bare name that ends in .rpm or .log, or one that a plugin of mock's gives; no log whose name
    begins with ``remote_``: those are the controller's. For --chain, `packages` are the directories
    of the packages that it builds: then there may also be ``PACKAGE/NAME`` with the marks
    ``success`` and ``fail``, and ``repodata/…``.
    """
    directory, slash, last = name.rpartition("/")
    parts = (directory, last) if slash and packages else (name,)
    for part in parts:
        problem = find_name_problem(part)
        if problem is not None:
            raise _refused(name, problem)
    if _is_controllers(last):
        raise _refused(name, "it is the controller's to write")
    if len(parts) > 1 and directory not in (*packages, _REPODATA_NAME):
        raise _refused(name, "no package of this chain is called so")
    if not _is_expected(directory if len(parts) > 1 else "", parts[-1]):
        raise _refused(name, "neither a package nor a log")
    return name


def check_live_log(name: str, *, packages: Collection[str] = ()) -> str:
    """`name` if it is a log that mock appends to, and so may grow in place; else ResultError.

    mock's handlers (`Buildroot._init_logging`) have mode a+ for these three; it writes all others
    anew, and they arrive at the end like any result.
    """
    if name.rpartition("/")[2] not in LIVE_LOGS:
        raise _refused(name, "mock appends to no log of this name")
    return check_name(name, packages=packages)


def is_kind_of_result(name: str, *, chain: bool) -> bool:
    """Whether the name is one that mock gives; `check_name` looks at its characters too."""
    directory, _, last = name.rpartition("/") if chain else ("", "", name)
    return _is_expected(directory, last)


def _refused(name: str, problem: str) -> ResultError:
    return ResultError(f"the node's result {printable(name)!r} is refused: {problem}")


def _is_controllers(last: str) -> bool:
    # Some file systems ignore the case of letters. A package may be called remote_control.
    folded = last.casefold()
    return folded.startswith("remote_") and not folded.endswith(".rpm")


def _is_expected(directory: str, last: str) -> bool:
    if directory == _REPODATA_NAME:
        return _REPODATA.fullmatch(last) is not None
    if last in _OF_PLUGINS or _PLAIN.fullmatch(last):
        return True
    return bool(directory) and last in CHAIN_MARKS


FILES_MAX: Final = 10_000
FILE_MAX_BYTES: Final = 64 << 30  # far above any package, far below what overflows

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Listed(Protocol):
    """What a node says of one result."""

    @property
    def name(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One result that was listed and whose name, size and digest are well-formed."""

    name: str
    size_bytes: int
    sha256: str


def check_manifest(
    listed: Iterable[Listed], *, packages: Collection[str] = ()
) -> tuple[ManifestEntry, ...]:
    """The entries in their order, or ResultError for the first that is not acceptable.

    Also refused: more than FILES_MAX entries, two with one name (letter case apart, for file
    systems that ignore it), a name that is a file here and a directory there.
    """
    entries: list[ManifestEntry] = []
    seen: set[str] = set()
    for item in listed:
        if len(entries) >= FILES_MAX:
            raise ResultError(f"the node lists more than {FILES_MAX} results")
        name = check_name(item.name, packages=packages)
        folded = name.casefold()
        if folded in seen:
            raise ResultError(f"the node lists the result {printable(name)!r} twice")
        seen.add(folded)
        if not 0 <= item.size_bytes <= FILE_MAX_BYTES:
            raise ResultError(f"the result {printable(name)!r} has a size of {item.size_bytes}")
        if not _SHA256.fullmatch(item.sha256):
            raise ResultError(f"the result {printable(name)!r} has no sha256")
        entries.append(ManifestEntry(name, item.size_bytes, item.sha256))
    directories = {entry.name.rpartition("/")[0].casefold() for entry in entries}
    for entry in entries:
        if entry.name.casefold() in directories:
            raise ResultError(f"the result {printable(entry.name)!r} is a directory too")
    return tuple(entries)

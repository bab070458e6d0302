# SPDX-License-Identifier: GPL-2.0-or-later
"""The list of results a node offers, checked before a byte of them is fetched."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from mock_cloud.errors import ResultError
from mock_cloud.results.names import check_name
from mock_cloud.wire.terminal_text import printable

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

# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's signed release files, and the indices of packages whose digests they hold.

Formats: the Debian wiki's RepositoryFormat; deb822(5). Pure: bytes in, facts or a refusal out.
"""

from __future__ import annotations

import email.utils
import hashlib
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Final

from mock_cloud.signed.keys import PackageKeys, UnsignedError
from mock_cloud.toolkit.machines import Machine
from mock_cloud.toolkit.packages import PackagesRefused
from mock_cloud.wire.dataclass import dataclass

RELEASE_MAX_BYTES: Final = 16 << 20
INDEX_MAX_BYTES: Final = 512 << 20
_SKEW_S: Final = 86400.0
_ROW: Final = re.compile(r" ([0-9a-f]{64})\s+(\d{1,12})\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Release:
    """A verified release file. `digests` are sha256 (hex) and size by path; `date` Unix time."""

    name: str
    date: int
    signer: str
    digests: Mapping[str, tuple[str, int]] = field(repr=False)


def verify_release(inrelease: bytes, keys: PackageKeys, now: float) -> Release:
    """An InRelease file that a pinned key signed and that is in force. PackagesRefused."""
    if len(inrelease) > RELEASE_MAX_BYTES:
        raise PackagesRefused(f"a release file of {len(inrelease)} bytes")
    try:
        signer, text = keys.verify_message(inrelease)
    except UnsignedError as error:
        raise PackagesRefused(
            f"the release file is signed by no pinned key: {error}",
            hint="name the distribution's keyring with --keyring",
        ) from error
    fields = _fields(text.decode("utf-8", "replace"))
    name = f"{fields.get('Origin', '?')} {fields.get('Codename') or fields.get('Suite', '?')}"
    date = _time(fields.get("Date", ""), name)
    if date > now + _SKEW_S:
        raise PackagesRefused(f"the release file of {name} is of the future", hint="set the clock")
    until = fields.get("Valid-Until")
    if until is not None and _time(until, name) < now:
        raise PackagesRefused(
            f"the release file of {name} expired at {until}",
            hint="the mirror is stale, or somebody serves an old one: use another mirror",
        )
    rows = (_ROW.fullmatch(line) for line in fields.get("SHA256", "").splitlines())
    digests = {row[3]: (row[1], int(row[2])) for row in rows if row}
    return Release(name, int(date), signer, digests)


def check_index(release: Release, path: str, data: bytes) -> None:
    """The index `data` is the one that `release` names `path`. PackagesRefused."""
    expected = release.digests.get(path)
    if expected is None:
        raise PackagesRefused(f"{release.name}: the release file does not name {path}")
    if (hashlib.sha256(data).hexdigest(), len(data)) != expected:
        raise PackagesRefused(
            f"{release.name}: {path} is not what the release file says",
            hint="the mirror is being updated, or was changed: try again, or another mirror",
        )


def find_package(index: bytes, digest: str, size_bytes: int, machine: Machine) -> str | None:
    """The name of the package with this sha256 (hex) and size in a checked index, or None.

    PackagesRefused if it is there for another architecture than `machine`'s.
    """
    at = index.find(b"\nSHA256: " + digest.encode() + b"\n")
    if at < 0:
        return None
    begin = index.rfind(b"\n\n", 0, at) + 2 if b"\n\n" in index[:at] else 0
    end = index.find(b"\n\n", at)
    stanza = index[begin : end if end >= 0 else len(index)]
    fields = _fields(stanza.decode("utf-8", "replace"))
    if fields.get("Size") != str(size_bytes):
        return None
    if fields.get("Architecture") not in (machine.debian, "all"):
        raise PackagesRefused(
            f"{fields.get('Package')} is of {fields.get('Architecture')}, not of {machine.debian}"
        )
    return fields.get("Package")


def _fields(text: str) -> dict[str, str]:
    """The fields of one stanza; of two with one name the first counts, as for apt."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line[:1] in (" ", "\t"):
            lines.append(line)
        else:
            name, _, value = line.partition(":")
            lines = [value.strip()] if value.strip() else []
            found.setdefault(name, lines)
    return {name: "\n".join(value) for name, value in found.items()}


def _time(text: str, name: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError) as error:
        raise PackagesRefused(f"the release file of {name} has no date: {text!r}") from error

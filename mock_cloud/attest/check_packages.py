# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 3 of the checklist: the node's packages are signed, and exactly the manifest's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Final

from mock_cloud.attest.evidence import Evidence
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.packages import DigestError, HeaderCache, Package, verify_package
from mock_cloud.errors import Reason
from mock_cloud.signed.keys import PackageKeys, UnsignedError
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.rpmheader import HeaderError

READABLE: Final = ("sqlite", "ndb")
"""What the agent reads headers from: `agent.measure.headers`."""
_UNWANTED_FILES_MAX = 50_000


@dataclass(frozen=True, slots=True)
class InstalledPackages:
    """Verified packages, and why others are refused."""

    packages: tuple[Package, ...]
    reasons: tuple[Reason, ...]


def read_installed(
    evidence: Evidence,
    blobs: Mapping[str, bytes],
    keys: PackageKeys,
    cache: HeaderCache | None,
    manifest: ImageManifest | None = None,
) -> InstalledPackages:
    """The packages whose headers `evidence` names and `blobs` (by sha256, hex) has.

    A blob that nobody pinned signed is refused; the allow list comes after (`check_allowed`).
    With a `manifest`, the files of packages that it does not name, or that are there again, are
    read for better reasons only, and no more of them than `_UNWANTED_FILES_MAX` or so.
    """
    packages: list[Package] = []
    reasons = list(_check_databases(evidence))
    wanted = None if manifest is None else {sha256 for _, sha256 in manifest.packages}
    spare = _UNWANTED_FILES_MAX
    for digest, size in evidence.headers:
        blob = blobs.get(digest)
        if blob is None:
            reasons.append(Reason("package.no-header", digest, f"{size} bytes", "not sent"))
        elif hashlib.sha256(blob).hexdigest() != digest:
            reasons.append(Reason("package.header-digest", digest, digest, "other bytes"))
        else:
            try:
                only = wanted if spare <= 0 else None
                packages.append(package := verify_package(blob, keys, cache, wanted=only))
                if wanted is not None and package.sha256 not in wanted:
                    spare -= len(package.files)
                elif wanted is not None:
                    wanted.discard(package.sha256)
            except DigestError as error:
                expected = "SHA-256 digests of its files"
                reasons.append(Reason("package.digests", digest, expected, str(error)))
            except HeaderError as error:
                reasons.append(Reason("package.malformed", digest, "an RPM header", str(error)))
            except UnsignedError as error:
                expected = "signed by a pinned key"
                reasons.append(Reason("package.unsigned", digest, expected, str(error)))
    return InstalledPackages(tuple(packages), tuple(reasons))


def _check_databases(evidence: Evidence) -> Iterator[Reason]:
    """One database that can be read, with packages: of another one nothing would be known."""
    databases = evidence.databases
    found = ", ".join(f"{one.backend} in {one.path}" for one in databases) or "none"
    expected = f"one RPM database, of the kind {' or '.join(READABLE)}"
    if len(databases) != 1 or databases[0].backend not in READABLE:
        yield Reason("package.database", "rpmdb", expected, found)
        return
    if databases[0].problem is not None:
        yield Reason("package.database", databases[0].path, "readable", databases[0].problem)
    elif not evidence.headers:
        yield Reason("package.database", databases[0].path, "packages", "no packages")


def check_allowed(packages: tuple[Package, ...], manifest: ImageManifest) -> list[Reason]:
    """None missing, none extra, none other: packages by NEVRA and signed region."""
    allowed = set(manifest.packages)
    versions: dict[tuple[str, str], list[str]] = {}
    for nevra, _ in manifest.packages:
        name, evr, arch = split_nevra(nevra)
        versions.setdefault((name, arch), []).append(evr)
    reasons = []
    seen: set[tuple[str, str]] = set()
    for package in packages:
        pair = (package.nevra, package.sha256)
        if pair in seen:
            reasons.append(Reason("package.not-allowed", package.nevra, "installed once", "twice"))
        seen.add(pair)
        if pair not in allowed:
            reasons.append(_not_allowed(package, versions.get((package.name, package.arch), [])))
    for nevra, digest in sorted(allowed - seen):
        reasons.append(Reason("package.missing", nevra, digest, "not installed"))
    return reasons


def _not_allowed(package: Package, versions: list[str]) -> Reason:
    """``package.old`` if every allowed version is newer, else ``package.not-allowed``."""
    if not versions:
        return Reason("package.not-allowed", package.nevra, "not in the manifest", package.sha256)
    is_old = all(compare_evr(package.evr, version) < 0 for version in versions)
    code = "package.old" if is_old else "package.not-allowed"
    expected = f"version {' or '.join(versions)}, as in the manifest"
    return Reason(code, package.nevra, expected, package.sha256)


def split_nevra(nevra: str) -> tuple[str, str, str]:
    """Name, [epoch:]version-release, arch. ``gpg-pubkey`` and the like have arch (none)."""
    rest, _, arch = nevra.rpartition(".")
    rest, _, release = rest.rpartition("-")
    name, _, version = rest.rpartition("-")
    return name, f"{version}-{release}", arch


# Which of two package versions is newer, by rpm's rules (rpm-version(7), rpmvercmp).
_SEGMENT = re.compile(r"[0-9]+|[a-zA-Z]+|~|\^")


def compare_evr(one: str, other: str) -> int:
    """-1, 0 or 1: ``[epoch:]version-release`` of `one` is older, equal or newer."""
    for left, right in zip(_split(one), _split(other), strict=True):
        order = compare_versions(left, right)
        if order:
            return order
    return 0


def _split(evr: str) -> tuple[str, str, str]:
    epoch, colon, rest = evr.partition(":")
    if not colon:
        epoch, rest = "0", evr
    version, _, release = rest.partition("-")
    return epoch, version, release


def compare_versions(one: str, other: str) -> int:
    """rpmvercmp: segments of digits or letters; ``~`` before the end, ``^`` after it."""
    for left, right in zip_longest(_SEGMENT.findall(one), _SEGMENT.findall(other)):
        order = _compare(left, right)
        if order:
            return order
    return 0


def _compare(left: str | None, right: str | None) -> int:
    if left == right:
        return 0
    for mark, rank in (("~", -1), ("^", 1)):
        if mark in (left, right):
            return _marked(left, right, mark, rank)
    if left is None or right is None:
        return -1 if left is None else 1
    if left.isdigit() != right.isdigit():
        return 1 if left.isdigit() else -1
    if left.isdigit():
        return (int(left) > int(right)) - (int(left) < int(right))
    return (left > right) - (left < right)


def _marked(left: str | None, right: str | None, mark: str, rank: int) -> int:
    """A tilde sorts before anything; a caret after the end, but before any other segment."""
    if mark == "~":
        return rank if left == mark else -rank
    if left == mark:
        return rank if right is None else -rank
    return -rank if left is None else rank

# SPDX-License-Identifier: GPL-2.0-or-later
"""Signed packages, fetched and checked: what the two families of them have in common."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Final

from mock_cloud.errors import EXIT_CONFIG, EXIT_INFRASTRUCTURE, ConfigError, MockCloudError
from mock_cloud.network import find_proxy
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.toolkit.tree import Tree
from mock_cloud.wire.dataclass import dataclass

PACKAGE_MAX_BYTES: Final = 128 << 20
FETCH_TIMEOUT_S: Final = 600.0
UNPACK_TIMEOUT_S: Final = 120.0
_PROXIES: Final = (
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip


class PackagesRefused(MockCloudError):
    """What was fetched is not what a pinned key signed, or older than what was seen before."""

    exit_code = EXIT_CONFIG


class PackagesUnavailable(MockCloudError):
    """The packages could not be fetched."""

    exit_code = EXIT_INFRASTRUCTURE
    retryable = True


@dataclass(frozen=True, slots=True)
class SignedPackage:
    """A package that was checked: its file's name and sha256 (hex), the signer's fingerprint."""

    file: str
    sha256: str
    signer: str


@dataclass(frozen=True, slots=True)
class PackageSet:
    """Checked packages, unpacked. `dates` (Unix time) must not go back from one set to the next.

    `inputs` are the files of this machine that say whose packages they may be, and whence.
    """

    packages: tuple[SignedPackage, ...]
    tree: Tree = field(repr=False)
    dates: Mapping[str, int]
    inputs: tuple[Path, ...] = ()


def read_keys(paths: Iterable[Path], *, were_named: bool = True) -> PackageKeys:
    """The certificates in the files at `paths`. ConfigError that names a file.

    Unless they `were_named`, one that is of use is enough: a system's directories have keys of
    other releases and of kinds that are not known here.
    """
    paths, found = tuple(paths), []
    for path in paths:
        try:
            found.append(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"the package key {path}: {error.strerror}") from error
    names = [str(path) for path in paths]
    return PackageKeys.parse(found, names, any_will_do=not were_named)


def read_package_file(path: Path) -> tuple[bytes, str]:
    """The bytes of a fetched package, and their sha256 (hex)."""
    if path.stat().st_size > PACKAGE_MAX_BYTES:
        raise PackagesRefused(f"{path.name}: more than {PACKAGE_MAX_BYTES >> 20} MiB")
    data = path.read_bytes()
    return data, hashlib.sha256(data).hexdigest()


def check_dates(dates: Mapping[str, int], seen: Mapping[str, int]) -> None:
    """PackagesRefused if something is older than what was `seen` of the same name."""
    for name, date in sorted(dates.items()):
        if date < seen.get(name, date):
            raise PackagesRefused(
                f"{name} is {seen[name] - date} s older than what was fetched before",
                hint="a mirror is stale, or somebody serves old packages: use another mirror",
            )


def proxies(url: str = "") -> dict[str, str]:
    """The proxies that the user's environment names, for the programs that fetch from `url`.

    None where no_proxy exempts it, which apt and dnf read otherwise.
    """
    if url and find_proxy(url) is None:
        return {}
    return {name: os.environ[name] for name in _PROXIES if name in os.environ}

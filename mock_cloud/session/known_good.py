# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the known-good set that a remote names: the signed manifest and the pinned keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mock_cloud.attest.envelope import verify_manifest
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.cloud.hosts.handle import host_name
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.errors import ConfigError
from mock_cloud.model import HostKey
from mock_cloud.settings import AttestSettings, Remote
from mock_cloud.signed.keys import PackageKeys

_HINT_KEY: Final = "it is what gpg --armor --export prints"


@dataclass(frozen=True, slots=True)
class KnownGood:
    """A manifest whose signature was checked, and the keys that must have signed packages."""

    manifest: ImageManifest
    package_keys: PackageKeys


class KnownGoods:
    """The known-good sets of a remote's nodes of one architecture, all read before any is leased.

    The manifest is the one of the lent machine itself, else of the architecture's image, else the
    remote's.
    """

    def __init__(self, remote: Remote, arch: str) -> None:
        """Read them. ConfigError for a file, AttestationRefused for a signature."""
        self._default = manifest_path(remote, arch)
        self._of_host = {
            host.name: host.manifest or self._default for host in remote.hosts if host.arch == arch
        }
        paths = set(self._of_host.values()) or {self._default}
        self._sets = {path: _load(remote, path) for path in paths}

    def of(self, leased: LeasedNode) -> KnownGood:
        """The set for this node."""
        path = self._default
        if self._of_host:
            path = self._of_host.get(host_name(leased.handle), path)
        return self._sets[path]

    @property
    def any(self) -> KnownGood:
        """One of them, for a listing."""
        return next(iter(self._sets.values()))


def manifest_path(remote: Remote, arch: str) -> Path | None:
    """Where the manifest of the remote's image for `arch` is, if it has one."""
    node = remote.nodes.get(arch)
    return remote.attest.manifest if node is None or node.manifest is None else node.manifest


def _load(remote: Remote, path: Path | None) -> KnownGood:
    if path is None:
        raise ConfigError(
            f"{remote.source}: no manifest says what a node of this remote may hold",
            hint="name one in [attest] or [node.ARCH]: mock-cloud image bake or known-good make"
            " makes it",
        )
    return KnownGood(read_manifest(path, remote.attest), read_package_keys(remote.attest))


def read_manifest(path: Path, settings: AttestSettings) -> ImageManifest:
    """The manifest in `path`, signed by a key of `settings`. ConfigError, AttestationRefused."""
    keys = tuple(read_public_key(name) for name in settings.manifest_keys)
    return verify_manifest(read_file(path, "the manifest"), keys)


def read_package_keys(settings: AttestSettings) -> PackageKeys:
    """The pinned certificates of `settings`. ConfigError."""
    return PackageKeys.parse([_read_package_key(name) for name in settings.package_keys])


def _read_package_key(path: Path) -> bytes:
    data = read_file(path, "the package key")
    try:
        PackageKeys.parse([data])  # alone, so that a message can name the file
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint or _HINT_KEY) from error
    return data


def read_public_key(path: Path) -> HostKey:
    """An OpenSSH public key file's one key. ConfigError."""
    text = read_file(path, "the manifest key").decode(errors="replace")
    try:
        return HostKey.parse(text)
    except ValueError as error:
        raise ConfigError(
            f"{path} is not an OpenSSH public key: {error}",
            hint="it is one line: ssh-ed25519 AAAA… comment",
        ) from error


def read_file(path: Path, what: str) -> bytes:
    """The file's bytes. ConfigError that names `what` it should have been."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{what} {path}: {error.strerror}") from error

# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the known-good set that a remote names: the signed manifest and the pinned keys.

A manifest is accepted here and nowhere else: signatures, revocations, expiry, and that no newer one
was seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Final

from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.policy import Policy, standard
from mock_cloud.attest.revocation import REVOCATION_MAX_BYTES, Revocation, verify_revocation
from mock_cloud.attest.validity import Acceptance, SignedManifest, accept_manifest
from mock_cloud.cloud.hosts.handle import host_name
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.errors import ConfigError
from mock_cloud.model import DAY_S, HostKey, utc_text
from mock_cloud.places import state_dir
from mock_cloud.settings import Remote
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.steps.attest.policies import find_making_policy, find_policy
from mock_cloud.steps.attest.seen_manifests import SeenManifests
from mock_cloud.wire.dataclass import dataclass

REVOCATION_SUFFIX: Final = ".revocation"
_MAKERS: Final = {
    "the manifest": "mock-cloud image bake or mock-cloud known-good make writes it",
    "the manifest key": "it is the .pub beside the private key that signs: ssh-keygen -t ed25519",
    "the signing key": "ssh-keygen -t ed25519 -f FILE makes one",
    "the package key": "it is the distribution's, such as /etc/pki/rpm-gpg/RPM-GPG-KEY-*",
    "the revocation": "mock-cloud known-good revoke writes it",
}
"""Where files come from, by what `read_file` was told that they are."""


@dataclass(frozen=True, slots=True)
class KnownGood:
    """A manifest whose signature was checked, and the keys that must have signed packages.

    `signers` are fingerprints of the keys that signed the manifest. One that was just made here has
    none, no `sources`, and the `policy` that manifests are made by (see `just_made`).
    """

    manifest: ImageManifest
    package_keys: PackageKeys
    signers: frozenset[str] = frozenset()
    policy: Policy = field(default_factory=standard)
    sources: KnownGoodSources | None = None

    @classmethod
    def just_made(cls, manifest: ImageManifest, keys: PackageKeys, remote: Remote) -> KnownGood:
        """Of a manifest that nobody has signed yet, for a node of `remote`. ConfigError."""
        return cls(manifest, keys, policy=find_making_policy(remote.attest))


@dataclass(frozen=True, slots=True)
class KnownGoodSources:
    """The files that a known-good set was read from, as they were then.

    `envelope` is the signed manifest, of which `threshold` of `keys` are the signatures;
    `package_keys` are the certificates.
    """

    envelope: bytes
    keys: tuple[HostKey, ...]
    threshold: int
    package_keys: tuple[bytes, ...]


class KnownGoods:
    """The known-good sets of a remote's nodes of one architecture, all read before any is leased.

    The manifest is the one of the lent machine itself, else of the architecture's image, else the
    remote's.
    """

    def __init__(self, remote: Remote, arch: str, *, remember: bool = True) -> None:
        """Read and accept them. ConfigError for a file or setting, AttestationRefused for the rest.

        `remember` that these were seen: an older one will be refused from now on.
        """
        self._default = manifest_path(remote, arch)
        self._of_host = {
            host.name: host.manifest or self._default for host in remote.hosts if host.arch == arch
        }
        paths = set(self._of_host.values()) or {self._default}
        named = [_named(remote, path) for path in paths]
        reader = ManifestReader(remote, state_dir(), remember=remember)
        certificates = read_certificates(remote.attest.package_keys)
        keys = PackageKeys.parse(certificates, [str(path) for path in remote.attest.package_keys])
        policy = find_policy(remote.attest)
        self.signed: dict[Path, SignedManifest] = {}
        self._sets: dict[Path | None, KnownGood] = {}
        for path in named:
            envelope = read_file(path, "the manifest")
            self.signed[path] = signed = reader.accept(envelope, path)
            sources = KnownGoodSources(
                envelope, reader.keys, remote.attest.manifest_threshold, certificates
            )
            self._sets[path] = KnownGood(signed.manifest, keys, signed.signers, policy, sources)
        self.warnings = (*reader.warnings, *_expiry_warnings(self.signed))
        """What the user who builds is to be told, one line each."""

    def of(self, leased: LeasedNode) -> KnownGood:
        """The set for this node."""
        path = self._default
        if self._of_host:
            path = self._of_host.get(host_name(leased.handle), path)
        return self._sets[path]


def manifest_path(remote: Remote, arch: str) -> Path | None:
    """Where the manifest of the remote's image for `arch` is, if it has one."""
    node = remote.nodes.get(arch)
    return remote.attest.manifest if node is None or node.manifest is None else node.manifest


def _named(remote: Remote, path: Path | None) -> Path:
    if path is None:
        raise ConfigError(
            f"{remote.source}: no manifest says what a node of this remote may hold",
            hint="name one in [attest] or [node.ARCH]: mock-cloud image bake or known-good make"
            " makes it",
        )
    return path


class ManifestReader:
    """Reads manifests as one remote's file says, with the memory of this state directory."""

    def __init__(self, remote: Remote, state_dir: Path, *, remember: bool = True) -> None:
        """ConfigError for keys and revocations that can't be read."""
        self._remember = remember
        self._seen = SeenManifests(state_dir)
        self._settings = remote.attest
        self.keys = read_manifest_keys(remote)
        was_used = (state_dir / "verdicts").exists()
        self.warnings: tuple[str, ...] = ()
        if was_used and self._seen.is_empty():
            self.warnings = (
                f"{self._seen.path} remembers no manifest, though nodes were attested before: an"
                " older manifest would not be noticed this time",
            )

    def read(self, path: Path) -> SignedManifest:
        """The manifest in `path`, accepted. ConfigError, AttestationRefused."""
        return self.accept(read_file(path, "the manifest"), path)

    def accept(self, envelope: bytes, path: Path) -> SignedManifest:
        """The same of what was read from `path`."""
        settings, now_unix = self._settings, time.time()
        wanted = Acceptance(
            self.keys,
            settings.manifest_threshold,
            settings.manifest_max_age_s,
            self._revocations(path),
        )
        signed = accept_manifest(envelope, wanted, now_unix)
        self._seen.check(signed, now_unix, remember=self._remember)
        return signed

    def _revocations(self, manifest: Path) -> tuple[Revocation, ...]:
        """Those that the settings name, that lie beside the manifest, and that are remembered.

        All are remembered. Which of this remote's keys signed is all that makes one count, so
        others' are passed over, but where the settings name the file.
        """
        found = {}
        for path in self._settings.revocations:
            envelope = _read_small(path)
            found[envelope] = verify_revocation(envelope, self.keys)
        beside = map(_read_small, sorted(manifest.parent.glob(f"*{REVOCATION_SUFFIX}")))
        for envelope in (*beside, *self._seen.revocations()):
            with suppress(ConfigError):
                found[envelope] = verify_revocation(envelope, self.keys)
        if self._remember:
            self._seen.remember_revocations(found)
        return tuple(found.values())


def read_manifest_keys(remote: Remote) -> tuple[HostKey, ...]:
    """The different keys that may sign the remote's manifests; enough for its threshold."""
    settings = remote.attest
    keys = tuple(dict.fromkeys(read_public_key(name) for name in settings.manifest_keys))
    if len(keys) < settings.manifest_threshold:
        raise ConfigError(
            f"{remote.source}: manifest_threshold is {settings.manifest_threshold}, and"
            f" manifest_keys are {len(keys)} different keys",
            hint="name as many keys, or lower the threshold",
        )
    return keys


def _read_small(path: Path) -> bytes:
    data = read_file(path, "the revocation")
    if len(data) > REVOCATION_MAX_BYTES:
        raise ConfigError(
            f"{path} is longer than a revocation may be ({REVOCATION_MAX_BYTES} bytes)"
        )
    return data


def _expiry_warnings(signed: dict[Path, SignedManifest]) -> Iterator[str]:
    now_unix = time.time()
    for path, one in signed.items():
        if now_unix >= one.validity.warns_from_unix:
            yield f"the manifest {path} {expiry_text(one, now_unix)}"


def expiry_text(signed: SignedManifest, now_unix: float) -> str:
    """When it expires, in words."""
    left_s = signed.validity.expires_unix - now_unix
    left = f"{left_s / DAY_S:.0f} days" if left_s > 2 * DAY_S else f"{left_s / 3600:.1f} hours"
    return f"expires at {utc_text(signed.validity.expires_unix)}, in {left}"


def read_package_keys(paths: Sequence[Path]) -> PackageKeys:
    """The pinned certificates in the files at `paths`. ConfigError that names a file."""
    return PackageKeys.parse(read_certificates(paths), [str(path) for path in paths])


def read_certificates(paths: Sequence[Path]) -> tuple[bytes, ...]:
    """What the files at `paths` hold. ConfigError that names a file."""
    return tuple(read_file(path, "the package key") for path in paths)


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
        raise ConfigError(f"{what} {path}: {error.strerror}", hint=_MAKERS.get(what)) from error

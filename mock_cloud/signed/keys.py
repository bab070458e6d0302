# SPDX-License-Identifier: GPL-2.0-or-later
"""Pinned OpenPGP certificates, and the signatures they made over RPM headers.

Whoever pins a file pins the key in it: no self-signature has to vouch for a primary key, as for
rpm. Its self-signatures say until when it is valid, that it is revoked, and which subkeys sign.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from typing import Final

from mock_cloud.errors import ConfigError
from mock_cloud.model import utc_text
from mock_cloud.signed.cleartext import read_message
from mock_cloud.signed.header import SignedHeader
from mock_cloud.signed.openpgp import (
    STRONG,
    WITH_SHA1,
    KeyKind,
    OpenPgpError,
    OpenPgpKey,
    PacketTag,
    Signature,
    parse_key,
    parse_signature,
    read_armour,
    read_packets,
    verify_signature,
)
from mock_cloud.wire.dataclass import dataclass

_CERTIFICATES_MAX_BYTES: Final = 4 << 20
_SIGNATURES_MAX: Final = 16
_HINT_RENEW: Final = "get the distribution's present key, and pin that one"
_HINT_KEYS: Final = "package_keys wants files like RPM-GPG-KEY-*"
_CERTIFICATIONS: Final = (
    *range(KeyKind.CERTIFICATION, KeyKind.CERTIFICATION + 4),
    KeyKind.DIRECT_KEY,
)


class UnsignedError(ValueError):
    """No pinned certificate made any signature of this header."""


@dataclass(frozen=True, slots=True)
class PinnedKey:
    """A key or subkey that may have signed; `certificate` is its primary key's fingerprint.

    `expires` is Unix time, 0 for never; `refused` says why it may not, if it may not.
    """

    key: OpenPgpKey = field(repr=False)
    certificate: str
    expires: int
    refused: str

    def why_not(self, now: float) -> str:
        """Why it verifies nothing `now`; empty if it does."""
        if not self.refused and 0 < self.expires <= now:
            return f"expired at {utc_text(self.expires)}"
        return self.refused


@dataclass(frozen=True, slots=True)
class PackageKeys:
    """Certificates, one of which must have signed each RPM header.

    `certificates` are fingerprints of primary keys. `fingerprint` names the set: what was checked
    with another set must be checked again. `at_unix` is the time by which keys and signatures are
    in force; None: now.
    """

    certificates: tuple[str, ...]
    pinned: tuple[PinnedKey, ...] = field(repr=False)
    fingerprint: str
    at_unix: float | None = None

    @classmethod
    def parse(
        cls,
        armoured: Sequence[bytes],
        names: Sequence[str] = (),
        *,
        any_will_do: bool = False,
        at_unix: float | None = None,
    ) -> PackageKeys:
        """From armoured or binary certificates, several in one file too. ConfigError.

        What several files say of one key counts together. A file of which no key can verify
        anything is refused, by its name if there are `names`, unless another one can and
        `any_will_do`; so is one with a secret key, and an empty set.
        """
        labels = tuple(f"{name}: " for name in names) or ("",) * len(armoured)
        files: list[tuple[str, list[_Certificate]]] = []
        refused: list[ConfigError] = []
        for data, label in zip(armoured, labels, strict=True):
            try:
                files.append((label, _read_file(data, label)))
            except ConfigError as error:
                refused.append(error)
        merged: dict[str, _Certificate] = {}
        for certificate in (one for _, file in files for one in file):
            merged.setdefault(certificate.fingerprint, certificate).add(certificate)
        pinned = {name: tuple(one.keys()) for name, one in sorted(merged.items())}
        now = time.time() if at_unix is None else at_unix
        for label, file in files:
            keys = [key for one in file for key in pinned[one.fingerprint]]
            if all(key.why_not(now) for key in keys):
                refused.append(_useless(keys[0], label, now))
        if refused and not (any_will_do and len(refused) < len(armoured)):
            raise refused[0]
        if not pinned:
            raise ConfigError(
                "no package key: nothing could have signed the packages",
                hint="name the distribution's public key in [attest] package_keys",
            )
        told = "\n".join(one.digest() for _, one in sorted(merged.items()))
        return cls(
            tuple(pinned),
            tuple(key for keys in pinned.values() for key in keys),
            hashlib.sha256(told.encode()).hexdigest(),
            at_unix,
        )

    def verify(self, header: SignedHeader) -> str:
        """The fingerprint of the pinned certificate that signed `header`. UnsignedError.

        Only binary-document signatures count: a text signature would also fit the same
        bytes with other line ends.
        """
        return self._verify(header.signatures, header.signed, KeyKind.BINARY)

    def verify_message(self, message: bytes) -> tuple[str, bytes]:
        """The signing certificate's fingerprint, and the text that it signed. UnsignedError.

        `message` is in the clear-signature framework (RFC 9580, 7); what stands around the
        signed text is not returned.
        """
        try:
            text, signatures = read_message(message)
        except OpenPgpError as error:
            raise UnsignedError(str(error)) from error
        return self._verify([signatures], text.replace(b"\n", b"\r\n"), KeyKind.TEXT), text

    def _verify(self, signatures: Sequence[bytes], data: bytes, kind: KeyKind) -> str:
        """The certificate of the first signature that is good. UnsignedError."""
        now = time.time() if self.at_unix is None else self.at_unix
        why, tried = "", 0
        for packets in signatures:
            try:
                for body in _signature_bodies(packets):
                    tried += 1
                    if tried > _SIGNATURES_MAX:  # each costs reading all of the data
                        raise UnsignedError(f"more than {_SIGNATURES_MAX} signatures")
                    try:
                        return self._verify_one(parse_signature(body), data, kind, now)
                    except (OpenPgpError, UnsignedError) as error:
                        why = _plainer(why, str(error))
            except OpenPgpError as error:
                why = _plainer(why, str(error))
        raise UnsignedError(why or "no signature")

    def _verify_one(self, signature: Signature, data: bytes, kind: KeyKind, now: float) -> str:
        """1. The kind of signature. 2. In force. 3. By a pinned key, 4. in force. 5. Good."""
        if signature.kind != kind:  # 1
            raise UnsignedError(f"not a {kind.name.lower()}-document signature")
        if signature.created > now:  # 2
            raise UnsignedError(
                f"signed {_minute(signature.created)}; this machine's clock says"
                f" {_minute(now)} (UTC)"
            )
        if 0 < signature.expires <= now:
            raise UnsignedError(f"the signature expired at {utc_text(signature.expires)}")
        issuers = ", ".join(sorted(one.hex() for one in signature.issuers))
        why = f"{_STRANGER} {issuers or 'of no name'}, which is not pinned"
        for pinned in self.pinned:  # 3
            if not signature.is_by(pinned.key):
                continue
            refused = pinned.why_not(now)  # 4
            if refused:
                why = f"the key {pinned.key.fingerprint} {refused}"
                continue
            try:
                verify_signature(pinned.key, signature, data)  # 5
                return pinned.certificate
            except OpenPgpError as error:
                why = str(error)
        raise UnsignedError(why)


_STRANGER: Final = "signed by the key"


def _minute(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(unix))


def _plainer(why: str, other: str) -> str:
    """What to say of two failures: that another key is not pinned explains least."""
    return why if why and other.startswith(_STRANGER) else other


def _signature_bodies(data: bytes) -> list[bytes]:
    packets = list(read_packets(data))
    if not packets or any(tag != PacketTag.SIGNATURE for tag, _ in packets):
        raise OpenPgpError("not a signature")
    return [body for _, body in packets]


def _useless(key: PinnedKey, label: str, now: float) -> ConfigError:
    """A file of which no key verifies anything; `key` is its first."""
    return ConfigError(
        f"{label}nothing can be verified with it: the key {key.key.fingerprint} {key.why_not(now)}",
        hint=_HINT_RENEW,
    )


@dataclass(slots=True)
class _Certificate:
    """A primary key with all that files say of it: signatures by the packet that they follow."""

    primary: OpenPgpKey
    parts: dict[tuple[int, bytes], dict[bytes, None]]

    @property
    def fingerprint(self) -> str:
        return self.primary.fingerprint

    def add(self, other: _Certificate) -> None:
        for part, signatures in other.parts.items():
            self.parts.setdefault(part, {}).update(signatures)

    def digest(self) -> str:
        """Names all of it: the same for the same packets, however they were divided."""
        parts = sorted((*part, *sorted(signatures)) for part, signatures in self.parts.items())
        return hashlib.sha256(repr((self.primary.body, parts)).encode()).hexdigest()

    def keys(self) -> Iterator[PinnedKey]:
        """The primary key, and each subkey that it lets sign."""
        primary = self._pin_primary()
        yield primary
        for (tag, body), packets in self.parts.items():
            if tag == PacketTag.PUBLIC_SUBKEY:
                try:
                    subkey = parse_key(body)
                except OpenPgpError:
                    continue
                yield from self._pin_subkey(primary, subkey, _signatures(packets))

    def _pin_primary(self) -> PinnedKey:
        key, statements, is_revoked = self.primary, [], False
        for (tag, body), packets in self.parts.items():
            covered = key.hashed + _covered(tag, body)
            for one in _signatures(packets):
                if tag == PacketTag.PUBLIC_KEY and one.kind == KeyKind.KEY_REVOCATION:
                    is_revoked = is_revoked or _is_good(key, one, covered, weak=True)
                elif tag != PacketTag.PUBLIC_SUBKEY and one.kind in _CERTIFICATIONS:
                    statements += [one] if _is_good(key, one, covered, weak=True) else []
        newest = max(statements, key=lambda one: (one.created, one.key_lifetime > 0), default=None)
        refused = "is revoked" if is_revoked else _unfit(key)
        return PinnedKey(key, key.fingerprint, _expiry(key, newest), refused)

    def _pin_subkey(
        self, primary: PinnedKey, subkey: OpenPgpKey, signatures: Sequence[Signature]
    ) -> Iterator[PinnedKey]:
        """Nothing for a subkey that does not sign, or that the primary key says nothing of."""
        covered = self.primary.hashed + subkey.hashed
        bindings = sorted(
            (one for one in signatures if one.kind == KeyKind.SUBKEY_BINDING),
            key=lambda one: one.created,
        )
        strong = [one for one in bindings if _is_good(self.primary, one, covered)]
        weak = [one for one in bindings if _is_good(self.primary, one, covered, weak=True)]
        if not weak or not (newest := (strong or weak)[-1]).may_sign:
            return
        refused = _unfit(subkey)
        if not strong or not _is_bound_back(subkey, newest, covered):
            refused = f"is not shown to be a subkey of {self.fingerprint} by SHA-256 or better"
        is_revoked = any(
            one.kind == KeyKind.SUBKEY_REVOCATION
            and _is_good(self.primary, one, covered, weak=True)
            for one in signatures
        )
        ends = [end for end in (primary.expires, _expiry(subkey, newest)) if end]
        if is_revoked:
            refused = "is revoked"
        elif primary.refused == "is revoked":
            refused = f"is a subkey of {self.fingerprint}, which is revoked"
        yield PinnedKey(subkey, self.primary.fingerprint, min(ends, default=0), refused)


def _is_good(key: OpenPgpKey, signature: Signature, covered: bytes, *, weak: bool = False) -> bool:
    """Whether a statement about a key is `key`'s own; `weak`: SHA-1 is enough for it."""
    if not signature.is_by(key):
        return False
    try:
        verify_signature(key, signature, covered, WITH_SHA1 if weak else STRONG)
    except OpenPgpError:
        return False
    return True


def _is_bound_back(subkey: OpenPgpKey, binding: Signature, covered: bytes) -> bool:
    """Whether the subkey agrees to be this primary key's (RFC 9580, 5.2.1.10)."""
    return any(
        one.kind == KeyKind.PRIMARY_BINDING and _is_good(subkey, one, covered)
        for one in _signatures(binding.embedded)
    )


def _signatures(bodies: Iterable[bytes]) -> list[Signature]:
    """Those that can be read: strangers' ones of any kind stand in certificates, too."""
    found = []
    for body in bodies:
        try:
            found.append(parse_signature(body))
        except OpenPgpError:
            continue
    return found


def _covered(tag: int, body: bytes) -> bytes:
    """What a signature over a user id covers besides the key (RFC 9580, 5.2.4)."""
    prefix = {PacketTag.USER_ID: b"\xb4", PacketTag.USER_ATTRIBUTE: b"\xd1"}.get(PacketTag(tag))
    return b"" if prefix is None else prefix + len(body).to_bytes(4, "big") + body


def _expiry(key: OpenPgpKey, statement: Signature | None) -> int:
    lifetime = 0 if statement is None else statement.key_lifetime
    return key.created + lifetime if lifetime else 0


def _unfit(key: OpenPgpKey) -> str:
    return f"can't be used: {key.unfit}" if key.material is None else ""


def _read_file(data: bytes, label: str) -> list[_Certificate]:
    """A file's certificates. ConfigError."""
    if len(data) > _CERTIFICATES_MAX_BYTES:
        raise ConfigError(f"{label}a package key file of {len(data)} bytes")
    if b"PRIVATE KEY BLOCK" in data:
        raise _secret(label)
    try:
        packets = list(read_packets(read_armour(data, b"PUBLIC KEY BLOCK")))
        if any(tag in (PacketTag.SECRET_KEY, PacketTag.SECRET_SUBKEY) for tag, _ in packets):
            raise _secret(label)
        return _group(packets)
    except OpenPgpError as error:
        raise ConfigError(
            f"{label}a package key is not an OpenPGP certificate: {error}", hint=_HINT_KEYS
        ) from error


def _group(packets: Iterable[tuple[int, bytes]]) -> list[_Certificate]:
    """A certificate for each primary key that can be read; at least one, or OpenPgpError."""
    found: list[_Certificate] = []
    part: dict[bytes, None] = {}
    why = OpenPgpError("there is no public key in it")
    parts: dict[tuple[int, bytes], dict[bytes, None]] = {}
    for tag, body in packets:
        if tag == PacketTag.PUBLIC_KEY:
            parts = {}
            try:
                found.append(_Certificate(parse_key(body), parts))
            except OpenPgpError as error:
                why = error
        if tag in _PARTS:
            part = parts.setdefault((tag, body), {})
        elif tag == PacketTag.SIGNATURE:
            part[body] = None
    if not found:
        raise why
    return found


_PARTS: Final = (
    PacketTag.PUBLIC_KEY,
    PacketTag.USER_ID,
    PacketTag.USER_ATTRIBUTE,
    PacketTag.PUBLIC_SUBKEY,
)


def _secret(label: str) -> ConfigError:
    return ConfigError(
        f"{label}a package key file holds a secret key",
        hint="export the public certificate only",
    )

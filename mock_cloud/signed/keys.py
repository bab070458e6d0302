# SPDX-License-Identifier: GPL-2.0-or-later
"""Pinned OpenPGP certificates, and the signatures they made over RPM headers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from pysequoia import Cert, Sig, verify
from pysequoia.packet import SignatureType

from mock_cloud.errors import ConfigError
from mock_cloud.signed.header import SignedHeader

_CERTIFICATES_MAX_BYTES = 4 << 20


class UnsignedError(ValueError):
    """No pinned certificate made any signature of this header."""


@dataclass(frozen=True, slots=True)
class PackageKeys:
    """Certificates, one of which must have signed each RPM header.

    `fingerprint` names the set: what was checked with another set must be checked again.
    """

    certificates: tuple[Cert, ...] = field(repr=False)
    fingerprint: str

    @classmethod
    def parse(cls, armoured: Sequence[bytes]) -> PackageKeys:
        """From armoured or binary certificates, several in one file too. ConfigError.

        An empty set is refused, as are revoked certificates and secret keys.
        """
        found: dict[str, Cert] = {}
        for data in armoured:
            for cert in _split(data):
                if cert.is_revoked:
                    raise ConfigError(
                        f"package key {cert.fingerprint} is revoked",
                        hint="package_keys wants certificates in force",
                    )
                found[cert.fingerprint] = cert
        if not found:
            raise ConfigError(
                "no package key: nothing could have signed the packages",
                hint="name the distribution's public key in [attest] package_keys",
            )
        names = "\n".join(f"{name} {_digest(cert)}" for name, cert in sorted(found.items()))
        return cls(tuple(found.values()), hashlib.sha256(names.encode()).hexdigest())

    def verify(self, header: SignedHeader) -> str:
        """The fingerprint of the pinned certificate that signed `header`. UnsignedError.

        Only binary-document signatures count: a text signature would also fit the same
        bytes with other line ends.
        """
        why, made = "no signature", None
        for packet in header.signatures:
            try:
                signature = Sig.from_bytes(packet)
                made = signature.created
                if signature.signature_type != SignatureType.Binary:
                    raise UnsignedError("not a binary-document signature")
                done = verify(bytes=header.signed, store=self._store, signature=signature)
                return str(done.valid_sigs[0].certificate)
            except (RuntimeError, UnsignedError) as error:
                why = str(error).partition("\n")[0]
        raise UnsignedError(_of_the_future(made) or why)

    def verify_message(self, message: bytes) -> tuple[str, bytes]:
        """The signing certificate's fingerprint, and the text that it signed. UnsignedError.

        `message` is in the clear-signature framework (RFC 9580, 7); what stands around the
        signed text is not returned.
        """
        try:
            done = verify(bytes=message, store=self._store)
        except RuntimeError as error:
            raise UnsignedError(str(error).partition("\n")[0]) from error
        return str(done.valid_sigs[0].certificate), done.bytes or b""

    def _store(self, key_ids: list[str]) -> list[Cert]:
        return list(self.certificates)


def _of_the_future(made: datetime | None) -> str:
    """What there is to say of a signature from after now; no OpenPGP library accepts one."""
    now = datetime.now(timezone.utc)
    if made is None or made <= now:
        return ""
    return f"signed {made:%Y-%m-%d %H:%M}; this machine's clock says {now:%Y-%m-%d %H:%M} (UTC)"


def _digest(cert: Cert) -> str:
    return hashlib.sha256(bytes(cert)).hexdigest()


def _split(data: bytes) -> list[Cert]:
    if len(data) > _CERTIFICATES_MAX_BYTES:
        raise ConfigError(f"a package key file of {len(data)} bytes")
    if b"PRIVATE KEY BLOCK" in data:
        raise ConfigError(
            "a package key file holds a secret key", hint="export the public certificate only"
        )
    try:
        return list(Cert.split_bytes(data))
    except RuntimeError as error:
        raise ConfigError(
            f"a package key is not an OpenPGP certificate: {str(error).partition(chr(10))[0]}",
            hint="package_keys wants files like RPM-GPG-KEY-*",
        ) from error

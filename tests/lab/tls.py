# SPDX-License-Identifier: GPL-2.0-or-later
"""A firm's own authority: certificates for servers and clients, and contexts for servers."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in PEM files."""

    certificate: Path
    key: Path


_SIGNS = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
    encipher_only=False, decipher_only=False,
)  # fmt: skip


class Authority:
    """Issues certificates into the directory `place`; its own is the file `path`."""

    def __init__(self, place: Path, name: str = "a firm") -> None:
        self._place = place
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        built = self._builder(self._name, self._key, days=30)
        for extension, critical in (
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_SIGNS, True),
            (x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False),
        ):
            built = built.add_extension(extension, critical)
        self._certificate = built.sign(self._key, hashes.SHA256())
        self.path = place / f"{name.replace(' ', '-')}.pem"
        self.path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, days: int = 30) -> Issued:
        """For a server or client; `name` is an address or a name. Expired if `days` is negative."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        built = self._builder(_named(name), key, days=days)
        built = built.add_extension(x509.SubjectAlternativeName([alternative]), False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        built = built.add_extension(issuer, False)  # Python 3.13 and later want it
        found = built.sign(self._key, hashes.SHA256())
        issued = Issued(self._place / f"{name}.pem", self._place / f"{name}-key.pem")
        issued.certificate.write_bytes(found.public_bytes(serialization.Encoding.PEM))
        issued.key.touch(0o600)
        issued.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return issued

    def server(self, name: str, *, clients: bool = False, days: int = 30) -> ssl.SSLContext:
        """For a server at `name`; it wants a certificate of this authority from `clients`."""
        issued = self.issue(name, days=days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.key)
        if clients:
            context.load_verify_locations(self.path)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _builder(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: int
    ) -> x509.CertificateBuilder:
        now = datetime.now(timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=abs(days) + 1))
            .not_valid_after(now + timedelta(days=days))
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

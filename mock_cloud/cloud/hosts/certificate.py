# SPDX-License-Identifier: GPL-2.0-or-later
"""Host certificates: a CA's word for a host key, checked here and then pinned as that raw key.

Format and meaning: OpenSSH's PROTOCOL.certkeys. Stricter than OpenSSH's client where that is
lenient: a certificate without principals is for no host at all, and a principal is not a pattern.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Collection
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

from mock_cloud.errors import HostKeyMismatch
from mock_cloud.model import HostKey

CERTIFICATE_ALGORITHMS: Final = (
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
)
"""What is asked for: keys that a connection can be pinned to afterwards."""

_RSA_SIGNATURES: Final = (b"rsa-sha2-512", b"rsa-sha2-256")
_LEAST_RSA_BITS: Final = 2048
_HINT: Final = "Nothing was sent. Ask the machine's owner and the CA's keeper."
_Key = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def verify_host_certificate(
    encoded: str, ca: HostKey, names: Collection[str], *, now_unix: float | None = None
) -> HostKey:
    """The host key that `ca` certifies in `encoded`, base64. HostKeyMismatch if it does not.

    1. It is a certificate, and `ca` signed it, with no signature of SHA-1.
    2. It is one for hosts, and one of `names` is among its principals.
    3. It is valid now, by this machine's clock.
    4. It has no critical option: none is defined for hosts.
    5. The key is of a kind that can be pinned.
    """
    blob = _decode(encoded)
    certificate, signer, key = _load(blob)
    # 1
    if _public(signer).blob != ca.blob:
        shown = _public(signer).fingerprint
        raise _refused(f"it is signed by {shown}, not by the CA {ca.fingerprint}")
    _verify_signature(certificate, signer, blob)
    # 2
    if certificate.type is not SSHCertificateType.HOST:
        raise _refused("it is for users, not for hosts")
    principals = [name.decode(errors="backslashreplace") for name in certificate.valid_principals]
    if not set(principals) & set(names):
        shown = ", ".join(ascii(name)[1:-1][:100] for name in principals[:5]) or "nobody"
        raise _refused(f"it is for {shown}, not for {' or '.join(sorted(names))}")
    # 3
    now = time.time() if now_unix is None else now_unix
    if not certificate.valid_after <= now < certificate.valid_before:
        raise _refused("it is expired, or not valid yet")
    # 4
    if certificate.critical_options:
        raise _refused("it has a critical option")
    # 5
    if not isinstance(key, _Key):
        raise _refused("its key is of a kind that is not supported")
    return _public(key)


def _decode(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise _refused("it cannot be read") from error


def _load(blob: bytes) -> tuple[SSHCertificate, _Key, object]:
    """The certificate, who signed it, and the key it is for."""
    # RFC 4251, 5: a string is its length in four bytes, then its bytes. The first names the type.
    kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")][:64]
    try:
        found = load_ssh_public_identity(kind + b" " + base64.b64encode(blob))
        if isinstance(found, SSHCertificate):
            return found, found.signature_key(), found.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _refused("it cannot be read") from error
    raise _refused("it is a bare key")


def _verify_signature(certificate: SSHCertificate, signer: _Key, blob: bytes) -> None:
    if isinstance(signer, rsa.RSAPublicKey):
        _refuse_weak(signer, blob)
    try:
        certificate.verify_cert_signature()
    except (InvalidSignature, ValueError) as error:
        raise _refused("the CA's signature on it is bad") from error


def _refuse_weak(signer: rsa.RSAPublicKey, blob: bytes) -> None:
    """RSA with SHA-1 (``ssh-rsa``) is not a signature any more, nor is one by a short key."""
    # The blob ends with the signature: string(name), string(as many bytes as the modulus has).
    end = len(blob) - (4 + (signer.key_size + 7) // 8)
    if signer.key_size < _LEAST_RSA_BITS or blob[end - 12 : end] not in _RSA_SIGNATURES:
        raise _refused("the CA's signature on it is weak")


def _public(key: _Key) -> HostKey:
    return HostKey.parse(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def _refused(why: str) -> HostKeyMismatch:
    return HostKeyMismatch(f"the host certificate is refused: {why}", hint=_HINT)

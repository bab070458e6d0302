# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenPGP packets, of those that distributions sign packages with: public keys and signatures.

RFC 9580 for versions 4 and 6; RFC 4880, 5.2.2, for signatures of version 3. Everything here may
be hostile, and no other exception than OpenPgpError leaves this module.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import field
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from mock_cloud.wire.dataclass import dataclass

PublicKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)

_PACKETS_MAX: Final = 20_000
_RSA_BITS: Final = (2048, 16384)


class OpenPgpError(ValueError):
    """The bytes are no OpenPGP of the kinds described, or a signature is not that key's."""


class PacketTag(IntEnum):
    """Packet types (RFC 9580, 5)."""

    SIGNATURE = 2
    SECRET_KEY = 5
    PUBLIC_KEY = 6
    SECRET_SUBKEY = 7
    USER_ID = 13
    PUBLIC_SUBKEY = 14
    USER_ATTRIBUTE = 17


class KeyKind(IntEnum):
    """Signature types (RFC 9580, 5.2.1)."""

    BINARY = 0x00
    TEXT = 0x01
    CERTIFICATION = 0x10  # and up to 0x13, by how well somebody looked
    SUBKEY_BINDING = 0x18
    PRIMARY_BINDING = 0x19
    DIRECT_KEY = 0x1F
    KEY_REVOCATION = 0x20
    SUBKEY_REVOCATION = 0x28


@dataclass(frozen=True, slots=True)
class _Hash:
    """`der` is the DigestInfo before the digest (RFC 8017, 9.2); `salt_bytes` of version 6."""

    name: str
    der: str
    salt_bytes: int = 0
    prehashed: Prehashed | None = None


# RFC 9580, 9.5.
_SHA1: Final = 2
_HASHES: Final = {
    _SHA1: _Hash("sha1", "3021300906052b0e03021a05000414"),
    8: _Hash("sha256", "3031300d060960864801650304020105000420", 16, Prehashed(hashes.SHA256())),
    9: _Hash("sha384", "3041300d060960864801650304020205000430", 24, Prehashed(hashes.SHA384())),
    10: _Hash("sha512", "3051300d060960864801650304020305000440", 32, Prehashed(hashes.SHA512())),
    12: _Hash(
        "sha3_256", "3031300d060960864801650304020805000420", 16, Prehashed(hashes.SHA3_256())
    ),
    14: _Hash(
        "sha3_512", "3051300d060960864801650304020a05000440", 32, Prehashed(hashes.SHA3_512())
    ),
}
STRONG: Final = frozenset(_HASHES) - {_SHA1}
"""What may speak for a document or a subkey: SHA-256 and better."""
WITH_SHA1: Final = frozenset(_HASHES)
"""What may speak against a key: until when it is valid, and that it is revoked."""
_HASH_NAMES: Final = {1: "MD5", _SHA1: "SHA-1", 3: "RIPEMD-160", 11: "SHA-224"}

# RFC 9580, 9.1 and 9.2.
_RSA: Final = (1, 3)
_ECDSA, _EDDSA, _ED25519, _ED448 = 19, 22, 27, 28
_ALGORITHMS: Final = {16: "Elgamal", 17: "DSA", 18: "ECDH", 25: "X25519", 26: "X448"}
_CURVES: Final = {
    bytes.fromhex("2a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("2b81040022"): ec.SECP384R1(),
    bytes.fromhex("2b81040023"): ec.SECP521R1(),
}
_ED25519_LEGACY: Final = bytes.fromhex("2b06010401da470f01")

# Subpackets (RFC 9580, 5.2.3.7).
_CREATED, _EXPIRES, _KEY_EXPIRES, _ISSUER, _FLAGS, _EMBEDDED, _FINGERPRINT = 2, 3, 9, 16, 27, 32, 33
# What does not limit the meaning of a signature: preferences, features, whose user id.
_HARMLESS: Final = (4, 7, 11, 21, 22, 23, 25, 28, 30, 34, 39)
_UNDERSTOOD: Final = (_CREATED, _EXPIRES, _KEY_EXPIRES, _ISSUER, _FLAGS, _EMBEDDED, _FINGERPRINT)
_SIGNS: Final = 0x02


@dataclass(frozen=True, slots=True)
class OpenPgpKey:
    """A public key or subkey. `material` is None with the reason in `unfit` if it can't be used.

    `fingerprint` is lower-case hex, `key_id` its eight bytes in signatures; `body` the packet's.
    """

    version: int
    created: int
    algorithm: int
    material: PublicKey | None = field(repr=False)
    unfit: str
    fingerprint: str
    key_id: bytes
    body: bytes = field(repr=False)

    @property
    def hashed(self) -> bytes:
        """How a signature over this key covers it (RFC 9580, 5.2.4)."""
        first, wide = (b"\x9b", 4) if self.version == 6 else (b"\x99", 2)
        return first + len(self.body).to_bytes(wide, "big") + self.body


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature. Times are Unix, 0 for none; `key_lifetime` is in seconds from the key's birth.

    `issuers` are key ids and fingerprints that it names itself: a hint, which proves nothing.
    """

    version: int
    kind: int
    created: int
    algorithm: int
    hash: int
    expires: int
    key_lifetime: int
    may_sign: bool
    issuers: frozenset[bytes]
    embedded: tuple[bytes, ...] = field(repr=False)
    salt: bytes = field(repr=False)
    trailer: bytes = field(repr=False)
    left: bytes = field(repr=False)
    values: bytes = field(repr=False)

    def is_by(self, key: OpenPgpKey) -> bool:
        """Whether it may be `key`'s, by what it says itself."""
        return not self.issuers or bool(self.issuers & {key.key_id, bytes.fromhex(key.fingerprint)})


class _Reader:
    """Takes bytes from the front of some."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise OpenPgpError("it ends too early")
        self._at += size
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def mpi(self) -> int:
        """A multiprecision integer; its bits are those that it says, zeros in front or not."""
        return int.from_bytes(self.take((self.number(2) + 7) // 8), "big")

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)


def read_armour(data: bytes, kind: bytes) -> bytes:
    """The bytes in the armoured blocks ``BEGIN PGP kind``; `data` itself where there are none."""
    begin, end = b"-----BEGIN PGP " + kind + b"-----", b"-----END PGP " + kind + b"-----"
    if begin not in data:
        return data
    found = []
    for block in data.replace(b"\r\n", b"\n").split(begin)[1:]:
        text, there, _ = block.partition(end)
        lines = [line.strip() for line in text.split(b"\n")]
        if not there or b"" not in lines[1:]:
            raise OpenPgpError("an armoured block that does not end, or has no empty line")
        body = lines[lines.index(b"", 1) + 1 :]
        # The checksum's line need not be there, and must not matter (RFC 9580, 6.1).
        try:
            joined = b"".join(line for line in body if line[:1] != b"=")
            found.append(base64.b64decode(joined, validate=True))
        except ValueError as error:
            raise OpenPgpError("an armoured block is not base64") from error
    return b"".join(found)


def read_packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each packet (RFC 9580, 4.2), of those that say how long they are."""
    reader = _Reader(data)
    for _ in range(_PACKETS_MAX):
        if not reader:
            return
        first = reader.number(1)
        if not first & 0x80:
            raise OpenPgpError("not an OpenPGP packet")
        if first & 0x40:
            tag, size = first & 0x3F, _length(reader, 224)
        else:
            tag = first >> 2 & 0x0F
            if first & 3 == 3:
                raise OpenPgpError("a packet without a length")
            size = reader.number(1 << (first & 3))
        yield tag, reader.take(size)
    raise OpenPgpError(f"more than {_PACKETS_MAX} packets")


def _length(reader: _Reader, end: int) -> int:
    """A length of one, two or five octets; two-octet ones start with 192 and up to `end`."""
    first = reader.number(1)
    if first < 192:
        return first
    if first < end:
        return ((first - 192) << 8) + reader.number(1) + 192
    if first < 255:
        raise OpenPgpError("a packet in parts")
    return reader.number(4)


def parse_key(body: bytes) -> OpenPgpKey:
    """A public key's or subkey's packet."""
    reader = _Reader(body)
    version, created, algorithm = reader.number(1), reader.number(4), reader.number(1)
    if version == 4 and len(body) < 1 << 16:
        whole = b"\x99" + len(body).to_bytes(2, "big") + body
        fingerprint = hashlib.sha1(whole, usedforsecurity=False).digest()
        key_id = fingerprint[-8:]
    elif version == 6:
        reader.take(4)  # how long the material is: to the end, or it is refused below
        fingerprint = hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).digest()
        key_id = fingerprint[:8]
    else:
        raise OpenPgpError(f"a key of version {version}")
    unfit = ""
    try:
        material: PublicKey | None = _material(algorithm, reader)
        if reader:
            raise OpenPgpError("there is more than the key")
    except (OpenPgpError, ValueError, UnsupportedAlgorithm) as error:
        material, unfit = None, str(error).partition("\n")[0]
    return OpenPgpKey(version, created, algorithm, material, unfit, fingerprint.hex(), key_id, body)


def _material(algorithm: int, reader: _Reader) -> PublicKey:
    if algorithm in _RSA:
        modulus, exponent = reader.mpi(), reader.mpi()
        if not _RSA_BITS[0] <= modulus.bit_length() <= _RSA_BITS[1] or exponent >= 1 << 64:
            raise OpenPgpError(f"RSA of {modulus.bit_length()} bits")
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if algorithm in (_ECDSA, _EDDSA):
        curve = reader.take(reader.number(1))
        bits = reader.number(2)
        point = reader.take((bits + 7) // 8)
        if algorithm == _ECDSA and curve in _CURVES:
            return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve], point)
        if algorithm == _EDDSA and curve == _ED25519_LEGACY and point[:1] == b"\x40":
            return ed25519.Ed25519PublicKey.from_public_bytes(point[1:])
        raise OpenPgpError("a curve that is not known")
    if algorithm == _ED25519:
        return ed25519.Ed25519PublicKey.from_public_bytes(reader.take(32))
    if algorithm == _ED448:
        return ed448.Ed448PublicKey.from_public_bytes(reader.take(57))
    raise OpenPgpError(f"of the kind {_ALGORITHMS.get(algorithm, algorithm)}")


def parse_signature(body: bytes) -> Signature:
    """A signature's packet, of version 3, 4 or 6."""
    reader = _Reader(body)
    version = reader.number(1)
    if version == 3:
        return _parse_version_3(reader)
    if version not in (4, 6):
        raise OpenPgpError(f"a signature of version {version}")
    wide = 4 if version == 6 else 2
    kind, algorithm, hash_id = (reader.number(1) for _ in range(3))
    size = reader.number(wide)
    hashed = reader.take(size)
    covered = body[: 4 + wide + size]
    hints = reader.take(reader.number(wide))
    left = reader.take(2)
    salt = reader.take(reader.number(1)) if version == 6 else b""
    if version == 6 and len(salt) != getattr(_HASHES.get(hash_id), "salt_bytes", len(salt)):
        raise OpenPgpError("a salt of the wrong length")
    found = _Subpackets(hashed)
    created = found.time(_CREATED)
    if created is None:
        raise OpenPgpError("a signature without a time")
    lifetime = found.time(_EXPIRES)
    hinted = _Subpackets(hints, are_hashed=False)
    return Signature(
        version=version,
        kind=kind,
        created=created,
        algorithm=algorithm,
        hash=hash_id,
        expires=created + lifetime if lifetime else 0,
        key_lifetime=found.time(_KEY_EXPIRES) or 0,
        may_sign=any(flags[:1] and flags[0] & _SIGNS for flags in found.of(_FLAGS)),
        issuers=frozenset((*found.issuers(), *hinted.issuers())),
        embedded=(*found.of(_EMBEDDED), *hinted.of(_EMBEDDED)),
        salt=salt,
        trailer=covered + bytes((version, 0xFF)) + len(covered).to_bytes(4, "big"),
        left=left,
        values=reader.rest(),
    )


def _parse_version_3(reader: _Reader) -> Signature:
    if reader.number(1) != 5:
        raise OpenPgpError("a signature of version 3 over more than its type and time")
    covered = reader.take(5)
    key_id = reader.take(8)
    algorithm, hash_id = reader.number(1), reader.number(1)
    return Signature(
        version=3,
        kind=covered[0],
        created=int.from_bytes(covered[1:], "big"),
        algorithm=algorithm,
        hash=hash_id,
        expires=0,
        key_lifetime=0,
        may_sign=False,
        issuers=frozenset({key_id}),
        embedded=(),
        salt=b"",
        trailer=covered,
        left=reader.take(2),
        values=reader.rest(),
    )


class _Subpackets:
    """A signature's subpackets by type. OpenPgpError for a critical one that is not understood."""

    def __init__(self, data: bytes, *, are_hashed: bool = True) -> None:
        reader = _Reader(data)
        self._found: dict[int, list[bytes]] = {}
        while reader:
            body = reader.take(_length(reader, 255))
            if not body:
                raise OpenPgpError("an empty subpacket")
            kind = body[0] & 0x7F
            if are_hashed and body[0] & 0x80 and kind not in (*_UNDERSTOOD, *_HARMLESS):
                raise OpenPgpError(f"a critical subpacket of type {kind}")
            self._found.setdefault(kind, []).append(body[1:])

    def of(self, kind: int) -> list[bytes]:
        return self._found.get(kind, [])

    def time(self, kind: int) -> int | None:
        """Four bytes of seconds; the first of several, None for none."""
        found = self.of(kind)
        if any(len(one) != 4 for one in found):
            raise OpenPgpError(f"a subpacket of type {kind} without a time")
        return int.from_bytes(found[0], "big") if found else None

    def issuers(self) -> list[bytes]:
        return [*self.of(_ISSUER), *(one[1:] for one in self.of(_FINGERPRINT))]


def verify_signature(
    key: OpenPgpKey, signature: Signature, data: bytes, allowed: Collection[int] = STRONG
) -> None:
    """`signature` is `key`'s over `data`, with a hash that is `allowed`. OpenPgpError.

    Nothing else is looked at: what kind of signature it is, and whether either is in force.
    """
    known = _HASHES.get(signature.hash)
    if known is None or signature.hash not in allowed:
        name = _HASH_NAMES.get(signature.hash, f"hash {signature.hash}")
        raise OpenPgpError(f"signed with {name}, which proves nothing")
    if key.material is None:
        raise OpenPgpError(f"the key {key.fingerprint} can't be used: {key.unfit}")
    if key.algorithm != signature.algorithm or (key.version == 6) != (signature.version == 6):
        raise OpenPgpError("the signature is of another algorithm or version than the key")
    try:
        digest = hashlib.new(known.name, signature.salt, usedforsecurity=signature.hash != _SHA1)
        digest.update(data)
        digest.update(signature.trailer)
        _verify_digest(key.material, signature, known, digest.digest())
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, OverflowError) as error:
        raise OpenPgpError(f"the signature by {key.fingerprint} is wrong") from error


def _verify_digest(key: PublicKey, signature: Signature, known: _Hash, digest: bytes) -> None:
    reader = _Reader(signature.values)
    if digest[:2] != signature.left:
        raise InvalidSignature
    if isinstance(key, rsa.RSAPublicKey):
        value = reader.mpi().to_bytes((key.key_size + 7) // 8, "big")
        # Where a system's policy forbids SHA-1, OpenSSL would not compare it.
        found = key.recover_data_from_signature(value, padding.PKCS1v15(), None)
        if found != bytes.fromhex(known.der) + digest:
            raise InvalidSignature
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if known.prehashed is None:
            raise InvalidSignature
        pair = encode_dss_signature(reader.mpi(), reader.mpi())
        key.verify(pair, digest, ec.ECDSA(known.prehashed))
    elif isinstance(key, ed448.Ed448PublicKey):
        key.verify(reader.take(114), digest)
    elif signature.algorithm == _EDDSA:
        key.verify(reader.mpi().to_bytes(32, "big") + reader.mpi().to_bytes(32, "big"), digest)
    else:
        key.verify(reader.take(64), digest)
    if reader:
        raise InvalidSignature

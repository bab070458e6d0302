# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes OpenPGP packets that no program of today writes any more, or ever should."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

BORN = 1_500_000_000
SHA1, SHA256, SHA384, SHA512, SHA3_256 = 2, 8, 9, 10, 12
HASHES: Mapping[int, tuple[str, hashes.HashAlgorithm]] = {
    SHA1: ("sha1", hashes.SHA1()),  # noqa: S303
    SHA256: ("sha256", hashes.SHA256()),
    SHA384: ("sha384", hashes.SHA384()),
    SHA512: ("sha512", hashes.SHA512()),
    SHA3_256: ("sha3_256", hashes.SHA3_256()),
}
SALT = {SHA256: 16, SHA384: 24, SHA512: 32, SHA3_256: 16}
RSA, DSA, ECDSA, EDDSA, ED25519, ED448 = 1, 17, 19, 22, 27, 28
_P256 = bytes.fromhex("2a8648ce3d030107")
_ED25519_LEGACY = bytes.fromhex("2b06010401da470f01")


def packet(tag: int, body: bytes) -> bytes:
    return bytes((0xC0 | tag, 0xFF)) + len(body).to_bytes(4, "big") + body


def mpi(value: int, *, zeros: int = 0) -> bytes:
    """`zeros` bytes in front that count as some of its own."""
    size = (value.bit_length() + 7) // 8 + zeros
    return (8 * size if zeros else value.bit_length()).to_bytes(2, "big") + value.to_bytes(
        size, "big"
    )


def subpacket(kind: int, body: bytes) -> bytes:
    return bytes((len(body) + 1, kind)) + body


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@dataclass(frozen=True)
class Maker:
    """A key pair with its packet, and what it signs."""

    algorithm: int
    version: int = 4
    bits: int = 2048
    seed: int = 1

    @property
    def private(
        self,
    ) -> (
        rsa.RSAPrivateKey
        | ec.EllipticCurvePrivateKey
        | ed25519.Ed25519PrivateKey
        | (ed448.Ed448PrivateKey)
    ):
        if self.algorithm == RSA:
            return rsa_key(self.bits)
        if self.algorithm == ECDSA:
            return ec.derive_private_key(self.seed + 1000, ec.SECP256R1())
        if self.algorithm == ED448:
            return ed448.Ed448PrivateKey.from_private_bytes(bytes((self.seed,)) * 57)
        return ed25519.Ed25519PrivateKey.from_private_bytes(bytes((self.seed,)) * 32)

    @property
    def body(self) -> bytes:
        material = self._material()
        wide = len(material).to_bytes(4, "big") if self.version == 6 else b""
        head = bytes((self.version,)) + BORN.to_bytes(4, "big") + bytes((self.algorithm,))
        return head + wide + material

    def _material(self) -> bytes:
        private = self.private
        if isinstance(private, rsa.RSAPrivateKey):
            numbers = private.public_key().public_numbers()
            return mpi(numbers.n) + mpi(numbers.e)
        if isinstance(private, ec.EllipticCurvePrivateKey):
            point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            return bytes((len(_P256),)) + _P256 + mpi(int.from_bytes(point, "big"))
        raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        if self.algorithm == EDDSA:
            point = mpi(int.from_bytes(b"\x40" + raw, "big"))
            return bytes((len(_ED25519_LEGACY),)) + _ED25519_LEGACY + point
        return raw

    @property
    def hashed(self) -> bytes:
        if self.version == 6:
            return b"\x9b" + len(self.body).to_bytes(4, "big") + self.body
        return b"\x99" + len(self.body).to_bytes(2, "big") + self.body

    @property
    def fingerprint(self) -> bytes:
        if self.version == 6:
            return hashlib.sha256(self.hashed).digest()
        return hashlib.sha1(self.hashed).digest()  # noqa: S324

    @property
    def key_id(self) -> bytes:
        return self.fingerprint[:8] if self.version == 6 else self.fingerprint[-8:]

    def certificate(self, *more: bytes) -> bytes:
        """The primary key, and packets after it; nothing vouches for it."""
        return packet(6, self.body) + b"".join(more)

    def sign(
        self,
        data: bytes,
        *,
        version: int = 0,
        kind: int = 0,
        hash_id: int = SHA256,
        created: int = BORN + 100,
        more: bytes = b"",
        hints: bytes | None = None,
        zeros: int = 0,
        salt: int = -1,
    ) -> bytes:
        """A signature packet's body; `more` are hashed subpackets."""
        version = version or self.version
        name, algorithm = HASHES[hash_id]
        salted = bytes(SALT.get(hash_id, 16) if salt < 0 else salt) if version == 6 else b""
        time = created.to_bytes(4, "big")
        if version == 3:
            trailer = bytes((kind,)) + time
            digest = hashlib.new(name, data + trailer).digest()
            head = b"\x03\x05" + trailer + self.key_id + bytes((self.algorithm, hash_id))
            return head + digest[:2] + self._values(digest, algorithm, zeros)
        wide = 4 if version == 6 else 2
        hashed = subpacket(2, time) + more
        head = bytes((version, kind, self.algorithm, hash_id))
        head += len(hashed).to_bytes(wide, "big") + hashed
        trailer = head + bytes((version, 0xFF)) + len(head).to_bytes(4, "big")
        digest = hashlib.new(name, salted + data + trailer).digest()
        unhashed = subpacket(16, self.key_id) if hints is None else hints
        tail = len(unhashed).to_bytes(wide, "big") + unhashed + digest[:2]
        tail += bytes((len(salted),)) + salted if version == 6 else b""
        return head + tail + self._values(digest, algorithm, zeros)

    def _values(self, digest: bytes, algorithm: hashes.HashAlgorithm, zeros: int) -> bytes:
        private = self.private
        prehashed = Prehashed(algorithm)
        if isinstance(private, rsa.RSAPrivateKey):
            value = private.sign(digest, padding.PKCS1v15(), prehashed)
            return mpi(int.from_bytes(value, "big"), zeros=zeros)
        if isinstance(private, ec.EllipticCurvePrivateKey):
            pair = decode_dss_signature(private.sign(digest, ec.ECDSA(prehashed)))
            return b"".join(mpi(one, zeros=zeros) for one in pair)
        value = private.sign(digest)
        if self.algorithm == EDDSA:
            halves = value[:32], value[32:]
            return b"".join(mpi(int.from_bytes(half, "big"), zeros=zeros) for half in halves)
        return value

    def bind(
        self, subkey: Maker, *, back: bool = True, hash_id: int = SHA256, **facts: int
    ) -> bytes:
        """The packets of `subkey` and of the statement that it is this key's and may sign."""
        covered = self.hashed + subkey.hashed
        more = subpacket(27, bytes((facts.pop("flags", 2),)))
        for kind, seconds in ((9, facts.pop("lifetime", 0)),):
            more += subpacket(kind, seconds.to_bytes(4, "big")) if seconds else b""
        if back:
            signed = subkey.sign(covered, kind=0x19, hash_id=facts.pop("back_hash", hash_id))
            more += b"\xff" + (len(signed) + 1).to_bytes(4, "big") + b"\x20" + signed
        return packet(14, subkey.body) + packet(
            2, self.sign(covered, kind=0x18, hash_id=hash_id, more=more, **facts)
        )

    def state(self, *, lifetime: int = 0, hash_id: int = SHA256, created: int = BORN) -> bytes:
        """A user id and the key's own signature over it."""
        name = b"somebody"
        more = subpacket(9, lifetime.to_bytes(4, "big")) if lifetime else b""
        covered = self.hashed + b"\xb4" + len(name).to_bytes(4, "big") + name
        return packet(13, name) + packet(
            2, self.sign(covered, kind=0x13, hash_id=hash_id, more=more, created=created)
        )

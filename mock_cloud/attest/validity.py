# SPDX-License-Identifier: GPL-2.0-or-later
"""Signed manifests: for how long one holds, which of its image's it is, and whether to accept it.

What an image holds (`ImageManifest`) and when somebody said so are signed together, and are apart:
the same contents can be signed anew, with a new serial and a later expiry. As in TUF's metadata
(https://theupdateframework.github.io/specification/latest/, version and expires), with the
signers' threshold; https://github.com/secure-systems-lab/dsse has the signatures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

from mock_cloud.attest.envelope import (
    Signer,
    check_subject,
    open_statement,
    refusal,
    sign_statement,
)
from mock_cloud.attest.files import Text
from mock_cloud.attest.manifest import ImageManifest, manifest_to_json, parse_manifest
from mock_cloud.attest.revocation import Revocation
from mock_cloud.errors import ConfigError
from mock_cloud.model import DAY_S, TIME_MAX, HostKey, utc_text
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Malformed, Natural, decode, encode, within

_PREDICATE: Final = "urn:mock-cloud:predicate:image-manifest:v2"
DEFAULT_LIFETIME_S: Final = 90 * DAY_S
CLOCK_TOLERANCE_S: Final = DAY_S
"""So much may the clocks of signer and controller differ; a wrong time zone is less."""
_WARN_BEFORE_S: Final = 14 * DAY_S
_RENEW: Final = (
    "get a newer one from its signer, who can make it anew (image bake, known-good make) or vouch"
    " once more for the same contents (mock-cloud known-good sign --renew)"
)


@dataclass(frozen=True, slots=True)
class Validity:
    """What a signer says of a manifest besides its contents. Times in Unix seconds.

    `image` is the image's name through all its versions, of one architecture. Of two manifests of
    one image and signer that with the larger `serial` is the newer, whatever their times.
    """

    image: str
    serial: int
    issued_unix: int
    expires_unix: int

    @property
    def warns_from_unix(self) -> int:
        """From when on to warn of the expiry: two weeks before, or a quarter of the life."""
        life_s = self.expires_unix - self.issued_unix
        return self.expires_unix - min(_WARN_BEFORE_S, life_s // 4)


_Time = Annotated[int, within(0, TIME_MAX)]


@dataclass(frozen=True, slots=True)
class _Predicate:
    """What is signed."""

    manifest: Any
    image: Text
    serial: Natural
    issued: _Time
    expires: _Time


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """A manifest whose signatures were checked. `signers` are fingerprints of trusted keys."""

    manifest: ImageManifest
    validity: Validity
    signers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Which signed manifests a remote accepts. `max_age_s` counts from the signing; None: any."""

    keys: tuple[HostKey, ...]
    threshold: int = 1
    max_age_s: float | None = None
    revocations: tuple[Revocation, ...] = ()


def sign_manifest(manifest: ImageManifest, validity: Validity, signer: Signer) -> bytes:
    """The envelope with one signature."""
    one = validity
    what = manifest_to_json(manifest)
    predicate = encode(_Predicate(what, one.image, one.serial, one.issued_unix, one.expires_unix))
    return sign_statement(_PREDICATE, {manifest.name: manifest.sha256}, predicate, signer)


def verify_manifest(
    envelope: bytes,
    public_keys: Iterable[HostKey],
    *,
    threshold: int = 1,
    revoked: Iterable[str] = (),
) -> SignedManifest:
    """The manifest in `envelope`, signed by `threshold` of the keys: authentic, perhaps outdated.

    `revoked` are fingerprints of keys that do not count. Raises as `envelope.open_statement`.
    """
    statement, signers = open_statement(
        envelope, public_keys, _PREDICATE, threshold=threshold, revoked=revoked
    )
    try:
        found = decode(_Predicate, statement.predicate, "predicate")
        manifest = parse_manifest(found.manifest)
        check_subject(statement, {manifest.name: manifest.sha256})
        return SignedManifest(manifest, _validity(found), signers)
    except Malformed as error:
        raise refusal("manifest.malformed", str(error)) from error


def accept_manifest(envelope: bytes, wanted: Acceptance, now_unix: float) -> SignedManifest:
    """The manifest in `envelope`, if a remote may use it at the time `now_unix`.

    1. Enough keys signed it that are not revoked. 2. Neither its contents nor its serial is
    revoked. 3. It was signed in the past, within the maximal age. 4. It has not expired. That no
    newer one was seen is for the caller, who has a memory.

    Raises AttestationRefused as `envelope.open_statement`, and ``manifest.revoked``, ``.expired``,
    ``.too-old``; ConfigError if the clock must be wrong.
    """
    # 1
    revoked = {key for one in wanted.revocations for key in one.keys}
    signed = verify_manifest(envelope, wanted.keys, threshold=wanted.threshold, revoked=revoked)
    manifest, validity = signed.manifest, signed.validity
    # 2
    for one in wanted.revocations:
        if one.covers(manifest.sha256, validity.image, manifest.arch, validity.serial):
            why = f"serial {validity.serial} of {validity.image} is revoked: {one.reason}"
            raise refusal("manifest.revoked", why, hint="get a newer one from its signer")
    # 3
    if validity.issued_unix > now_unix + CLOCK_TOLERANCE_S:
        raise ConfigError(
            f"the image manifest was signed at {utc_text(validity.issued_unix)}, and this"
            f" machine's clock says {utc_text(now_unix)}",
            hint="set the clock, or the signer's if that is wrong",
        )
    age_s = now_unix - validity.issued_unix
    if wanted.max_age_s is not None and age_s > wanted.max_age_s:
        why = (
            f"it was signed at {utc_text(validity.issued_unix)}, {age_s / DAY_S:.0f} days ago, and"
            f" manifest_max_age is {wanted.max_age_s / DAY_S:g} days"
        )
        raise refusal("manifest.too-old", why, hint=_RENEW)
    # 4
    if now_unix >= validity.expires_unix:
        why = f"it expired at {utc_text(validity.expires_unix)}"
        raise refusal("manifest.expired", why, hint=_RENEW)
    return signed


def _validity(found: _Predicate) -> Validity:
    if not found.image or found.expires <= found.issued:
        raise Malformed("a manifest names its image, and expires after it was signed")
    return Validity(found.image, found.serial, found.issued, found.expires)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The provenance of a build: SLSA's predicate, what of it is ours, its signed form, read strictly.

https://slsa.dev/spec/v1.0/provenance in an in-toto Statement v1, signed as `attest.envelope` has
it. What is ours stands where SLSA leaves room: in the parameters and in the annotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import field
from datetime import datetime, timezone
from typing import Annotated, Any, Final

from mock_cloud.attest.envelope import Signer, Statement, WrongKeys, open_statement, sign_statement
from mock_cloud.errors import AttestationRefused, Reason
from mock_cloud.model import TIME_MAX, HostKey, utc_text
from mock_cloud.provenance.owner import OwnerSignature
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import (
    Limits,
    Malformed,
    Sha256,
    decode,
    encode,
    exactly,
    matching,
    within,
)

PROVENANCE_NAME: Final = "remote_provenance.json"
EVIDENCE_NAME: Final = "remote_evidence.zip"
KEY_NAME: Final = "provenance-key"
"""The user's own key in the state directory; its public half is beside it, with .pub at the end."""

PREDICATE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:mock-cloud:build-type:mock:v3"
"""Its last number rises with each change after which older readers or older files will not do."""
PROVENANCE_MAX: Final = 32 << 20
"""Bytes of the envelope: 10,000 results and as many packages in the chroot take a quarter."""

_ANY_BUILD_TYPE: Final = re.compile(re.escape(BUILD_TYPE[:-1]) + r"([0-9]{1,4})")
_BUILDER: Final = "urn:mock-cloud:builder:{key}:tier-{tier}"
_LIMITS: Final = Limits(text=1 << 16, items=50_000, surrogates=False)
_DIGEST: Final = 64
_PARTS_MAX: Final = 8

FileDigests = dict[str, str]
"""sha256 (hex) of files by their names, relative to the directory of results."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """in-toto's ResourceDescriptor: a thing by its digests, of which some kinds may be unknown."""

    name: str
    uri: str
    digest: dict[str, str]
    annotations: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """SLSA's externalParameters: what the user asked for. `options` are mock's own words."""

    mode: str
    chroot: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """Where it was built: `owner` of a lent machine; `host_key` is the key's fingerprint.

    `builder` is whose it is, by a name that stays; the ledger knows it by that.
    """

    builder: str
    remote: str
    provider: str
    kind: str
    arch: str
    owner: str
    host_key: str = field(metadata={"json": "hostKey"})


@dataclass(frozen=True, slots=True)
class Attestation:
    """The verdict on the node, by digests (sha256, hex), and what no verdict of its tier proves.

    `evidence` is the digest of what the verdict can be recomputed from, empty if that was not kept.
    """

    tier: Annotated[int, within(1, 3)]
    policy: str
    policy_sha256: Sha256 = field(metadata={"json": "policySha256"})
    verdict: Sha256
    evidence: Annotated[str, matching(r"([0-9a-f]{64})?", "a digest")]
    manifest: str
    manifest_sha256: Annotated[str, matching(r"([0-9a-f]{64})?", "a digest")] = field(
        metadata={"json": "manifestSha256"}
    )
    manifest_signers: tuple[str, ...] = field(metadata={"json": "manifestSigners"})
    package_keys: tuple[str, ...] = field(metadata={"json": "packageKeys"})
    toolkit: Sha256
    not_proved: tuple[str, ...] = field(metadata={"json": "notProved"})


@dataclass(frozen=True, slots=True)
class PackageDigests:
    """Of a package file: its immutable header and its payload, which signing it does not change."""

    header: Sha256
    payload: Sha256


@dataclass(frozen=True, slots=True)
class Agreement:
    """Another builder made the same of the same sources: on which node, in which job.

    `provenance` is the digest of what was signed of that build. `level` says how far both agree.
    """

    builder: str
    owner: str
    host_key: str = field(metadata={"json": "hostKey"})
    job: str
    level: Annotated[str, matching("L[01]", "a level of agreement")]
    provenance: Sha256


@dataclass(frozen=True, slots=True)
class Used:
    """SLSA's internalParameters: what the controller chose. `configuration` is a digest.

    `packages` has the digests of each result that is a package, by its name; `sizes` how long each
    file is, in bytes: nobody reads more of one to find that it is another. What is `scratch` never
    counts as a release. `owner_signature` is what a lent machine's owner signed of it. `agreed` are
    those who built the same before it was published. `environment` has language and time zone.
    """

    version: str
    engine: str
    configuration: Sha256
    scratch: bool
    owner_signature: OwnerSignature | None = field(metadata={"json": "ownerSignature"})
    macros: dict[str, str]
    environment: dict[str, str]
    node: Node
    attestation: Attestation
    packages: dict[str, PackageDigests]
    sizes: dict[str, Annotated[int, within(0, 1 << 50)]]
    agreed: tuple[Agreement, ...]


@dataclass(frozen=True, slots=True)
class _Definition:
    build_type: Annotated[str, exactly(BUILD_TYPE)] = field(metadata={"json": "buildType"})
    asked: Asked = field(metadata={"json": "externalParameters"})
    used: Used = field(metadata={"json": "internalParameters"})
    dependencies: tuple[Descriptor, ...] = field(metadata={"json": "resolvedDependencies"})


@dataclass(frozen=True, slots=True)
class _Builder:
    id: str


@dataclass(frozen=True, slots=True)
class _Metadata:
    invocation: str = field(metadata={"json": "invocationId"})
    started: str = field(metadata={"json": "startedOn"})
    finished: str = field(metadata={"json": "finishedOn"})


@dataclass(frozen=True, slots=True)
class _Details:
    builder: _Builder
    metadata: _Metadata
    byproducts: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class _Predicate:
    definition: _Definition = field(metadata={"json": "buildDefinition"})
    details: _Details = field(metadata={"json": "runDetails"})


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is said of one build. Times in Unix seconds, by the controller's clock.

    `results` are the packages, `logs` all other files that it left; `dependencies` what it was
    built from and in.
    """

    results: FileDigests = field(repr=False)
    logs: FileDigests = field(repr=False)
    asked: Asked
    used: Used = field(repr=False)
    dependencies: tuple[Descriptor, ...] = field(repr=False)
    job: str
    started_unix: int
    finished_unix: int


@dataclass(frozen=True, slots=True)
class SignedProvenance:
    """A provenance whose signature was checked; `signers` are fingerprints of trusted keys."""

    provenance: Provenance
    signers: frozenset[str]


class ProvenanceRefused(AttestationRefused):
    """A provenance that can't be trusted, or results that are not those it is about."""

    def __init__(self, reasons: tuple[Reason, ...]) -> None:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        first = reasons[0]
        super().__init__(
            f"the results are refused: {first.code}: {first.subject}{more}", reasons=reasons
        )


def builder_id(fingerprint: str, tier: int) -> str:
    """SLSA's builder.id: who signs, and how far its nodes are looked at."""
    return _BUILDER.format(key=fingerprint, tier=tier)


def sign_provenance(provenance: Provenance, signer: Signer) -> bytes:
    """The envelope, with one signature. ConfigError if the signer fails."""
    predicate = _Predicate(
        _Definition(BUILD_TYPE, provenance.asked, provenance.used, provenance.dependencies),
        _Details(
            _Builder(builder_id(signer.public.fingerprint, provenance.used.attestation.tier)),
            _Metadata(
                provenance.job,
                utc_text(provenance.started_unix),
                utc_text(provenance.finished_unix),
            ),
            tuple(
                Descriptor(name, "", {"sha256": digest}, {})
                for name, digest in provenance.logs.items()
            ),
        ),
    )
    return sign_statement(PREDICATE, provenance.results, encode(predicate), signer)


def open_provenance(
    envelope: bytes, keys: Iterable[HostKey], revoked: Iterable[str] = ()
) -> SignedProvenance:
    """The provenance in `envelope`, if one of `keys` signed it that is not `revoked`.

    Raises ProvenanceRefused with one reason: ``provenance.signer``, ``.signature``, ``.revoked``,
    ``.version``, ``.malformed``; ConfigError for keys that are not ed25519.
    """
    if len(envelope) > PROVENANCE_MAX:
        raise _refused("provenance.malformed", f"{len(envelope)} bytes, more than {PROVENANCE_MAX}")
    try:
        statement, signers = open_statement(
            envelope, keys, PREDICATE, revoked=revoked, what="provenance"
        )
    except WrongKeys as error:
        raise _refused("provenance.signer", error.message.partition(",")[0]) from error
    except AttestationRefused as error:
        code = _CODES.get(error.reasons[0].code, "provenance.malformed")
        raise _refused(code, error.reasons[0].found) from error
    _check_version(statement)
    try:
        found = _parse(statement, signers)
    except Malformed as error:
        raise _refused("provenance.malformed", str(error)) from error
    return SignedProvenance(found, signers)


_CODES: Final = {
    "manifest.signature": "provenance.signature",
    "manifest.revoked": "provenance.revoked",
}
"""What `open_statement` says of any envelope, and what that is here."""


def _refused(code: str, why: str) -> ProvenanceRefused:
    return ProvenanceRefused((Reason(code, PROVENANCE_NAME, found=why),))


def _check_version(statement: Statement) -> None:
    """ProvenanceRefused for a build type of mock-cloud that this version does not read."""
    predicate = statement.predicate
    definition = predicate.get("buildDefinition") if isinstance(predicate, dict) else None
    name = definition.get("buildType") if isinstance(definition, dict) else None
    said = _ANY_BUILD_TYPE.fullmatch(name) if isinstance(name, str) else None
    if said is None or said[0] == BUILD_TYPE:
        return
    is_newer = int(said[1]) > int(BUILD_TYPE.rpartition("v")[2])
    why = "written by a newer mock-cloud" if is_newer else "written by an older mock-cloud"
    raise ProvenanceRefused((Reason("provenance.version", PROVENANCE_NAME, BUILD_TYPE,
                                    f"{said[0]}, {why}"),))  # fmt: skip


def _parse(statement: Statement, signers: frozenset[str]) -> Provenance:
    results = _digests(decode(tuple[_Subject, ...], statement.subject, "subject", limits=_LIMITS))
    predicate = decode(_Predicate, statement.predicate, "predicate", limits=_LIMITS)
    definition, details = predicate.definition, predicate.details
    used = definition.used
    wanted = {builder_id(signer, used.attestation.tier) for signer in signers}
    if details.builder.id not in wanted:
        raise Malformed("builder.id is not that of the key that signed it")
    logs = _digests(details.byproducts)
    if not results or results.keys() & logs.keys():
        raise Malformed("it is about no result, or a name is a result and a byproduct")
    if used.packages.keys() != results.keys():
        raise Malformed("it has not the digests of each package")
    if used.sizes.keys() != results.keys() | logs.keys():
        raise Malformed("it has not the size of each file")
    others = [one.builder for one in used.agreed]
    if used.node.builder in others or len(set(others)) != len(others):
        raise Malformed("a builder agrees with itself, or stands twice")
    started, finished = (_unix(text) for text in
                         (details.metadata.started, details.metadata.finished))  # fmt: skip
    if finished < started:
        raise Malformed("it was finished before it was started")
    return Provenance(
        results, logs, definition.asked, used, definition.dependencies,
        details.metadata.invocation, started, finished,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Subject:
    name: str
    digest: dict[str, str]


def _digests(found: Iterable[_Subject | Descriptor]) -> FileDigests:
    digests: FileDigests = {}
    for one in found:
        parts = one.name.split("/")
        if len(parts) > _PARTS_MAX or any(part in ("", ".", "..") for part in parts):
            raise Malformed(f"{one.name[:80]!a} is not a valid name of a result")
        if one.name in digests:
            raise Malformed(f"{one.name[:80]!a} stands twice")
        if one.name in (PROVENANCE_NAME, EVIDENCE_NAME):
            raise Malformed(f"{one.name} is not among the results")
        if list(one.digest) != ["sha256"] or not _is_sha256(one.digest["sha256"]):
            raise Malformed(f"{one.name[:80]!a} has no sha256, or more digests")
        digests[one.name] = one.digest["sha256"]
    return digests


def _is_sha256(text: str) -> bool:
    return len(text) == _DIGEST and set(text) <= set("0123456789abcdef")


def _unix(text: str) -> int:
    """A time as `utc_text` writes it."""
    try:
        found = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise Malformed(f"{text[:40]!a} is not a time in UTC") from error
    unix = int(found.timestamp())
    if not 0 <= unix <= TIME_MAX:
        raise Malformed(f"{text[:40]!a} is out of bounds")
    return unix

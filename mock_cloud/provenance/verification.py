# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether results are what a provenance says, that it is signed, and that its verdict holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mock_cloud.attest.policy import TIER
from mock_cloud.errors import AttestationRefused, ConfigError, Reason
from mock_cloud.model import DAY_S, HostKey
from mock_cloud.provenance.files import check_files
from mock_cloud.provenance.grounds import EVIDENCE_MAX, Recomputed, recompute
from mock_cloud.provenance.owner import check_owned, open_owner_statement
from mock_cloud.provenance.requirements import Requirements
from mock_cloud.provenance.statement import (
    EVIDENCE_NAME,
    PROVENANCE_MAX,
    PROVENANCE_NAME,
    Provenance,
    ProvenanceRefused,
    SignedProvenance,
    open_provenance,
)
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Malformed
from mock_cloud.wire.job_request import SOURCE_ROLES

_APART_S = 7 * DAY_S
"""So long before its build's end a verdict may have been made: a lease's longest life."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Proof that the results are those of an attested build; `recomputed` if its verdict was."""

    signed: SignedProvenance
    recomputed: Recomputed | None


def find_provenance(path: Path) -> tuple[Path, Path]:
    """The provenance at `path`, a directory of results or the file itself; and that directory.

    ConfigError if there is nothing at `path`.
    """
    if path.is_dir():
        return path / PROVENANCE_NAME, path
    if not path.exists():
        raise ConfigError(f"{path}: no such file or directory")
    return path, path.parent


def verify_results(
    path: Path, keys: Sequence[HostKey], wanted: Requirements, now_unix: float
) -> Verified:
    """Proof that the results at `path` (see `find_provenance`) can be relied on.

    1. There is a provenance, signed by one of `keys` that is not revoked. 2. It is one, and about
    this key's builder. 3. Each file is there and as it says, and no other. 4. The evidence beside
    it is that which it names. 5. The evidence gives the verdict that it names, once more, of the
    node, the manifest and the toolkit that it names. 6. Where the owner of the machine signed
    for packages, it was for these. 7. What the verifier asks for is met.

    Raises ProvenanceRefused with all reasons (1 and 2 with one); ConfigError for wrong keys, and
    for a place that cannot be read.
    """
    if not keys:
        raise ConfigError("no key to verify with", hint="name the signer's .pub file with --keys")
    file, place = find_provenance(path)
    # 1, 2
    signed = open_provenance(
        _read(file, PROVENANCE_MAX, "provenance.missing"), keys, wanted.revoked
    )
    provenance = signed.provenance
    reasons: list[Reason] = []
    # 3
    own = (file.name, EVIDENCE_NAME)
    reasons += check_files(place, provenance, own, resigned=wanted.resigned)
    # 4, 5
    recomputed = None
    if wanted.evidence or (place / EVIDENCE_NAME).exists():
        try:
            recomputed = _recompute(place, provenance)
            reasons += _disagreements(recomputed, provenance)
        except ProvenanceRefused as refused:
            reasons += refused.reasons
    # 6
    reasons += check_owner(provenance)
    # 7
    reasons += wanted.reasons(signed, now_unix)
    if reasons:
        raise ProvenanceRefused(tuple(reasons))
    return Verified(signed, recomputed)


def _read(path: Path, most: int, missing: str) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise _refused(missing, path.name, "a file", str(error.strerror)) from error
    if len(data) > most:
        raise _refused("provenance.malformed", path.name, f"at most {most} bytes", "more")
    return data


def _refused(code: str, subject: str, wanted: str, found: str) -> ProvenanceRefused:
    return ProvenanceRefused((Reason(code, subject, wanted, found),))


def _recompute(place: Path, provenance: Provenance) -> Recomputed:
    """The verdict once more, from the evidence beside the results. ProvenanceRefused."""
    stated = provenance.used.attestation
    if not stated.evidence:
        raise _refused("evidence.missing", EVIDENCE_NAME, "evidence", "none was kept")
    data = _read(place / EVIDENCE_NAME, EVIDENCE_MAX, "evidence.missing")
    digest = hashlib.sha256(data).hexdigest()
    if digest != stated.evidence:
        raise _refused("evidence.changed", EVIDENCE_NAME, stated.evidence, digest)
    try:
        return recompute(data)
    except Malformed as error:
        raise _refused("evidence.unusable", EVIDENCE_NAME, "", str(error)) from error
    except AttestationRefused as refused:
        first = refused.reasons[0]
        raise _refused(
            "evidence.refused", first.subject, f"no {first.code}", first.found
        ) from refused
    except ConfigError as error:
        raise _refused("evidence.unusable", EVIDENCE_NAME, "", error.message) from error


def check_owner(provenance: Provenance) -> Iterator[Reason]:
    """Why the signature of the machine's owner, if there is one, is not about these packages."""
    signed = provenance.used.owner_signature
    if signed is None:
        return
    found = open_owner_statement(signed, provenance.job, find_sources(provenance))
    if isinstance(found, Reason):
        yield found
        return
    packages = provenance.used.packages.items()
    yield from check_owned(found, {name: (one.header, one.payload) for name, one in packages})


def find_sources(provenance: Provenance) -> list[str]:
    """sha256 of what it was built from."""
    return [
        one.digest["sha256"]
        for one in provenance.dependencies
        if one.annotations.get("role") in SOURCE_ROLES and "sha256" in one.digest
    ]


def _disagreements(found: Recomputed, provenance: Provenance) -> Iterator[Reason]:
    """What the provenance says otherwise than the evidence does."""
    stated, node = provenance.used.attestation, provenance.used.node
    verdict = found.verdict
    for subject, said, is_so in (
        ("verdict", stated.verdict, verdict.sha256),
        ("tier", str(stated.tier), str(TIER)),
        ("policy", stated.policy, verdict.policy),
        ("policySha256", stated.policy_sha256, verdict.policy_sha256),
        ("hostKey", node.host_key, verdict.host_key),
        ("manifest", stated.manifest, verdict.manifest),
        ("manifestSha256", stated.manifest_sha256, verdict.manifest_sha256),
        ("manifestSigners", " ".join(stated.manifest_signers),
         " ".join(sorted(found.manifest_signers))),
        ("packageKeys", " ".join(stated.package_keys), " ".join(found.package_certificates)),
        ("toolkit", stated.toolkit, found.toolkit),
    ):  # fmt: skip
        if said != is_so:
            yield Reason("evidence.disagrees", subject, said, is_so)
    if not provenance.finished_unix - _APART_S <= found.at_unix <= provenance.finished_unix + 1:
        yield Reason("evidence.disagrees", "time", "before the end of the build, by a week at most",
                     f"{found.at_unix:.0f}")  # fmt: skip

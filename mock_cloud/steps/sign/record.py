# SPDX-License-Identifier: GPL-2.0-or-later
"""Signs what was built: the last that a command does with its results."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from mock_cloud import __version__
from mock_cloud.attest.envelope import Signer
from mock_cloud.attest.policy import TIER, policy_to_json
from mock_cloud.attest.verdict import find_not_proven
from mock_cloud.errors import MockCloudError, ResultError
from mock_cloud.file_owner import as_owner
from mock_cloud.ledger.entries import EventKind, LedgerEvent, noted_files
from mock_cloud.provenance.files import digest_files, digest_package, read_sizes
from mock_cloud.provenance.grounds import Grounds, write_grounds
from mock_cloud.provenance.statement import (
    EVIDENCE_NAME,
    PROVENANCE_NAME,
    Asked,
    Attestation,
    Descriptor,
    Node,
    Provenance,
    Used,
    sign_provenance,
)
from mock_cloud.provenance.verification import check_owner
from mock_cloud.results.ownlog import remove_own_file, write_own_file
from mock_cloud.settings import ProvenanceChoice
from mock_cloud.steps.attest.attesting import Attested
from mock_cloud.steps.attest.known_good_sets import KnownGood
from mock_cloud.steps.check.request import MockOrder, Work
from mock_cloud.steps.context import Build
from mock_cloud.steps.job.job_list import evidence_path, note_row
from mock_cloud.steps.lease.builders import find_host, name_builder, note
from mock_cloud.steps.results.mirror import ATTESTATION_LOG, ORDER_LOG
from mock_cloud.steps.sign.asked_options import Private, asked_options
from mock_cloud.steps.sign.chroot_packages import describe_repositories, list_chroot_packages
from mock_cloud.steps.sign.signers import find_signer
from mock_cloud.wire.decode import decode_bytes, to_json
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.job_request import SCAN
from mock_cloud.wire.rpmheader import HeaderError

_SHOWN_ENVIRONMENT: Final = ("LANG", "LC_ALL", "TZ")
_INPUTS: Final = ("srpm", "spec", "source", "sources", "package", "built", "gpgkey")


def find_build_signer(build: Build) -> Signer | None:
    """What signs what a build makes, had before a node is; None if nothing is to be signed.

    ConfigError.
    """
    work, choice = build.planned, build.remote.provenance.write
    is_wanted = choice is ProvenanceChoice.ALWAYS or (
        choice is ProvenanceChoice.AUTO and not work.line.is_kojis
    )
    return find_signer(build.remote, build.console) if is_wanted else None


def keep_draft(build: Build) -> None:
    """Keep what is known before there are results with the job, for a build that is signed.

    What fails here costs a warning, and the provenance.
    """
    try:
        draft, evidence = _draft(build)
        if evidence:
            replace_file(evidence_path(build.job), evidence, 0o600)
        note_row(build, replace(build.row, draft=draft))
    except (MockCloudError, OSError) as error:
        why = error.message if isinstance(error, MockCloudError) else str(error)
        build.console.warning(f"there will be no provenance: {why}")


def _draft(build: Build) -> tuple[str, bytes]:
    """The provenance without its results (JSON), and what the verdict can be seen from."""
    work, settings = build.planned, build.remote.provenance
    private = Private.of_machine(shown=settings.names)
    evidence = b""
    if settings.evidence and build.attested is not None:
        evidence = _grounds(build.attested, build.known)
    used = Used(
        version=__version__,
        engine="mock" if work.uses_mock else "chroot",
        configuration=work.configuration,
        scratch=build.remote.scratch,
        owner_signature=None,
        macros={name: private.hide(text) for name, text in _macros(work).items()},
        environment=_environment(work),
        node=_node(build),
        attestation=_attestation(build, evidence),
        packages={},
        sizes={},
        agreed=(),
    )
    inputs = tuple(
        Descriptor(private.hide(item.name), "", {"sha256": item.digest}, {"role": item.role})
        for item, _ in work.packed if item.role in _INPUTS
    )  # fmt: skip
    provenance = Provenance(
        results={},
        logs={},
        asked=Asked(
            work.mode,
            private.hide(work.line.config_name),
            tuple(map(private.hide, asked_options(work.line))),
        ),
        used=used,
        dependencies=(*inputs, *describe_repositories(work.repositories, private.hide)),
        job=build.job,
        started_unix=int(build.started_unix),
        finished_unix=_earliest_end_unix(build),
    )
    return to_json(provenance).decode(), evidence


def _earliest_end_unix(build: Build) -> int:
    """Not before it began, nor before its node was measured, whatever a clock says that is set."""
    measured_unix = build.attested.measured.taken_unix if build.attested else 0.0
    return int(max(build.started_unix, measured_unix))


def sign_results(build: Build) -> None:
    """Sign what the build left, if that is a package; what was signed before is gone then.

    The results are in place and stay so: what fails here costs a warning.
    """
    place = build.mirror.resultdir.path
    try:
        for name in (PROVENANCE_NAME, EVIDENCE_NAME):
            remove_own_file(place / name)
        names = _find_names(build, place)
        packages = [name for name in names if name.endswith(".rpm")]
        if packages:
            _note(build, place, packages)
            if build.signer is not None and build.row.draft:
                _write(build, place, names, build.signer)
    except (MockCloudError, HeaderError, OSError) as error:
        why = error.message if isinstance(error, MockCloudError) else str(error)
        build.console.warning(f"no provenance was written: {why}")


def _note(build: Build, place: Path, packages: Sequence[str]) -> None:
    """In the ledger."""
    with as_owner():
        files = noted_files(digest_files(place, list(packages)))
    builder = name_builder(build.remote, build.leased)
    now_unix = int(time.time())
    note(
        build.console,
        LedgerEvent(EventKind.BUILT, builder, now_unix, job=build.job, files=files),
    )


def _write(build: Build, place: Path, names: Sequence[str], signer: Signer) -> None:
    draft = decode_bytes(Provenance, build.row.draft)
    path = evidence_path(build.job)
    evidence = path.read_bytes() if draft.used.attestation.evidence else b""
    packages = [name for name in names if name.endswith(".rpm")]
    try:
        with as_owner():
            digests = digest_files(place, list(names))
            facts = {name: digest_package(place / name) for name in packages}
            sizes = read_sizes(place, names)
        listed = list_chroot_packages(build, place, names)
    except OSError as error:
        raise ResultError(f"cannot read the results: {error.strerror}") from error
    attested = draft.used.attestation
    attestation = replace(attested, not_proved=(*attested.not_proved, listed.not_proved))
    provenance = replace(
        draft,
        results={name: digests[name] for name in packages},
        logs={name: digest for name, digest in digests.items() if name not in facts},
        used=replace(
            draft.used,
            packages=facts,
            sizes=sizes,
            attestation=attestation,
            owner_signature=build.owner_signature,
        ),
        dependencies=(*draft.dependencies, *listed.packages),
        finished_unix=max(int(time.time()), draft.finished_unix),
    )
    if wrong := next(check_owner(provenance), None):
        raise ResultError(f"{wrong.code}: {wrong.subject}: {wrong.found}")
    envelope = sign_provenance(provenance, signer)
    if evidence:
        write_own_file(place / EVIDENCE_NAME, evidence)
    write_own_file(place / PROVENANCE_NAME, envelope)


def _node(build: Build) -> Node:
    """The node by the host key that its verdict is about: a new one is given another at once."""
    remote, leased, attested = build.remote, build.leased, build.attested
    host = find_host(remote, leased)
    return Node(
        builder=name_builder(remote, leased),
        remote=remote.name,
        provider=remote.provider,
        kind=leased.kind if remote.cloud else "",
        arch=build.toolkit.arch,
        owner="" if host is None else host.owner,
        host_key=attested.verdict.host_key if attested else leased.address.host_key.fingerprint,
    )


def _attestation(build: Build, evidence: bytes) -> Attestation:
    known, attested = build.known, build.attested
    return Attestation(
        tier=TIER,
        policy=known.policy.name,
        policy_sha256=known.policy.sha256,
        verdict=attested.verdict.sha256 if attested else build.leased.verdict.sha256,
        evidence=hashlib.sha256(evidence).hexdigest() if evidence else "",
        manifest=known.manifest.name,
        manifest_sha256=known.manifest.sha256,
        manifest_signers=tuple(sorted(known.signers)),
        package_keys=known.package_keys.certificates,
        toolkit=build.toolkit.digest,
        not_proved=find_not_proven(known.policy),
    )


def _grounds(attested: Attested, known: KnownGood) -> bytes:
    """What the verdict can be recomputed from; empty where its known-good set has no files."""
    sources = known.sources
    if sources is None:
        return b""
    measured = attested.measured
    grounds = Grounds(
        policy=policy_to_json(known.policy),
        at_unix=measured.taken_unix,
        timings_s=measured.timings_s,
        binding=attested.binding,
        evidence=measured.evidence,
        headers=measured.headers,
        manifest=sources.envelope,
        manifest_keys=sources.keys,
        manifest_threshold=sources.threshold,
        package_keys=sources.package_keys,
    )
    return write_grounds(grounds, attested.verdict)


def _find_names(build: Build, place: Path) -> list[str]:
    """Results of this build, relative to `place`: those that arrived, and logs that grew here."""
    shadow = build.mirror.shadow
    names = {str(path.relative_to(place)) for path in build.placed if path.is_relative_to(place)}
    names |= {name for name in build.mirror.live if shadow is None or not shadow.is_log(name)}
    names |= {ATTESTATION_LOG, ORDER_LOG}
    names |= {str(path.relative_to(place)) for path in (place / SCAN).rglob("*")}
    return sorted(name for name in names if (place / name).is_file())


def _macros(work: Work) -> dict[str, str]:
    if not isinstance(work.order, MockOrder):
        return work.order.macros
    return _of_mock(work.order, "macros")


def _environment(work: Work) -> dict[str, str]:
    """Language and time zone; no other variable, which might be a secret of the user's."""
    order = work.order
    found = _of_mock(order, "environment") if isinstance(order, MockOrder) else order.environment
    return {name: found[name] for name in _SHOWN_ENVIRONMENT if name in found}


def _of_mock(order: MockOrder, name: str) -> dict[str, str]:
    found = json.loads(order.config.to_json()).get(name, {})
    return {str(key): str(value) for key, value in found.items()}

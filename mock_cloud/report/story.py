# SPDX-License-Identifier: GPL-2.0-or-later
"""What a report says of one directory of results: only what was checked, and what was not."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from enum import Enum
from pathlib import Path
from typing import Final

from mock_cloud.errors import Reason
from mock_cloud.model import HostKey
from mock_cloud.provenance.files import find_result_files, read_sizes
from mock_cloud.provenance.requirements import Requirements
from mock_cloud.provenance.statement import (
    PROVENANCE_MAX,
    PROVENANCE_NAME,
    Descriptor,
    Provenance,
    ProvenanceRefused,
    open_provenance,
)
from mock_cloud.provenance.verification import verify_results
from mock_cloud.report.logs import (
    FailureLine,
    LogText,
    Phase,
    find_failures,
    has_failed,
    read_logs,
    read_phases,
)
from mock_cloud.wire.dataclass import dataclass

_PACKAGE: Final = ".rpm"
_LOG: Final = ".log"


class Outcome(Enum):
    """How much of a directory can be relied on."""

    VERIFIED = "verified"
    REFUSED = "refused"
    UNSIGNED = "unsigned"
    """There is no provenance."""
    UNCHECKED = "not checked"
    """There is one, and no key to check it with."""


@dataclass(frozen=True, slots=True)
class BuildStory:
    """One directory of results.

    `provenance` is there only if one of the keys signed it, also where the results were refused.
    `files` are sizes in bytes by name. `timings_s` are those of the recomputed verdict, empty if
    there is none.
    """

    place: Path
    outcome: Outcome
    failed: bool
    reasons: tuple[Reason, ...] = ()
    provenance: Provenance | None = None
    signers: frozenset[str] = frozenset()
    recomputed: bool = False
    timings_s: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    logs: tuple[LogText, ...] = ()
    failures: tuple[FailureLine, ...] = ()
    phases: tuple[Phase, ...] = ()

    @property
    def sources(self) -> list[Descriptor]:
        return [] if self.provenance is None else [
            one for one in self.provenance.dependencies if not one.annotations.get("installed")
        ]  # fmt: skip

    @property
    def installed(self) -> list[Descriptor]:
        return [] if self.provenance is None else [
            one for one in self.provenance.dependencies if one.annotations.get("installed")
        ]  # fmt: skip

    @property
    def owner_key(self) -> str:
        """The fingerprint of the key with which the machine's owner signed; empty if none did."""
        if self.provenance is None or self.outcome is not Outcome.VERIFIED:
            return ""
        signature = self.provenance.used.owner_signature
        return "" if signature is None else HostKey.parse(signature.key).fingerprint


def read_story(place: Path, keys: Sequence[HostKey], wanted: Requirements) -> BuildStory:
    """All that is to be said of the directory `place`; without `keys` nothing is checked.

    ProvenanceRefused for a directory with far too much in it; ConfigError where it can't be read,
    and for wrong keys.
    """
    names = find_result_files(place)
    logs = read_logs(place, [name for name in names if name.endswith(_LOG)])
    phases = read_phases(logs)
    built = any(name.endswith(_PACKAGE) for name in names)
    failed = has_failed(phases) or not built
    found = BuildStory(
        place,
        Outcome.UNSIGNED,
        failed,
        files=read_sizes(place, names),
        logs=tuple(logs),
        failures=tuple(find_failures(logs)) if failed else (),
        phases=tuple(phases),
    )
    if not (place / PROVENANCE_NAME).exists():
        return found
    if not keys:
        return replace(found, outcome=Outcome.UNCHECKED)
    try:
        verified = verify_results(place, keys, wanted, time.time())
    except ProvenanceRefused as refused:
        signed = _find_signed(place, keys, wanted)
        return replace(found, outcome=Outcome.REFUSED, reasons=refused.reasons, provenance=signed)
    recomputed = verified.recomputed
    return replace(
        found,
        outcome=Outcome.VERIFIED,
        provenance=verified.signed.provenance,
        signers=verified.signed.signers,
        recomputed=recomputed is not None,
        timings_s=recomputed.verdict.timings_s if recomputed else {},
        counts=recomputed.verdict.counts if recomputed else {},
    )


def _find_signed(place: Path, keys: Sequence[HostKey], wanted: Requirements) -> Provenance | None:
    """What one of the keys signed, though the results are refused; None if none did."""
    try:
        with (place / PROVENANCE_NAME).open("rb") as stream:
            data = stream.read(PROVENANCE_MAX + 1)
        return open_provenance(data, keys, wanted.revoked).provenance
    except (OSError, ProvenanceRefused):
        return None

# SPDX-License-Identifier: GPL-2.0-or-later
"""The controller's decision on evidence, to be kept, shown, and recomputed by someone else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field
from typing import Final

from mock_cloud.attest.manifest import json_bytes
from mock_cloud.attest.policy import TIER, Policy
from mock_cloud.errors import AttestationRefused, Reason, explaining
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.terminal_text import escape

_SCHEMA: Final = "mock-cloud/verdict/1"
REASONS_MAX: Final = 1000
NOT_PROVEN: Final = (
    "that the kernel does not lie about what was measured",
    "that the machine which answered is the one that builds (no hardware root of trust)",
    "that the disk returns later what it returned to the measurement",
    "that the hypervisor or the firmware leaves the node alone",
    "that the distribution's signed packages, its compiler among them, are benign",
)


def find_not_proven(policy: Policy) -> tuple[str, ...]:
    """What no verdict under this policy proves."""
    agents = policy.allowed_agents()
    return (*NOT_PROVEN, *(f"that {one.who} does nothing by {one.name}" for one in agents))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Trusted or refused, with the reasons. All digests in hex; times in seconds.

    `counts` says how much was looked at; `timings_s` is what the caller measured.
    `reason_count` counts all reasons, of which `reasons` has the first `REASONS_MAX`.
    """

    trusted: bool
    policy: str
    policy_sha256: str
    host_key: str
    nonce: str
    evidence_sha256: str
    manifest: str
    manifest_sha256: str
    counts: Mapping[str, int] = field(default_factory=dict)
    timings_s: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    reason_count: int = 0
    notes: tuple[str, ...] = ()
    not_proven: tuple[str, ...] = NOT_PROVEN

    @property
    def sha256(self) -> str:
        """Of the JSON form: names this verdict in provenance and in the order log."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """Canonical JSON: the same verdict is the same bytes."""
        return json_bytes(
            {
                "schema": _SCHEMA,
                "tier": TIER,
                "trusted": self.trusted,
                "policy": self.policy,
                "policy_sha256": self.policy_sha256,
                "host_key": self.host_key,
                "nonce": self.nonce,
                "evidence_sha256": self.evidence_sha256,
                "manifest": self.manifest,
                "manifest_sha256": self.manifest_sha256,
                "counts": dict(self.counts),
                "timings_s": {name: round(value, 6) for name, value in self.timings_s.items()},
                "reasons": [
                    [one.code, one.subject, one.expected, one.found] for one in self.reasons
                ],
                "reason_count": self.reason_count,
                "notes": list(self.notes),
                "not_proven": list(self.not_proven),
            }
        )

    def to_text(self) -> str:
        """For people, one fact a line, ending with a line feed; node texts are escaped."""
        lines = [
            f"verdict: {'trusted' if self.trusted else 'REFUSED'} (tier {TIER}, software-measured)",
            f"policy: {escape(self.policy)} sha256 {self.policy_sha256}",
            f"host key: {self.host_key}",
            f"nonce: {escape(self.nonce)}",
            f"evidence: sha256 {self.evidence_sha256}",
            f"manifest: {escape(self.manifest)} sha256 {self.manifest_sha256}",
            *(f"checked: {count} {name}" for name, count in self.counts.items()),
            *(f"time: {name} {value:.3f} s" for name, value in self.timings_s.items()),
            *(f"note: {escape(note)}" for note in self.notes),
            *(f"refused: {reason_text(reason)}" for reason in self.reasons),
        ]
        if self.reason_count > len(self.reasons):
            lines.append(f"refused: {self.reason_count - len(self.reasons)} more reasons")
        if self.reasons:
            lines.append(explaining(self.reasons[0]))
        lines += [f"not proven: {one}" for one in self.not_proven]
        return "\n".join(lines) + "\n"


class NodeRefused(AttestationRefused):
    """A refusal with the verdict that says so, for the log."""

    def __init__(self, verdict: Verdict) -> None:
        first = verdict.reasons[0]
        more = verdict.reason_count - 1
        self._said = reason_text(first) + (f" (and {more} more)" if more else "")
        super().__init__(
            f"the node was refused: {self._said}",
            reasons=verdict.reasons,
            hint="nothing was sent; `mock-cloud attest` shows all reasons",
        )
        self.verdict = verdict

    def sum_up(self) -> None:
        """Take the reasons out of the message: they were shown, one a line."""
        count = self.verdict.reason_count
        words = "the reason above" if count == 1 else f"{count} reasons, see above"
        self.message = self.message.replace(self._said, words)


def reason_text(reason: Reason) -> str:
    """A reason on one line, safe for a terminal."""
    words = [escape(reason.code), escape(reason.subject)]
    if reason.expected:
        words.append(f"expected {escape(reason.expected)}")
    if reason.found:
        words.append(f"found {escape(reason.found)}")
    return ": ".join((words[0], ", ".join(words[1:])))

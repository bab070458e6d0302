# SPDX-License-Identifier: GPL-2.0-or-later
"""What a verdict must have checked, and what may be absent.

A policy can ask for more; it cannot ask for less than the seven mandatory checks. A policy
that asks for nothing refuses every node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from mock_cloud.errors import Reason
from mock_cloud.wire.layout import MOCK_LIBDIR, WORKSPACE


class Check(Enum):
    """A step of the checklist in `verify`."""

    PACKAGES = "packages"
    FILES = "files"
    MOUNTS = "mounts"
    PROCESSES = "processes"
    SOCKETS = "sockets"
    KERNEL = "kernel"
    LAYERS = "layers"
    HARDENING = "hardening"
    """Lockdown, enforced module signatures, Yama. The only optional one."""


MANDATORY = frozenset(Check) - {Check.HARDENING}


class Absence(Enum):
    """Packaged files that may be missing, as dnf and rpm leave them out on request."""

    DOCUMENTATION = "documentation"
    """%doc: ``tsflags=nodocs``."""
    LICENCE = "licence"
    LANGUAGE = "language"
    """%lang(xx): ``_install_langs``."""
    MISSING_OK = "missingok"


@dataclass(frozen=True, slots=True)
class Policy:
    """`name` stands in the verdict. `may_skip`: directories whose contents may go unmeasured.

    Nothing under `may_skip` is run by the node itself before the verdict: inputs, caches and
    chroots; the toolkit is never among them.
    """

    name: str = ""
    checks: frozenset[Check] = frozenset()
    may_miss: frozenset[Absence] = frozenset()
    may_skip: tuple[str, ...] = ()

    def reasons(self) -> Iterator[Reason]:
        """Why this policy can't be used: ``policy.empty`` or ``policy.incomplete``."""
        if not self.name or not self.checks:
            yield Reason("policy.empty", self.name or "policy", "checks", "none")
            return
        for check in sorted(MANDATORY - self.checks, key=lambda one: one.value):
            yield Reason("policy.incomplete", check.value, "checked", "not checked")


_MAY_SKIP = (
    "/proc",
    "/sys",
    "/dev",
    MOCK_LIBDIR,
    "/var/cache/mock",
    f"{WORKSPACE}/blobs",
    f"{WORKSPACE}/dnf",
    f"{WORKSPACE}/jobs",
    f"{WORKSPACE}/layers",
)


def standard() -> Policy:
    """Every check that a stock image can pass; documentation and languages may be absent."""
    return Policy("standard", MANDATORY, frozenset(Absence), _MAY_SKIP)


def strict() -> Policy:
    """As `standard`, with a hardened kernel, and nothing packaged may be absent."""
    return Policy("strict", frozenset(Check), frozenset({Absence.MISSING_OK}), _MAY_SKIP)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the owner of a lent machine signs of a job's packages, before the controller takes them.

Signed are these very bytes, by `ssh-keygen -Y sign` in a namespace of its own: a signature of
anything else that the owner signs (mails, commits, other jobs) says nothing here.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Final

from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Limits, Sha256, decode_bytes, exactly, matching
from mock_cloud.wire.replies import ResultName

NAMESPACE: Final = "results@mock-cloud"
OWNER_KEY: Final = "/etc/mock-cloud/owner-key"
"""The owner's private key on the node; or its .pub alone, where an SSH agent has the key."""
OWNER_AGENT: Final = "/run/mock-cloud-owner/agent"
"""The socket of that SSH agent."""
STATEMENT_MAX: Final = 256 << 10
SIGNATURE_MAX: Final = 4 << 10

_SCHEMA: Final = "mock-cloud/owner-statement/1"
_LIMITS: Final = Limits(text=4096, items=10_000, surrogates=False)

Nonce = Annotated[str, matching(r"[0-9a-f]{64}", "a nonce")]


@dataclass(frozen=True, slots=True)
class OwnedPackage:
    """A package by sha256 (hex): of the file, of its immutable header, and of its payload."""

    sha256: Sha256
    header: Sha256
    payload: Sha256


@dataclass(frozen=True, slots=True)
class OwnerStatement:
    """The packages that `job` left, by their names, made of `sources` (sha256, sorted).

    `nonce` is the controller's, and new each time.
    """

    job: str
    nonce: Nonce
    sources: tuple[Sha256, ...]
    packages: dict[ResultName, OwnedPackage] = field(repr=False)
    schema: Annotated[str, exactly(_SCHEMA)] = _SCHEMA


def parse_owner_statement(data: bytes | str) -> OwnerStatement:
    """Malformed."""
    return decode_bytes(OwnerStatement, data, "statement", limits=_LIMITS)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The owner of a lent machine signs for a job's packages before any of them is taken."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final

from mock_cloud.errors import AttestationRefused, Reason, RemoteCommandError
from mock_cloud.provenance.owner import OWNER_CODE, OwnerSignature, open_owner_statement
from mock_cloud.provenance.statement import Provenance
from mock_cloud.provenance.verification import find_sources
from mock_cloud.steps.context import Build
from mock_cloud.steps.lease.builders import find_host
from mock_cloud.wire.decode import decode_bytes
from mock_cloud.wire.job_request import SOURCE_ROLES
from mock_cloud.wire.replies import ResultFile

OwnerCheck = Callable[[Sequence[ResultFile]], None]
_NONCE_BYTES: Final = 32


def accept(_listed: Sequence[ResultFile]) -> None:
    """Nobody has to sign."""


def signed_by_owner(build: Build) -> OwnerCheck:
    """Have the owner sign, if the remote's file has the owner's key; what checks a list of results.

    The node makes the statement, and the signature is here before the results are: nobody there
    knows then what becomes of them. AttestationRefused where there is no signature by that key, of
    this job, its sources, and a nonce of now.
    """
    host = find_host(build.remote, build.leased)
    if host is None or host.owner_key is None or not build.row.builds:
        return accept
    nonce = secrets.token_hex(_NONCE_BYTES)
    try:
        statement, signature = build.connection.lasting(
            lambda channel: channel.sign_by_owner(build.job, nonce)
        )
    except RemoteCommandError as error:
        reason = Reason("owner.missing", host.name, f"signed by {host.owner}", error.message)
        raise _refused(reason, host.name) from error
    signed = OwnerSignature(str(host.owner_key), nonce, statement, signature)
    found = open_owner_statement(signed, build.job, _sources(build))
    if isinstance(found, Reason):
        raise _refused(found, host.name)
    build.owner_signature = signed
    digests = {name: one.sha256 for name, one in found.packages.items()}

    def check(listed: Sequence[ResultFile]) -> None:
        there = {one.name: one.sha256 for one in listed if one.name.endswith(".rpm")}
        for name in sorted(there.keys() | digests.keys()):
            said, is_so = digests.get(name, "nothing"), there.get(name, "nothing")
            if said != is_so:
                raise _refused(Reason(OWNER_CODE, name, said, is_so), host.name)

    return check


def _refused(reason: Reason, host: str) -> AttestationRefused:
    return AttestationRefused(
        f"host {host}: its owner did not sign for what it built: {reason.code}: {reason.subject},"
        f" expected {reason.expected[:100]}, found {reason.found[:200]}",
        reasons=(reason,),
        hint="nothing was published; docs/volunteers.md says how owners sign",
    )


def _sources(build: Build) -> list[str]:
    if build.row.draft:
        return find_sources(decode_bytes(Provenance, build.row.draft))
    return [item.digest for item, _ in build.planned.packed if item.role in SOURCE_ROLES]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a lent machine's owner signed for packages: these, of this job, from these sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import Final

from mock_cloud.errors import Reason
from mock_cloud.model import HostKey
from mock_cloud.signed.sshsig import BadSignature, verify_sshsig
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Malformed
from mock_cloud.wire.owner_statement import (
    NAMESPACE,
    SIGNATURE_MAX,
    STATEMENT_MAX,
    OwnerStatement,
    parse_owner_statement,
)

OWNER_CODE: Final = "owner.signature"


@dataclass(frozen=True, slots=True)
class OwnerSignature:
    """An owner's statement about a job's packages (JSON), and the signature of it, armoured.

    `key` is the owner's, as a line of OpenSSH's; `nonce` is what the controller asked with.
    """

    key: str
    nonce: str
    statement: str = field(repr=False)
    signature: str = field(repr=False)


def open_owner_statement(
    signed: OwnerSignature, job: str, sources: Iterable[str]
) -> OwnerStatement | Reason:
    """What the owner signed, if it is about `job`, the nonce and `sources`; else why not."""
    if len(signed.statement) > STATEMENT_MAX or len(signed.signature) > SIGNATURE_MAX:
        return Reason(OWNER_CODE, "statement", f"at most {STATEMENT_MAX} bytes", "more")
    try:
        key = HostKey.parse(signed.key)
        verify_sshsig(signed.signature, signed.statement.encode(), key, NAMESPACE)
    except BadSignature as error:
        return Reason(OWNER_CODE, "signature", signed.key, str(error))
    except ValueError as error:
        return Reason(OWNER_CODE, "key", "an OpenSSH public key", str(error))
    try:
        found = parse_owner_statement(signed.statement)
    except Malformed as error:
        return Reason(OWNER_CODE, "statement", "an owner's statement", str(error))
    for subject, wanted, said in (
        ("job", job, found.job),
        ("nonce", signed.nonce, found.nonce),
        ("sources", " ".join(sorted(set(sources))), " ".join(found.sources)),
    ):
        if wanted != said:
            return Reason(OWNER_CODE, subject, wanted, said)
    return found


def check_owned(found: OwnerStatement, packages: Mapping[str, tuple[str, str]]) -> Iterator[Reason]:
    """What of the packages (digests of header and payload by name) is not what was signed."""
    for name in sorted(packages.keys() | found.packages.keys()):
        signed = found.packages.get(name)
        said = "nothing" if signed is None else f"{signed.header} {signed.payload}"
        is_so = " ".join(packages.get(name, ("nothing",)))
        if said != is_so:
            yield Reason(OWNER_CODE, name, said, is_so)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a verifier asks of a provenance beyond its being true: a small TOML file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Final

from mock_cloud.attest.policy import SHIPPED
from mock_cloud.errors import ConfigError, Reason
from mock_cloud.model import DAY_S, HostKey, utc_text
from mock_cloud.provenance.owner import OwnerSignature
from mock_cloud.provenance.statement import SignedProvenance, Used
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Limits, Malformed, decode, matching, within

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SIZE_MAX: Final = 1 << 20
_CLOCK_TOLERANCE_S: Final = DAY_S
_LIMITS: Final = Limits(text=4096, items=1000, surrogates=False)

PolicyName = Annotated[
    str, matching(f"{'|'.join(SHIPPED)}|[0-9a-f]{{64}}", "a policy's name, or its digest")
]
Fingerprint = Annotated[str, matching(r"SHA256:[A-Za-z0-9+/]{43}", "an SSH key's fingerprint")]


@dataclass(frozen=True, slots=True)
class Requirements:
    """Empty lists ask for nothing. `expires` are Unix times from which a key signs no more.

    `policies` are names of those that this version has, or digests: one of them must have judged
    the node. `revoked` keys never did. `max_age_days` counts from the end of the build; 0: any age.
    One of
    `manifest_signers` must have signed the node's manifest, and nobody but `package_keys`
    (fingerprints of OpenPGP certificates) its packages. `evidence`: the verdict must be
    recomputed. `resigned`: packages may have been signed since. `scratch`: builds that never count
    as a release will do. `owner_signed`: the owner of the machine must have signed it, with one of
    `owner_keys` if there are any. So many other builders as `agreed` says must have built the same.
    """

    tier: Annotated[int, within(1, 3)] = 1
    max_age_days: Annotated[float, within(0, 100_000)] = 0.0
    evidence: bool = True
    resigned: bool = False
    scratch: bool = False
    owner_signed: bool = False
    owner_keys: tuple[Fingerprint, ...] = ()
    agreed: Annotated[int, within(0, 100)] = 0
    policies: tuple[PolicyName, ...] = ()
    remotes: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    manifest_signers: tuple[Fingerprint, ...] = ()
    package_keys: tuple[str, ...] = ()
    revoked: tuple[Fingerprint, ...] = ()
    expires: dict[Fingerprint, int] | None = None

    def reasons(self, signed: SignedProvenance, now_unix: float) -> Iterator[Reason]:
        """What of it the provenance does not meet: ``provenance.…``.

        Also that it is of the future: a clock was wrong, the signer's or this one.
        """
        provenance = signed.provenance
        used = provenance.used
        node, attested = used.node, used.attestation
        finished = provenance.finished_unix
        if finished > now_unix + _CLOCK_TOLERANCE_S:
            now = utc_text(now_unix)
            yield Reason("provenance.future", "finishedOn", f"by {now}", utc_text(finished))
        if self.max_age_days and now_unix - finished > self.max_age_days * DAY_S:
            age = f"{(now_unix - finished) / DAY_S:.1f} days"
            yield Reason("provenance.age", "finishedOn", f"{self.max_age_days:g} days", age)
        if used.scratch and not self.scratch:
            yield Reason("provenance.scratch", "scratch", "a build that counts", "a scratch build")
        if attested.tier < self.tier:
            yield Reason("provenance.tier", "tier", str(self.tier), str(attested.tier))
        policies = [SHIPPED[one]().sha256 if one in SHIPPED else one for one in self.policies]
        for code, subject, wanted, found in (
            ("provenance.policy", "policySha256", policies, (attested.policy_sha256,)),
            ("provenance.remote", "remote", self.remotes, (node.remote,)),
            ("provenance.owner", "owner", self.owners, (node.owner,)),
            ("provenance.manifest-signer", "manifestSigners", self.manifest_signers,
             attested.manifest_signers),
        ):  # fmt: skip
            if wanted and not set(wanted) & set(found):
                yield Reason(code, subject, " or ".join(wanted), " ".join(found) or "none")
        yield from self._agreed_reasons(used)
        yield from self._owner_reasons(used.owner_signature)
        others = sorted(set(attested.package_keys) - set(self.package_keys))
        if self.package_keys and (others or not attested.package_keys):
            yield Reason("provenance.package-key", "packageKeys", " ".join(self.package_keys),
                         " ".join(others) or "none")  # fmt: skip
        for signer in sorted(signed.signers):
            until = (self.expires or {}).get(signer)
            if until is not None and finished >= until:
                yield Reason("provenance.expired", signer, f"before {utc_text(until)}",
                             utc_text(finished))  # fmt: skip

    def _agreed_reasons(self, used: Used) -> Iterator[Reason]:
        if len(used.agreed) < self.agreed:
            found = ", ".join(one.builder for one in used.agreed) or "none"
            yield Reason("provenance.agreed", "agreed", f"{self.agreed} other builders", found)

    def _owner_reasons(self, signature: OwnerSignature | None) -> Iterator[Reason]:
        if signature is None:
            if self.owner_signed or self.owner_keys:
                yield Reason("owner.missing", "ownerSignature", "the owner's signature", "none")
            return
        mine = _fingerprint(signature.key)
        if self.owner_keys and mine not in self.owner_keys:
            yield Reason("owner.key", "ownerSignature", " or ".join(self.owner_keys), mine)


def _fingerprint(key: str) -> str:
    try:
        return HostKey.parse(key).fingerprint
    except ValueError:
        return "no key"


def read_requirements(path: Path) -> Requirements:
    """The requirements in the file. ConfigError that names the key which is wrong.

    The keys are the fields; `expires` is a table of dates by fingerprint.
    """
    try:
        data = path.read_bytes()
        if len(data) > _SIZE_MAX:
            raise ConfigError(f"{path} is larger than {_SIZE_MAX} bytes")
        raw: dict[str, Any] = tomllib.loads(data.decode())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    default = Requirements()
    base = {one.name: getattr(default, one.name) for one in fields(default)}
    base = {name: list(value) if isinstance(value, tuple) else value
            for name, value in base.items()}  # fmt: skip
    if isinstance(raw.get("expires"), dict):
        raw["expires"] = {name: _unix(value) for name, value in raw["expires"].items()}
    try:
        return decode(Requirements, {**base, **raw}, limits=_LIMITS)
    except Malformed as error:
        known = ", ".join(base)
        raise ConfigError(f"{path}: {error}", hint=f"its keys are {known}") from error


def _unix(value: Any) -> Any:
    """The end of a day of TOML's, or a moment; anything else is left for `decode` to refuse."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return int(moment.timestamp())
    if isinstance(value, date):
        start = datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
        return int(start.timestamp()) + DAY_S
    return value

# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud verify`: whether results are what their signed provenance says."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mock_cloud import places
from mock_cloud.attest.verdict import reason_text
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_REFUSED, ConfigError
from mock_cloud.model import HostKey, utc_text
from mock_cloud.provenance.requirements import Requirements, read_requirements
from mock_cloud.provenance.statement import KEY_NAME, ProvenanceRefused
from mock_cloud.provenance.verification import Verified, verify_results
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_KEYS_MAX: Final = 1 << 20
_REASONS_SHOWN: Final = 20


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "verify",
        help="check a finished build's provenance",
        description="Check that results are what their signed provenance says: its signature, each"
        " file, the verdict on the node, which is recomputed from the evidence beside it, and what"
        " your policy asks for. Needs the directory and public keys, and nothing of the machine"
        " that built. Exit status 0 verified, 77 refused, 3 if there is nothing to verify.",
        epilog="examples: mock-cloud verify results --keys builder.pub; mock-cloud verify"
        " results/remote_provenance.json --keys builder.pub --policy release.toml --json",
    )
    parser.add_argument("path", type=Path, metavar="PATH",
                        help="a resultdir, or the provenance in it")  # fmt: skip
    parser.add_argument(
        "--keys", type=Path, action="append", metavar="FILE",
        help="public keys (OpenSSH ed25519) that may have signed; repeatable (default: your own)",
    )  # fmt: skip
    parser.add_argument("--policy", type=Path, metavar="FILE", help="what must be so; TOML")
    parser.add_argument("--scratch", action="store_true",
                        help="scratch builds will do, which never count as a release")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    keys = find_verify_keys(arguments.keys)
    wanted = Requirements() if arguments.policy is None else read_requirements(arguments.policy)
    if arguments.scratch:
        wanted = replace(wanted, scratch=True)
    try:
        verified = verify_results(arguments.path, keys, wanted, time.time())
    except ProvenanceRefused as refused:
        if arguments.json:
            print(json.dumps(_refused_json(refused), indent=2))
        else:
            _print_refused(refused, arguments.path)
        return EXIT_REFUSED
    if arguments.json:
        print(json.dumps(_to_json(verified), indent=2))
    else:
        _print(verified)
    return 0


def find_verify_keys(named: Sequence[Path] | None) -> list[HostKey]:
    """The keys in the files that --keys named, else this user's own. ConfigError."""
    return [key for path in named or (_own_key(),) for key in read_verify_keys(path)]


def read_verify_keys(path: Path) -> list[HostKey]:
    """OpenSSH public keys, one a line; blank lines and comments are passed over. ConfigError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_KEYS_MAX + 1)
        lines = [line.strip() for line in data.decode("ascii").splitlines()]
        found = [HostKey.parse(line) for line in lines if line and not line.startswith("#")]
    except OSError as error:
        raise ConfigError(f"the key {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(
            f"{path} is not a file of OpenSSH public keys: {error}",
            hint="a line is ssh-ed25519 AAAA… comment",
        ) from error
    if not found or len(data) > _KEYS_MAX:
        raise ConfigError(f"{path} has no key, or more than {_KEYS_MAX} bytes")
    return found


def find_own_key() -> Path | None:
    """The file of this user's own public key, if there is one."""
    own = places.state_home() / "mock-cloud" / f"{KEY_NAME}.pub"
    return own if own.exists() else None


def _own_key() -> Path:
    own = find_own_key()
    if own is None:
        raise ConfigError(
            "no key to verify with, and you have none of your own",
            hint="--keys names the .pub file of who signed",
        )
    return own


def _print_refused(refused: ProvenanceRefused, path: Path) -> None:
    count = len(refused.reasons)
    print(f"REFUSED: {printable(str(path))}: {count} reason{'s' if count > 1 else ''}")
    for reason in refused.reasons[:_REASONS_SHOWN]:
        print(f"  {reason_text(reason)}")
    if count > _REASONS_SHOWN:
        print(f"  and {count - _REASONS_SHOWN} more")


def _print(verified: Verified) -> None:
    found = verified.signed.provenance
    node, attested = found.used.node, found.used.attestation
    count = len(found.results)
    print(
        f"verified{' (a scratch build)' if found.used.scratch else ''}:"
        f" {count} package{'s' if count > 1 else ''}, built on an attested node"
        f" (tier {attested.tier}) at {utc_text(found.finished_unix)}"
    )
    recomputed = verified.recomputed
    owner = found.used.owner_signature
    facts = [
        *([("owner signed with", HostKey.parse(owner.key).fingerprint)] if owner else []),
        ("signed by", " ".join(sorted(verified.signed.signers))),
        ("built by", node.builder + (f", owner {node.owner}" if node.owner else "")),
        ("node", f"{node.arch} {node.kind}".strip() + f", host key {node.host_key}"),
        *(("built the same", f"{one.builder} ({one.level})") for one in found.used.agreed),
        ("manifest", f"{attested.manifest}, signed by {' '.join(attested.manifest_signers)}"),
        ("verdict", "recomputed from the evidence: the same" if recomputed else "not recomputed"),
        *(("package", f"{name} sha256 {digest}") for name, digest in found.results.items()),
        *(("not proved", text) for text in attested.not_proved),
    ]
    for name, text in facts:
        print(f"  {name}: {printable(' '.join(text.split()))}")


def _to_json(verified: Verified) -> dict[str, Any]:
    found = verified.signed.provenance
    node, attested = found.used.node, found.used.attestation
    owner = found.used.owner_signature
    return {
        "verified": True,
        "reasons": [],
        "signers": sorted(verified.signed.signers),
        "packages": found.results,
        "job": found.job,
        "finished_unix": found.finished_unix,
        "remote": node.remote,
        "owner": node.owner,
        "owner_key": HostKey.parse(owner.key).fingerprint if owner else "",
        "agreed": [one.builder for one in found.used.agreed],
        "scratch": found.used.scratch,
        "tier": attested.tier,
        "manifest_signers": list(attested.manifest_signers),
        "recomputed": verified.recomputed is not None,
        "not_proved": list(attested.not_proved),
    }


def _refused_json(refused: ProvenanceRefused) -> dict[str, Any]:
    reasons = [[one.code, one.subject, one.expected, one.found] for one in refused.reasons]
    return {"verified": False, "reasons": reasons}

# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud known-good sign`, `revoke` and `seen`: what is signed after a manifest was made."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mock_cloud.attest.envelope import add_signature
from mock_cloud.attest.revocation import Revocation, SerialRange, sign_revocation
from mock_cloud.attest.validity import (
    DEFAULT_LIFETIME_S,
    SignedManifest,
    sign_manifest,
    verify_manifest,
)
from mock_cloud.config.toml_values import Refused, duration
from mock_cloud.console import Console, print_table
from mock_cloud.errors import CommandLineError, InputError
from mock_cloud.model import DAY_S, utc_text
from mock_cloud.places import state_dir
from mock_cloud.steps.attest.known_good_sets import REVOCATION_SUFFIX, read_file, read_public_key
from mock_cloud.steps.attest.seen_manifests import SeenManifests
from mock_cloud.steps.sign.signers import next_validity, read_signer, write_whole
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_LIFETIME: Final = duration(3600.0, 3660.0 * DAY_S)


def add_sign_key(parser: argparse.ArgumentParser) -> None:
    """The option --sign-key, as each command that signs has it."""
    parser.add_argument("--sign-key", required=True, type=Path, metavar="FILE",
                        help="an OpenSSH ed25519 private key, one of the remote's manifest_keys;"
                        " a passphrase is asked for, or the SSH agent used")  # fmt: skip


def add_expires(parser: argparse.ArgumentParser) -> None:
    """The option --expires: how long a manifest is to hold, in seconds afterwards."""
    parser.add_argument("--expires", type=_lifetime, default=DEFAULT_LIFETIME_S, metavar="TIME",
                        help="how long the manifest holds, such as 30d (default 90d)")  # fmt: skip


def add_signed(actions: Verbs) -> None:
    """The parsers of sign, revoke and seen."""
    _add_sign(actions)
    _add_revoke(actions)
    seen = actions.add_parser(
        "seen",
        help="list the newest manifests that were accepted here",
        description="List the newest manifest accepted here of each image and signer: an older one"
        " is refused from then on.",
        epilog="example: mock-cloud known-good seen --json",
    )
    seen.add_argument("--json", action="store_true", help="print a JSON list")
    seen.add_argument("--reset-clock", action="store_true",
                      help="this machine's clock is right now, and was wrong before")  # fmt: skip
    seen.set_defaults(run=_seen)


def _add_sign(actions: Verbs) -> None:
    sign = actions.add_parser(
        "sign",
        help="add a signature to a manifest, or sign it anew",
        description="Add a signature to a manifest that others signed, for remotes with a"
        " manifest_threshold; or with --renew sign the same contents anew, with a new serial and"
        " expiry, in place of all earlier signatures. Look at it first: known-good show.",
        epilog="examples: mock-cloud known-good sign node.manifest --key alice.pub --sign-key bob;"
        " mock-cloud known-good sign node.manifest --renew --sign-key alice",
    )
    sign.add_argument("file", type=Path, metavar="FILE")
    add_sign_key(sign)
    sign.add_argument("--key", action="append", default=[], type=Path, metavar="FILE",
                      help="the public key of who signed it before; may be repeated")  # fmt: skip
    sign.add_argument("--renew", action="store_true", help="a new serial and expiry")
    add_expires(sign)
    sign.add_argument("--output", type=Path, metavar="FILE", help="default: the same file")
    sign.set_defaults(run=_sign)


def _add_revoke(actions: Verbs) -> None:
    revoke = actions.add_parser(
        "revoke",
        help="sign that manifests or a key are not to be trusted any more",
        description="Sign a revocation. Put it beside the manifests of a remote, or name it in"
        " [attest] revocations: a machine that read it once goes by it from then on.",
        epilog="examples: mock-cloud known-good revoke --manifest old.manifest --key alice.pub"
        " --reason CVE-2026-1 --sign-key alice --output old.revocation;"
        " mock-cloud known-good revoke --image mock-cloud-ec2 --arch x86_64 --up-to 1790000000"
        " --sign-key alice --output ec2.revocation;"
        " mock-cloud known-good revoke --revoked-key carol.pub --sign-key alice"
        " --output carol.revocation",
    )
    revoke.add_argument("--manifest", action="append", default=[], type=Path, metavar="FILE",
                        help="this manifest; may be repeated")  # fmt: skip
    revoke.add_argument("--key", action="append", default=[], type=Path, metavar="FILE",
                        help="the public key of who signed it, if not yours")  # fmt: skip
    revoke.add_argument("--image", metavar="NAME",
                        help="serials of this image, as known-good show has it")  # fmt: skip
    revoke.add_argument("--arch", metavar="ARCH", help="with --image")
    revoke.add_argument("--from", dest="first", type=int, default=0, metavar="SERIAL",
                        help="with --image: the first (default: 0)")  # fmt: skip
    revoke.add_argument("--up-to", dest="last", type=int, metavar="SERIAL",
                        help="with --image: the last")  # fmt: skip
    revoke.add_argument("--revoked-key", action="append", default=[], type=Path, metavar="FILE",
                        help="all signatures of this public key")  # fmt: skip
    revoke.add_argument("--reason", default="no reason was given", metavar="TEXT")
    add_sign_key(revoke)
    revoke.add_argument("--output", required=True, type=Path, metavar="FILE")
    revoke.set_defaults(run=_revoke)


def _lifetime(word: str) -> float:
    try:
        seconds: float = _LIFETIME(word, Path())
    except Refused as refused:
        raise argparse.ArgumentTypeError(str(refused)) from refused
    return seconds


def _sign(arguments: argparse.Namespace, console: Console) -> int:
    envelope = read_file(arguments.file, "the manifest")
    signer = read_signer(arguments.sign_key)
    keys = [*map(read_public_key, arguments.key), signer.public]
    signed = verify_manifest(envelope, keys)
    if arguments.renew:
        image, arch = signed.validity.image, signed.manifest.arch
        validity = next_validity(SeenManifests(state_dir()), signer, image, arch, arguments.expires)
        later = max(validity.serial, signed.validity.serial + 1)
        validity = dataclasses.replace(validity, serial=later)
        envelope = sign_manifest(signed.manifest, validity, signer)
    else:
        envelope = add_signature(envelope, signer)
    output = arguments.output or arguments.file
    write_whole(output, envelope)
    _tell(output, verify_manifest(envelope, keys), console)
    return 0


def _tell(output: Path, signed: SignedManifest, console: Console) -> None:
    validity = signed.validity
    console.info(
        f"{output}: {printable(validity.image)} {printable(signed.manifest.arch)}, serial"
        f" {validity.serial}, until {utc_text(validity.expires_unix)}, signed by"
        f" {', '.join(sorted(signed.signers))}"
    )


def _revoke(arguments: argparse.Namespace, console: Console) -> int:
    signer = read_signer(arguments.sign_key)
    keys = [*map(read_public_key, arguments.key), signer.public]
    ranges: tuple[SerialRange, ...] = ()
    if arguments.image is not None:
        if not (arguments.arch and arguments.last is not None):
            raise CommandLineError("--image goes with --arch and --up-to")
        ranges = (SerialRange(arguments.image, arguments.arch, arguments.first, arguments.last),)
    manifests = [
        verify_manifest(read_file(path, "the manifest"), keys).manifest.sha256
        for path in arguments.manifest
    ]
    revoked = Revocation(
        tuple(manifests),
        ranges,
        tuple(read_public_key(path).fingerprint for path in arguments.revoked_key),
        arguments.reason,
        int(time.time()),
    )
    if not (revoked.manifests or revoked.serials or revoked.keys):
        raise CommandLineError("say what: --manifest, --image or --revoked-key")
    if arguments.output.exists():
        raise InputError(f"{arguments.output} is there already", hint="--output names another file")
    write_whole(arguments.output, sign_revocation(revoked, signer))
    console.info(f"{arguments.output}: signed by {signer.public.fingerprint}")
    if arguments.output.suffix != REVOCATION_SUFFIX:
        console.info(
            f"beside manifests only *{REVOCATION_SUFFIX} is read: name it in [attest] revocations"
        )
    return 0


def _seen(arguments: argparse.Namespace, console: Console) -> int:
    memory = SeenManifests(state_dir())
    if arguments.reset_clock:
        memory.reset_clock(time.time())
    rows = memory.newest()
    if arguments.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    elif rows:
        head = ("IMAGE", "ARCH", "SERIAL", "SEEN", "SIGNER")
        cells = [
            (row.image, row.arch, str(row.serial), utc_text(row.seen_unix), row.signer)
            for row in rows
        ]
        print_table([head, *cells])
    else:
        console.info("no manifest was accepted here yet")
    return 0

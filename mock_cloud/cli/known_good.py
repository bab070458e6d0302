# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud known-good`: make, sign and show the manifest of a node's image."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.attest.envelope import verify_manifest
from mock_cloud.attest.manifest import manifest_to_json
from mock_cloud.errors import InputError
from mock_cloud.session.baking import make_signed_manifest
from mock_cloud.session.console import Console, printable
from mock_cloud.session.known_good import read_file, read_public_key

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "known-good",
        help="make and show the signed manifest of a node's image",
        description="Make and show the signed manifest of a node's image.",
        epilog="example: mock-cloud known-good show node.manifest --key image-key.pub",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = actions.add_parser(
        "make",
        help="measure an RPM tree and sign what it holds",
        description="Measure an RPM tree that was never booted, check every RPM header's"
        " signature, and sign a manifest of it.",
        epilog="example: mock-cloud known-good make --root /srv/node --package-key RPM-GPG-KEY"
        " --sign-key image-key --output node.manifest",
    )
    make.add_argument("--root", required=True, type=Path, metavar="TREE", help="the tree's root")
    make.add_argument("--package-key", required=True, action="append", type=Path, metavar="FILE",
                      help="an armoured OpenPGP certificate; may be repeated")  # fmt: skip
    make.add_argument("--sign-key", required=True, type=Path, metavar="FILE",
                      help="an OpenSSH ed25519 private key without a passphrase")  # fmt: skip
    make.add_argument("--output", required=True, type=Path, metavar="FILE")
    make.add_argument("--name", help="the image's name (default: the tree's)")
    make.set_defaults(run=_make)
    show = actions.add_parser("show", help="check a manifest's signature and print what it says")
    show.add_argument("file", type=Path, metavar="FILE")
    show.add_argument("--key", required=True, action="append", type=Path, metavar="FILE",
                      help="an OpenSSH ed25519 public key that may have signed it")  # fmt: skip
    show.add_argument("--json", action="store_true", help="print all of it as JSON")
    show.set_defaults(run=_show)


def _make(arguments: argparse.Namespace, console: Console) -> int:
    manifest, envelope = make_signed_manifest(
        arguments.root,
        [read_file(path, "the package key") for path in arguments.package_key],
        read_file(arguments.sign_key, "the signing key"),
        name=arguments.name or arguments.root.resolve().name,
    )
    try:
        arguments.output.write_bytes(envelope)
    except OSError as error:
        raise InputError(f"cannot write {arguments.output}: {error.strerror}") from error
    console.info(
        f"{arguments.output}: {len(manifest.packages)} packages, {len(manifest.entries)} files of"
        f" no package, sha256 {manifest.sha256}"
    )
    return 0


def _show(arguments: argparse.Namespace, console: Console) -> int:
    keys = [read_public_key(path) for path in arguments.key]
    manifest = verify_manifest(read_file(arguments.file, "the manifest"), keys)
    if arguments.json:
        print(json.dumps(manifest_to_json(manifest), indent=1))
        return 0
    console.info(f"{arguments.file}: the signature is good")
    print(f"name: {printable(manifest.name)}")
    print(f"arch: {printable(manifest.arch)}")
    print(f"created: {printable(manifest.created)}")
    print(f"sha256: {manifest.sha256}")
    for nevra, digest in manifest.packages:
        print(f"package: {printable(nevra)} {digest}")
    for entry in manifest.entries:
        print(f"file: {printable(entry.path)} {entry.type} {entry.mode:04o} {entry.value or ''}")
    for rule in manifest.volatile:
        print(f"may vary: {printable(rule.path)} ({rule.kind.value})")
    return 0

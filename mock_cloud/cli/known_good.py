# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud known-good`: make and show the manifest of an image or a machine."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.attest.kernel import KernelFacts
from mock_cloud.attest.manifest import ImageManifest, manifest_to_json
from mock_cloud.attest.signer_report import SignerReport
from mock_cloud.attest.validity import SignedManifest, verify_manifest
from mock_cloud.cli.known_good_signed import add_expires, add_sign_key, add_signed
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError
from mock_cloud.images.machine_manifest import MachineOrder, describe_machine
from mock_cloud.images.reports import report_path, tell_signer_report
from mock_cloud.images.tree_manifest import make_signed_manifest
from mock_cloud.model import utc_text
from mock_cloud.places import state_dir
from mock_cloud.steps.attest.known_good_sets import read_file, read_package_keys, read_public_key
from mock_cloud.steps.attest.seen_manifests import SeenManifests
from mock_cloud.steps.sign.signers import next_validity, read_signer, tell_threshold, write_whole
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "known-good",
        help="make, show, sign and revoke manifests of nodes' images",
        description="Make and show the signed manifest of a node's image, sign it once more or"
        " anew, and revoke what was signed.",
        epilog="example: mock-cloud known-good show node.manifest --key image-key.pub",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_make(actions)
    show = actions.add_parser("show", help="check a manifest's signature and print what it says")
    show.add_argument("file", type=Path, metavar="FILE")
    show.add_argument("--key", required=True, action="append", type=Path, metavar="FILE",
                      help="an OpenSSH ed25519 public key that may have signed it")  # fmt: skip
    show.add_argument("--json", action="store_true", help="print all of it as JSON")
    show.set_defaults(run=_show)
    add_signed(actions)


def _add_make(actions: Verbs) -> None:
    make = actions.add_parser(
        "make",
        help="measure a tree or a machine that runs, and sign what it holds",
        description="Measure an RPM tree that was never booted, or a machine of a remote as it"
        " runs; check every RPM header's signature, and sign a manifest of it.",
        epilog="examples: mock-cloud known-good make --root /srv/node --package-key RPM-GPG-KEY"
        " --sign-key image-key --output node.manifest; mock-cloud known-good make --remote"
        " volunteers --host alpha --sign-key image-key --output alpha.manifest",
    )
    what = make.add_mutually_exclusive_group(required=True)
    what.add_argument("--root", type=Path, metavar="TREE", help="the tree's root")
    what.add_argument("--remote", metavar="NAME", help="measure a machine of this remote")
    add_sign_key(make)
    add_expires(make)
    make.add_argument("--output", required=True, type=Path, metavar="FILE")
    make.add_argument("--name", default="", help="default: the tree's or machine's name")
    make.add_argument("--arch", default="",
                      help="of the tree (default: this machine's), or of the node")  # fmt: skip
    tree = make.add_argument_group("with --root")
    tree.add_argument("--package-key", action="append", type=Path, metavar="FILE",
                      help="an armoured OpenPGP certificate; may be repeated")  # fmt: skip
    machine = make.add_argument_group("with --remote")
    machine.add_argument("--host", metavar="HOST", help="the lent machine, [host.HOST]")
    machine.add_argument("--may-vary", action="append", metavar="PATH",
                         help="data there that may change; may be repeated")  # fmt: skip
    machine.add_argument("--accept-unverified-base", action="store_true",
                         help="vouch for what no package's signature covers, as it is")  # fmt: skip
    machine.add_argument("--configdir", metavar="DIR", type=Path, help="instead of /etc/mock")
    make.set_defaults(run=_make)


def _make(arguments: argparse.Namespace, console: Console) -> int:
    of_tree, of_machine = ("package_key",), ("host", "may_vary", "accept_unverified_base")
    for name in of_tree if arguments.remote else of_machine:
        if getattr(arguments, name):
            option, other = name.replace("_", "-"), "--root" if arguments.remote else "--remote"
            raise CommandLineError(f"--{option} goes with {other}")
    if arguments.remote:
        return _make_of_machine(arguments, console)
    if not arguments.package_key:
        raise CommandLineError("--root needs --package-key")
    signer, seen = read_signer(arguments.sign_key), SeenManifests(state_dir())
    name = arguments.name or arguments.root.resolve().name
    manifest, envelope, signer_report = make_signed_manifest(
        arguments.root,
        read_package_keys(arguments.package_key),
        signer,
        name=name,
        validity=lambda made: next_validity(seen, signer, made.name, made.arch, arguments.expires),
        adjust=lambda choices: replace(choices, arch=arguments.arch),
    )
    tell_signer_report(signer_report, report_path(arguments.output), name, console)
    write_whole(arguments.output, envelope)
    _tell(arguments.output, manifest, console)
    return 0


def _make_of_machine(arguments: argparse.Namespace, console: Console) -> int:
    order = MachineOrder(
        sign_key=arguments.sign_key,
        output=arguments.output,
        host=arguments.host or "",
        arch=arguments.arch,
        name=arguments.name,
        may_vary=tuple(arguments.may_vary or ()),
        is_accepted=arguments.accept_unverified_base,
        lifetime_s=arguments.expires,
    )
    remote = load_remote(arguments.remote, arguments.configdir)
    described = describe_machine(order, remote, console)
    _tell(described.output, described.manifest, console)
    tell_threshold(remote, console)
    console.info(f"to use it, say in {remote.source}:")
    print(f"[{described.table}]")
    print(f"manifest = {json.dumps(str(described.output.resolve()))}")
    return 0


def _tell(output: Path, manifest: ImageManifest, console: Console) -> None:
    console.info(
        f"{output}: {len(manifest.packages)} packages, {len(manifest.entries)} files of"
        f" no package, sha256 {manifest.sha256}"
    )


def _show(arguments: argparse.Namespace, console: Console) -> int:
    keys = [read_public_key(path) for path in arguments.key]
    signed = verify_manifest(read_file(arguments.file, "the manifest"), keys)
    manifest = signed.manifest
    if arguments.json:
        said = {
            "signers": sorted(signed.signers),
            "validity": dataclasses.asdict(signed.validity),
            "sha256": manifest.sha256,
        }
        print(json.dumps(said | manifest_to_json(manifest), indent=1))
        return 0
    console.info(f"{arguments.file}: the signature is good")
    _show_validity(signed)
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
    running = SignerReport(
        mounts=manifest.mounts,
        programs=manifest.programs,
        sockets=manifest.sockets,
        kernel=manifest.kernel if isinstance(manifest.kernel, KernelFacts) else None,
    )
    for line in running.unverified_lines():
        print(line)
    if isinstance(manifest.kernel, str):
        print(f"kernel: {printable(manifest.kernel)}")
    return 0


def _show_validity(signed: SignedManifest) -> None:
    validity = signed.validity
    for signer in sorted(signed.signers):
        print(f"signed by: {signer}")
    over = " (EXPIRED)" if time.time() >= validity.expires_unix else ""
    print(f"image: {printable(validity.image)}")
    print(f"serial: {validity.serial}")
    print(f"issued: {utc_text(validity.issued_unix)}")
    print(f"expires: {utc_text(validity.expires_unix)}{over}")

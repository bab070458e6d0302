# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud image`: bake, list and share images whose nodes can be attested."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.cli.known_good_signed import add_expires, add_sign_key
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console, print_table
from mock_cloud.errors import CommandLineError
from mock_cloud.images.bake_image import BUILD_NEEDS, BakeOrder, bake_image
from mock_cloud.images.candidate import Wanted
from mock_cloud.images.image_list import ImageRow, list_images, share_image
from mock_cloud.places import manifests_dir
from mock_cloud.steps.sign.signers import tell_threshold

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_HEAD = ("IMAGE", "NAME", "STATE", "ARCH", "SHARED WITH", "MANIFEST", "FILE")


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "image",
        help="bake, list and share images with signed manifests",
        description="Bake, list and share images of a cloud, each with the signed manifest that"
        " its nodes are attested by.",
        epilog="examples: mock-cloud image bake ec2 --sign-key key; mock-cloud image list ec2",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_bake(actions)
    _add_list(actions)
    _add_share(actions)


def _add_bake(actions: Verbs) -> None:
    bake = actions.add_parser(
        "bake",
        help="make an image of a node, and the manifest that belongs to it",
        description="Boot the remote's base image, attest it, upgrade it and install what builds"
        " need, measure the result, sign its manifest, make an image of it, and attest a node of"
        " that image.",
        epilog="example: mock-cloud image bake ec2 --sign-key image-key",
    )
    bake.add_argument("name", metavar="REMOTE")
    add_sign_key(bake)
    add_expires(bake)
    bake.add_argument("--arch", help="the node's architecture (default: the remote's first)")
    bake.add_argument("--package", action="append", metavar="NAME",
                      help="install this too; may be repeated")  # fmt: skip
    needs = f"dnf and its plugins, {', '.join(BUILD_NEEDS)}"
    bake.add_argument("--only-packages", action="store_true",
                      help=f"install no others ({needs})")  # fmt: skip
    bake.add_argument("--no-upgrade", dest="upgrade", action="store_false",
                      help="leave what is installed as it is")  # fmt: skip
    bake.add_argument("--repo", action="append", metavar="URL",
                      help="install from here instead of the base image's own repositories;"
                      " may be repeated")  # fmt: skip
    bake.add_argument("--releasever", default="", metavar="VERSION", help="as dnf's option")
    bake.add_argument("--image-name", default="", metavar="NAME", help="default: one with an id")
    bake.add_argument("--output", type=Path, metavar="FILE",
                      help="the manifest (default: one in the state directory)")  # fmt: skip
    bake.add_argument("--accept-unverified-base", action="store_true",
                      help="vouch for a base image without manifest as it is")  # fmt: skip
    bake.add_argument("--no-check", dest="check", action="store_false",
                      help="do not boot and attest a node of the new image")  # fmt: skip
    bake.add_argument("--image-timeout", type=float, default=1800, metavar="SECONDS",
                      help="for the cloud to make the image (default 1800)")  # fmt: skip
    _add_configdir(bake)
    bake.set_defaults(run=_bake)


def _add_list(actions: Verbs) -> None:
    listing = actions.add_parser(
        "list",
        help="the images of a remote, and which manifest belongs to which",
        description="List the images that were baked in the remote's account and those that its"
        " file names, and whether the manifest of each is here and its signature good.",
        epilog="example: mock-cloud image list ec2 --json",
    )
    listing.add_argument("name", metavar="REMOTE")
    listing.add_argument("--json", action="store_true", help="print a JSON list")
    _add_configdir(listing)
    listing.set_defaults(run=_list)


def _add_share(actions: Verbs) -> None:
    share = actions.add_parser(
        "share",
        help="let other accounts use an image, and hand its manifest over",
        description="Let other accounts boot an image, and write the manifest and the key that"
        " they attest its nodes by.",
        epilog="example: mock-cloud image share ec2 ami-0123 --with 123456789012 --export for-bob",
    )
    share.add_argument("name", metavar="REMOTE")
    share.add_argument("image", metavar="IMAGE", help="its id, as image list has it")
    share.add_argument("--with", dest="accounts", action="append", default=[], metavar="ACCOUNT",
                       help="an AWS account or OpenStack project; may be repeated")  # fmt: skip
    share.add_argument("--public", action="store_true", help="with everybody")
    share.add_argument("--export", type=Path, metavar="DIR",
                       help="write the manifest and its public key there")  # fmt: skip
    _add_configdir(share)
    share.set_defaults(run=_share)


def _add_configdir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--configdir", metavar="DIR", type=Path, help="instead of /etc/mock")


def _bake(arguments: argparse.Namespace, console: Console) -> int:
    remote = load_remote(arguments.name, arguments.configdir)
    arch = arguments.arch or remote.arches[0]
    order = BakeOrder(
        arch=arch,
        wanted=Wanted(
            tuple(arguments.package or ()),
            tuple(arguments.repo or ()),
            arguments.releasever,
            arguments.upgrade,
        ),
        sign_key=arguments.sign_key,
        output=arguments.output,
        name=arguments.image_name,
        accept_unverified_base=arguments.accept_unverified_base,
        check=arguments.check,
        image_timeout_s=arguments.image_timeout,
        lifetime_s=arguments.expires,
        for_builds=not arguments.only_packages,
    )
    console.keeps_phases = True
    baked = bake_image(order, remote, console)
    console.info(f"image {baked.handle}: {baked.manifest.name}")
    console.info(f"manifest {baked.output}: sha256 {baked.manifest.sha256}")
    console.info(f"what its signer vouches for: {baked.report}")
    tell_threshold(remote, console)
    console.info(f"to use it, say in {remote.source}:")
    print(f"[node.{arch}]")
    print(f"images = [{json.dumps(baked.handle)}]")
    print(f"manifest = {json.dumps(str(baked.output.resolve()))}")
    return 0


def _list(arguments: argparse.Namespace, console: Console) -> int:
    remote = load_remote(arguments.name, arguments.configdir)
    rows = list_images(remote, manifests_dir())
    if arguments.json:
        print(json.dumps([row.to_json() for row in rows], indent=2))
    elif rows:
        print_table([_HEAD, *(_cells(row) for row in rows)])
    else:
        console.info(f"remote {remote.name}: no images; mock-cloud image bake makes one")
    return 0


def _share(arguments: argparse.Namespace, console: Console) -> int:
    if not (arguments.accounts or arguments.public or arguments.export):
        raise CommandLineError("say whom to share it with", hint="--with ACCOUNT, --public")
    remote = load_remote(arguments.name, arguments.configdir)
    shared = share_image(
        remote,
        arguments.image,
        arguments.accounts,
        public=arguments.public,
        manifest_dir=manifests_dir(),
        export=arguments.export,
    )
    image = shared.image
    whom = "everybody" if image.is_public else " ".join(image.sharing) or "nobody"
    console.info(f"image {image.handle} is shared with {whom}")
    if shared.acceptance:
        console.info(shared.acceptance)
    for path in shared.files:
        print(path)
    return 0


def _cells(row: ImageRow) -> tuple[str, ...]:
    facts = row.to_json()
    shared = "everybody" if row.image.is_public else " ".join(row.image.sharing)
    return (
        row.image.handle,
        row.image.name or "-",
        str(facts["state"]),
        str(facts["arch"]) or "-",
        shared or "-",
        row.manifest_sha256[:12] or "-",
        str(row.path) if row.path else row.status.value,
    )

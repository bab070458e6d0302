# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud toolkit`: pack and list what is pushed to nodes to measure them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError, InputError
from mock_cloud.settings import ToolkitSettings
from mock_cloud.steps.check.chosen_engine import toolkits_dir
from mock_cloud.toolkit.machines import MACHINES, own_arch
from mock_cloud.toolkit.pack import PackedToolkit, list_packed, pack_packages, pack_toolkit

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_PACK_EXAMPLES = """\
examples:
  mock-cloud toolkit pack
      of this machine's own python, as a build does
  mock-cloud toolkit pack --arch aarch64
      of packages from wherever this machine's apt or dnf is configured for
  mock-cloud toolkit pack --arch s390x --mirror URL --suite bookworm --keyring FILE
      of packages from a Debian archive
  mock-cloud toolkit pack --arch ppc64le --repository URL --key RPM-GPG-KEY-FILE
      of packages from an RPM repository
"""


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "toolkit",
        help="pack and list what is pushed to nodes to measure them",
        description="Pack and list the toolkits: loader, python, libraries and agent.",
        epilog="examples: mock-cloud toolkit pack --arch aarch64; mock-cloud toolkit list",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = actions.add_parser(
        "pack",
        help="pack one, for another architecture too",
        description="Pack a toolkit: of this machine's own python, or of a distribution's signed"
        " packages. It is tried before it is kept. Builds do so by themselves; a [toolkit] table in"
        " a remote's file says where packages come from.",
        epilog=_PACK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    make.add_argument("--arch", choices=tuple(MACHINES), metavar="ARCH",
                      help=f"{', '.join(MACHINES)}; default: this machine's")  # fmt: skip
    make.add_argument("--mirror", default="", metavar="URL", help="a Debian archive")
    make.add_argument("--suite", default="", metavar="NAME", help="its suite, or several: A,B")
    make.add_argument("--keyring", type=Path, metavar="FILE", help="who may have signed it")
    make.add_argument("--repository", default="", metavar="URL", help="an RPM repository")
    make.add_argument("--key", type=Path, metavar="FILE", help="who may have signed its packages")
    make.add_argument("--refresh", action="store_true", help="fetch packages again in any case")
    make.add_argument(
        "--output", type=Path, metavar="FILE", help="copy the archive (.tar.gz) there"
    )
    make.add_argument("--json", action="store_true", help="print a JSON list")
    make.set_defaults(run=_pack)
    show = actions.add_parser("list", help="the toolkits in your cache")
    show.add_argument("--json", action="store_true", help="print a JSON list")
    show.set_defaults(run=_list)


def _pack(arguments: argparse.Namespace, console: Console) -> int:
    source = ToolkitSettings(
        mirror=arguments.mirror,
        suite=arguments.suite,
        keyring=arguments.keyring and arguments.keyring.absolute(),
        repository=arguments.repository,
        key=arguments.key and arguments.key.absolute(),
    )
    from_packages = arguments.arch is not None or source != ToolkitSettings()
    if arguments.refresh and not from_packages:
        raise CommandLineError("--refresh goes with --arch: without it nothing is fetched")
    console.phase("packing")
    if from_packages:
        arch = arguments.arch or own_arch()
        toolkit = pack_packages(toolkits_dir(), arch, source, refresh=arguments.refresh)
    else:
        toolkit = pack_toolkit(toolkits_dir())
    console.done()
    if arguments.output:
        try:
            shutil.copyfile(toolkit.archive, arguments.output)
        except OSError as error:
            raise InputError(f"cannot write {arguments.output}: {error.strerror}") from error
    _print([one for one in list_packed(toolkits_dir()) if one.toolkit == toolkit], arguments.json)
    return 0


def _list(arguments: argparse.Namespace, console: Console) -> int:
    found = list(list_packed(toolkits_dir()))
    if not found and not arguments.json:
        console.info("no toolkits: mock-cloud toolkit pack makes one")
    _print(found, arguments.json)
    return 0


def _print(found: Sequence[PackedToolkit], as_json: bool) -> None:
    if as_json:
        print(json.dumps([_to_json(one) for one in found], indent=1))
        return
    for one in found:
        toolkit = one.toolkit
        signers = sorted({package.signer[-16:] for package in one.packages})
        of = f"{len(one.packages)} packages signed by {', '.join(signers)}"
        print(
            f"{toolkit.digest[:16]} {toolkit.arch} python {toolkit.python_version},"
            f" {len(toolkit.files)} files, {toolkit.archive.stat().st_size >> 10:,} KiB,"
            f" packed {_utc(one.packed_at)} of {of if one.packages else 'this machine'},"
            f" {one.proof.value}"
        )


def _to_json(one: PackedToolkit) -> dict[str, object]:
    toolkit = one.toolkit
    return {
        "digest": toolkit.digest,
        "arch": toolkit.arch,
        "python": toolkit.python_version,
        "files": len(toolkit.files),
        "bytes": toolkit.archive.stat().st_size,
        "archive": str(toolkit.archive),
        "packed": _utc(one.packed_at),
        "proof": one.proof.name.lower(),
        "packages": [dataclasses.asdict(package) for package in one.packages],
    }


def _utc(unix_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))

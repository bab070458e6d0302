# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud export`: finished builds for other systems."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.cli.verify import find_verify_keys
from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError, InputError
from mock_cloud.koji.content_generator import KojiChoices, count_unknown, make_metadata
from mock_cloud.provenance.requirements import Requirements, read_requirements
from mock_cloud.provenance.verification import find_provenance, verify_results
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.rpmheader import HeaderError

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "export",
        help="write what another system needs to import a build",
        description="Write what another system needs to import a finished build.",
        epilog="example: mock-cloud export koji results --content-generator mock-cloud -o"
        " metadata.json",
    )
    systems = parser.add_subparsers(dest="system", required=True, metavar="SYSTEM")
    koji = systems.add_parser(
        "koji",
        help="a content generator's metadata.json",
        description="Verify a directory of results and write the metadata with which `koji"
        " import-cg` imports it: the build, the packages of its chroot, each file by its digest,"
        " the provenance among them. Exit status 0, or 77 if the results are refused.",
        epilog="example: mock-cloud export koji results --content-generator mock-cloud -o"
        " metadata.json",
    )
    koji.add_argument("place", type=Path, metavar="DIR", help="a resultdir")
    koji.add_argument("--content-generator", required=True, metavar="NAME",
                      help="what the hub calls it")  # fmt: skip
    koji.add_argument("--output", "-o", type=Path, required=True, metavar="FILE",
                      help="where the metadata goes")  # fmt: skip
    koji.add_argument("--source", default="", metavar="URL", help="where the sources are from")
    koji.add_argument("--owner", default="", metavar="USER", help="a user of Koji's")
    koji.add_argument("--task-id", type=int, metavar="ID", help="the task of Koji's that built it")
    koji.add_argument("--keys", type=Path, action="append", metavar="FILE",
                      help="public keys that may have signed (default: your own)")  # fmt: skip
    koji.add_argument("--policy", type=Path, metavar="FILE",
                      help="what must be so, as for verify; TOML")  # fmt: skip
    koji.set_defaults(run=_export_koji)


def _export_koji(arguments: argparse.Namespace, console: Console) -> int:
    output: Path = arguments.output
    _, place = find_provenance(arguments.place)
    if output.absolute().parent.is_relative_to(place.absolute()):
        raise CommandLineError(
            f"{output} is in {place}, and verify would refuse a file that the build did not leave"
        )
    keys = find_verify_keys(arguments.keys)
    wanted = Requirements() if arguments.policy is None else read_requirements(arguments.policy)
    provenance = verify_results(arguments.place, keys, wanted, time.time()).signed.provenance
    choices = KojiChoices(
        arguments.content_generator, arguments.source, arguments.owner, arguments.task_id
    )
    try:
        found = make_metadata(place, provenance, choices)
        replace_file(output, json.dumps(found, indent=2).encode())
    except HeaderError as error:
        raise InputError(f"{place}: {error}") from error
    except OSError as error:
        raise InputError(f"cannot read {place}, or write {output}: {error.strerror}") from error
    unknown = count_unknown(provenance)
    if unknown:
        console.warning(f"{unknown} packages of the build chroot are left out: the node listed"
                        " their names only")  # fmt: skip
    build, (buildroot,) = found["build"], found["buildroots"]
    print(f"{output}: {build['name']}-{build['version']}-{build['release']},"
          f" {len(found['output'])} files, {len(buildroot['components'])} components")  # fmt: skip
    return 0

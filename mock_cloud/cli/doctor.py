# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud doctor`: what is missing, and how to mend it. Changes nothing, leases nothing."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.cloud.provider import Finding, look
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_CONFIG
from mock_cloud.launcher.status import describe_by_name, describe_by_path
from mock_cloud.places import MOCK_CONFIG_DIR
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from mock_cloud.cloud.apis.calls import looking
from mock_cloud.cloud.listing import list_rows
from mock_cloud.cloud.owner import local_owner
from mock_cloud.cloud.providers import find_provider
from mock_cloud.config.paths import describe_default_results
from mock_cloud.config.remotes import list_remotes, load_remote
from mock_cloud.errors import ConfigError, MockCloudError
from mock_cloud.model import Toolkit
from mock_cloud.places import find_shipped, state_dir
from mock_cloud.rpm_bindings import takes_a_key
from mock_cloud.settings import Remote, ToolkitSettings
from mock_cloud.steps.attest.known_good_sets import KnownGoods, expiry_text
from mock_cloud.steps.check.chosen_engine import toolkits_dir
from mock_cloud.toolkit.machines import own_arch
from mock_cloud.toolkit.pack import pack_toolkit, toolkit_for


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "doctor",
        help="say what is missing, and how to mend it",
        description="Say what is missing on this machine, or for a remote, and how to mend it."
        " Exit status 0 when nothing is missing, else 3.",
        epilog="examples: mock-cloud doctor; mock-cloud doctor local --json",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a remote")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--configdir", metavar="DIR", type=Path, help="instead of /etc/mock")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    findings = examine_machine(arguments.configdir)
    etc = arguments.configdir or MOCK_CONFIG_DIR
    findings += [
        look("mock by name", lambda: describe_by_name(os.environ)),
        look("mock by path", lambda: describe_by_path(etc)),
    ]
    if arguments.name is not None:
        findings += examine_remote_file(arguments.name, arguments.configdir)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(one) for one in findings], indent=2))
    else:
        print_findings(findings)
    return 0 if all(one.ok for one in findings) else EXIT_CONFIG


def print_findings(findings: Iterable[Finding]) -> None:
    """One line each, and a second that says how to mend it."""
    for one in findings:
        print(f"{'ok     ' if one.ok else 'MISSING'}  {one.what}: {printable(one.found)}")
        if one.mend:
            print(f"         {printable(one.mend)}")


_LOOK_S: Final = 10.0
"""For each call to a cloud: a user who asks what is missing does not want to wait for an outage."""


def examine_machine(configdir: Path | None) -> list[Finding]:
    """What every remote build needs on this machine."""
    return [
        look("python", _python),
        look("state directory", _state),
        look("results", describe_default_results),
        look("toolkit", _toolkit),
        look("chroot configurations", lambda: _chroots(configdir or MOCK_CONFIG_DIR)),
        look("remotes", lambda: _remotes(configdir)),
    ]


def examine_remote_file(name: str, configdir: Path | None) -> list[Finding]:
    """Whether the remote `name` can be read, and then what it needs besides."""
    remotes: list[Remote] = []

    def read() -> str:
        remotes.append(load_remote(name, configdir))
        return f"{remotes[0].source}: provider {remotes[0].provider}, {' '.join(remotes[0].arches)}"

    findings = [look(f"remote {name}", read)]
    return findings + [finding for remote in remotes for finding in examine_remote(remote)]


def examine_remote(remote: Remote) -> list[Finding]:
    """What builds on `remote` need: keys and manifests, toolkits, and what its provider says."""
    findings = []
    for arch in remote.arches:
        findings.append(_known_good(remote, arch))
        if arch != own_arch() or remote.toolkit != ToolkitSettings():
            findings.append(look(f"toolkit for {arch}", _foreign(remote, arch)))
    try:
        provider = find_provider(remote.provider, state_dir(), remote)
    except MockCloudError as error:
        return [*findings, Finding("provider", False, error.message, error.hint or "")]
    with looking(_LOOK_S):
        return [*findings, *provider.examine()]


def _state() -> str:
    local_owner(state_dir())  # without its word nothing can be leased or given back
    return f"{state_dir()}, {len(list_rows(state_dir()))} nodes"


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _toolkit() -> str:
    packed = pack_toolkit(toolkits_dir())
    return _described(packed)


def _described(packed: Toolkit) -> str:
    size = packed.archive.stat().st_size >> 10
    return f"{len(packed.files)} files, {size:,} KiB, {packed.arch}, sha256 {packed.digest[:16]}"


def _foreign(remote: Remote, arch: str) -> Callable[[], str]:
    return lambda: _described(toolkit_for(toolkits_dir(), arch, remote.toolkit))


def _chroots(directory: Path) -> str:
    count = len(list(directory.glob("*.cfg")))
    if not count:
        raise ConfigError(
            f"no chroot configurations in {directory}",
            hint="install mock-core-configs, or name a directory with --configdir",
        )
    return f"{count} files in {directory}"


def _remotes(configdir: Path | None) -> str:
    names = [remote.name for remote in list_remotes(configdir)]
    if not names:
        hint = "mock-cloud setup NAME writes one, see mock-cloud-remotes(5)"
        examples = find_shipped("etc/mock/remotes.d", "remotes.d")
        raise ConfigError("none", hint=f"{hint}; examples: {examples}" if examples else hint)
    return " ".join(names)


def _known_good(remote: Remote, arch: str) -> Finding:
    """The manifests that nodes of this architecture are attested by; remembers nothing."""
    what = f"known-good set for {arch}"
    try:
        known = KnownGoods(remote, arch, remember=False)
    except MockCloudError as error:
        return Finding(what, False, error.message, error.hint or "")
    now_unix = time.time()
    found = "; ".join(
        f"{one.manifest.name}: {len(one.manifest.packages)} packages, made"
        f" {one.manifest.created}, {expiry_text(one, now_unix)}"
        for one in known.signed.values()
    )
    return Finding(what, True, found, "; ".join((*known.warnings, *_not_taken(remote))))


def _not_taken(remote: Remote) -> Iterator[str]:
    """Files of package keys with which this machine's rpm, if it has one, would verify nothing."""
    for path in remote.attest.package_keys:
        if takes_a_key(path.read_bytes()) is False:
            yield f"this machine's rpm takes no key of {path}, so dnf may not on a node"

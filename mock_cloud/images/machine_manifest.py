# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of a manifest for a machine that runs: a lent one, or a node of any remote.

Nobody has signed for such a machine as a whole. Packages' signatures are checked, what can never
be right is refused, and all else is shown to the signer, who has to accept it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.signer_report import SignerReport
from mock_cloud.attest.validity import DEFAULT_LIFETIME_S, sign_manifest
from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.console import Console
from mock_cloud.errors import AttestationRefused, CommandLineError, InputError, Reason
from mock_cloud.images.bake_image import check_signer, refusals_shown
from mock_cloud.images.candidate import ImageCandidate
from mock_cloud.images.reports import report_path, tell_signer_report
from mock_cloud.settings import Remote
from mock_cloud.steps.attest.known_good_sets import KnownGood, read_package_keys
from mock_cloud.steps.attest.seen_manifests import SeenManifests
from mock_cloud.steps.attest.verdicts import attest
from mock_cloud.steps.context import NodeUse
from mock_cloud.steps.lease.node import begin_use, leased_node, node_arch, reached
from mock_cloud.steps.sign.signers import next_validity, read_signer, write_whole
from mock_cloud.wire.dataclass import dataclass

_CHROOT: Final = "(known-good)"
_PURPOSE: Final = " known-good"


@dataclass(frozen=True, slots=True)
class MachineOrder:
    """Which machine is described, and where its manifest goes; a report goes beside it.

    `host` is a lent machine's name; `arch` chooses among a remote's nodes (default: its first).
    `sign_key` is a file as `signing.read_signer` takes it. `may_vary` are paths of data.
    """

    sign_key: Path
    output: Path
    host: str = ""
    arch: str = ""
    name: str = ""
    may_vary: tuple[str, ...] = ()
    is_accepted: bool = False
    lifetime_s: float = DEFAULT_LIFETIME_S


@dataclass(frozen=True, slots=True)
class _Described:
    """A signed manifest that was written; `table` of the remote's file is to name it."""

    manifest: ImageManifest
    output: Path
    table: str


def describe_machine(order: MachineOrder, remote: Remote, console: Console) -> _Described:
    """Make and sign the manifest of a machine of `remote` that runs.

    1. Check what can be checked here. 2. Lease the machine, measure it, and refuse what nobody may
    vouch for. 3. Write the report; go on only if what is in it was accepted. 4. Lease it again, or
    another node like it, and attest that by the manifest, as each build will. 5. Sign and write.

    Raises MockCloudError; AttestationRefused, after its reasons were shown.
    """
    # 1
    remote, arch = _narrowed(remote, order)
    signer = read_signer(order.sign_key)
    check_signer(remote, order.sign_key, signer)
    if not os.access(order.output.parent, os.W_OK):
        raise InputError(f"{order.output.parent} is not a writable directory")
    keys = read_package_keys(remote.attest.package_keys)
    use = begin_use(remote, arch, console)
    name = order.name or order.host or (remote.hosts or (remote,))[0].name
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with refusals_shown(console):
        # 2
        with _node(use):
            candidate = ImageCandidate(use, keys, name, created)
            manifest, signer_report = candidate.adopt_machine(order.may_vary)
        # 3
        report = report_path(order.output)
        tell_signer_report(signer_report, report, name, console)
        _check_accepted(signer_report, order, report, name)
        # 4
        use.known = KnownGood.just_made(manifest, keys, remote)
        _check_holds(use)
    # 5
    seen = SeenManifests(use.archive.state_dir)
    validity = next_validity(seen, signer, name, manifest.arch, order.lifetime_s)
    write_whole(order.output, sign_manifest(manifest, validity, signer))
    hosts, has_nodes = remote.hosts, arch in remote.nodes
    table = f"host.{hosts[0].name}" if hosts else f"node.{arch}" if has_nodes else "attest"
    return _Described(manifest, order.output, table)


def _narrowed(remote: Remote, order: MachineOrder) -> tuple[Remote, str]:
    """The remote with the one machine that is meant, if its machines are lent; which arch."""
    if not remote.hosts:
        if order.host:
            raise CommandLineError(f"remote {remote.name} has no hosts", hint="leave out --host")
        return remote, node_arch(remote, order.arch)
    hosts = [
        host for host in remote.hosts
        if order.host in ("", host.name) and order.arch in ("", host.arch)
    ]  # fmt: skip
    if len(hosts) != 1:
        names = ", ".join(host.name for host in remote.hosts)
        raise CommandLineError(
            f"remote {remote.name}: {'say which host' if hosts else 'no such host'}: {names}",
            hint="each machine has a manifest of its own: --host NAME",
        )
    arch = hosts[0].arch
    return replace(remote, hosts=tuple(hosts), arches=(arch,)), arch


@contextmanager
def _node(use: NodeUse) -> Iterator[None]:
    """A node that no build uses, connected to; given back at the block's end."""
    request = LeaseRequest(_CHROOT)
    with leased_node(use, request, purpose=_PURPOSE) as leased, reached(use) as use.node:
        try:
            yield
        finally:
            use.node.close()
            leased.destroy()


def _check_accepted(
    signer_report: SignerReport, order: MachineOrder, report: Path, name: str
) -> None:
    count = sum(1 for _ in signer_report.unverified_lines())
    if count and not order.is_accepted:
        raise AttestationRefused(
            f"{name}: {count} files, processes and mounts of it are covered by no package's"
            " signature",
            reasons=(Reason("base.unverified", name, "a manifest", "none"),),
            hint=f"read {report}, then go on with --accept-unverified-base",
        )


def _check_holds(use: NodeUse) -> None:
    """A second lease is trusted by the manifest. NodeRefused says what changed."""
    try:
        with _node(use):
            attest(use)
    except NodeRefused as refused:
        refused.message = (
            f"{use.known.manifest.name}: it is not the same a moment later: {refused.message}"
        )
        refused.hint = (
            "nothing was signed: end what changes it, or name data with --may-vary; an image for"
            " many nodes is mock-cloud image bake's"
        )
        raise
    finally:
        use.console.done()

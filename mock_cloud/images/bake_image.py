# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of a bake: a node of a base image becomes an image with a signed manifest.

The key that signs never leaves this machine. What its owner vouches for beyond the packages'
own signatures is listed in a report beside the manifest.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from mock_cloud.attest.check_packages import split_nevra
from mock_cloud.attest.envelope import Signer
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.signer_report import SignerReport
from mock_cloud.attest.validity import DEFAULT_LIFETIME_S, sign_manifest
from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.cloud.images import (
    TAG_ARCH,
    TAG_BAKE,
    TAG_BASE,
    TAG_CREATED,
    TAG_MANIFEST,
    TAG_OWNER,
    ImageStore,
    find_image_store,
    wait_until_available,
)
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.console import Console
from mock_cloud.errors import AttestationRefused, ConfigError, InputError, MockCloudError
from mock_cloud.images.candidate import ImageCandidate, Wanted
from mock_cloud.images.image_list import MANIFEST_SUFFIX
from mock_cloud.images.reports import report_path, write_report
from mock_cloud.images.unfinished import Bake, remove_abandoned, under_way
from mock_cloud.model import TrustedNode
from mock_cloud.places import manifests_dir, state_dir
from mock_cloud.remote.trusted import TrustedChannel, trust
from mock_cloud.settings import Remote
from mock_cloud.steps.attest.hardening import hardened, plan_hardening
from mock_cloud.steps.attest.known_good_sets import (
    KnownGood,
    ManifestReader,
    manifest_path,
    read_manifest_keys,
    read_package_keys,
)
from mock_cloud.steps.attest.seen_manifests import SeenManifests
from mock_cloud.steps.attest.verdicts import attest, show_reasons
from mock_cloud.steps.context import NodeUse
from mock_cloud.steps.lease.node import begin_use, leased_node, reached, rebooted
from mock_cloud.steps.sign.signers import next_validity, read_signer, write_whole
from mock_cloud.wire.dataclass import dataclass

BUILD_NEEDS: Final = ("createrepo_c", "gzip", "python3-rpm", "rpm", "tar", "util-linux", "zstd")
"""What the engines need on a node, by the names that RPM distributions have for it, and
`_BUILDDEP`."""
_BUILDDEP: Final = {"dnf5": ("dnf5", "dnf5-plugins"), "": ("dnf", "dnf-plugins-core")}
"""Who installs packages, with ``builddep``, which mock calls: by a package that tells."""

_CHROOT: Final = "(image)"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,127}")
"""What EC2 takes (CreateImage, Name) and a file may be called."""


@dataclass(frozen=True, slots=True)
class BakeOrder:
    """What is to be baked. The manifest goes to `output`, the report beside it.

    Without an `output` that is `name` in the state directory, without a `name` it gets one.
    `sign_key` is a file as `signing.read_signer` takes it. Without a manifest of the base image
    nothing is baked unless `accept_unverified_base`. `check`: a node of the image is booted and
    attested before anything is said to be done. `for_builds`: what the engines need is installed,
    besides what is `wanted`.
    """

    arch: str
    wanted: Wanted
    sign_key: Path
    output: Path | None = None
    name: str = ""
    accept_unverified_base: bool = False
    check: bool = True
    lifetime_s: float = DEFAULT_LIFETIME_S
    image_timeout_s: float = 1800.0
    for_builds: bool = True


@dataclass(frozen=True, slots=True)
class Baked:
    """A finished image. `report` lists what the manifest's signer vouches for."""

    handle: str
    manifest: ImageManifest
    output: Path
    report: Path


def bake_image(order: BakeOrder, remote: Remote, console: Console) -> Baked:
    """Bake one image on `remote`. Nothing is left in the cloud if it fails.

    1. Check what can be checked here. 2. Lease a node of the base image. 3. Attest it. 4. Have
    it upgrade and install packages; if what was there has changed, reboot it and attest it anew.
    5. Take out what is its own, measure it, make and sign the manifest. 6. Have the cloud make the
    image, and give the node back. 7. Boot a node of the image and attest it. 8. Only then write the
    manifest and call the image finished.

    Raises MockCloudError; NodeRefused and AttestationRefused with the reasons.
    """
    # 1
    store = find_image_store(remote)
    signer = read_signer(order.sign_key)
    check_signer(remote, order.sign_key, signer)
    _check_names(order)
    remote = _with_one_image(remote, order.arch)
    base = _read_base(remote, order)
    keys = read_package_keys(remote.attest.package_keys)
    use = begin_use(remote, order.arch, console)
    seen = SeenManifests(use.archive.state_dir)
    for removed in remove_abandoned(use.archive.state_dir, store):
        removed.tell(console)
    with under_way(use.archive.state_dir, store, console) as bake:
        name = order.name or f"mock-cloud-{remote.name}-{order.arch}-{bake.id}"
        output = order.output or manifests_dir() / f"{name}{MANIFEST_SUFFIX}"
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # 2
        with _helper(use), ExitStack() as connections:
            use.node = connections.enter_context(reached(use))
            candidate = ImageCandidate(use, keys, name, created)
            with refusals_shown(console):
                # 3
                if base is None:
                    accepted = order.accept_unverified_base
                    read = manifests_dir() / f"{image_name(remote)}-{order.arch}-base.report"
                    base, proof, unsigned = candidate.adopt_base(read, is_accepted=accepted)
                else:
                    proof, unsigned = candidate.attest_base(base), None
                channel = connections.enter_context(_trusted(use, proof))
                # 4
                needs = build_needs(base) if order.for_builds else ()
                packages = (*needs, *order.wanted.packages)
                if candidate.install(channel, replace(order.wanted, packages=packages)):
                    channel.reboot()
                    use.node = connections.enter_context(rebooted(use))
                    proof = candidate.attest_rebooted(base)
                    channel = connections.enter_context(_trusted(use, proof))
                # 5
                manifest, signer_report = candidate.measure_image(channel, base)
                if unsigned is not None:
                    signer_report = unsigned.with_later(signer_report, manifest)
                validity = next_validity(
                    seen, signer, image_name(remote), manifest.arch, order.lifetime_s
                )
                envelope = sign_manifest(manifest, validity, signer)
                channel.seal()
                # 6
                bake.image = _make_image(use, store, bake, manifest, order)
        # 7
        if order.check:
            of_image = _with_image(remote, order.arch, bake.image, output)
            use.remote, use.known = of_image, KnownGood.just_made(manifest, keys, remote)
            _check_image(use)
        # 8
        report = _write(output, envelope, signer_report)
        try:
            store.tag(bake.image, {}, remove=(TAG_BAKE,))
        except MockCloudError:
            output.unlink()  # the image goes, too
            raise
    return Baked(bake.image, manifest, output, report)


def build_needs(base: ImageManifest) -> tuple[str, ...]:
    """The packages that both engines need on a node of the image `base`."""
    installed = {split_nevra(nevra)[0] for nevra, _ in base.packages}
    return (*BUILD_NEEDS, *_BUILDDEP["dnf5" if "dnf5" in installed else ""])


def image_name(remote: Remote) -> str:
    """The name that the serials of the remote's baked images count for, each architecture its own.

    Each image has a name of its own besides, which is its manifest's.
    """
    return f"mock-cloud-{remote.name}"


def check_signer(remote: Remote, path: Path, signer: Signer) -> None:
    """ConfigError unless `remote` trusts what `signer`, which is in `path`, signs."""
    if signer.public not in read_manifest_keys(remote):
        listed = ", ".join(str(one) for one in remote.attest.manifest_keys) or "none"
        raise ConfigError(
            f"the public half of {path} is not among [attest] manifest_keys of {remote.source}:"
            f" {listed}",
            hint="this remote would refuse what it signs: add the .pub file there",
        )


def _with_one_image(remote: Remote, arch: str) -> Remote:
    """The remote with its best image only: the manifest is to say what it was made from."""
    node = remote.nodes.get(arch)
    if node is None:
        raise ConfigError(f"{remote.source}: there is no table [node.{arch}]")
    return replace(remote, nodes={**remote.nodes, arch: replace(node, images=node.images[:1])})


def _check_names(order: BakeOrder) -> None:
    if order.name and not _NAME.fullmatch(order.name):
        raise InputError(
            f"{order.name!r} is not a valid name for an image",
            hint="3 to 128 letters, digits, dots, dashes and underscores",
        )
    output = order.output
    if output is not None and output.exists():
        raise InputError(f"{output} is there already", hint="--output names another file")
    if output is not None and not os.access(output.parent, os.W_OK):
        raise InputError(f"{output.parent} is not a writable directory")


def _read_base(remote: Remote, order: BakeOrder) -> ImageManifest | None:
    """What describes the base image; None if the remote's file names nothing."""
    path = manifest_path(remote, order.arch)
    return None if path is None else ManifestReader(remote, state_dir()).read(path).manifest


@contextmanager
def _helper(use: NodeUse) -> Iterator[LeasedNode]:
    """A new node of the base image, which ends with the block."""
    with leased_node(use, LeaseRequest(_CHROOT), purpose=" image") as leased:
        try:
            yield leased
        finally:
            leased.destroy()


@contextmanager
def _trusted(use: NodeUse, proof: TrustedNode) -> Iterator[TrustedChannel]:
    """The channel to the node, which ends by itself and keeps its metadata from here on."""
    with closing(trust(use.node, proof)) as channel:
        hardening = plan_hardening(use.remote.provider, use.leased)
        with hardened(channel, use.leased, hardening, use.console):
            pass
        yield channel


@contextmanager
def refusals_shown(console: Console) -> Iterator[None]:
    """Shows the reasons of a refusal in the block, one a line, unless its message has them all."""
    try:
        yield
    except AttestationRefused as refused:
        if isinstance(refused, NodeRefused) or len(refused.reasons) > 1:
            show_reasons(refused, console)
        raise


def _make_image(
    use: NodeUse, store: ImageStore, bake: Bake, manifest: ImageManifest, order: BakeOrder
) -> str:
    """The handle of the image, which can be used by now and is not finished yet."""

    def tell(phase: str) -> None:
        use.console.phase(f"remote {use.remote.name}: {phase}")

    tell(f"{store.service} makes the image {manifest.name}")
    tags = {
        TAG_BAKE: bake.id,
        TAG_OWNER: Journal(use.archive.state_dir).owner,
        TAG_MANIFEST: manifest.sha256,
        TAG_BASE: use.remote.nodes[order.arch].images[0],
        TAG_ARCH: order.arch,
        TAG_CREATED: manifest.created,
    }
    handle = store.create(use.leased.handle, manifest.name, tags)
    wait_until_available(store, handle, timeout_s=order.image_timeout_s, on_phase=tell)
    store.tag(handle, tags)  # what is behind the image, too
    return handle


def _check_image(use: NodeUse) -> None:
    """Boot a node of the image and attest it, as anybody who builds on it will. NodeRefused."""
    with refusals_shown(use.console), _helper(use), reached(use) as use.node:
        attested = attest(use)
    counts = attested.verdict.counts
    use.console.done()
    use.console.info(
        f"remote {use.remote.name}: a node of the image is trusted by the new manifest:"
        f" {counts['files']:,} files, {counts['packages']} packages"
    )


def _with_image(remote: Remote, arch: str, image: str, manifest: Path) -> Remote:
    """The remote as it is once its file names this image and manifest for `arch`."""
    node = replace(remote.nodes[arch], images=(image,), manifest=manifest)
    return replace(remote, nodes={**remote.nodes, arch: node})


def _write(output: Path, envelope: bytes, signer_report: SignerReport) -> Path:
    report = report_path(output)
    write_whole(output, envelope)
    write_report(signer_report, report)
    return report

# SPDX-License-Identifier: GPL-2.0-or-later
"""The clouds' stock image: tree, disk image of it, and its signed manifest."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from mock_cloud.attest.envelope import Signer
from mock_cloud.attest.image_manifest import BakeChoices
from mock_cloud.attest.rules.expectations import Invocation, MountRule, ProgramRule
from mock_cloud.attest.rules.volatile import cloud_init_rules
from mock_cloud.images.tree_manifest import make_signed_manifest
from mock_cloud.process import run
from mock_cloud.steps.attest.attesting import own_kernel
from tests.lab import manifest, node, seeds
from tests.lab.bootable import disk as bootable_disk
from tests.lab.clouds.machine import DMI_DIRECTORY
from tests.lab.layout import Lab, code_digest, stamp_matches

DISK_GIB = 8
INIT_COMMAND = ("/usr/bin/python3", "-IS", "/sbin/init")


@dataclass(frozen=True, slots=True)
class StockImage:
    """Where the image lies. `disk` is a sparse ext4 image; nodes boot copies."""

    root: Path

    @property
    def tree(self) -> Path:
        return self.root / "tree"

    @property
    def disk(self) -> Path:
        return self.root / "disk.img"


def build(lab: Lab) -> StockImage:
    """Make the image unless it is there for the same distribution."""
    image = StockImage(lab.root / "cloud")
    makers = ("bootable/boot", "bootable/disk", "bootable/settle") if lab.has_systemd else ()
    key = (lab.dist / "key").read_text() + code_digest(("node", "clouds/images", *makers))
    if stamp_matches(image.root / "key", key):
        return image
    shutil.rmtree(image.root, ignore_errors=True)
    image.root.mkdir(parents=True)
    if lab.has_systemd:
        bootable_disk.make_disk(lab, lab.tree, image.disk)
    else:
        node.make_tree(lab, image.tree, seeds.CLOUD_NODE)
        make_disk(image.tree, image.disk)
    (image.root / "key").write_text(key)
    return image


def make_disk(tree: Path, disk: Path) -> None:
    """A sparse ext4 file system that holds `tree` and nothing else."""
    with disk.open("wb") as stream:
        stream.truncate(DISK_GIB << 30)
    # No journal and lazy tables: the file system lives as long as a node.
    argv = ["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-d", str(tree)]
    run([*argv, "-E", "lazy_itable_init=1,nodiscard", str(disk)], timeout_s=300)
    run(["debugfs", "-w", "-R", "rmdir lost+found", str(disk)], timeout_s=60)


def copy_disk(source: Path, target: Path) -> None:
    """A node's own copy: holes stay holes, and blocks are shared where the host can."""
    argv = ["cp", "--sparse=always", "--reflink=auto", str(source), str(target)]
    run(argv, timeout_s=120)


def write_manifest(lab: Lab, image: StockImage, path: Path) -> None:
    """The manifest of the image on this machine's kernel as it is now, signed by the lab's key."""
    _, envelope, _ = make_signed_manifest(
        image.tree,
        [lab.package_key.read_bytes()],
        Signer.from_private(manifest.signing_key(lab)),
        name="lab-cloud-1",
        validity=manifest.validity,
        adjust=lambda choices: _add_cloud(choices, image.tree),
    )
    path.write_bytes(envelope)


def _add_cloud(choices: BakeChoices, tree: Path) -> BakeChoices:
    python = f"/usr/bin/{(tree / 'usr/bin/python3').readlink().name}"
    init = ProgramRule(python, Invocation.EXACT, INIT_COMMAND)
    return replace(
        choices,
        volatile=(*choices.volatile, *cloud_init_rules()),
        programs=(*choices.programs, init),
        mounts=(*choices.mounts, MountRule(DMI_DIRECTORY, ("tmpfs",), ("ro",))),
        kernel=own_kernel(),
    )

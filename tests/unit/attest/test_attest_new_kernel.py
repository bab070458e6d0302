# SPDX-License-Identifier: GPL-2.0-or-later
"""A node whose kernel was upgraded and started, and root that a package's script left there."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.attest.kernel import parse_kernel
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.policy import standard
from mock_cloud.attest.running_manifest import LiveNode, make_live_manifest
from mock_cloud.attest.signer_report import SignerReport
from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.attest.verify import verify
from mock_cloud.signed.keys import PackageKeys
from tests.unit.attest.attest_builder import (
    ACCOUNTS,
    DATA,
    INJECTED,
    KERNEL,
    Node,
    binding,
    manifest,
    toolkit,
)
from tests.unit.signed.package_maker import KEY, File, package

BOOT = "BOOT_IMAGE=(hd0,gpt2)/boot/vmlinuz-{} root=/dev/vda1 ro lockdown=integrity"
OLD, NEW = "6.1.0", "6.2.0"
MODULE = File(f"/lib/modules/{NEW}/kernel/drivers/block/virtio-blk.ko.xz", "code")


@cache
def keys() -> PackageKeys:
    return PackageKeys.parse([(DATA / "distribution.asc").read_bytes(), KEY.certificate()])


def base() -> ImageManifest:
    kernel = copy.deepcopy(KERNEL) | {"cmdline": BOOT.format(OLD)}
    return replace(manifest(), kernel=parse_kernel(kernel))


def upgraded(**kernel: Any) -> Node:
    """As dnf and a reboot leave it: another version, with one more module loaded."""
    node = Node().boot()
    node.add_header(package("kernel-core", [MODULE]))
    node.add_file(MODULE.path, MODULE.sha256, size=len(MODULE.text))
    for path in ("/lib", "/lib/modules", f"/lib/modules/{NEW}", f"/lib/modules/{NEW}/kernel"):
        node.add_directory(path)
    for path in ("drivers", "drivers/block"):
        node.add_directory(f"/lib/modules/{NEW}/kernel/{path}")
    node.top["uname"][2] = NEW
    node.top["kernel"] |= {
        "cmdline": BOOT.format(NEW),
        "modules": ["overlay", "virtio_blk", "virtio_net"],
        "modules_sysfs": ["kernel", "overlay", "virtio_blk", "virtio_net"],
        **kernel,
    }
    return node


def judge(node: Node, image: ImageManifest) -> set[str]:
    """Codes of the reasons for a refusal."""
    try:
        verify(node.to_bytes(), node.blobs, image, keys(), standard(), binding())
    except NodeRefused as refused:
        return {reason.code for reason in refused.reasons}
    return set()


def make(node: Node) -> tuple[ImageManifest, SignerReport]:
    live = LiveNode(ACCOUNTS, toolkit(), frozenset(INJECTED))
    evidence = parse_evidence(node.to_bytes())
    return make_live_manifest(
        evidence, node.blobs, keys(), live, base(), name="live", created="now"
    )


def test_a_kernel_of_a_package_is_taken_as_found_and_told() -> None:
    node = upgraded()
    made, report = make(node)
    assert judge(node, made) == set()
    lines = set(report.lines())
    assert f"kernel: cmdline: {BOOT.format(NEW)}" in lines
    assert "kernel: modules: virtio_blk" in lines
    # Of nodes of the new image it is asked for, as the old one was of the old image's.
    node.top["kernel"]["cmdline"] = BOOT.format(OLD)
    assert judge(node, made) == {"kernel.cmdline"}


def test_the_same_kernel_is_the_bases_and_nothing_is_told_of_it() -> None:
    node = Node().boot()
    node.top["kernel"]["cmdline"] = BOOT.format(OLD)
    made, report = make(node)
    assert judge(node, made) == set() and made.kernel == base().kernel
    assert not any(line.startswith("kernel:") for line in report.lines())


ATTACKS: dict[str, tuple[dict[str, Any], str]] = {
    "a word in the boot loader's entry": (
        {"cmdline": f"{BOOT.format(NEW)} init=/var/lib/evil"}, "kernel.cmdline",
    ),
    "a word less": ({"cmdline": BOOT.format(NEW).replace(" lockdown=integrity", "")},
                    "kernel.cmdline"),
    "a kernel that no package has": ({"cmdline": BOOT.format("6.6.6")}, "kernel.cmdline"),
    "a module that no package has": (
        {"modules": ["overlay", "rootkit", "virtio_net"],
         "modules_sysfs": ["kernel", "overlay", "rootkit", "virtio_net"]}, "kernel.module",
    ),
    "a module that hides from one list": (
        {"modules_sysfs": ["kernel", "overlay", "rootkit", "virtio_blk", "virtio_net"]},
        "kernel.module",
    ),
    "an unsigned module that is gone again": ({"tainted": 1 << 13}, "kernel.tainted"),
    "a helper": ({"modprobe": "/var/lib/evil"}, "kernel.helper"),
    "what takes core dumps": ({"core_pattern": "|/var/lib/evil"}, "kernel.core-pattern"),
    "a probe": ({"kprobes": ["evil"]}, "kernel.kprobe"),
    "a program in the kernel": ({"bpf_programs": [[2, "kprobe", "evil", "66"]]}, "kernel.bpf"),
    "an interpreter": ({"binfmt": ["evil"]}, "kernel.binfmt"),
    "a kernel to come": ({"kexec_loaded": 1}, "kernel.kexec"),
}  # fmt: skip


@pytest.mark.parametrize(("kernel", "code"), ATTACKS.values(), ids=ATTACKS)
def test_what_root_did_to_the_new_kernel_is_not_taken_over(
    kernel: dict[str, Any], code: str
) -> None:
    node = upgraded(**kernel)
    made, _ = make(node)
    assert code in judge(node, made)


def test_a_version_that_only_uname_or_the_command_line_names_is_not_another_kernel() -> None:
    node = upgraded(cmdline=BOOT.format(OLD))
    assert make(node)[0].kernel == base().kernel
    node = upgraded()
    node.top["uname"][2] = OLD
    assert make(node)[0].kernel == base().kernel

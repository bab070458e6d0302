# SPDX-License-Identifier: GPL-2.0-or-later
"""Manifests of running nodes: what is never taken over, what is listed, what stays out."""

from __future__ import annotations

from typing import Any

import pytest

from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.rules.machine import image_rules
from mock_cloud.attest.running_manifest import LiveNode, make_live_manifest
from mock_cloud.attest.signer_report import SignerReport
from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.errors import AttestationRefused
from tests.unit.attest.attest_builder import (
    ACCOUNTS,
    INJECTED,
    Node,
    judge,
    keys,
    manifest,
    mount,
    sha256,
    toolkit,
)


def make(node: Node, base: ImageManifest | None = None) -> tuple[ImageManifest, SignerReport]:
    live = LiveNode(ACCOUNTS, toolkit(), frozenset(INJECTED))
    evidence = parse_evidence(node.to_bytes())
    return make_live_manifest(evidence, node.blobs, keys(), live, base, name="live", created="now")


def refusal(node: Node, base: ImageManifest | None = None) -> str:
    with pytest.raises(AttestationRefused) as caught:
        make(node, base)
    return caught.value.reasons[0].code


def codes(node: Node, image: ImageManifest) -> set[str]:
    with pytest.raises(NodeRefused) as caught:
        judge(node, image=image)
    return {reason.code for reason in caught.value.reasons}


def sleeper(node: Node, *cmdline: str) -> dict[str, Any]:
    """A second program: the same verified file with other arguments."""
    found: dict[str, Any] = node.process(40, 1, "/usr/sbin/sshd", list(cmdline))
    node.top["processes"].append(found)
    return found


@pytest.mark.parametrize("based", [True, False])
def test_a_changed_program_is_refused(based: bool) -> None:
    node = Node().boot()
    node.files["/usr/sbin/sshd"][6] = sha256("patched")
    assert refusal(node, manifest() if based else None) == "file.digest"


def test_an_unmeasured_kernel_is_refused() -> None:
    node = Node().boot()
    node.top["kernel"] = None
    assert refusal(node) == "kernel.unknown"


def test_an_unreadable_file_is_refused() -> None:
    node = Node().boot()
    node.top["unreadable"] = [["/usr/lib64/hidden", "EIO"]]
    assert refusal(node) == "file.unreadable"


def test_a_process_without_arguments_stands_in_no_manifest() -> None:
    node = Node().boot()
    sleeper(node)
    assert refusal(node) == "process.unknown"


def test_a_base_lets_nothing_more_run_than_it_says() -> None:
    node = Node().boot()
    sleeper(node, "/usr/sbin/sshd", "-o", "PermitRootLogin=yes")
    made, vouched = make(node, manifest())
    assert "process.unknown" in codes(node, made)
    assert not vouched.programs


def test_a_base_lets_nothing_more_be_mounted_or_listen_than_it_says() -> None:
    node = Node().boot()
    node.top["mounts"].append(mount("/data", "nfs4", 9))
    node.top["sockets"].append(["tcp", "::", 4444, 1])
    made, _ = make(node, manifest())
    assert {"mount.unknown", "socket.unknown"} <= codes(node, made)


def test_without_a_base_what_is_found_is_taken_over_and_listed() -> None:
    node = Node().boot()
    sleeper(node, "/usr/sbin/sshd", "-T")
    node.top["mounts"].append(mount("/data", "xfs", 9))
    node.add_directory("/data")
    node.add_file("/opt/tool", sha256("tool"), mode=0o755)
    made, vouched = make(node)
    judge(node, image=made)
    lines = list(vouched.lines())
    assert "program: /usr/sbin/sshd -T" in lines
    assert "mount: /data: xfs" in lines
    assert f"file: /opt/tool: f 0755 0:0 {sha256('tool')}" in lines
    assert len(vouched.packages) == 2
    # The same arguments, and no others.
    node.top["processes"][-1]["cmdline"] = ["/usr/sbin/sshd", "-t"]
    assert codes(node, made) == {"process.unknown"}


def test_what_is_one_nodes_own_stays_out() -> None:
    node = Node().boot()
    node.add_file("/run/secret", sha256("secret"))
    node.top["mounts"].append(mount("/run", "tmpfs", 9))
    for base in (manifest(), None):
        made, _ = make(node, base)
        paths = {fact.path for fact in made.entries}
        assert not paths & set(INJECTED)
        assert not any(path.startswith(("/run/", "/var/lib/mock-cloud")) for path in paths)


def test_of_the_base_only_what_is_new_is_listed() -> None:
    node = Node().boot()
    assert make(node, manifest())[1] == SignerReport()
    node.add_file("/usr/local/bin/made", sha256("made"), mode=0o755)
    node.files["/etc/passwd"][6] = sha256("with one account more")
    _, vouched = make(node, manifest())
    assert [fact.path for fact in vouched.files] == ["/etc/passwd", "/usr/local/bin/made"]


def test_a_name_cannot_write_to_the_terminal() -> None:
    node = Node().boot()
    node.add_file("/opt/\x1b[2J", sha256("x"))
    assert not any("\x1b" in line for line in make(node)[1].lines())


@pytest.mark.parametrize("point", ["/boot/efi", "/efi", "/boot"])
def test_what_is_on_the_esp_belongs_to_the_image(point: str) -> None:
    node = Node().boot()
    node.top["mounts"].append(mount(point, "vfat", 9))
    for directory in (point, f"{point}/EFI"):
        if directory not in node.files:
            node.add_directory(directory, mode=0o700)
    node.add_file(f"{point}/EFI/BOOTX64.EFI", sha256("loader"), mode=0o700)
    made, _ = make(node)
    judge(node, image=made)
    node.files[f"{point}/EFI/BOOTX64.EFI"][6] = sha256("another loader")
    assert codes(node, made) == {"file.digest"}
    node.files[f"{point}/EFI/BOOTX64.EFI"][6] = sha256("loader")
    node.add_file(f"{point}/EFI/EVIL.EFI", sha256("evil"), mode=0o700)
    assert codes(node, made) == {"file.unknown"}


def test_what_a_boot_writes_anew_belongs_to_the_image() -> None:
    node = Node().boot()
    node.top["mounts"].append(mount("/run", "tmpfs", 9))
    for path in ("/run/systemd", "/run/systemd/system", "/run/systemd/generator"):
        node.add_directory(path)
    node.add_file("/run/systemd/generator/-.mount", sha256("root"))
    live = LiveNode(ACCOUNTS, toolkit(), frozenset(INJECTED))
    evidence = parse_evidence(node.to_bytes())
    made, vouched = make_live_manifest(
        evidence, node.blobs, keys(), live, None, name="live", created="now",
        volatile=image_rules(evidence),
    )  # fmt: skip
    assert any(fact.path == "/run/systemd/generator/-.mount" for fact in vouched.files)
    judge(node, image=made)
    node.files["/run/systemd/generator/-.mount"][6] = sha256("another root")
    assert codes(node, made) == {"file.digest"}
    node.files["/run/systemd/generator/-.mount"][6] = sha256("root")
    node.add_file("/run/systemd/system/evil.service", sha256("evil"))
    assert codes(node, made) == {"file.unknown"}


def test_who_signs_what_nobody_signed_before_vouches_for_all_that_is_left_of_it() -> None:
    node = Node().boot()
    sleeper(node, "/usr/sbin/sshd", "-T")
    node.add_file("/opt/tool", sha256("tool"), mode=0o755)
    node.add_file("/opt/gone", sha256("gone"))
    base, unsigned = make(node)
    del node.files["/opt/gone"]
    node.add_file("/opt/new", sha256("new"))
    made, later = make(node, base)
    assert list(later.lines()) == [f"file: /opt/new: f 0644 0:0 {sha256('new')}"]
    lines = list(unsigned.with_later(later, made).lines())
    assert set(lines) - set(unsigned.lines()) == set(later.lines())
    assert not any("/opt/gone" in line for line in lines)
    assert "program: /usr/sbin/sshd -T" in lines

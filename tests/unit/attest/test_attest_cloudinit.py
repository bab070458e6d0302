# SPDX-License-Identifier: GPL-2.0-or-later
"""What cloud-init leaves on a node passes as exactly that; anything beside it is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.attest.image_manifest import BakeChoices, make_manifest
from mock_cloud.attest.kernel import parse_kernel
from mock_cloud.attest.manifest import ImageManifest, manifest_to_json, parse_manifest
from mock_cloud.attest.rules.cloudinit import has_finished
from mock_cloud.attest.rules.volatile import VolatileKind, VolatileRule, cloud_init_rules
from mock_cloud.attest.verdict import NodeRefused
from tests.unit.attest.attest_builder import ACCOUNTS, KERNEL, Node, judge, keys, sha256

CLOUD = "/var/lib/cloud"
INSTANCE = f"{CLOUD}/instances/i-0123456789abcdef0"
RUN = "/run/cloud-init"
# What cloud-init 22.4 was seen to leave after a boot on EC2.
DIRECTORIES = (
    CLOUD, f"{CLOUD}/data", f"{CLOUD}/handlers", f"{CLOUD}/instances", INSTANCE,
    f"{INSTANCE}/handlers", f"{INSTANCE}/scripts", f"{INSTANCE}/sem", f"{CLOUD}/scripts",
    f"{CLOUD}/scripts/per-boot", f"{CLOUD}/scripts/per-instance", f"{CLOUD}/scripts/per-once",
    f"{CLOUD}/scripts/vendor", f"{CLOUD}/seed", f"{CLOUD}/sem", RUN, f"{RUN}/sem", f"{RUN}/tmp",
    "/run/systemd", "/run/systemd/shutdown",
)  # fmt: skip
FILES = (
    f"{CLOUD}/data/instance-id", f"{CLOUD}/data/previous-datasource",
    f"{CLOUD}/data/previous-hostname", f"{CLOUD}/data/previous-instance-id",
    f"{CLOUD}/data/python-version", f"{CLOUD}/data/result.json", f"{CLOUD}/data/set-hostname",
    f"{CLOUD}/data/status.json", f"{CLOUD}/sem/config_scripts_per_once.once",
    f"{INSTANCE}/boot-finished", f"{INSTANCE}/cloud-config.txt", f"{INSTANCE}/datasource",
    f"{INSTANCE}/obj.pkl", f"{INSTANCE}/sem/config_ssh", f"{INSTANCE}/sem/consume_data",
    f"{INSTANCE}/user-data.txt", f"{INSTANCE}/user-data.txt.i", f"{INSTANCE}/vendor-data.txt",
    f"{INSTANCE}/vendor-data.txt.i", f"{INSTANCE}/vendor-data2.txt",
    f"{INSTANCE}/vendor-data2.txt.i", f"{RUN}/.instance-id", f"{RUN}/cloud-id-ec2",
    f"{RUN}/instance-data.json", f"{RUN}/instance-data-sensitive.json",
    "/run/systemd/shutdown/scheduled", "/var/log/cloud-init.log", "/var/log/cloud-init-output.log",
)  # fmt: skip
LINKS = {
    f"{CLOUD}/instance": INSTANCE,
    f"{RUN}/cloud-id": f"{RUN}/cloud-id-ec2",
    f"{RUN}/result.json": "../../var/lib/cloud/data/result.json",
    f"{RUN}/status.json": "../../var/lib/cloud/data/status.json",
}


@cache
def image() -> ImageManifest:
    choices = BakeChoices(
        name="cloud",
        created="2026-01-01",
        accounts=ACCOUNTS,
        volatile=cloud_init_rules(),
        kernel=parse_kernel(copy.deepcopy(KERNEL)),
    )
    unbooted = Node()
    return make_manifest(parse_evidence(unbooted.to_bytes()), unbooted.blobs, keys(), choices)


@pytest.fixture
def node() -> Node:
    """As a good node is after its first boot."""
    made = Node().boot()
    for path in DIRECTORIES:
        made.add_directory(path, mode=0o1777 if path.endswith("/tmp") else 0o755)
    for path in FILES:
        made.add_file(path, sha256(path), size=20)
    for path, target in LINKS.items():
        made.add_link(path, target)
    made.files[f"{INSTANCE}/obj.pkl"][2] = 0o400
    return made


def refusals(node: Node) -> Iterator[tuple[str, str]]:
    with pytest.raises(NodeRefused) as caught:
        judge(node, image=image())
    yield from ((reason.code, reason.subject) for reason in caught.value.reasons)


def test_a_booted_node_is_trusted(node: Node) -> None:
    judge(node, image=image())


@pytest.mark.parametrize("path", [f"{RUN}/hook-hotplug-cmd", f"{RUN}/share/hook-hotplug-cmd"])
def test_its_hook_for_network_devices_has_a_fifo(node: Node, path: str) -> None:
    """cloud-init-hotplugd.socket, up to 24.2 and since."""
    node.add_directory(f"{RUN}/share")
    node.files[path] = [path, "p", 0o600, 0, 0, 0, None, None]
    node.add_file(f"{RUN}/hook-hotplug.log", sha256("log"))
    judge(node, image=image())
    node.add_file(path, sha256("evil"))
    assert list(refusals(node)) == [("file.volatile", path)]


def test_without_the_rules_it_is_not(node: Node) -> None:
    with pytest.raises(NodeRefused):
        judge(node)


EXTRA = [
    f"{CLOUD}/scripts/per-boot/10-evil",
    f"{CLOUD}/scripts/per-once/evil.sh",
    f"{CLOUD}/scripts/vendor/evil",
    f"{INSTANCE}/scripts/part-001",
    f"{INSTANCE}/scripts/runcmd",
    f"{INSTANCE}/boothooks",
    f"{INSTANCE}/handlers/part-handler-001.py",
    f"{CLOUD}/handlers/evil.py",
    f"{CLOUD}/seed/nocloud",
    f"{CLOUD}/evil",
    f"{CLOUD}/instances/evil",
    f"{INSTANCE}/evil.pkl",
    f"{INSTANCE}/sem/evil.sh",
    f"{CLOUD}/data/evil",
    f"{RUN}/evil",
    f"{RUN}/cloud.cfg",
    f"{RUN}/tmp/evil",
]


@pytest.mark.parametrize("path", EXTRA)
@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_files_of_other_names_are_refused(node: Node, path: str, mode: int) -> None:
    node.add_file(path, sha256("evil"), mode=mode)
    assert list(refusals(node)) == [("file.volatile", path)]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/sudoers.d/90-cloud-init-users",
        "/etc/cloud/cloud.cfg.d/99-evil.cfg",
        "/etc/ssh/sshd_config.d/50-cloud-init.conf",
        "/run/systemd/shutdown/evil",
    ],
)
def test_files_elsewhere_are_unknown(node: Node, path: str) -> None:
    node.add_file(path, sha256("evil"))
    assert list(refusals(node)) == [("file.unknown", path)]


PICKLE = f"{INSTANCE}/obj.pkl"
CHANGES: list[tuple[str, int, Any]] = [
    (PICKLE, 2, 0o500),
    (PICKLE, 2, 0o402),
    (PICKLE, 2, 0o4400),
    (PICKLE, 3, 1000),
    (PICKLE, 5, 2 << 20),
    (f"{INSTANCE}/user-data.txt", 2, 0o755),
    (f"{INSTANCE}/sem/config_ssh", 5, 4096),
    (f"{CLOUD}/data/result.json", 7, {"security.capability": "0100"}),
    (f"{CLOUD}/scripts/per-boot", 2, 0o777),
    (f"{CLOUD}/handlers", 3, 1000),
    (INSTANCE, 2, 0o4755),
]


@pytest.mark.parametrize(("path", "column", "value"), CHANGES)
def test_known_files_with_other_facts_are_refused(
    node: Node, path: str, column: int, value: Any
) -> None:
    node.files[path][column] = value
    assert list(refusals(node)) == [("file.volatile", path)]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (f"{CLOUD}/instance", "/root/evil"),
        (f"{CLOUD}/instance", "/var/lib/cloud/instances/../../../../root"),
        (f"{CLOUD}/instance", "/var/lib/cloud/instances/.."),
        (f"{RUN}/cloud-id", "/etc/shadow"),
        (f"{RUN}/result.json", "../../etc/shadow"),
        (PICKLE, "/root/obj.pkl"),
        (f"{CLOUD}/scripts/per-boot", "/root/scripts"),
        (f"{CLOUD}/data", "/root/data"),
        (CLOUD, "/root/cloud"),
    ],
)
def test_links_that_lead_elsewhere_are_refused(node: Node, path: str, target: str) -> None:
    node.add_link(path, target)
    assert ("file.volatile", path) in refusals(node)


def test_a_place_of_its_own_kind_only() -> None:
    for path in ("/etc/cloud", "/var/lib", "/var/lib/cloud/scripts", "/run", "/root/.ssh"):
        with pytest.raises(ValueError, match="cloud-init"):
            VolatileRule(path, VolatileKind.CLOUD_INIT)
    with pytest.raises(ValueError, match="read as code"):
        VolatileRule(CLOUD, VolatileKind.TREE)


def test_the_rules_survive_a_manifest() -> None:
    assert parse_manifest(manifest_to_json(image())).volatile == image().volatile


def test_the_end_of_its_last_stage(node: Node) -> None:
    files = parse_evidence(node.to_bytes()).files
    assert has_finished(files)
    del node.files[f"{INSTANCE}/boot-finished"]
    assert not has_finished(parse_evidence(node.to_bytes()).files)
    other = f"{CLOUD}/instances/i-before"
    node.add_file(f"{other}/boot-finished", sha256("of the image's maker"))
    assert not has_finished(parse_evidence(node.to_bytes()).files)
    assert has_finished(parse_evidence(Node().to_bytes()).files), "no cloud-init at all"

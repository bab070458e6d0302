# SPDX-License-Identifier: GPL-2.0-or-later
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.local.plan import (
    NodePlan,
    check_image,
    expected_mounts,
    filesystem_type,
    injected_files,
)
from mock_cloud.cloud.provider import ExpectedMount, InjectedType
from mock_cloud.errors import ConfigError
from mock_cloud.wire.decode import decode_bytes, to_json

DIRECTORIES = ("proc", "sys", "dev", "run", "tmp", "root", "etc/ssh", "var/lib", "var/cache")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    for name in (*DIRECTORIES, "usr/sbin"):
        (root / name).mkdir(parents=True)
    (root / "usr/sbin/sshd").write_text("")
    return root


@pytest.fixture
def plan(image: Path, tmp_path: Path) -> NodePlan:
    return NodePlan(
        lease_id="a1",
        owner="me@here:0",
        state_dir=str(tmp_path / "state"),
        image=str(image),
        hostname="node-a1",
        address="127.9.9.9",
        port=22,
        disk_mib=0,
        boot_timeout_s=5.0,
        resolv_conf="nameserver 192.0.2.1\n",
        client_key="ssh-ed25519 AAAA",
        host_public_key="ssh-ed25519 BBBB",
        host_key="-----PRIVATE-----",
    )


def test_a_plan_survives_its_journey(plan: NodePlan) -> None:
    assert decode_bytes(NodePlan, to_json(plan)) == plan


def test_a_plan_does_not_show_its_key(plan: NodePlan) -> None:
    assert "PRIVATE" not in repr(plan)
    assert not any("PRIVATE" in word for word in plan.argv)


@pytest.mark.parametrize("change", [{"port": "22"}, {"more": 1}, {"disk_mib": True}])
def test_a_malformed_plan_is_refused(plan: NodePlan, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="plan"):
        decode_bytes(NodePlan, json.dumps(json.loads(to_json(plan)) | change), "plan")


def test_a_plan_lacking_a_key_is_refused(plan: NodePlan) -> None:
    raw = json.loads(to_json(plan))
    del raw["owner"]
    with pytest.raises(ValueError, match="plan"):
        decode_bytes(NodePlan, json.dumps(raw), "plan")


def test_a_whole_image_is_accepted(image: Path) -> None:
    check_image(image)


@pytest.mark.parametrize("name", DIRECTORIES)
def test_an_image_needs_each_directory(image: Path, name: str) -> None:
    directory = image / name
    directory.rmdir()
    with pytest.raises(ConfigError, match=f"no directory /{name}$"):
        check_image(image)
    directory.symlink_to("/tmp")
    with pytest.raises(ConfigError, match=f"no directory /{name}$"):
        check_image(image)


def test_an_image_needs_sshd(image: Path) -> None:
    (image / "usr/sbin/sshd").unlink()
    with pytest.raises(ConfigError, match="no /usr/sbin/sshd"):
        check_image(image)


@pytest.mark.parametrize("path", [Path("relative"), Path("/nowhere/at/all")])
def test_an_image_is_an_absolute_directory(path: Path) -> None:
    with pytest.raises(ConfigError, match="not a directory"):
        check_image(path)


def test_parents_are_injected_before_children(plan: NodePlan) -> None:
    files = injected_files(plan)
    paths = list(files)
    for path in paths:
        parent = str(Path(path).parent)
        if parent in files:
            assert paths.index(parent) < paths.index(path)
    assert files["/root/.ssh/authorized_keys"].content == b"ssh-ed25519 AAAA\n"
    assert files["/etc/ssh/ssh_host_ed25519_key"].mode == 0o600
    assert b"127.9.9.9 node-a1\n" in files["/etc/hosts"].content
    assert files["/dev/null"].type is InjectedType.CHARACTER


def test_work_directories_are_as_in_the_image(plan: NodePlan, image: Path) -> None:
    assert injected_files(plan)["/var/lib/mock"].mode == 0o755
    assert injected_files(plan)["/var/lib/mock-cloud"].mode == 0o700
    (image / "var/lib/mock").mkdir()
    (image / "var/lib/mock").chmod(0o2775)
    assert injected_files(plan)["/var/lib/mock"].mode == 0o2775
    (image / "var/cache/mock").symlink_to("/tmp")
    with pytest.raises(ConfigError, match="/var/cache/mock"):
        injected_files(plan)


def test_mounts_name_the_real_file_system(plan: NodePlan) -> None:
    mounts = expected_mounts(plan)
    assert mounts[0] == ExpectedMount("/", "overlay")
    assert ExpectedMount("/var/lib/mock", filesystem_type(plan.node_dir)) in mounts
    assert ExpectedMount("/var/lib/mock", "ext4") in expected_mounts(replace(plan, disk_mib=64))


def test_file_system_types_are_the_kernels() -> None:
    assert filesystem_type(Path("/proc/self")) == "proc"
    assert filesystem_type(Path("/dev/shm/not-there")) == "tmpfs"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
def test_a_mount_point_of_any_bytes_is_read(tmp_path: Path) -> None:
    """Also where the locale knows ASCII only."""
    odd = tmp_path / os.fsdecode("a \u00e9\\".encode() + b"\xff")
    odd.mkdir()
    code = (
        "import os, sys, pathlib; from mock_cloud.cloud.local.plan import filesystem_type as f;"
        "print(f(pathlib.Path(sys.argv[1])), f(pathlib.Path('/proc/self')))"
    )
    script = 'mount -t tmpfs none "$1" && exec "$2" -c "$3" "$1"'
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", odd, sys.executable, code],
        env=environ | {"PYTHONCOERCECLOCALE": "0"}, cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    assert done.stdout == b"tmpfs proc\n"

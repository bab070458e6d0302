# SPDX-License-Identifier: GPL-2.0-or-later
"""What is taken out of a system before it becomes an image, and what stays."""

from __future__ import annotations

from pathlib import Path

from mock_cloud.agent.image.cleanse import cleanse_node, seal_node

GOES = (
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_rsa_key.pub",
    "etc/ssh/sshd_config.d/50-cloud-init.conf",
    "etc/sudoers.d/90-cloud-init-users",
    "etc/NetworkManager/system-connections/cloud-init-eth0.nmconnection",
    "root/.ssh/authorized_keys",
    "home/fedora/.ssh/authorized_keys",
    "root/.bash_history",
    "tmp/x",
    "var/tmp/dir/x",
    "var/cache/dnf/repo/repodata/repomd.xml",
    "var/lib/cloud/instances/i-1/user-data.txt",
    "var/lib/systemd/random-seed",
    "var/log/cloud-init.log",
    "var/log/audit/audit.log",
)
STAYS = (
    "etc/passwd",
    "etc/ssh/sshd_config",
    "etc/ssh/sshd_config.d/10-site.conf",
    "root/.bashrc",
    "usr/bin/env",
    "var/lib/cloud/seed/nocloud/meta-data",
    "var/lib/rpm/rpmdb.sqlite",
)


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    return root


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_only_what_is_one_nodes_own_goes(tmp_path: Path) -> None:
    root = tree(tmp_path, *GOES, *STAYS, "etc/machine-id")
    removed = cleanse_node(str(root))
    assert files(root) == {*STAYS, "etc/machine-id"}
    assert (root / "etc/machine-id").read_text() == ""
    assert "/etc/machine-id" in removed and "/var/lib/cloud/instances" in removed
    assert removed == sorted(removed) and all(path.startswith("/") for path in removed)
    assert (root / "var/log/audit").is_dir() and (root / "var/lib/cloud").is_dir()
    assert cleanse_node(str(root)) == []


def test_a_link_goes_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    outside = tree(tmp_path / "outside", "kept", "log/kept")
    root = tree(tmp_path / "root", "var/log/messages", "tmp/x")
    (root / "tmp/link").symlink_to(outside / "kept")
    (root / "tmp/directory").symlink_to(outside)
    (root / "var/log/elsewhere").symlink_to(outside / "log")
    (root / "var/lib").mkdir()
    (root / "var/lib/cloud").symlink_to(outside)
    cleanse_node(str(root))
    assert files(outside) == {"kept", "log/kept"}
    assert not list((root / "tmp").iterdir())


def test_of_the_workspace_only_layers_stay(tmp_path: Path) -> None:
    layer = "layers/abc/root/usr/bin/gcc"
    tree(
        tmp_path, layer, "layers/abc/layer.json", "layers/abc.lock", "toolkit/d/ld.so", "order.log"
    )
    tree(tmp_path, "blobs/aa", "jobs/1/request.json")
    seal_node(str(tmp_path))
    assert files(tmp_path) == {layer, "layers/abc/layer.json"}

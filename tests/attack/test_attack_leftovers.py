# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies in the directories that attestation skips, when the next command starts its job."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.wire.job_request import JobRequest
from tests.component.engine_node import LAB, NEEDS_LAB, Ended, EngineNode, engine_config
from tests.lab.http import FileServer

pytestmark = NEEDS_LAB
WORKSPACE = "var/lib/mock-cloud"
SKIPPED = (
    "var/lib/mock", "var/cache/mock", f"{WORKSPACE}/blobs", f"{WORKSPACE}/dnf",
    f"{WORKSPACE}/jobs", f"{WORKSPACE}/layers",
)  # fmt: skip
NULL = os.makedev(1, 3)
ROOT = "lab-1-x86_64"


class Site:
    """A warm node with a chroot that is kept, layers, a cache and inputs."""

    def __init__(self, node: EngineNode, url: str) -> None:
        self.node = node
        self.config = engine_config(f"{url}/dist")
        self.root = Path(f"/proc/{node._process.pid}/root")

    def request(self, mode: str, *words: str, owned: bool = True) -> JobRequest:
        key = self.node.put(LAB.package_key, "gpgkey", "lab.asc")
        return JobRequest(mode, self.config, args=list(words), inputs=[key], owned=owned)

    def begin(self, mode: str, *words: str, owned: bool = True) -> Ended:
        """The first job of a command."""
        job, answer = self.node.launch(self.request(mode, *words, owned=owned))
        assert answer == "ok"
        return self.node.wait(job)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("leftovers")
    with FileServer({"/dist": LAB.dist}) as server, EngineNode(LAB, directory / "node") as node:
        site = Site(node, server.url)
        ended = node.run(site.request("chroot", "echo kept > /mark"))
        assert ended.exit == 0, ended.stderr
        yield site
    shutil.rmtree(directory)


def plant(directory: Path) -> list[Path]:
    """A stray file, a set-id program, a device, a link and a tree."""
    directory.mkdir(parents=True, exist_ok=True)
    stray, program, device, link, tree = (
        directory / f"stray-{name}" for name in ("file", "program", "device", "link", "tree")
    )
    stray.write_text("planted")
    shutil.copy("/bin/true", program)
    program.chmod(0o4755)
    os.mknod(device, 0o666 | 0o020000, NULL)
    link.symlink_to("/etc")
    tree.mkdir()
    here = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    return [stray, program, device, link, tree]


@pytest.mark.attack(
    "an earlier job", "leaves files, set-id programs, devices where measuring skips", "gone"
)
def test_what_nobody_vouches_for_is_gone_before_the_next_job(site: Site) -> None:
    planted = [path for name in SKIPPED for path in plant(site.root / name)]
    layer = next(path for path in site.node.layers if "/layers/" in path)
    chroot = site.root / "var/lib/mock" / ROOT
    planted += plant(chroot) + plant(chroot / "overlay")
    planted += plant(site.root / Path(layer).parent.relative_to("/"))
    blob = site.root / WORKSPACE / "blobs" / ("0" * 64)
    shutil.copy("/bin/true", blob)
    blob.chmod(0o4755)
    ended = site.begin("chroot", "cat /mark")
    assert (ended.exit, ended.stdout) == (0, b"kept\n"), ended.stderr
    assert [path for path in (*planted, blob) if os.path.lexists(path)] == []
    assert [path.name for path in (site.root / WORKSPACE / "jobs").iterdir()] == [
        ended.directory.name
    ]


@pytest.mark.slow
@pytest.mark.attack(
    "an earlier job", "makes a directory above a layer anyone's to write to", "not reused"
)
def test_a_layer_in_a_directory_of_another_owner_is_not_used(site: Site) -> None:
    layer = next(path for path in site.node.layers if "/layers/" in path)
    above = site.root / Path(layer).parent.relative_to("/")
    os.chown(above, 1000, 1000)
    ended = site.begin("clean")
    assert ended.exit == 0, ended.stderr
    assert not above.exists()
    ended = site.begin("chroot", "echo kept > /mark")
    assert ended.exit == 0, ended.stderr


@pytest.mark.attack("an earlier job", "leaves what cannot be removed", "no job starts")
def test_what_cannot_be_removed_keeps_jobs_from_the_node(site: Site) -> None:
    held = site.root / WORKSPACE / "dnf/held"
    held.mkdir()
    inside = ["nsenter", "-m", "-t", str(site.node._process.pid)]
    place = f"/{WORKSPACE}/dnf/held"
    subprocess.run([*inside, "mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        _, answer = site.node.launch(site.request("clean"))
    finally:
        subprocess.run([*inside, "umount", place], check=True)
    assert "busy" in answer
    assert site.begin("chroot", "cat /mark").stdout == b"kept\n"


def test_a_lent_machine_keeps_what_its_owners_mock_has(site: Site) -> None:
    theirs = site.root / "var/lib/mock/theirs"
    (theirs / "root").mkdir(parents=True)
    ours = site.root / "var/lib/mock/gone/overlay"
    ours.mkdir(parents=True)
    assert site.begin("chroot", "cat /mark", owned=False).stdout == b"kept\n"
    assert (theirs.is_dir(), ours.exists()) == (True, False)
    assert site.begin("chroot", "cat /mark").stdout == b"kept\n"
    assert not theirs.exists()

# SPDX-License-Identifier: GPL-2.0-or-later
"""What `mock-cloud export koji` writes, judged by koji's own importer, plugin and policy code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import User
from tests.integration.koji_builder import find_checkout
from tests.lab.copies import change_last_byte
from tests.lab.layout import repository_root

pytestmark = pytest.mark.lab

_DRIVER = Path(__file__).with_name("koji_hub_driver.py")
_PLUGIN = repository_root() / "contrib/koji/mock_cloud_hub.py"
NAME = "toy-plain-1-1.lab1"


@pytest.fixture(scope="module")
def results(mock: User, plain_srpm: Path) -> Path:
    place = mock.place / "for-koji"
    mock.mock("--resultdir", place, plain_srpm).expect()
    return place


@pytest.fixture(scope="module")
def key(mock: User, results: Path) -> Path:
    return mock.place / "state/mock-cloud/provenance-key.pub"


@pytest.fixture
def metadata(mock: User, results: Path, tmp_path: Path) -> Path:
    path = tmp_path / "metadata.json"
    said = mock.cloud(
        "export", "koji", results, "--content-generator", "mock-cloud", "-o", path
    ).expect()
    assert said.stdout.startswith(f"{path}: {NAME}, ")
    return path


def import_it(
    metadata: Path, files: Path, key: Path, place: Path, spoil: str = ""
) -> dict[str, Any]:
    checkout, python = find_checkout()
    conf = place / "mock_cloud.conf"
    program = Path(sys.executable).parent / "mock-cloud"
    conf.write_text(f"[mock_cloud]\nkeys = {key}\ncommand = {program}\n")
    order = place / "order.json"
    told = {"koji": checkout, "plugin": _PLUGIN, "conf": conf, "topdir": place / "mnt",
            "metadata": metadata, "files": files, "spoil": spoil}  # fmt: skip
    order.write_text(json.dumps(told, default=str))
    done = subprocess.run(
        [python, str(_DRIVER), str(order)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_hub_imports_it_and_its_policy_verifies_it(
    results: Path, key: Path, metadata: Path, tmp_path: Path
) -> None:
    found = import_it(metadata, results, key, tmp_path, spoil=f"noarch/{NAME}.noarch.rpm")
    assert "error" not in found, found
    assert sorted(found["rpms"]) == [f"{NAME}.noarch", f"{NAME}.src"]
    assert "data/logs/remote_provenance.json" in found["files"]
    assert {f"noarch/{NAME}.noarch.rpm", f"src/{NAME}.src.rpm"} <= set(found["files"])
    assert len(found["components"]) > 50
    assert found["tag"] == [True, ""]
    assert found["tag_of_spoiled"] == [False, "it is not verified"]
    assert found["work"] == ["cg_import_logs", "upload"] or found["work"] == ["upload"]


def test_the_hub_refuses_a_changed_package(
    results: Path, key: Path, metadata: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(results, tmp_path / "copy")
    change_last_byte(copy / f"{NAME}.noarch.rpm")
    assert "File checksum mismatch" in import_it(metadata, copy, key, tmp_path)["error"]


def test_the_plugin_refuses_metadata_that_was_made_for_the_change(
    results: Path, key: Path, metadata: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(results, tmp_path / "copy")
    log = copy / "build.log"
    log.write_bytes(log.read_bytes()[:-1] + b"!")
    digest = subprocess.check_output(["sha256sum", str(log)], text=True).split()[0]
    told = json.loads(metadata.read_text())
    (output,) = [one for one in told["output"] if one["filename"] == "build.log"]
    output["checksum"] = digest
    metadata.write_text(json.dumps(told))
    error = import_it(metadata, copy, key, tmp_path)["error"]
    assert "mock-cloud refuses the import" in error
    assert "result.changed: build.log" in error


def test_the_plugin_refuses_what_another_key_signed(
    results: Path, metadata: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    error = import_it(metadata, results, other.with_suffix(".pub"), tmp_path)["error"]
    assert "provenance.signer" in error


def test_refused_results_are_not_exported(mock: User, results: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(results, tmp_path / "copy")
    change_last_byte(copy / f"{NAME}.noarch.rpm")
    words = ("export", "koji", copy, "--content-generator", "mock-cloud", "-o")
    ended = mock.cloud(*words, tmp_path / "metadata.json").expect(77)
    assert "result.changed" in ended.stderr
    assert not (tmp_path / "metadata.json").exists()
    mock.cloud(*words, copy / "metadata.json").expect(5)

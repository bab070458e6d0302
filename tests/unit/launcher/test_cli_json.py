# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/json.md names each field that `--json` prints, and no other."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.validity import Validity, sign_manifest
from mock_cloud.attest.verdict import Verdict
from mock_cloud.cli import main
from mock_cloud.cli.reap import ReapedRemote, _rows
from mock_cloud.cli.toolkit import _to_json
from mock_cloud.cli.trust import _to_json as _builder_to_json
from mock_cloud.cloud.images import TAG_OWNER, Image, ImageState
from mock_cloud.cloud.listing import NodeRow, Released
from mock_cloud.cloud.provider import Finding
from mock_cloud.images.image_list import ImageRow
from mock_cloud.images.image_list import ImageStatus as ImageStanding
from mock_cloud.launcher.status import LauncherStatus
from mock_cloud.ledger.entries import LedgerEntry
from mock_cloud.ledger.ratings import Builder
from mock_cloud.steps.attest.seen_manifests import SeenManifest
from mock_cloud.steps.sign.signers import read_signer
from mock_cloud.toolkit.machines import own_arch
from mock_cloud.toolkit.prove import Proof
from tests.lab.layout import repository_root
from tests.mutations.honest import PACKAGES, can_build, make_results

PAGE = (repository_root() / "docs/json.md").read_text()


def _documented(command: str) -> set[str]:
    section = re.search(rf"^## `mock-cloud {command}`.*?(?=^## |\Z)", PAGE, re.M | re.S)
    assert section, command
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section[0], re.M)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def _names(kind: type) -> set[str]:
    return {one.name for one in dataclasses.fields(kind)}


def _image() -> set[str]:
    image = Image("ami-1", "name", ImageState.AVAILABLE, {TAG_OWNER: "me"})
    return set(ImageRow(image, ImageStanding.NONE, "", None, ()).to_json())


def _verdict() -> set[str]:
    verdict = Verdict(True, "p", "d", "k", "n", "e", "m", "s")
    return {*json.loads(verdict.to_json()), "sha256"}


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("nodes", lambda: _names(NodeRow) | {"budget_left"}),
        ("doctor", lambda: _names(Finding)),
        ("attest", _verdict),
        ("release", lambda: _names(Released)),
        ("reap", lambda: set(_rows(ReapedRemote("r", (), problem="no answer"))[0])),
        ("image list", _image),
        ("known-good seen", lambda: _names(SeenManifest)),
        ("launcher status", lambda: _names(LauncherStatus)),
        ("trust list", lambda: set(_builder_to_json(Builder("host:a", 1)))),
        ("trust show", lambda: _names(LedgerEntry)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_fields_are_documented(command: str, printed: Callable[[], set[str]]) -> None:
    assert _documented(command) == printed()


def test_a_manifests_fields_are_documented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, file = tmp_path / "key", tmp_path / "m"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    manifest = ImageManifest("node-1", own_arch(), "now", (), ())
    file.write_bytes(sign_manifest(manifest, Validity("node", 1, 1, 2), read_signer(key)))
    assert main(["known-good", "show", str(file), "--key", f"{key}.pub", "--json"]) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert _documented("known-good show") == set(shown)


def test_the_fields_of_builds_are_documented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not can_build():
        pytest.skip("needs rpmbuild")
    results = make_results(tmp_path / "results")
    assert main([*results.argv(), "--json"]) == 0
    assert _documented("verify") == set(json.loads(capsys.readouterr().out))
    package = str(results.path(PACKAGES[0]))
    assert main(["compare", "--json", package, package]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert _documented("compare") == set(row)


def test_a_toolkits_fields_are_documented(tmp_path: Path) -> None:
    (tmp_path / "archive").touch()
    toolkit = SimpleNamespace(
        digest="d", arch="a", python_version="3", files=(), archive=tmp_path / "archive"
    )
    packed = SimpleNamespace(toolkit=toolkit, packed_at=0.0, proof=Proof.NOT_RUN, packages=())
    assert _documented("toolkit list") == set(_to_json(packed))  # type: ignore[arg-type]

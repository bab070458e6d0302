# SPDX-License-Identifier: GPL-2.0-or-later
"""The metadata of a content generator, as koji's documentation has it. The hub itself is asked in
tests/integration/test_koji_export.py."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.cli import main
from mock_cloud.errors import InputError
from mock_cloud.koji.content_generator import KojiChoices, count_unknown, make_metadata
from mock_cloud.provenance.statement import Descriptor, Provenance
from tests.mutations.honest import Results, can_build, make_results

pytestmark = pytest.mark.skipif(not can_build(), reason="needs rpmbuild")

PACKAGE = "one-1-1.noarch.rpm"
INSTALLED = (
    Descriptor("one.src.rpm", "", {"sha256": "1" * 64}, {"role": "srpm"}),
    Descriptor("bash-1:5.2-1.x86_64", "", {}, {"installed": True, "sigmd5": "b" * 32}),
    Descriptor("file-5-1.x86_64", "", {}, {"installed": True}),
    Descriptor("gpg-pubkey-1234-5678", "", {}, {"installed": True}),
)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return make_results(tmp_path / "results")


def one_package(results: Results) -> Provenance:
    found = results.provenance()
    sizes = {**found.used.sizes, "chroot_scan/var/log/a.log": 3}
    return replace(
        found,
        results={PACKAGE: found.results[PACKAGE]},
        logs={**found.logs, "chroot_scan/var/log/a.log": "2" * 64},
        used=replace(found.used, sizes=sizes),
        dependencies=INSTALLED,
    )


def made(results: Results, **choices: Any) -> dict[str, Any]:
    wanted = KojiChoices("mock-cloud", **choices)
    return make_metadata(results.place, one_package(results), wanted)


def test_the_build_is_its_source_package(results: Results) -> None:
    build = made(results, source="git://x", owner="ada", task_id=7)["build"]
    assert {name: build[name] for name in ("name", "version", "release")} == {
        "name": "one", "version": "1", "release": "1"
    }  # fmt: skip
    assert (build["source"], build["owner"], build["task_id"]) == ("git://x", "ada", 7)
    assert build["start_time"] < build["end_time"]
    assert build["extra"]["typeinfo"] == {"rpm": {}}
    assert "owner" not in made(results)["build"]


def test_each_file_is_there_with_its_digest(results: Results) -> None:
    outputs = {one["filename"]: one for one in made(results)["output"]}
    assert set(outputs) == {
        PACKAGE, "build.log", "root.log", "remote_attestation.log", "a.log",
        "remote_provenance.json", "remote_evidence.zip",
    }  # fmt: skip
    package = outputs[PACKAGE]
    assert (package["type"], package["arch"], package["checksum_type"]) == (
        "rpm", "noarch", "sha256"
    )  # fmt: skip
    for name in (PACKAGE, "build.log", "remote_provenance.json"):
        data = results.path(name).read_bytes()
        assert outputs[name]["checksum"] == hashlib.sha256(data).hexdigest()
        assert outputs[name]["filesize"] == len(data)
    assert (outputs["a.log"]["relpath"], outputs["a.log"]["subdir"]) == (
        "chroot_scan/var/log", "chroot_scan/var/log"
    )  # fmt: skip
    assert "subdir" not in package


def test_components_are_those_that_koji_can_know(results: Results) -> None:
    (buildroot,) = made(results)["buildroots"]
    assert buildroot["components"] == [
        {
            "type": "rpm", "name": "bash", "version": "5.2", "release": "1", "arch": "x86_64",
            "epoch": 1, "sigmd5": "b" * 32, "signature": None,
        }
    ]  # fmt: skip
    assert count_unknown(one_package(results)) == 1
    assert buildroot["content_generator"]["name"] == "mock-cloud"
    assert buildroot["container"] == {"type": "chroot", "arch": "x86_64"}


def test_packages_of_two_sources_are_no_build(results: Results) -> None:
    with pytest.raises(InputError, match=r"one-1-1\.src\.rpm, two-1-1\.src\.rpm"):
        make_metadata(results.place, results.provenance(), KojiChoices("mock-cloud"))


def test_a_package_by_another_name_is_refused(results: Results) -> None:
    odd = results.path("odd-1-1.noarch.rpm")
    odd.write_bytes(results.path(PACKAGE).read_bytes())
    found = replace(one_package(results), results={odd.name: "0" * 64})
    with pytest.raises(InputError, match="called otherwise"):
        make_metadata(results.place, found, KojiChoices("mock-cloud"))


def test_refused_results_are_not_exported(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ["--keys", str(results.keys[0])]
    output = tmp_path / "metadata.json"
    words = ["export", "koji", str(results.place), "--content-generator", "mock-cloud", *keys, "-o"]
    results.change(PACKAGE, lambda data: data + b"x")
    assert main([*words, str(output)]) == 77
    assert not output.exists()
    assert main([*words, str(results.place / "metadata.json")]) == 5
    assert "verify would refuse" in capsys.readouterr().err
    assert json.dumps(made(make_results(tmp_path / "whole")))

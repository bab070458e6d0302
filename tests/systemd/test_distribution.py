# SPDX-License-Identifier: GPL-2.0-or-later
"""The distributions of the generations with systemd, by their own rpm and by us."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mock_cloud.agent.engine import packages
from mock_cloud.agent.engine.packages import PackageManager
from mock_cloud.attest.envelope import Signer
from mock_cloud.config.defaults import default_config_opts
from mock_cloud.images.tree_manifest import make_signed_manifest
from mock_cloud.wire.job_request import EngineConfig
from tests.lab import generations, srpm
from tests.lab.bootable import system
from tests.lab.bootable.examples import python_package
from tests.lab.keys import package_keys
from tests.lab.layout import EL9, TODAY, Lab
from tests.lab.manifest import signing_key, validity

pytestmark = [pytest.mark.lab, pytest.mark.slow]
# What rpm calls the format and the signatures; format 4 has neither tag.
_QUERIES = {TODAY: "%{RPMFORMAT} [%{OPENPGP:pgpsig} ]\\n", EL9: "4 %{RSAHEADER:pgpsig}\\n"}
_FOUND = {TODAY: ("6", True, True), EL9: ("4", False, True)}
_PROGRAMS = {"dnf4": "dnf-3", "dnf5": "dnf5"}
# rpm wants a database of its own, with all keys in it.
_VERIFY = """\
db=$(mktemp -d); out=$1; keys=$2; shift 2
rpm --dbpath $db --initdb; rpm --dbpath $db --import $keys
rpm --dbpath $db -K "$@" | grep -vc ': digests signatures OK$' > "$out" || true; rm -r $db
"""


def test_packages_are_of_a_format_and_signed_by_each_key(bootable: Lab) -> None:
    query, expected = _QUERIES[bootable.generation], _FOUND[bootable.generation]
    packages = sorted(map(str, bootable.release(1).glob("*.rpm")))
    printed = system.run(bootable, ["rpm", "-qp", "--nosignature", "--qf", query, *packages])
    found = Counter(
        (line.split()[0], "EdDSA/SHA512" in line, "RSA/SHA512" in line)
        for line in printed.decode().splitlines()
    )
    assert found == {expected: len(packages)}
    keys = " ".join(map(str, package_keys(bootable)))
    count = bootable.root / "unverified"
    system.run(bootable, ["sh", "-ec", _VERIFY, "sh", str(count), keys, *packages])
    assert count.read_text() == "0\n"
    count.unlink()


def test_each_key_speaks_for_the_whole_tree(bootable: Lab) -> None:
    signer = Signer.from_private(signing_key(bootable))
    manifests = []
    for key in package_keys(bootable):
        made, _, vouched = make_signed_manifest(
            bootable.tree, [key.read_bytes()], signer, name="bootable", validity=validity
        )
        assert not vouched.changed
        manifests.append(made)
    first, last = manifests[0], manifests[-1]
    assert first.packages == last.packages
    assert len(first.packages) > 200
    assert first.entries == last.entries


@pytest.fixture
def chroot(bootable: Lab) -> Iterator[Path]:
    """An installation root whose dnf.conf has the lab's repository."""
    root = bootable.root / "dnf-chroot"
    (root / "etc/dnf").mkdir(parents=True)
    (root / "etc/dnf/dnf.conf").write_text(
        "[main]\nreposdir=/dev/null\nassumeyes=1\ngpgcheck=0\n"
        f"[lab]\nname=lab\nbaseurl=file://{bootable.release(1)}\n"
    )
    yield root
    shutil.rmtree(root)


def test_a_real_dnf_takes_the_engines_command_lines(
    bootable: Lab, chroot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = generations.of(bootable).package_manager
    monkeypatch.setattr(packages, "_find_program", lambda name: f"/usr/bin/{_PROGRAMS[name]}")
    options = default_config_opts()[f"{name}_common_opts"]
    config = EngineConfig(
        "r", "r", "x86_64", "x86_64", name, "", [], dnf_common_opts=options, releasever="1"
    )
    place: Any = SimpleNamespace(root=str(chroot))
    unused: Any = None
    manager = PackageManager(config, place, unused, unused, "/keys")
    manager.set_revisions({"lab": "1"})
    package = str(srpm.build(bootable, python_package().recipe))
    for command in (
        ["makecache"], ["install", "@buildsys-build"], ["builddep", package], ["remove", "patch"],
        ["update"],
    ):  # fmt: skip
        system.run(bootable, manager.invocation(command))

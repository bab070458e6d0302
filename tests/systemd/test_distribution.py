# SPDX-License-Identifier: GPL-2.0-or-later
"""The distribution of today's generation, by its own rpm and by us."""

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
from tests.lab import srpm
from tests.lab.keys import package_keys
from tests.lab.layout import Lab, today_lab
from tests.lab.manifest import signing_key, validity
from tests.lab.today import system
from tests.lab.today.examples import python_package

pytestmark = [pytest.mark.lab, pytest.mark.slow]
_QUERY = "%{RPMFORMAT} [%{OPENPGP:pgpsig} ]\\n"
# rpm wants a database of its own, with both keys in it.
_VERIFY = """\
db=$(mktemp -d); out=$1; shift
rpm --dbpath $db --initdb; rpm --dbpath $db --import "$1" "$2"; shift 2
rpm --dbpath $db -K "$@" | grep -vc ': digests signatures OK$' > "$out" || true; rm -r $db
"""


@pytest.fixture(scope="module")
def today(lab: Lab) -> Lab:
    made = today_lab(lab)
    if not (made.dist / "key").is_file():
        pytest.skip("there is no lab of today's generation: make lab-today")
    return made


def test_packages_are_of_format_6_with_two_signatures(today: Lab, tmp_path: Path) -> None:
    packages = sorted(map(str, today.release(1).glob("*.rpm")))
    printed = system.run(today, ["rpm", "-qp", "--nosignature", "--qf", _QUERY, *packages])
    found = Counter(
        (line.split()[0], "EdDSA/SHA512" in line, "RSA/SHA512" in line)
        for line in printed.decode().splitlines()
    )
    assert found == {("6", True, True): len(packages)}
    both = map(str, package_keys(today))
    count = today.root / "unverified"
    system.run(today, ["sh", "-ec", _VERIFY, "sh", str(count), *both, *packages])
    assert count.read_text() == "0\n"
    count.unlink()


def test_either_key_speaks_for_the_whole_tree(today: Lab) -> None:
    signer = Signer.from_private(signing_key(today))
    manifests = []
    for key in package_keys(today):
        made, _, vouched = make_signed_manifest(
            today.tree, [key.read_bytes()], signer, name="today", validity=validity
        )
        assert not vouched.changed
        manifests.append(made)
    first, second = manifests
    assert first.packages == second.packages
    assert len(first.packages) > 200
    assert first.entries == second.entries


@pytest.fixture
def chroot(today: Lab) -> Iterator[Path]:
    """An installation root whose dnf.conf has the lab's repository."""
    root = today.root / "dnf5-chroot"
    (root / "etc/dnf").mkdir(parents=True)
    (root / "etc/dnf/dnf.conf").write_text(
        "[main]\nreposdir=/dev/null\nassumeyes=1\ngpgcheck=0\n"
        f"[lab]\nname=lab\nbaseurl=file://{today.release(1)}\n"
    )
    yield root
    shutil.rmtree(root)


def test_a_real_dnf5_takes_the_engines_command_lines(
    today: Lab, chroot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_find_program", lambda name: "/usr/bin/dnf5")
    options = default_config_opts()["dnf5_common_opts"]
    config = EngineConfig(
        "r", "r", "x86_64", "x86_64", "dnf5", "", [], dnf_common_opts=options, releasever="1"
    )
    place: Any = SimpleNamespace(root=str(chroot))
    unused: Any = None
    manager = PackageManager(config, place, unused, unused, "/keys")
    manager.set_revisions({"lab": "1"})
    package = str(srpm.build(today, python_package().recipe))
    for command in (
        ["makecache"], ["install", "@buildsys-build"], ["builddep", package], ["remove", "patch"],
        ["update"],
    ):  # fmt: skip
        system.run(today, manager.invocation(command))

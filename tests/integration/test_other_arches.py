# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds for another architecture than this machine's: what stops early, and arm64 emulated."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mock_cloud.toolkit.machines import MACHINES
from tests.integration.conftest import User, new_user
from tests.lab import chroots, foreign, srpm
from tests.lab.http import FileServer
from tests.lab.layout import Lab, default_lab, foreign_lab, locked
from tests.lab.srpm import Recipe

ARM = "aarch64"
HERE = platform.machine()
OTHER = next(name for name in MACHINES if name != HERE)
BUILD_TIMEOUT_S = 900.0


def for_other(user: User, toolkit: str) -> tuple[str, ...]:
    """The words for a chroot of `OTHER` on the remote "other", which says it has such nodes."""
    chroot = user.config.chroot_file()
    name = chroot.stem.replace(HERE, OTHER)
    chroot.with_name(f"{name}.cfg").write_text(chroot.read_text().replace(HERE, OTHER))
    text = user.config.remote_file.read_text().replace(f'"{HERE}"', f'"{OTHER}"')
    user.config.remote_file.with_name("other.toml").write_text(f"{text}\n{toolkit}")
    return ("-r", name, "--remote", "other")


def test_without_packages_for_the_architecture_no_node_is_asked_for(
    lone_mock: User, lab: Lab, plain_srpm: Path
) -> None:
    """The lab has packages of this machine only."""
    source = f'[toolkit]\nrepository = "file://{lab.release(1)}"\nkey = "{lab.package_key}"\n'
    ended = lone_mock.mock(*for_other(lone_mock, source), plain_srpm)
    assert ended.code in (3, 75)
    assert OTHER in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "node" not in ended.stderr.partition("ERROR")[0]
    _, chroot, *_ = for_other(lone_mock, source)
    ended = lone_mock.mock("-r", chroot, "--remote", "local", plain_srpm).expect(6)
    assert f"{OTHER} cannot be built on the remote's {HERE}" in ended.stderr
    assert lone_mock.nodes() == []


@pytest.fixture(scope="module")
def arm_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Somebody whose remote "local-arm" has nodes with arm64 programs only."""
    missing = foreign.find_missing(ARM)
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs {missing or 'root'}")
    if HERE == ARM:
        pytest.skip("needs another machine than an arm64 one")
    from tests.lab import dist, manifest, node

    lab = foreign_lab(default_lab(), ARM)
    place = tmp_path_factory.mktemp("arm")
    with foreign.emulated(ARM):
        with locked(lab):
            dist.build(lab)
            node.build(lab)
            manifest.build(lab)
        with FileServer({"/dist": lab.dist}) as server:
            config = chroots.write(lab, place / "etc", repository_url=f"{server.url}/dist")
            config.remote_file.rename(config.remote_file.with_name("local-arm.toml"))
            yield new_user(place, config, place / "cache", "--remote", "local-arm")
    shutil.rmtree(place)


@pytest.mark.slow
def test_an_arm64_node_is_attested_and_builds_natively(
    arm_user: User, lab_srpm: Callable[[Recipe], Path]
) -> None:
    """Toolkit of Debian's arm64 packages, a tree of arm64 RPMs, and an RPM that is one."""
    source = lab_srpm(srpm.native())
    try:
        arm_user.mock(source, timeout_s=BUILD_TIMEOUT_S).expect()
    finally:
        arm_user.release()
    resultdir = arm_user.basedir / "lab-1-aarch64/result"
    verdict = (resultdir / "remote_attestation.log").read_text()
    assert verdict.startswith("verdict: trusted")
    (package,) = resultdir.glob("toy-native-1-1*.aarch64.rpm")
    unpacked = subprocess.run(["rpm2cpio", package], capture_output=True, check=True).stdout
    program = unpacked[unpacked.index(b"\x7fELF") :]
    assert int.from_bytes(program[0x12:0x14], "little") == MACHINES[ARM].elf
    (listed,) = json.loads(arm_user.cloud("toolkit", "list", "--json").expect().stdout)
    assert (listed["arch"], len(listed["packages"]) > 20) == (ARM, True)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages that nobody here built: what their payloads hold is what rpm says that they hold."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from mock_cloud.comparison.contents import read_contents
from mock_cloud.comparison.levels import Level, compare_packages, identify
from mock_cloud.wire.rpmfile import read_file
from tests.unit.agent_rpm.oracle import given_packages, import_rpm, open_header

REAL = [path for path in given_packages() if path.suffix == ".rpm"]
SHA256 = 8
GHOST = 1 << 6

pytestmark = pytest.mark.skipif(not REAL, reason="no real packages ($MOCK_CLOUD_TEST_PACKAGES)")


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_files_are_those_that_rpm_lists(path: Path) -> None:
    rpm = import_rpm()
    header = open_header(rpm, path)
    with path.open("rb") as stream:
        file = read_file(stream)
        stream.seek(file.payload_at)
        contents = read_contents(file.header, stream)
    listed = {one.name: one for one in rpm.files(header) if not one.fflags & GHOST}
    source = header.isSource()
    assert {name.lstrip("/") if source else name for name in contents.files} == set(listed)
    if header["filedigestalgo"] not in (SHA256, None) or not listed:
        pytest.skip("its file digests are of another kind, or it has no files")
    for name, member in contents.files.items():
        theirs = listed[name.lstrip("/") if source else name]
        assert member.mode in (None, theirs.mode)
        if stat.S_ISREG(theirs.mode) and theirs.nlink == 1 and len(theirs.digest) == 64:
            assert member.sha256 == theirs.digest


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_a_package_whose_signature_was_taken_away_is_the_same_build(
    path: Path, tmp_path: Path
) -> None:
    if not shutil.which("rpmsign"):
        pytest.skip("needs rpmsign")
    copy = Path(shutil.copy(path, tmp_path))
    if path.name.startswith("rpm-basic-v6"):
        pytest.skip("rpm before 6 signs no packages of format 6")
    subprocess.run(["rpmsign", "--delsign", str(copy)], check=True, capture_output=True)
    with path.open("rb") as signed, copy.open("rb") as unsigned:
        found = compare_packages(signed, unsigned)
        assert identify(signed) == identify(unsigned)
    if path.read_bytes() == copy.read_bytes():
        assert found.level is Level.SAME_FILE
    else:
        assert (found.level, found.differences) == (Level.SAME_BUILD, ())
        assert found.volatile == ("signatures",)

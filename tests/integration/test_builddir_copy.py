# SPDX-License-Identifier: GPL-2.0-or-later
"""builddir/build of a kept chroot at the path that --print-root-path prints, on both engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.integration.real_mock import with_mock

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.mark.parametrize("engine", ["chroot", "mock"])
def test_a_copy_for_tools_that_look_there(
    lone_mock: User, plain_srpm: Path, tmp_path: Path, engine: str
) -> None:
    user = with_mock(lone_mock) if engine == "mock" else lone_mock
    file = user.config.remote_file
    file.write_text(file.read_text().replace("[build]", "[build]\ncopy_builddir_mib = 1"))
    printed = lone_mock.mock("--print-root-path").expect()  # mock itself prints none to root
    assert "not in the directory that is printed" in printed.stderr
    build = Path(printed.stdout.strip(), "builddir/build")

    user.mock("-N", "--resultdir", tmp_path / "r", plain_srpm).expect()
    assert list((build / "SPECS").glob("*.spec")) and not list((tmp_path / "r").glob("*.tree"))
    assert "a copy of its builddir/build" in lone_mock.mock("--print-root-path").expect().stderr

    evil = (
        "cd /builddir/build && ln -s /etc/passwd out && ln -s ../../etc up && mkdir BUILD/in &&"
        " ln -s ../BUILD BUILD/in/near && mkfifo pipe && echo x > su && chmod 6755 su"
    )
    ended = user.mock("--chroot", evil).expect()
    assert "2 links that lead out of builddir/build are not in its copy" in ended.stderr
    names = {path.name for path in build.iterdir()}
    assert "su" in names and not names & {"out", "up", "pipe"}
    assert (build / "su").stat().st_mode & 0o7777 == 0o755
    assert str((build / "BUILD/in/near").readlink()) == "../BUILD"

    ended = user.mock("--chroot", "head -c 2M /dev/zero > /builddir/build/large").expect()
    assert "builddir/build has more than 1 MiB: the copy of it is empty" in ended.stderr
    assert not build.exists()
    user.mock("--chroot", "rm /builddir/build/large").expect()
    assert (build / "SPECS").is_dir()

    ended = user.mock("--clean").expect()
    assert ended.stderr.count("its chroot is not kept") == 1 and not build.exists()

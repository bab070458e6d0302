# SPDX-License-Identifier: GPL-2.0-or-later
"""The calls that Koji's builder makes, one after the other as it makes them, without Koji.

test_koji_builder.py has kojid itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.process import run
from tests.integration.conftest import User

pytestmark = pytest.mark.lab

BUILDROOT = "tag-build-7-3"


@pytest.fixture
def koji(mock: User) -> Iterator[Path]:
    """BASEDIR/ROOT of a buildroot whose configuration stands where kojid puts it."""
    text = mock.config.chroot_file().read_text()
    config = mock.config.path / f"koji/{BUILDROOT}.cfg"
    config.parent.mkdir()
    config.write_text(f"{text}\nconfig_opts['root'] = {BUILDROOT!r}\n")
    yield mock.basedir / BUILDROOT
    mock.mock("-r", f"koji/{BUILDROOT}", "--clean").expect()
    assert list((mock.basedir / BUILDROOT / "root").rglob("*.sqlite")) == []
    shutil.rmtree(config.parent)


def packages(koji: Path) -> set[str]:
    """What kojid reads from the database, with rpm's own eyes."""
    query = ("rpm", "--dbpath", str(koji / "root/var/lib/rpm"), "-qa", "--qf", "%{name}\n")
    return set(run(query, timeout_s=600).decode().split())


@pytest.mark.slow
def test_init_chroot_rebuild(mock: User, koji: Path, plain_srpm: Path, failing_srpm: Path) -> None:
    calls = ("-r", f"koji/{BUILDROOT}")
    mock.mock(*calls, "--init").expect()
    installed = packages(koji)
    assert {"bash", "rpm-build"} <= installed
    shared, logs = koji / "root/chroot_tmpdir", koji / "root/var/log"
    dnf_log = logs / "dnf.log"
    first = dnf_log.stat()
    assert first.st_size > 0
    (node,) = [one for one in mock.nodes() if BUILDROOT in one["chroots"]]

    (shared / "unpacked").mkdir()
    (shared / "in.txt").write_text("from here")
    command = (
        "cd /chroot_tmpdir && cat in.txt && mkdir -p unpacked/SPECS"
        " && echo x > unpacked/SPECS/a.spec && rm in.txt && ln -s unpacked/SPECS out"
        " && ln -s /etc/passwd leads-out && mkfifo fifo"
    )
    ended = mock.mock(*calls, "--chroot", command).expect()
    assert ended.stdout == "from here"
    assert "leads out: 'leads-out'" in ended.stderr
    assert (shared / "unpacked/SPECS/a.spec").read_text() == "x\n"
    assert str((shared / "out").readlink()) == "unpacked/SPECS"
    assert sorted(path.name for path in shared.iterdir()) == ["out", "unpacked"]

    (shared / "unpacked/SPECS/a.spec").unlink()
    mock.mock(*calls, "--chroot", "test ! -e /chroot_tmpdir/unpacked/SPECS/a.spec").expect()
    mock.mock(*calls, "--no-clean", "--rebuild", failing_srpm).expect(1)
    assert installed <= packages(koji)
    mock.mock(*calls, "--no-clean", "--target", "noarch", "--rebuild", plain_srpm).expect()
    results = sorted(path.name for path in (koji / "result").iterdir())
    assert [name for name in results if not name.endswith(".log")] == [
        "toy-plain-1-1.lab1.noarch.rpm", "toy-plain-1-1.lab1.src.rpm",
    ]  # fmt: skip
    attested = (koji / "result/remote_attestation.log").read_text()
    assert attested.count("verdict: trusted") == 5
    after = dnf_log.stat()
    assert after.st_ino == first.st_ino and after.st_size >= first.st_size
    # One node served all of it, and then it is everybody's again.
    (last,) = [one for one in mock.nodes() if BUILDROOT in one["chroots"]]
    assert last["lease"] == node["lease"]


@pytest.mark.slow
def test_tasks_that_work_in_the_chroots_own_files_are_refused(mock: User, koji: Path) -> None:
    calls = ("-r", f"koji/{BUILDROOT}")
    shell = "{ id; } < /dev/null 2>&1 | /usr/bin/tee /builddir/runroot.log; exit ${PIPESTATUS[0]}"
    ended = mock.mock(*calls, "--chroot", "--", "/bin/sh", "-c", shell).expect(50)
    assert "Koji's runroot cannot run on a remote node" in ended.stderr
    config = mock.config.path / f"koji/{BUILDROOT}.cfg"
    kept = config.read_text()
    config.write_text(kept + "config_opts['chroot_setup_cmd'] = 'install @maven-build'\n")
    ended = mock.mock(*calls, "--init").expect(50)
    config.write_text(kept)
    assert "Koji's maven builds cannot run on a remote node" in ended.stderr
    assert not (koji / "result").exists()

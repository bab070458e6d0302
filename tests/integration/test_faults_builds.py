# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds, repositories and disks that fail: whose fault it is shows in code and message."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mock_cloud.process import run
from tests.integration.conftest import Ended, User
from tests.integration.faults import (
    Command,
    Earlier,
    check_failure,
    check_gone,
)
from tests.lab import keys, srpm
from tests.lab.http import Fault, FileServer
from tests.lab.layout import Lab
from tests.lab.srpm import Recipe

pytestmark = pytest.mark.lab


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator[Earlier]:
    results = Earlier(tmp_path / "results")
    yield results
    results.check()


@pytest.fixture(scope="module")
def lease(mock: User) -> str:
    """The one that a node is held under."""
    (row,) = mock.nodes()
    return str(row["lease"])


@pytest.fixture(autouse=True)
def _node_stays(mock: User, lease: str) -> Iterator[None]:
    """What fails here is no fault of the node: it stays warm."""
    yield
    assert [(row["lease"], row["state"]) for row in mock.nodes()] == [(lease, "ready")]


def check_failed(ended: Ended, code: int, *says: str) -> None:
    """As mock itself reports it: the job's own ERROR, which may have several lines."""
    assert "Traceback" not in ended.stderr + ended.stdout, ended.stderr
    ended.expect(code)
    said = ended.stderr.rpartition("ERROR: ")[2]
    for part in says:
        assert part in said, f"{part!r} is not in {ended.stderr!r}"


# Builds


@pytest.mark.fault(42)
def test_a_failing_build(mock: User, failing_srpm: Path, earlier: Earlier) -> None:
    ended = mock.mock("--resultdir", earlier.path, failing_srpm)
    check_failed(ended, 1, "Command failed", "rpmbuild -bb")
    assert "about to fail" in earlier.log("build.log")


@pytest.mark.slow
def test_a_failing_check(mock: User, failing_check_srpm: Path, earlier: Earlier) -> None:
    ended = mock.mock("--resultdir", earlier.path, failing_check_srpm)
    check_failed(ended, 1, "Command failed", "rpmbuild -bb")
    assert "checking" in earlier.log("build.log")


@pytest.mark.slow
def test_a_build_requirement_that_nobody_has(
    mock: User, missing_requirement_srpm: Path, earlier: Earlier
) -> None:
    ended = mock.mock("--resultdir", earlier.path, missing_requirement_srpm)
    check_failed(ended, 30, "lab-no-such-package >= 3")


@pytest.mark.slow
def test_a_build_that_takes_too_long(mock: User, sleeping_srpm: Path, earlier: Earlier) -> None:
    ended = mock.mock("--resultdir", earlier.path, "--rpmbuild_timeout", "3", sleeping_srpm)
    check_failed(ended, 11, "Timeout(3) expired")
    assert "tick 2" in earlier.log("build.log")


# Repositories


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault.NOT_FOUND, "404"),
        pytest.param(Fault.SERVER_ERROR, "500", marks=pytest.mark.slow),
        (Fault.TRUNCATED, ""),
        pytest.param(Fault.HANG, "timed out", marks=pytest.mark.slow),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
@pytest.mark.fault(32)
def test_a_repository_without_repomd(
    mock: User, lab_repo: FileServer, plain_srpm: Path, earlier: Earlier, fault: Fault, says: str
) -> None:
    with lab_repo.fault("/dist/1/repodata/repomd.xml", fault):
        ended = mock.mock("--resultdir", earlier.path, plain_srpm)
    check_failed(ended, 30, "'lab'", f"{lab_repo.url}/dist/1", says)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [Fault.NOT_FOUND, Fault.TRUNCATED, Fault.HANG], ids=lambda fault: fault.name
)
def test_a_repository_with_half_of_its_metadata(
    mock: User, lab: Lab, lab_repo: FileServer, plain_srpm: Path, earlier: Earlier, fault: Fault
) -> None:
    primary = next(lab.release(2).glob("repodata/*-primary.xml.*"))
    chroot = mock.config.chroot_file(2)
    impatient = chroot.with_name("impatient.cfg")  # dnf's own limits hold: 30 s, and 3 retries
    impatient.write_text(
        chroot.read_text() + "config_opts['dnf.conf'] = "
        "config_opts['dnf.conf'].replace('retries=3', 'retries=1\\ntimeout=1')\n"
    )
    with lab_repo.fault(f"/dist/2/repodata/{primary.name}", fault):
        ended = mock.mock("-r", "impatient", "--resultdir", earlier.path, plain_srpm)
    check_failed(ended, 30, "lab", primary.name)


def with_repository(user: User, name: str, text: str) -> str:
    """A chroot like the first, with one more repository; its name."""
    chroot = user.config.chroot_file().read_text()
    chroot = chroot.replace("'lab-{{ releasever }}", f"'{name}-{{{{ releasever }}}}")
    chroot += f'\nconfig_opts["dnf.conf"] += """\n[{name}]\nname={name}\n{text}\n"""\n'
    (user.config.path / f"{name}.cfg").write_text(chroot)
    return name


def test_a_repository_that_nobody_serves(mock: User, plain_srpm: Path, earlier: Earlier) -> None:
    url = "http://127.0.0.1:1/none"
    name = with_repository(mock, "absent", f"baseurl={url}\nskip_if_unavailable=False")
    ended = mock.mock("-r", name, "--resultdir", earlier.path, plain_srpm)
    check_failed(ended, 30, "'absent'", url, "refused")


@pytest.fixture(scope="module")
def wanting_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    return lab_srpm(srpm.toy("toy-wanting", preamble="BuildRequires: lab-thing\n"))


@pytest.fixture(scope="module")
def things(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    """Repositories with one package: not signed, and signed with a key nobody asked for."""
    place = tmp_path_factory.mktemp("things")
    recipe = srpm.toy("lab-thing", preamble="BuildArch: noarch\n")
    spec = place / "lab-thing.spec"
    spec.write_text(recipe.spec)
    for name in ("unsigned", "foreign"):
        (place / name).mkdir()
        run(
            ["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {place}/top",
             "--define", f"_rpmdir {place}/{name}", str(spec)],
            timeout_s=600,
        )  # fmt: skip
    keys.sign(lab, [next((place / "foreign").rglob("*.rpm"))], keys.FOREIGN_USER)
    for name in ("unsigned", "foreign"):
        run(["createrepo_c", "--quiet", str(place / name)], timeout_s=600)
    with FileServer({"/things": place}) as server:
        yield server
    shutil.rmtree(place)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unsigned", "foreign"])
def test_packages_that_nobody_trusted_signed(
    mock: User, lab: Lab, things: FileServer, wanting_srpm: Path, earlier: Earlier, kind: str
) -> None:
    text = f"baseurl={things.url}/things/{kind}\ngpgcheck=1\ngpgkey=file://{lab.package_key}"
    name = with_repository(mock, kind, text)
    ended = mock.mock("-r", name, "--resultdir", earlier.path, wanting_srpm)
    check_failed(ended, 30, "lab-thing-1-1.noarch")
    assert "GPG check FAILED" in ended.stderr


# Disks


@pytest.mark.fault(27)
def test_the_nodes_disk_is_full(lone_mock: User, plain_srpm: Path, earlier: Earlier) -> None:
    remote = lone_mock.config.remote_file
    remote.write_text(remote.read_text().replace("[local]", "[local]\ndisk_mib = 100"))
    ended = lone_mock.mock("--resultdir", earlier.path, plain_srpm)
    assert ended.code == 75, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "no-space" in ended.stderr
    assert "nothing is wrong with the package" in ended.stderr
    check_gone(lone_mock)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a file system of a few KiB."""
    place = tmp_path / "disk"
    place.mkdir()

    def make(size: str) -> Path:
        argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "small", str(place)]
        subprocess.run(argv, check=True)
        return place

    yield make
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param("64k", id="at a log", marks=pytest.mark.slow),
        pytest.param("2m", id="at the packages"),
    ],
)
def test_the_disk_of_the_resultdir_is_full(
    mock: User, plain_srpm: Path, small_disk: Callable[[str], Path], size: str
) -> None:
    disk = small_disk(size)
    (disk / "old-1-1.noarch.rpm").write_bytes(b"earlier")
    ended = mock.mock("--resultdir", disk, plain_srpm)
    check_failure(ended, 75, f"the disk {disk}", hint="--resultdir")
    assert (disk / "old-1-1.noarch.rpm").read_bytes() == b"earlier"
    assert [path.name for path in disk.iterdir() if path.name.startswith(".")] == []
    assert [path.name for path in disk.glob("*.rpm")] == ["old-1-1.noarch.rpm"]
    (job,) = json.loads(mock.cloud("jobs", "--json").expect().stdout)
    mock.cloud("cancel", job["job"], "--configdir", mock.config.path).expect()


# Hostile output


def test_escapes_reach_the_log_and_no_terminal(
    mock: User, escaping_srpm: Path, earlier: Earlier
) -> None:
    with Command(mock, "--resultdir", earlier.path, escaping_srpm, terminal=True) as command:
        assert command.ended().code == 0
        shown = command.text
    assert "red" in shown
    for bad in ("\x1b]0;", "\x1b[2J", "\x07", "\x9b"):
        assert bad not in shown, repr(bad)
    log = (earlier.path / "build.log").read_bytes()
    # As mock cleans it: no colours, and U+FFFD for what is no UTF-8.
    assert b"\x1b]0;owned\x07\x1b[2Jred" in log and "\ufffd\ufffd\ufffd end".encode() in log
    (earlier.path / "toy-escaping-1-1.lab1.noarch.rpm").unlink()
    (earlier.path / "toy-escaping-1-1.lab1.src.rpm").unlink()


@pytest.fixture(scope="module")
def odd_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    """Leaves files with odd names and kinds where rpmbuild puts packages."""
    return lab_srpm(
        srpm.toy(
            "toy-odd",
            preamble="BuildArch: noarch\n",
            build="cd %{_rpmdir}\n"
            "ln -s /etc/passwd link.rpm\nmkfifo fifo.rpm\nmkdir directory.rpm\n"
            "echo x > -dash.rpm\necho x > 'with space.rpm'\n"
            "printf x > \"$(printf 'new\\nline.rpm')\"\n",
        )
    )


def test_odd_names_beside_the_packages(mock: User, odd_srpm: Path, earlier: Earlier) -> None:
    ended = mock.mock("--resultdir", earlier.path, odd_srpm)
    check_failed(ended, 40, "-dash.rpm")

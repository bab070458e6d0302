# SPDX-License-Identifier: GPL-2.0-or-later
"""Options that change a build or its chroot, each seen to have its effect on a real node."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_cloud.process import run
from tests.integration.conftest import User
from tests.lab.http import FileServer
from tests.lab.srpm import Recipe, toy

pytestmark = pytest.mark.lab

LabSrpm = Callable[[Recipe], Path]


def names(directory: Path, pattern: str = "*.rpm") -> list[str]:
    return sorted(path.name for path in directory.glob(pattern))


def probe() -> Recipe:
    """Tells in its build.log what it was built with."""
    return toy(
        "toy-probe",
        preamble="BuildArch: noarch\n%bcond_without usual\n",
        build='echo "word=%{?toy_word} file=%{?toy_file} opts=%{?toy_opts}"\n'
        'echo "usual=%{with usual} config=%{?toy_config} target=%{_target_cpu}"\n'
        'echo "zlib=$(rpm -q zlib1g-dev >/dev/null && echo yes)'
        ' plain=$(rpm -q toy-plain >/dev/null && echo yes)"',
    )


@pytest.mark.slow
def test_conditions_definitions_and_packages(
    mock: User, conditional_srpm: Path, plain_srpm: Path, lab_srpm: LabSrpm, tmp_path: Path
) -> None:
    result = tmp_path / "result"
    plain = tmp_path / "plain"
    mock.mock("--resultdir", plain, "--postinstall", "-N", plain_srpm).expect()
    # -N: the chroot is kept, and what was built is installed in it.
    mock.mock("--chroot", "rpm -q toy-plain && test -d /builddir/build/BUILD").expect()

    mock.mock("-D", "toy_word a  b", "--with", "extra", "--resultdir", result,
              conditional_srpm).expect()  # fmt: skip
    assert "toy-conditional-extra-1-1.lab1.noarch.rpm" in names(result)
    macros = tmp_path / "macros"
    macros.write_text("%toy_file from-a-file\n")
    (package,) = plain.glob("*.noarch.rpm")
    mock.mock(
        "--without", "usual", "--define=toy_word two words", "--macro-file", macros,
        "--rpmbuild-opts", "--define 'toy_opts of options'", "--target", "noarch",
        "--additional-package", "zlib-devel",
        "--additional-package", package, "--resultdir", result, "--cleanup-after",
        lab_srpm(probe()),
    ).expect()  # fmt: skip
    log = (result / "build.log").read_text()
    assert "word=two words file=from-a-file opts=of options" in log
    assert "usual=0" in log
    assert "target=noarch" in log
    assert "zlib=yes plain=yes" in log
    mock.mock("--chroot", "test ! -e /builddir/build/BUILD/toy-probe-1").expect()


@pytest.mark.slow
def test_checks_time_limits_and_stages(
    mock: User, failing_check_srpm: Path, lab_srpm: LabSrpm, tmp_path: Path
) -> None:
    result = tmp_path / "result"
    mock.mock("--resultdir", result, failing_check_srpm).expect(1)
    mock.mock("--nocheck", "--resultdir", result, failing_check_srpm).expect()
    assert "toy-check-1-1.lab1.noarch.rpm" in names(result)

    slow = lab_srpm(toy("toy-slow", preamble="BuildArch: noarch\n", build="sleep 600"))
    started_s = time.monotonic()
    ended = mock.mock("--rpmbuild_timeout", "3", "--resultdir", tmp_path / "slow", slow).expect(11)
    assert time.monotonic() - started_s < 300
    assert "Timeout(3) expired" in ended.stderr

    stages = lab_srpm(
        toy(
            "toy-stages",
            preamble="BuildArch: noarch\n",
            build="echo building >&2; touch /var/tmp/built",
            install="echo installing >&2",
        )
    )
    mock.mock("-N", "--resultdir", tmp_path / "all", stages).expect()
    mock.mock("--short-circuit", "install", "-N", "--resultdir", tmp_path / "half", stages).expect()
    log = (tmp_path / "half/build.log").read_text()
    assert "\ninstalling\n" in log
    assert "\nbuilding\n" not in log


@pytest.mark.slow
def test_the_network(mock: User, networkless_srpm: Path, tmp_path: Path) -> None:
    result = tmp_path / "result"
    mock.mock("--resultdir", result, networkless_srpm).expect()
    mock.mock("--enable-network", "--resultdir", tmp_path / "net", networkless_srpm).expect(1)
    assert "interfaces: lo\n" not in (tmp_path / "net/build.log").read_text()


def publish(directory: Path, *packages: Path) -> None:
    """Make `directory` a repository of `packages` and nothing else."""
    directory.mkdir(exist_ok=True)
    for package in directory.glob("*.rpm"):
        package.unlink()
    for package in packages:
        shutil.copy(package, directory)
    run(["createrepo_c", "-q", str(directory)], timeout_s=600)


@pytest.mark.slow
def test_repositories(mock: User, lab_srpm: LabSrpm, tmp_path: Path) -> None:
    source = lab_srpm(toy("toy-served", preamble="BuildArch: noarch\n"))
    mock.mock("--resultdir", tmp_path / "result", source).expect()
    publish(tmp_path / "repo", *(tmp_path / "result").glob("*.noarch.rpm"))
    with FileServer({"/repo": tmp_path / "repo"}) as server:
        added = ("--addrepo", f"{server.url}/repo")
        mock.mock(*added, "--init").expect()
        mock.mock(*added, "--install", "toy-served").expect()
        mock.mock("--chroot", "rpm -q toy-served-1-1.lab1").expect()
        assert mock.mock("--disablerepo", "lab", "--install", "zlib-devel").code == 30
        mock.mock("--disablerepo", "*", "--enablerepo", "lab", "--install", "zlib-devel").expect()
        mock.mock("--chroot", "test -e /usr/include/zlib.h").expect()
        absent = mock.mock("--addrepo", f"{server.url}/absent", "--init")
    assert absent.code == 30
    assert f"{server.url}/absent" in absent.stderr


@pytest.mark.slow
def test_how_much_is_said(mock: User, plain_srpm: Path, tmp_path: Path) -> None:
    result = tmp_path / "result"
    quiet = mock.mock("-q", "--resultdir", result, plain_srpm).expect()
    assert quiet.stderr == quiet.stdout == ""
    assert (result / "build.log").stat().st_size > 500
    loud = mock.mock("-v", "--resultdir", result, plain_srpm).expect()
    assert "DEBUG: " in loud.stderr
    failing = mock.mock("-q", "--resultdir", result, "--install", "no-such-package")
    assert failing.code == 30
    assert failing.stderr.startswith("ERROR: ")


@pytest.mark.slow
def test_a_configuration_chooses_the_remote(mock: User) -> None:
    site = mock.config.path / "site-defaults.cfg"
    kept = site.read_text()
    words = [*mock.argv("--chroot", "echo here")]
    at = words.index("--remote")
    del words[at : at + 2]
    try:
        site.write_text(kept + "config_opts['remote'] = 'local'\n")
        assert mock.run(words).expect().stdout == "here\n"
    finally:
        site.write_text(kept)
    assert mock.run(words, env={"MOCK_REMOTE": "local"}).expect().stdout == "here\n"


@pytest.mark.slow
def test_ctrl_c_stops_the_build_and_keeps_the_node(
    mock: User, sleeping_srpm: Path, tmp_path: Path
) -> None:
    result = tmp_path / "result"
    with (tmp_path / "said").open("w") as said:
        process = mock.start("--resultdir", result, sleeping_srpm, stdout=said,
                             stderr=subprocess.STDOUT)  # fmt: skip
        log = result / "build.log"
        deadline = time.monotonic() + 60
        while "tick 2" not in (log.read_text() if log.exists() else ""):
            assert process.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=600) == 7, (tmp_path / "said").read_text()
    assert "Exiting on user interrupt" in (tmp_path / "said").read_text()
    assert len(mock.nodes()) == 1
    assert "tick 2" in log.read_text()
    mock.mock("--chroot", "true").expect()


@pytest.mark.slow
def test_payloads_say_what_was_built(mock: User, plain_srpm: Path, tmp_path: Path) -> None:
    """--config-opts reach the build: here the digest algorithm of the payload's files."""
    result = tmp_path / "result"
    mock.mock("--config-opts", "chroot_additional_packages=zlib-devel", "--resultdir", result,
              plain_srpm).expect()  # fmt: skip
    assert "zlib1g-dev" in (result / "installed_pkgs.log").read_text()
    (package,) = result.glob("*.noarch.rpm")
    user = run(["rpm", "-qp", "--qf", "%{BUILDHOST} %{VENDOR}", str(package)], timeout_s=600)
    assert user.decode().split()[0] != ""


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["yum", "dnf5"])
def test_another_package_manager_than_was_asked_for_is_said(mock: User, wanted: str) -> None:
    """As mock says it, once; the node has dnf4 only."""
    option = ("--config-opts", f"package_manager={wanted}")
    ended = mock.mock(*option, "--init").expect()
    assert ended.stderr.count(f"Using 'dnf4' instead of '{wanted}'") == 1
    mock.mock("--clean").expect()
    assert "instead of" not in mock.mock("--init").expect().stderr

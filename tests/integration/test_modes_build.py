# SPDX-License-Identifier: GPL-2.0-or-later
"""Modes that make chroots and packages, through the launcher and on one warm node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mock_cloud.process import run
from tests.integration.conftest import User
from tests.lab.srpm import Recipe, toy

pytestmark = pytest.mark.lab

LabSrpm = Callable[[Recipe], Path]


def names(directory: Path, pattern: str = "*.rpm") -> list[str]:
    return sorted(path.name for path in directory.glob(pattern))


@pytest.mark.slow
def test_init_clean_and_scrub(mock: User) -> None:
    mock.mock("--init").expect()
    mock.mock("--chroot", "touch /root/mark").expect()
    mock.mock("--init", "--no-clean").expect()
    mock.mock("--chroot", "test -e /root/mark").expect()
    mock.mock("--init").expect()
    mock.mock("--chroot", "test ! -e /root/mark; touch /root/mark").expect()
    # Another name, another chroot, on the same node.
    mock.mock("--uniqueext", "other", "--chroot", "test ! -e /root/mark").expect()
    mock.mock("--uniqueext", "other", "--clean").expect()
    mock.mock("--chroot", "test -e /root/mark").expect()
    (node,) = mock.nodes()
    assert node["chroots"] == [mock.config.chroot()]
    assert (mock.basedir / mock.config.chroot() / "result/root.log").exists()
    mock.mock("--clean").expect()
    assert not (mock.basedir / mock.config.chroot() / "result").exists()
    (node,) = mock.nodes()
    assert node["chroots"] == []


@pytest.mark.slow
def test_each_kind_of_scrub(mock: User, tmp_path: Path) -> None:
    kinds = ("chroot", "cache", "root-cache", "c-cache", "yum-cache", "dnf-cache", "bootstrap")
    words = [word for kind in kinds for word in ("--scrub", kind)]
    result = tmp_path / "result"
    ended = mock.mock("--resultdir", result, *words).expect()
    for kind in kinds:  # mock says so of both package managers' caches
        shown = "yum-cache and dnf-cache" if kind in ("yum-cache", "dnf-cache") else kind
        assert f"scrubbing {shown} for" in ended.stderr
    mock.mock("--scrub", "all").expect()
    ended = mock.mock("--init").expect()
    assert "Start: installing minimal buildroot" in ended.stderr, "something was kept"
    assert mock.mock("--scrub", "lvm").code == 50
    assert mock.mock("--scrub", "nonsense").code == 5


def test_rebuild_one_or_several(mock: User, plain_srpm: Path, conditional_srpm: Path) -> None:
    ended = mock.mock("rebuild", plain_srpm).expect()
    result = mock.basedir / mock.config.chroot() / "result"
    assert names(result) == ["toy-plain-1-1.lab1.noarch.rpm", "toy-plain-1-1.lab1.src.rpm"]
    assert names(result, "*.log") == [
        "build.log", "hw_info.log", "installed_pkgs.log", "remote_attestation.log",
        "remote_order.log", "root.log", "state.log",
    ]  # fmt: skip
    assert f"INFO: Results and/or logs in: {result}" in ended.stderr
    assert f"INFO: Done({plain_srpm}) Config({mock.config.chroot()})" in ended.stderr
    assert f"Finish: build phase for {plain_srpm.name}" in ended.stderr

    several = mock.place / "several"
    assert mock.mock(plain_srpm, conditional_srpm).code == 5
    mock.mock("--resultdir", several, plain_srpm, conditional_srpm).expect()
    assert len(names(several)) == 4
    # mock's own result directory is emptied with its chroot; one that was named is not.
    mock.mock(conditional_srpm).expect()
    assert "toy-plain-1-1.lab1.noarch.rpm" not in names(result)
    mock.mock("--resultdir", several, plain_srpm).expect()
    assert len(names(several)) == 4


@pytest.mark.slow
def test_another_spec_and_the_same_chroot_again(mock: User, tmp_path: Path) -> None:
    recipe = toy("toy-spec", preamble="BuildArch: noarch\n", sources={"data": b"of the source\n"},
                 install="cp %{SOURCE0} %{buildroot}%{_datadir}/toy-spec")  # fmt: skip
    sources, result = tmp_path / "sources", tmp_path / "result"
    sources.mkdir()
    (sources / "data").write_bytes(b"of the source\n")
    (sources / "link").symlink_to("data")
    (sources / "away").symlink_to("/etc/passwd")
    spec = tmp_path / "toy-spec.spec"
    spec.write_text(recipe.spec.replace("%build\n", "%build\nls -l %{_sourcedir}\n"))

    made = mock.mock("--buildsrpm", "--spec", spec, "--sources", sources, "--resultdir", result)
    assert "Start: buildsrpm" in made.expect().stderr
    assert names(result) == ["toy-spec-1-1.lab1.src.rpm"]
    one = tmp_path / "one"
    mock.mock("--buildsrpm", "--spec", spec, "--sources", sources / "data", "--resultdir", one)
    digest = "%{FILEDIGESTS} %{FILENAMES}"
    queries = [
        run(["rpm", "-qp", "--qf", f"[{digest}\\n]", str(path / made_name)], timeout_s=600)
        for path in (result, one)
        for made_name in names(path)
    ]
    assert len(queries) == 2
    assert queries[0] == queries[1]
    assert mock.mock("--buildsrpm", "--sources", sources).code == 5
    lacking = mock.mock("--buildsrpm", "--spec", spec, "--resultdir", tmp_path / "lacking")
    assert lacking.code == 1
    assert "data" in (tmp_path / "lacking/build.log").read_text()

    mock.mock("--rebuild", "--spec", spec, "--sources", sources, "--resultdir", result).expect()
    assert "toy-spec-1-1.lab1.noarch.rpm" in names(result)

    other = tmp_path / "other.spec"
    other.write_text(spec.read_text().replace("Release: 1", "Release: 7"))
    mock.mock("--init").expect()
    mock.mock("--chroot", "touch /root/mark").expect()
    mock.mock("-n", "-N", "--spec", other, "--resultdir", result, result / names(result)[-1])
    assert "toy-spec-1-7.lab1.noarch.rpm" in names(result)
    mock.mock("--chroot", "test -e /root/mark && test -d /builddir/build/BUILD").expect()


@pytest.mark.slow
def test_packages_come_and_go(mock: User, plain_srpm: Path, tmp_path: Path) -> None:
    result = tmp_path / "result"
    mock.mock("--resultdir", result, plain_srpm).expect()
    (built,) = [result / name for name in names(result) if "src" not in name]
    mock.mock("--install", built, "zlib-devel").expect()
    mock.mock("--chroot", "rpm -q toy-plain && ls /usr/include/zlib.h").expect()
    mock.mock("--remove", "toy-plain").expect()
    assert mock.mock("--chroot", "rpm -q toy-plain").code == 1
    mock.mock("--update").expect()
    missing = mock.mock("-i", "no-such-package")
    assert missing.code == 30
    assert "no-such-package" in missing.stderr
    assert mock.mock("--install").code == 50
    assert mock.mock("--install", "./no-such-file.rpm").code == 50


@pytest.mark.slow
def test_dependencies_alone(mock: User, lab_srpm: LabSrpm, tmp_path: Path) -> None:
    recipe = toy("toy-needs", preamble="BuildRequires: zlib-devel\n")
    spec = tmp_path / "toy-needs.spec"
    spec.write_text(recipe.spec)
    for source in (lab_srpm(recipe), spec):
        mock.mock("--init").expect()
        assert mock.mock("--chroot", "test -e /usr/include/zlib.h").code == 1
        mock.mock("--installdeps", source).expect()
        mock.mock("--chroot", "test -e /usr/include/zlib.h").expect()


def test_a_failed_build(mock: User, failing_srpm: Path, tmp_path: Path) -> None:
    result = tmp_path / "result"
    ended = mock.mock("--resultdir", result, failing_srpm).expect(1)
    assert "about to fail" in (result / "build.log").read_text()
    assert f"ERROR: Exception({failing_srpm})" in ended.stderr
    assert "ERROR: Command failed:" in ended.stderr
    assert f"INFO: Results and/or logs in: {result}" in ended.stderr
    assert names(result) == []
    # The chroot is gone, the node is not.
    assert len(mock.nodes()) == 1


def test_a_missing_requirement(mock: User, missing_requirement_srpm: Path, tmp_path: Path) -> None:
    result = tmp_path / "result"
    ended = mock.mock("--resultdir", result, missing_requirement_srpm).expect(30)
    assert "lab-no-such-package" in ended.stderr
    assert "lab-no-such-package" in (result / "root.log").read_text()

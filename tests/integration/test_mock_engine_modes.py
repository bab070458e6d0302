# SPDX-License-Identifier: GPL-2.0-or-later
"""Real mock on the node: this machine's own, with this machine's configuration.

The launcher finds a mock on the PATH, whose code goes along; the node has none.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import Ended, MakeUser, User
from tests.integration.real_mock import with_mock
from tests.lab.http import FileServer

pytestmark = pytest.mark.lab

SPEC = """\
Name: own
Version: 1
Release: 1
License: MIT
BuildArch: noarch
Summary: {summary}
%description
%{{summary}}
%files
"""
LOGS = {"root.log", "build.log", "state.log", "hw_info.log", "installed_pkgs.log"}


@pytest.fixture(scope="module")
def user(make_user: MakeUser) -> User:
    """Somebody with a mock, whose node is warm."""
    made = with_mock(make_user("engine"))
    made.mock("--init").expect()
    return made


@pytest.fixture
def configured(user: User) -> Iterator[Callable[[str], None]]:
    """Adds lines to the chroot's configuration for one test."""
    file = user.config.chroot_file()
    before = file.read_text()

    def add(text: str) -> None:
        file.write_text(before + text)

    yield add
    file.write_text(before)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def in_chroot(user: User, command: str) -> str:
    return user.mock("--quiet", "--chroot", command).expect().stdout


def test_a_rebuild(user: User, plain_srpm: Path, tmp_path: Path) -> None:
    ended = user.mock("--resultdir", tmp_path / "r", plain_srpm).expect()
    assert "node trusted" in ended.stderr
    assert "Signal handler active" in ended.stderr  # a line of mock's own, and of nobody else
    found = names(tmp_path / "r")
    assert found >= LOGS
    for ending in (".noarch.rpm", ".src.rpm"):
        assert len([name for name in found if name.endswith(ending)]) == 1
    state = (tmp_path / "r/state.log").read_text()
    assert "Start: rpmbuild" in state and "Finish: run" in state
    # What mock says is about this machine's files, not the node's.
    assert "/run/mock-cloud" not in ended.stderr and "@MOCK" not in ended.stderr
    assert ended.stderr.count("mock.py version") == 1
    assert ended.stderr.count(f"Results and/or logs in: {tmp_path / 'r'}") == 1


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [("failing", 1, "rpmbuild"), ("missing", 30, "not be found")],
)
def test_exit_codes_are_mocks(
    user: User, request: pytest.FixtureRequest, tmp_path: Path, name: str, code: int, says: str
) -> None:
    fixtures = {"failing": "failing_srpm", "missing": "missing_requirement_srpm"}
    srpm: Path = request.getfixturevalue(fixtures[name])
    ended = user.mock("--resultdir", tmp_path / "r", srpm).expect(code)
    assert says in ended.stderr
    assert not list((tmp_path / "r").glob("*.noarch.rpm"))
    assert "root.log" in names(tmp_path / "r")


def test_a_chain_with_a_repository_of_the_users(
    user: User, chain_srpms: tuple[Path, Path], failing_srpm: Path, tmp_path: Path
) -> None:
    first, second = chain_srpms
    words = ("--chain", "--localrepo", tmp_path / "repo")
    ended = user.mock(*words, "--continue", first, failing_srpm).expect(4)
    assert f"Success building {first.name}" in ended.stderr
    results = tmp_path / "repo/results" / user.config.chroot()
    assert {"success", "build.log"} <= names(results / first.name.removesuffix(".src.rpm"))
    assert "fail" in names(results / failing_srpm.name.removesuffix(".src.rpm"))
    again = user.mock(*words, first, second).expect()
    assert f"Skipping already built pkg {first.name}" in again.stderr
    assert list(results.glob("*/*.rpm")) and (results / "repodata/repomd.xml").is_file()
    assert "success" in names(results / second.name.removesuffix(".src.rpm"))


def test_commands_in_the_chroot(user: User) -> None:
    one = user.mock("--chroot", "echo $HOME; exit 3").expect(3)
    assert one.stdout == "/builddir\n"
    several = user.mock("--chroot", "--", "printf", "%s|", "a b", "$HOME", "--root").expect()
    assert several.stdout == "a b|$HOME|--root|"
    shell = user.mock("--shell", "--unpriv", "--cwd=/tmp", "--", "pwd;", "id", "-u").expect()
    assert shell.stdout == "/tmp\n1000\n"


@pytest.mark.parametrize("word", ["--isolation=nspawn", "--new-chroot"])
def test_a_jail_takes_the_place_of_nspawn(user: User, word: str) -> None:
    """And no loop device is left for which the node would be refused."""
    ended = user.mock(word, "--chroot", "ls /dev").expect()
    assert "a jail takes the place of systemd-nspawn" in ended.stderr
    assert "loop" not in ended.stdout
    again = user.mock("--chroot", "true").expect()
    assert "jail" not in again.stderr and "node trusted" in again.stderr


def test_copies_in_and_out(user: User, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_text("inside")
    (tmp_path / "one").write_text("one")
    user.mock("--copyin", tmp_path / "one", tree, "/var/tmp").expect()
    assert in_chroot(user, "cat /var/tmp/one /var/tmp/tree/sub/file") == "oneinside"
    user.mock("--copyout", "/var/tmp/tree", tmp_path / "out").expect()
    assert (tmp_path / "out/sub/file").read_text() == "inside"
    user.mock("--copyout", "/var/tmp/on*", tmp_path).expect()
    user.mock("--copyout", "/var/tmp/one", tmp_path / "other").expect()
    assert (tmp_path / "other").read_text() == (tmp_path / "one").read_text() == "one"
    user.mock("--copyout", "/no/such/file", tmp_path).expect(50)


def test_packages_come_and_go(user: User, plain_srpm: Path, tmp_path: Path) -> None:
    user.mock("--resultdir", tmp_path / "r", plain_srpm).expect()
    (package,) = (tmp_path / "r").glob("*.noarch.rpm")
    name = package.name.rsplit("-", 2)[0]
    user.mock("--install", package).expect()
    assert in_chroot(user, f"rpm -q {name}").startswith(name)
    user.mock("--remove", name).expect()
    user.mock("--chroot", f"rpm -q {name}").expect(1)
    user.mock("--pm-cmd", "--", "install", package).expect()
    assert in_chroot(user, f"rpm -q {name}").startswith(name)
    user.mock("--update").expect()
    user.mock("--installdeps", plain_srpm).expect()
    user.mock("--orphanskill").expect()
    user.mock("--scrub=chroot").expect()
    user.mock("--no-clean", "--init").expect()
    user.mock("--chroot", f"rpm -q {name}").expect(1)


def test_build_dependencies_into_a_lock_file(user: User, plain_srpm: Path, tmp_path: Path) -> None:
    words = ("--calculate-build-dependencies", "--resultdir", tmp_path / "r")
    user.mock(*words, plain_srpm).expect()
    lock = json.loads((tmp_path / "r/buildroot_lock.json").read_text())
    assert "rpm-build" in {package["name"] for package in lock["buildroot"]["rpms"]}


def test_a_source_package_from_spec_and_sources(user: User, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    (sources / "sub").mkdir(parents=True)
    (sources / "sub/data").write_text("all-of-it")
    (sources / "file").write_text("file")
    spec = tmp_path / "own.spec"
    spec.write_text(SPEC.format(summary="it has %(cat %{_sourcedir}/sub/data || :)"))
    words = ("--spec", spec, "--sources", sources, "--resultdir", tmp_path / "r")
    user.mock("--buildsrpm", *words).expect()
    (made,) = (tmp_path / "r").glob("*.rpm")
    assert made.name == "own-1-1.src.rpm" and b"it has all-of-it" in made.read_bytes()
    user.mock("--rebuild", *words).expect()
    assert "own-1-1.noarch.rpm" in names(tmp_path / "r")


def test_files_of_this_machine_go_along(
    user: User, configured: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "macros").write_text("%greeting hello\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("data")
    dirs = [(str(tmp_path / "data"), "/mnt/data")]
    configured(f"config_opts['plugin_conf']['bind_mount_opts']['dirs'] = {dirs}\n")
    ended = user.mock("--init").expect()
    assert "stays on the node" not in ended.stderr
    assert in_chroot(user, "cat /mnt/data/file") == "data"
    # mock gives it to builds only.
    (tmp_path / "own.spec").write_text(SPEC.format(summary="it says %{?greeting}"))
    words = ("--macro-file", tmp_path / "macros", "--resultdir", tmp_path / "r")
    user.mock("--buildsrpm", *words, "--spec", tmp_path / "own.spec").expect()
    assert b"it says hello" in (tmp_path / "r/own-1-1.src.rpm").read_bytes()


def test_what_is_written_to_bound_directories_comes_back(user: User, tmp_path: Path) -> None:
    work, place = tmp_path / "work", tmp_path / "place"
    (place / "sub").mkdir(parents=True)
    work.mkdir()
    (place / "old").write_text("old")
    (place / "sub/same").write_text("same")
    bound = f"[('{place}', '/mnt/place'), ('{work}', '/mnt/second')]"
    words = (f"--plugin-option=bind_mount:dirs={bound}",)
    script = (
        "cd /mnt/place; echo changed >old; mkdir -p new/dir; echo n >sub/new; rm sub/same;"
        " ln -s old link; mkfifo pipe; echo made >/mnt/second/made; chmod 6755 old; exit 3"
    )
    ended = user.mock(*words, "--chroot", script).expect(3)  # a failure is no reason to lose it
    assert "pipe' does not go back: it is a named pipe" in ended.stderr
    assert (place / "old").read_text() == "changed\n"
    assert (place / "old").stat().st_mode & 0o7777 == 0o755
    assert (place / "sub/new").read_text() == "n\n" and (place / "new/dir").is_dir()
    assert (place / "link").readlink() == Path("old")
    assert (place / "sub/same").read_text() == "same"
    assert names(work) == {"made"} and names(place) == {"old", "sub", "new", "link"}
    user.mock(*words, "--shell", "cat /mnt/second/made >>/mnt/second/made2").expect()
    assert (work / "made2").read_text() == "made\n"


def test_downloads_come_to_the_caller(user: User, tmp_path: Path) -> None:
    """As shared scripts call it: where one is, and into a directory that is named."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    install = ("--dnf-cmd", "--", "install", "-y", "--downloadonly")
    user.mock(*install, "--downloaddir=.", "python3", cwd=here).expect()
    user.mock(*install, f"--downloaddir={there}", "python3", cwd=tmp_path).expect()
    assert any(name.startswith("python3") for name in names(here))
    assert names(here) == names(there)
    assert next(here.iterdir()).read_bytes()[:4] == b"\xed\xab\xee\xdb"
    ended = user.mock(*install, f"--downloaddir={tmp_path}/no/where", "unzip").expect(3)
    assert "is not a directory" in ended.stderr and "node trusted" not in ended.stderr
    ended = user.mock("--bootstrap-chroot", *install, "--downloaddir=.", "unzip").expect(50)
    assert "--no-bootstrap-chroot" in ended.stderr


def test_a_chroot_that_is_kept_mounted_is_kept(user: User) -> None:
    words = ("--enable-plugin=tmpfs", "--plugin-option=tmpfs:keep_mounted=True",
             "--plugin-option=tmpfs:required_ram_mb=1")  # fmt: skip
    ended = user.mock(*words, "--chroot", "touch /opt/kept").expect()
    assert "on the node's disk" in ended.stderr
    user.mock(*words, "--chroot", "ls /opt/kept").expect()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("config_opts['plugin_conf']['lvm_root_enable'] = True", "lvm_root"),
        ("config_opts['nspawn_args'] += ['--bind=/srv']", "--bind=/srv"),
        ("config_opts['copy_host_users'] = ['me']", "copy_host_users"),
    ],
)
def test_what_only_this_machine_has_is_refused_by_name(
    user: User, configured: Callable[[str], None], text: str, named: str
) -> None:
    configured(f"{text}\n")
    ended = user.mock("--init").expect(50)
    assert named in ended.stderr and "node trusted" not in ended.stderr


def test_a_package_from_a_url(user: User, plain_srpm: Path, tmp_path: Path) -> None:
    with FileServer({"/srpms": plain_srpm.parent}) as server:
        url = f"{server.url}/srpms/{plain_srpm.name}"
        ended = user.mock("--resultdir", tmp_path / "r", url).expect()
        assert f"Fetching remote file {url}" in ended.stderr
        assert list((tmp_path / "r").glob("*.noarch.rpm"))
        ended = user.mock("--resultdir", tmp_path / "r", f"{url}x.rpm").expect(5)
        assert "404" in ended.stderr


def git(directory: Path, *words: str) -> None:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    subprocess.run(["git", *who, *words], cwd=directory, check=True, capture_output=True)


def test_sources_from_git_are_checked_out_here(user: User, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    repository = tmp_path / "own"
    repository.mkdir()
    (repository / "own.spec").write_text(SPEC.format(summary="from git"))
    (repository / "file").write_text("file")
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "one")
    words = (
        "--scm-enable", "--scm-option", "package=own", "--scm-option",
        f"git_get=git clone -q {repository} own", "--resultdir", tmp_path / "r",
    )  # fmt: skip
    ended: Ended = user.mock("--rebuild", *words).expect()
    assert "checking the sources out on this machine" in ended.stderr
    assert "own-1-1.noarch.rpm" in names(tmp_path / "r")
    wrong = user.mock("--rebuild", *words, "--scm-option", "branch=nowhere").expect(1)
    assert "--scm-enable: git checkout nowhere: exit status 1: error: pathspec" in wrong.stderr


def test_a_repository_in_a_directory_of_this_machine(
    user: User, chain_srpms: tuple[Path, Path], tmp_path: Path
) -> None:
    """Through the tunnel; createrepo_c of the node made it, for the chain."""
    first, second = chain_srpms
    user.mock("--chain", "--localrepo", tmp_path / "repo", first).expect()
    place = tmp_path / "repo/results" / user.config.chroot()
    words = (f"--addrepo=file://{place}", "--resultdir", tmp_path / "r")
    ended = user.mock(*words, second).expect()
    assert "reached through this machine" in ended.stderr


def test_engines_are_chosen_by_name(user: User, plain_srpm: Path, tmp_path: Path) -> None:
    remotes = user.config.path / "remotes.d"
    text = (remotes / "local.toml").read_text()
    assert "[build]\n" in text
    (remotes / "own.toml").write_text(text.replace("[build]\n", '[build]\nengine = "mock"\n'))
    without = replace(user, extra={}, options=(*user.options[:-1], "own"))
    ended = without.mock("--init")
    assert "no mock" in ended.stderr and ended.code == 3
    without.cloud("release", "own", "--configdir", user.config.path)
    (remotes / "own.toml").unlink()


@pytest.mark.parametrize("wanted", ["yum", "dnf5"])
def test_another_package_manager_than_was_asked_for_is_said(user: User, wanted: str) -> None:
    """The node has dnf4 only. mock would wait for Enter after its warning: nobody is there."""
    option = ("--config-opts", f"package_manager={wanted}")
    ended = user.mock(*option, "--init").expect()
    assert f"Using 'dnf4' instead of '{wanted}'" in ended.stderr

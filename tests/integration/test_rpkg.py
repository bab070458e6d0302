# SPDX-License-Identifier: GPL-2.0-or-later
"""`rpkg mockbuild`, which is fedpkg's, with the launcher for `mock`: rpkg itself is not changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.integration import packager as packagers
from tests.integration.packager import SPEC, Hub, Packager
from tests.lab import chroots
from tests.lab.http import FileServer
from tests.lab.layout import Lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def hub(lab: Lab) -> Iterator[Hub]:
    path = f"/repos/lab-build/7/{lab.arch}"
    with FileServer({path: lab.release(1)}) as files, Hub(files.url).running() as hub:
        yield hub


@pytest.fixture(scope="module")
def packager(
    lab: Lab, lab_repo: FileServer, hub: Hub, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Packager]:
    """A packager on a machine without mock, with the lab in /etc/mock, and a warm node."""
    place = tmp_path_factory.mktemp("packager")
    packager = Packager(place, packagers.find_python(lab), "toy-rpkg")
    packagers.settle(packager, SPEC, hub)
    (packager.home / ".cache").symlink_to(cache)
    (packager.checkout / "toy.txt").write_text("toy\n")
    config = chroots.write(lab, packager.etc / "mock", repository_url=f"{lab_repo.url}/dist")
    with (config.path / "site-defaults.cfg").open("a") as stream:
        stream.write(packagers.DEFAULTS + f"config_opts['basedir'] = {str(place / 'lib')!r}\n")
    packager.command("mock", "mock_cloud.launcher")
    packager.command("mock-cloud", "mock_cloud.cli")
    # The node starts here and not in a test: to the guard against leaks it was there before.
    packager.start(["mock", "-r", config.chroot(), "--remote", "local", "--init"]).expect()
    yield packager
    packager.start(["mock-cloud", "release", "--all", "--force"]).expect()
    shutil.rmtree(place)


@pytest.fixture
def root(lab: Lab) -> str:
    return f"lab-1-{lab.arch}"


def packages(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*.rpm")}


def test_all_of_rpkgs_options(packager: Packager, root: str) -> None:
    """What is built is what they say, and the shell after it is in the same chroot."""
    options = ("--no-clean-all", "--with", "marble", "--without", "wood", "--enable-network")
    options += ("--disablerepo", "*", "--enablerepo", "lab")
    ended = packager.run("-q", "mockbuild", "--root", root, *options, "--", "--remote", "local")
    ended.expect()
    (call,) = ended.calls
    assert call[:2] == ["--no-clean", "--no-cleanup-after"]
    assert call[-7:-1] == ["--quiet", "-r", root, "--resultdir", str(packager.results), "--rebuild"]
    assert packages(packager.results) == {
        "toy-rpkg-1-1.src.rpm",
        "toy-rpkg-1-1.noarch.rpm",
        "toy-rpkg-marble-1-1.noarch.rpm",
    }
    assert "trusted" in (packager.results / "remote_attestation.log").read_text()
    words = ("mockbuild", "--root", root, "--shell")
    listing = b"ls /builddir/build/RPMS\n"
    shell = packager.run(*words, stdin=listing, MOCK_REMOTE="local").expect()
    assert shell.calls == (["-r", root, "--resultdir", str(packager.results), "--shell"],)
    assert "toy-rpkg-marble-1-1.noarch.rpm" in shell.stdout


def test_mocks_own_result_directory(packager: Packager, root: str) -> None:
    words = ("mockbuild", "--root", root, "--default-mock-resultdir")
    ended = packager.run(*words, MOCKARGS="--remote local --no-clean").expect()
    assert "--resultdir" not in ended.calls[0]
    assert "toy-rpkg-wood-1-1.noarch.rpm" in packages(packager.place / "lib" / root / "result")


def test_kojis_configuration_in_a_temporary_directory(packager: Packager, hub: Hub) -> None:
    """It has no remotes: they are found where the packager and the system have theirs."""
    site = packager.etc / "mock/site-defaults.cfg"
    with packager.edited(site, "config_opts['remote'] = 'local'\n"):
        ended = packager.run("mockbuild").expect()
    (call,) = ended.calls
    directory = Path(call[call.index("--configdir") + 1])
    assert not directory.exists()
    assert hub.asked == [packagers.TARGET]
    built = packager.results / "toy-rpkg-1-1.noarch.rpm"
    asked = ["rpm", "-qp", "--nosignature", "--qf", "%{VENDOR}", str(built)]
    assert packager.start(asked).expect().stdout == "Koji"


def test_the_srpm_is_made_in_mock_too(packager: Packager) -> None:
    """Five calls, each with a directory of its own for the configuration, and one chroot."""
    own = packager.home / ".config/mock/remotes.d/own.toml"
    local = packager.etc / "mock/remotes.d/local.toml"
    shutil.rmtree(packager.results, ignore_errors=True)
    with packager.edited(own, local.read_text()):
        ended = packager.run("mockbuild", "--srpm-mock", MOCKARGS="--remote own").expect()
        packager.start(["mock-cloud", "release", "own"]).expect()
    modes = ["--copyin", "--shell", "--copyout", "--buildsrpm", "--rebuild"]
    assert [[word for word in call if word in modes] for call in ended.calls] == [
        [mode] for mode in modes
    ]
    assert len({call[call.index("--configdir") + 1] for call in ended.calls}) == 3
    assert "toy-rpkg-1-1.src.rpm" in packages(packager.results)
    assert list(packager.temporary.iterdir()) == []


def test_calls_that_drop_their_arguments(packager: Packager, root: str) -> None:
    """`--extra-pkgs` says only what to install: the remote must come from somewhere else."""
    words = ("mockbuild", "--root", root, "--no-clean", "--extra-pkgs", "psmisc")
    refused = packager.run(*words, "--", "--remote", "local")
    assert refused.code != 0
    assert "no remote was chosen" in refused.stderr and "MOCK_REMOTE" in refused.stderr
    ended = packager.run(*words, MOCK_REMOTE="local").expect()
    first, second = ended.calls
    assert first[:3] == ["--additional-package", "psmisc", "--no-cleanup-after"]
    assert second[0] == "--no-clean"
    assert "psmisc" in (packager.results / "installed_pkgs.log").read_text()
    # And these drop what is in $MOCKARGS.
    packager.run("srpm", "--srpm-mock", "--root", root, MOCK_REMOTE="local").expect()


WAYS = ("words", "MOCKARGS", "MOCK_REMOTE", "chroot", "user", "site", "copy")


@pytest.mark.parametrize("way", WAYS)
def test_who_chooses_the_remote(packager: Packager, root: str, way: str) -> None:
    """Nobody's remote exists: the message names it."""
    says = f"config_opts['remote'] = 'of-{way}'\n"
    files = {
        "chroot": packager.etc / f"mock/{root}.cfg",
        "user": packager.home / ".config/mock.cfg",
        "site": packager.etc / "mock/site-defaults.cfg",
        "copy": packager.etc / "mock/site-defaults.cfg",  # Koji's: rpkg copies it
    }
    words = ["mockbuild"] if way == "copy" else ["mockbuild", "--root", root]
    env = {"MOCKARGS": {"MOCKARGS": "--remote of-MOCKARGS"}, "MOCK_REMOTE": {way: f"of-{way}"}}
    with packager.edited(files[way], says) if way in files else nullcontext():
        words += ["--", "--remote=of-words"] if way == "words" else []
        ended = packager.run(*words, **env.get(way, {}))
    assert ended.code != 0
    assert f"ERROR: no remote 'of-{way}'" in ended.stderr

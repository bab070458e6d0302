# SPDX-License-Identifier: GPL-2.0-or-later
"""The three systems of the peers: real mock, and the launcher with each engine."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration import packager, real_mock
from tests.lab import chroots
from tests.lab.http import FileServer
from tests.lab.layout import Lab
from tests.peers import packages
from tests.peers.sides import CHOICE, Side

ENGINES = ("chroot", "mock")


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory that mock's user can reach: pytest's own are root's."""
    made = Path(tempfile.mkdtemp(prefix="mock-cloud-peers-"))
    made.chmod(0o755)
    cache = made / "cache"  # of all sides: what nodes are sent is packed once
    cache.mkdir()
    cache.chmod(0o1777)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def shop(lab: Lab, place: Path) -> Iterator[FileServer]:
    """Packages that peers download or install, at /shop; a repository in /shop/repo."""
    packages.make(lab, place / "shop")
    with FileServer({"/shop": place / "shop"}) as server:
        yield server


@pytest.fixture(scope="session")
def sides(
    lab: Lab, lab_repo: FileServer, shop: FileServer, place: Path
) -> Iterator[Mapping[str, Side]]:
    """`local`, real mock, and `chroot` and `mock`, whose nodes are warm."""
    mock = real_mock.make(place / "real")
    mock.plugin.unlink()
    with (mock.script.parent / "mockbuild/constants.py").open("a") as constants:
        constants.write("\nMOCKCONFDIR = '/etc/mock'\n")
    program = mock.script.with_name("mock")
    # A wrapper would not be looked into for the mock to send.
    program.write_text(f"#!{mock.python}\n{mock.script.read_text()}")
    usual = tuple(real_mock.usual_rpm(mock.place))
    made = {
        "local": _side(lab, lab_repo, shop, place, "local", dict(mock.environment), usual),
        **{
            name: _side(lab, lab_repo, shop, place, name, dict(mock.environment))
            for name in ENGINES
        },
    }
    made["local"].install_mock("mockbuild", mock.python, str(mock.script))
    for name in ENGINES:
        side = made[name]
        side.install_mock("mock_cloud.launcher", sys.executable, "-m", "mock_cloud.launcher")
        with (side.etc / "site-defaults.cfg").open("a") as stream:
            stream.write(CHOICE)
        remote = side.etc / "remotes.d/local.toml"
        # The node serves all peers: one that is made in a test would be a leak to its guard.
        more = f'\n[build]\nengine = "{name}"\ncopy_builddir_mib = 64\n'
        more += "\n[lease]\nmax_builds = 10000\n"
        remote.write_text(remote.read_text() + more)
    made["mock"].environment["PATH"] = f"{_PATH}:{mock.script.parent}"
    warm = _Warm(made)
    yield warm
    for name in warm.started:
        if name in ENGINES:
            release = (mock.session.with_name("mock-cloud"), "release", "--all", "--force")
            assert made[name].run(release).code == 0
        else:
            made[name].run(["mock", "-r", packages.ROOT, "--scrub=all"])


@pytest.fixture(scope="session")
def warm_sides(sides: Mapping[str, Side]) -> Mapping[str, Side]:
    """All of them with a chroot: to the guard against leaks, their nodes were there before."""
    for name in sides:
        assert sides[name]
    return sides


class _Warm(dict[str, Side]):
    """Sides by their names; one that is asked for has a chroot, and so a node, from then on."""

    def __init__(self, sides: Mapping[str, Side]) -> None:
        super().__init__(sides)
        self.started: list[str] = []

    def __getitem__(self, name: str) -> Side:
        side = super().__getitem__(name)
        if name not in self.started:
            self.started.append(name)
            played = side.run(["mock", "-r", packages.ROOT, "--init"])
            assert played.code == 0, played.output
        return side


_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def _side(
    lab: Lab,
    lab_repo: FileServer,
    shop: FileServer,
    place: Path,
    name: str,
    environment: dict[str, str],
    before: tuple[str, ...] = (),
) -> Side:
    top = place / name
    for directory in (
        "etc",
        "bin",
        "share/distribution-gpg-keys",
        "home",
        "lib",
        "cache",
        "scratch",
        "tmp",
    ):
        (top / directory).mkdir(parents=True)
        (top / directory).chmod(0o777)
    environment |= {
        "PATH": _PATH,
        "HOME": str(top / "home"),
        "TMPDIR": str(top / "tmp"),
        "XDG_STATE_HOME": str(top / "state"),
        "XDG_CACHE_HOME": str(place / "cache"),
    }
    user = real_mock.find_user()
    side = Side(name, top, environment, user, before)
    # mock looks there for the home of sudo's caller.
    (top / "etc/passwd").write_text(packager.accounts(user, side.home))
    config = chroots.write(lab, side.etc, repository_url=f"{lab_repo.url}/dist")
    chroot = config.chroot_file()
    packages.add_repository(lab, chroot, f"{shop.url}/shop/repo")
    # fedora-review takes the name as it is written.
    template = "lab-{{ releasever }}-{{ target_arch }}"
    chroot.write_text(chroot.read_text().replace(template, side.root))
    # Where bootstrap chroots have keys, too.
    keys = "share/distribution-gpg-keys"
    shutil.copy(lab.package_key, top / keys)
    for path in (chroot, *(side.etc / "templates").glob("*.tpl")):
        text = path.read_text()
        path.write_text(text.replace(str(lab.package_key), f"/usr/{keys}/{lab.package_key.name}"))
    source, _, _ = real_mock.find_source()
    shutil.copy(source.parent.parent / "etc/mock/logging.ini", side.etc)
    with (side.etc / "site-defaults.cfg").open("a") as stream:
        stream.write(
            f"config_opts['basedir'] = {str(side.lib)!r}\n"
            f"config_opts['cache_topdir'] = {str(top / 'cache')!r}\n"
            "config_opts['isolation'] = 'simple'\n"
            # A distribution's mock has pigz for it.
            "config_opts['plugin_conf']['root_cache_opts']['compress_program'] = 'gzip -1'\n"
        )
    return side

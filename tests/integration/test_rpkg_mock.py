# SPDX-License-Identifier: GPL-2.0-or-later
"""`rpkg mockbuild` on a machine that has mock: launcher, then mock as root, then its plugin.

Who calls is no root: as with consolehelper, a small program becomes root for mock, and lets next to
nothing of the environment through.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import packager as packagers
from tests.integration import real_mock
from tests.integration.packager import SPEC, Hub, Packager
from tests.integration.real_mock import RealMock
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.http import FileServer
from tests.lab.layout import Lab

pytestmark = pytest.mark.lab

_CONSOLEHELPER = """\
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **words) {
    char uid[32], *argv[256] = {PYTHON, SCRIPT};
    snprintf(uid, sizeof uid, "%d", (int)getuid());
    for (int n = 1; n < count && n < 250; n++) argv[n + 1] = words[n];
    clearenv();
    setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("USERHELPER_UID", uid, 1);
    if (setresgid(0, 0, 0) || setresuid(0, 0, 0)) return 2;
    execv(PYTHON, argv);
    return 127;
}
"""


@pytest.fixture(scope="module")
def mock() -> Iterator[RealMock]:
    place = Path(tempfile.mkdtemp(prefix="mock-cloud-rpkg-"))
    try:
        place.chmod(0o755)
        mock = real_mock.make(place)
        (place / "etc").mkdir()
        (place / "etc/mock").symlink_to("/etc/mock")  # where a checkout's mock looks instead
        _install_consolehelper(mock)
        yield mock
    finally:
        shutil.rmtree(place)


def _install_consolehelper(mock: RealMock) -> None:
    """In the place of `mock` beside mock.py; for the group mock only."""
    target = mock.script.with_name("mock")
    target.unlink()
    defines = [f'-DPYTHON="{mock.python}"', f'-DSCRIPT="{mock.script}"']
    subprocess.run(
        ["gcc", *defines, "-x", "c", "-", "-o", str(target)],
        input=_CONSOLEHELPER.encode(),
        check=True,
        timeout=600,
    )
    shutil.chown(target, 0, "mock")
    target.chmod(0o4750)


@pytest.fixture(scope="module")
def packager(lab: Lab, mock: RealMock, ec2_cloud: Ec2Cloud) -> Iterator[Packager]:
    """A packager in the group mock, with the lab in /etc/mock, and a warm node."""
    user = mock.user
    become = ("--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--init-groups", "--")
    place = mock.place / "packager"
    place.mkdir()
    packager = Packager(
        place, packagers.find_python(lab), "toy-rpkg", ("setpriv", *become), str(mock.script.parent)
    )
    files = FileServer(
        {f"/repos/lab-build/7/{lab.arch}": lab.release(1)}, host=ec2_cloud.site.network.host_address
    )
    with files, Hub(files.url).running() as hub:
        packagers.settle(packager, SPEC, hub, user)
        (packager.checkout / "toy.txt").write_text("toy\n")
        ec2_cloud.reset()
        config = ec2_cloud.write_config(packager.etc / "mock")
        real_mock.configure(mock, config.path)
        with (config.path / "site-defaults.cfg").open("a") as stream:
            stream.write(packagers.DEFAULTS)
        shutil.copy(ec2_cloud.manifest, mock.place)  # the lab's own is for root's eyes
        remote = config.path / "remotes.d/ec2.toml"
        text = remote.read_text().replace(str(ec2_cloud.manifest.parent), str(mock.place))
        own = packager.home / ".config/mock/remotes.d/ec2.toml"
        own.parent.mkdir(parents=True)
        own.write_text(text)
        own.chmod(0o600)
        remote.unlink()
        python = str(mock.place / "venv/bin/python")
        packager.command("mock", "mock_cloud.launcher", python)
        packager.command("mock-cloud", "mock_cloud.cli", python)
        packagers.give(packager, user)
        # The node starts here and not in a test: to the guard against leaks it was there before.
        packager.start(["mock", "-r", config.chroot(), "--remote", "ec2", "--init"]).expect()
        yield packager
        packager.start(["mock-cloud", "release", "--all", "--force"]).expect()
        ec2_cloud.reset()


def built_here(mock: RealMock) -> list[Path]:
    """Chroots of mock's own."""
    return list((mock.place / "lib").glob("*/root"))


def test_the_whole_of_it_by_the_environment(packager: Packager, mock: RealMock, lab: Lab) -> None:
    """--extra-pkgs drops its arguments, and consolehelper the variable: the launcher read it."""
    words = ("mockbuild", "--root", f"lab-1-{lab.arch}", "--no-clean", "--extra-pkgs", "psmisc")
    ended = packager.run(*words, MOCK_REMOTE="ec2").expect()
    assert len(ended.calls) == 2
    assert ended.stderr.count("node trusted") == 2
    assert built_here(mock) == []
    assert {path.owner() for path in packager.results.iterdir()} == {mock.user.pw_name}
    assert "psmisc" in (packager.results / "installed_pkgs.log").read_text()
    assert (packager.results / "toy-rpkg-wood-1-1.noarch.rpm").is_file()

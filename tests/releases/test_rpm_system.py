# SPDX-License-Identifier: GPL-2.0-or-later
"""A system of RPMs without dpkg: README's first command in it, and mock-cloud from its own RPMs."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud import __version__
from mock_cloud.process import run
from tests.lab import dist, rpmspec
from tests.lab.layout import Lab, repository_root
from tests.releases import rpm_system, trees
from tests.releases.enter import System

pytestmark = [pytest.mark.lab, pytest.mark.slow]

_CLONE = "/root/mock-cloud"
_SITE = "/usr/lib/python3/dist-packages"
# What installing anything leaves: databases, caches and logs of rpm and dnf, the loader's cache.
_NOTED = ("/proc", "/sys", "/dev", "/run", "/root", "/tmp", "/var/lib/rpm", "/var/lib/dnf",
          "/var/cache", "/var/log", "/var/tmp", "/srv", "/etc/ld.so.cache")  # fmt: skip


@pytest.fixture(scope="module")
def system(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    obstacle = rpm_system.find_obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    place = tmp_path_factory.mktemp("rpm-system")
    root = place / "root"
    repositories = rpm_system.make_tree(lab, root)
    trees.share_network(root)
    clone = ["git", "clone", "--quiet", "--no-local", str(repository_root())]
    run([*clone, str(root / _CLONE.lstrip("/"))], timeout_s=120)
    yield System(root, _CLONE, place / "output", {repositories: rpm_system.REPOSITORIES})
    shutil.rmtree(root)


def _listing(system: System) -> set[str]:
    """All its paths but those of `_NOTED`."""
    pruned = " -o ".join(f"-path {place}" for place in _NOTED)
    return set(system.run(f"find / \\( {pruned} \\) -prune -o -print").splitlines())


def test_the_demonstration_installs_with_dnf_alone(system: System) -> None:
    assert not (system.root / "var/lib/dpkg").exists()
    assert not list(system.root.glob("usr/bin/apt*")) + list(system.root.glob("usr/bin/dpkg*"))
    shown = system.run("make demo; make demo-stop")
    assert "dnf installs on this machine" in shown
    assert " apt" not in shown
    assert "node trusted (tier 1)" in shown and "ERROR: refused: file.digest: /usr/bin/" in shown


def _mock_package(lab: Lab, place: Path) -> Path:
    """A package named mock with mock's place for plugins: the real one is in no lab."""
    entries = (
        rpmspec.directory(f"{_SITE}/mockbuild"),
        rpmspec.file(f"{_SITE}/mockbuild/__init__.py", ""),
        rpmspec.file(f"{_SITE}/mockbuild/util.py", ""),
        rpmspec.directory(f"{_SITE}/mockbuild/plugins"),
        rpmspec.file(f"{_SITE}/mockbuild/plugins/__init__.py", ""),
    )
    package = rpmspec.Package("mock", "6.7", "1", "noarch", "mock's place for plugins", entries)
    return dist.build_rpm(package, place / "work", place, lab.arch)


def test_mock_cloud_is_installed_upgraded_and_removed(
    lab: Lab, system: System, tmp_path: Path
) -> None:
    system.run("make prepare; git config user.name lab; git config user.email lab@lab.invalid")
    mock = _mock_package(lab, tmp_path)
    shutil.copy(mock, system.root / "root/mock.rpm")
    system.run("dnf -y --nogpgcheck install /root/mock.rpm python3-setuptools")
    system.run("python3 -c 'import mockbuild.plugins, mockbuild.util'")
    before = _listing(system)

    system.run("make rpm; cp -r build/rpm/RPMS /root/first")
    system.run("dnf -y --nogpgcheck install /root/first/noarch/*.rpm")
    installed = _listing(system) - before
    assert f"{_SITE}/mockbuild/plugins/remote.py" in installed
    assert system.run("mock-cloud --version") == f"mock-cloud {__version__}\n"
    login = "sh -lc 'command -v mock; mock --version'"
    assert system.run(login).startswith("/usr/libexec/mock-cloud/bin/mock\n")
    find = "from importlib.util import find_spec as find; assert find('mockbuild.plugins.remote')"
    system.run(f"python3 -c {shlex.quote(find)}")
    for page in ("man1/mock-cloud.1", "man1/mock-cloud-mock.1", "man5/mock-cloud-remotes.5"):
        system.run(f"zcat -f /usr/share/man/{page}* | grep -q '^.TH'")
    # As bash-completion reads it, and what it then completes.
    words = "COMP_WORDS=(mock-cloud attes); COMP_CWORD=1; COMP_LINE='mock-cloud attes'"
    complete = (
        f". /usr/share/bash-completion/completions/mock-cloud; complete -p mock-cloud; {words}"
    )
    assert "complete" in system.run(f"bash -ec {shlex.quote(complete)}")
    # The examples are none of this machine's remotes: the hourly sweep has nothing to say.
    assert "/usr/share/mock-cloud/remotes.d/ec2.toml" in installed
    system.run("mock-cloud reap --all")

    system.run("echo mine > /etc/mock/remotes.d/mine.toml; rm -rf build")
    system.run("sed -i 's/^Release:.*/Release: 2%{?dist}/' mock-cloud.spec; git commit -qam next")
    system.run("make rpm; cp -r build/rpm/RPMS /root/second")
    system.run("dnf -y --nogpgcheck install /root/second/noarch/*.rpm")
    versions = system.run(
        "rpm -q --qf '%{RELEASE}\\n' mock-cloud mock-cloud-launcher mock-cloud-plugin"
    )
    assert {line.partition(".")[0] for line in versions.split()} == {"2"}
    assert system.run("cat /etc/mock/remotes.d/mine.toml") == "mine\n"
    assert installed - _listing(system) == set()

    system.run("rm /etc/mock/remotes.d/mine.toml; dnf -y remove 'mock-cloud*'")
    assert {path for path in _listing(system) - before if "mock" in path} == set()


def test_its_commands_are_those_of_an_rpm_system(system: System) -> None:
    done = subprocess.run(
        ["chroot", str(system.root), "rpm", "-q", "dpkg", "apt"], check=False, capture_output=True
    )
    assert done.returncode == 2

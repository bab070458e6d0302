# SPDX-License-Identifier: GPL-2.0-or-later
"""A user who is not root, on a fresh Debian 12: README's commands, a remote, the first build."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mock_cloud.process import run
from tests.lab.clouds.ec2 import ACCESS_KEY, REGION, SECRET_KEY, Ec2Cloud
from tests.lab.layout import Lab, repository_root
from tests.releases import trees
from tests.releases.enter import System

pytestmark = [pytest.mark.lab, pytest.mark.slow]

_SUITE = "bookworm"
_HOME = "/home/packager"
_GIVEN = "/srv/lab"  # what a cloud's administrator gives to users
_APT = 'APT::Get::Assume-Yes "true";\n'
_AWS = f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"


def readme_commands(prompt: str) -> list[str]:
    """The commands for Debian in README's section Install, of root (`#`) or the user (`$`)."""
    text = (repository_root() / "README.md").read_text()
    (section,) = re.findall(r"^## Install\n(.*?)^## ", text, re.S | re.M)
    (block,) = re.findall(r"^On Debian.*?```console\n(.*?)```", section, re.S | re.M)
    lines = [line for line in block.splitlines() if line.startswith(f"{prompt} ")]
    return [line[2:].partition("  #")[0].strip() for line in lines]


@dataclass(frozen=True)
class Newcomer:
    """A system, and a user of it. Each command is one in a new login."""

    system: System

    def run(self, command: str) -> str:
        return self.system.run(f"su - packager -c {shlex.quote(command)}")


@pytest.fixture(scope="module")
def newcomer(
    lab: Lab, ec2_cloud: Ec2Cloud, hello_srpm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Newcomer]:
    obstacle = trees.find_obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    place = tmp_path_factory.mktemp("newcomer")
    root = place / "root"
    trees.unpack(_SUITE, trees.CACHE, root)
    (root / "etc/apt/apt.conf.d/90yes").write_text(_APT)
    system = System(
        root, "/", place / "output", {trees.CACHE / _SUITE / "apt": "/var/cache/apt/archives"}
    )
    system.run("apt-get -qq update; useradd --create-home --shell /bin/bash packager")
    clone = ["git", "clone", "--quiet", "--no-local", str(repository_root())]
    run([*clone, f"{root}{_HOME}/mock-cloud"], timeout_s=120)
    shutil.copy(hello_srpm, f"{root}{_HOME}")
    Path(f"{root}{_HOME}/.aws").mkdir()
    Path(f"{root}{_HOME}/.aws/credentials").write_text(_AWS)
    given = Path(f"{root}{_GIVEN}")
    given.mkdir(parents=True)
    for path in (lab.manifest_key, ec2_cloud.manifest, lab.package_key):
        Path(shutil.copy(path, given)).chmod(0o644)
    # As the package mock-core-configs would have them.
    config = ec2_cloud.write_config(root / "etc/mock").path
    shutil.rmtree(config / "remotes.d")
    template = config / "templates/lab.tpl"
    template.write_text(template.read_text().replace(str(lab.package_key.parent), _GIVEN))
    system.run(f"chown -R packager: {_HOME}; chmod -R a+rX /etc/mock")
    yield Newcomer(system)
    shutil.rmtree(root)


def test_readme_alone_leads_to_the_first_build(
    newcomer: Newcomer, lab: Lab, ec2_cloud: Ec2Cloud, hello_srpm: Path
) -> None:
    for command in readme_commands("#"):
        newcomer.system.run(command)
    for command in readme_commands("$"):
        newcomer.run(f"cd mock-cloud; {command}")
    said = newcomer.run("mock-cloud doctor || :")
    assert "Traceback" not in said
    options = {
        "provider": "ec2", "region": REGION, "endpoint": ec2_cloud.url, "image": ec2_cloud.image_id,
        "size": "t3.small", "price-per-hour": "0.02", "per-day": "1",
        "manifest": f"{_GIVEN}/{ec2_cloud.manifest.name}",
        "manifest-keys": f"{_GIVEN}/{lab.manifest_key.name}",
        "package-keys": f"{_GIVEN}/{lab.package_key.name}",
        # The lab's machines share this one's kernel, which a cloud's do not.
        "unsafe-containers": "true",
    }  # fmt: skip
    words = " ".join(f"--{name} {text}" for name, text in options.items())
    newcomer.run(f"mock-cloud setup cloud --batch {words}")
    build = f"mock -r lab-1-{lab.arch} --remote cloud {hello_srpm.name}"
    built = newcomer.run(build)
    assert "node trusted" in built and "Done(" in built
    (results,) = re.findall(r"Results and/or logs in: (\S+)", built)
    listed = newcomer.run(f"ls -l {results}")
    assert re.search(r"packager +packager .* hello-2.10-1.lab1.x86_64.rpm", listed)
    newcomer.run("mock-cloud release --all")
    assert ec2_cloud.listing().is_empty

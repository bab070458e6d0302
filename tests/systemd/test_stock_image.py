# SPDX-License-Identifier: GPL-2.0-or-later
"""The way of a user with a stock image on machines with systemd, as docs/cloud-admin.md has it.

From pip to a second build; then the image is shared, and a second user builds on it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mock_cloud.comparison.pairs import compare_builds
from tests.integration.conftest import Ended, User, new_user
from tests.integration.real_mock import with_mock
from tests.lab import srpm
from tests.lab.bootable.examples import Example, python_package, rpmbuild, unit_package
from tests.lab.clouds.ec2 import ACCESS_KEY, REGION, SECRET_KEY, SIZE, Ec2Cloud
from tests.lab.keys import package_keys
from tests.lab.layout import repository_root

pytestmark = [pytest.mark.lab, pytest.mark.slow]

_TIMEOUT_S = 7200.0  # of what hangs, where a boot may take minutes
_FRIEND = "210987654321"
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
_NOT_INSTALLED = shutil.ignore_patterns(
    ".git", ".venv", ".lab", "tests", "__pycache__", "*.egg-info"
)
_EXAMPLES = {"python": python_package(), "unit": unit_package()}


@dataclass(frozen=True)
class Installed(User):
    """A user of the cloud, whose programs are those that pip has installed."""

    programs: Path = Path()

    def argv(self, *words: str) -> list[str]:
        return [str(self.programs / "mock"), *self.options, *words]

    def cloud(
        self,
        *words: str | Path,
        env: Mapping[str, str] | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> Ended:
        argv = [str(self.programs / "mock-cloud"), *map(str, words)]
        return self.run(argv, env=env, timeout_s=timeout_s)

    def setup(self, machines: Ec2Cloud, keys: str, *words: str | Path) -> Ended:
        """The remote "cloud". Emulated, machines are slower than any that costs."""
        options = ["--batch", "--force", "--provider", "ec2", "--region", REGION]
        options += ["--endpoint", machines.url, "--size", f"x86_64={SIZE}", "--per-day", "5"]
        options += ["--price-per-hour", "0.02", "--manifest-keys", keys]
        options += ["--package-keys", ",".join(map(str, package_keys(machines.lab)))]
        options += ["--boot-timeout", "30m", "--connect-timeout", "10m", "--silence-timeout", "20m"]
        where = ("--directory", self.config.path / "remotes.d")
        return self.cloud("setup", "cloud", *options, *where, *words)

    def ask(self, *words: str | Path) -> Ended:
        """A command of `mock-cloud` about the remotes of this user."""
        return self.cloud(*words, "--configdir", self.config.path)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip puts programs of a project that it has just installed, and nothing else."""
    place = tmp_path_factory.mktemp("pip")
    shutil.copytree(repository_root(), place / "source", ignore=_NOT_INSTALLED)
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True, timeout=600)
    pip = [place / "venv/bin/pip", "install", "--quiet", place / "source"]
    subprocess.run(pip, check=True, timeout=3600)
    return place / "venv/bin"


def installed(machines: Ec2Cloud, place: Path, programs: Path) -> Installed:
    made = new_user(place, machines.write_config(place / "etc"), place / "cache",
                    "--remote", "cloud", extra=_CREDENTIALS)  # fmt: skip
    return Installed(made.place, made.config, made.cache, made.options, made.extra, programs)


@pytest.fixture(scope="module")
def others(machines: Ec2Cloud) -> frozenset[str]:
    """The machines that tests elsewhere keep."""
    return frozenset(one.name for one in machines.nodes())


def check_released(machines: Ec2Cloud, others: frozenset[str]) -> None:
    assert {one.name for one in machines.nodes()} <= others


@pytest.fixture(scope="module")
def baker(
    machines: Ec2Cloud,
    others: frozenset[str],
    programs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installed]:
    user = installed(machines, tmp_path_factory.mktemp("baker"), programs)
    yield user
    user.ask("release", "--all", "--force").expect()
    check_released(machines, others)


@pytest.fixture(scope="module")
def image(machines: Ec2Cloud, baker: Installed) -> str:
    """Its id, once the baker has set up, read, vouched and baked."""
    key = baker.place / "image-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    told = baker.setup(machines, f"{key}.pub", "--image", f"x86_64={machines.image_id}")
    assert "MISSING  known-good set for x86_64" in told.stdout and told.code == 3, told
    assert baker.ask("doctor", "cloud").code == 3
    bake = ("image", "bake", "cloud", "--sign-key", key)
    bake += ("--repo", f"{machines.repository_url}/1")
    refused = baker.ask(*bake).expect(77)
    assert "its base image has no manifest" in refused.stderr
    (report,) = (baker.place / "state/mock-cloud/manifests").glob("*.report")
    assert "program: " in report.read_text()
    baked = baker.ask(*bake, "--accept-unverified-base").expect()
    assert "a node of the image is trusted by the new manifest" in baked.stderr
    lines = dict(re.findall(r"^(images|manifest) = (.*)$", baked.stdout, re.MULTILINE))
    (made,) = json.loads(lines["images"])
    words = ("--image", f"x86_64={made}", "--manifest", json.loads(lines["manifest"]))
    baker.setup(machines, f"{key}.pub", *words).expect()
    baker.ask("doctor", "cloud").expect()
    return str(made)


def test_from_pip_to_the_second_build(
    machines: Ec2Cloud, others: frozenset[str], baker: Installed, image: str, tmp_path: Path
) -> None:
    listed = json.loads(baker.ask("image", "list", "cloud", "--json").expect().stdout)
    assert image in [row["image"] for row in listed]
    assert "remote cloud: new node" in baker.ask("attest", "cloud").expect().stderr
    package = srpm.build(machines.lab, srpm.plain())
    for number in ("first", "second"):
        results = tmp_path / number
        built = baker.mock("--resultdir", results, package, timeout_s=_TIMEOUT_S).expect()
        assert "remote cloud: warm node" in built.stderr
        assert "node trusted (tier 1)" in built.stderr
        assert list(results.glob("toy-plain-1-1.lab1.noarch.rpm"))
    (node,) = json.loads(baker.ask("nodes", "--json").expect().stdout)
    assert node["cost"] > 0
    baker.ask("release", "--all", "--force").expect()
    check_released(machines, others)


@pytest.fixture(scope="module")
def friend(
    machines: Ec2Cloud,
    others: frozenset[str],
    baker: Installed,
    image: str,
    programs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installed]:
    """Somebody of another account, who has what the baker exported, and a warm node."""
    place = tmp_path_factory.mktemp("friend")
    words = ("image", "share", "cloud", image, "--with", _FRIEND, "--export", place / "shared")
    manifest, *keys = baker.ask(*words).expect().stdout.split()
    user = installed(machines, place, programs)
    words = ("--image", f"x86_64={image}", "--manifest", manifest, "--idle-ttl", "2h")
    user.setup(machines, ",".join(keys), *words).expect()
    user.mock("--init", timeout_s=_TIMEOUT_S).expect()
    yield user
    user.ask("release", "--all", "--force").expect()
    check_released(machines, others)


@pytest.fixture(scope="module")
def alone(machines: Ec2Cloud) -> Iterator[dict[str, Path]]:
    """By name of the example: where its packages are that rpmbuild made without us."""
    place = machines.lab.root / "rpmbuild"
    shutil.rmtree(place, ignore_errors=True)
    for name, example in _EXAMPLES.items():
        (place / name).mkdir(parents=True)
        package = srpm.build(machines.lab, example.recipe)
        rpmbuild(machines.lab, package, example.requires, place / name)
        shutil.rmtree(place / name / "root")
    yield {name: place / name for name in _EXAMPLES}
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def friend_with_mock(friend: Installed) -> User:
    return with_mock(friend)


@pytest.fixture(params=["chroot", "mock"])
def builder(request: pytest.FixtureRequest, friend: Installed) -> User:
    """Who builds by that engine; ours needs no mock here."""
    if request.param == "chroot":
        return friend
    user: User = request.getfixturevalue("friend_with_mock")
    return user


@pytest.mark.parametrize("name", _EXAMPLES)
def test_macros_of_today(
    machines: Ec2Cloud,
    builder: User,
    alone: dict[str, Path],
    name: str,
    tmp_path: Path,
) -> None:
    """What rpmbuild makes without us, by both engines, on what another account has shared."""
    example: Example = _EXAMPLES[name]
    package = srpm.build(machines.lab, example.recipe)
    built = builder.mock("--resultdir", tmp_path, package, timeout_s=_TIMEOUT_S).expect()
    assert "node trusted (tier 1)" in built.stderr
    (tmp_path / next(tmp_path.glob("*.src.rpm"))).unlink()  # rpmbuild -bb makes none
    compared = compare_builds(alone[name], [tmp_path])
    assert compared and all(one.agrees for one in compared), compared

# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's distribution and node tree are what the other tests take them for."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from mock_cloud.process import CommandFailed, run
from tests.lab import debian, dist, keys, node, seeds
from tests.lab.convert import REPLACED_BY_OWN
from tests.lab.layout import RELEASES, Lab
from tests.lab.prepare import is_debian

debian_only = pytest.mark.skipif(not is_debian(), reason="Debian's files are packed on Debian only")


def rpms(lab: Lab, release: int) -> dict[str, Path]:
    """Package name → file."""
    return {place.name.rsplit("-", 2)[0]: place for place in lab.release(release).glob("*.rpm")}


@pytest.fixture
def keyring(lab: Lab, tmp_path: Path) -> list[str]:
    """The start of an rpmkeys command that knows the lab's key and no other."""
    command = ["rpmkeys", "--dbpath", str(tmp_path / "keyring")]
    run([*command, "--import", str(lab.package_key)], timeout_s=600)
    return command


@pytest.mark.parametrize("release", RELEASES)
def test_every_package_is_signed(lab: Lab, keyring: list[str], release: int) -> None:
    places = [str(place) for place in rpms(lab, release).values()]
    assert len(places) > 100
    strict = ["--define", "_pkgverify_level all", "--checksig"]
    lines = run([*keyring, *strict, *places], timeout_s=600).decode().splitlines()
    assert len(lines) == len(places)
    assert all(line.endswith(": digests signatures OK") for line in lines)


def test_the_foreign_key_is_not_accepted(lab: Lab, keyring: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "copy.rpm"
    shutil.copyfile(rpms(lab, 1)["lab-release"], copy)
    keys.sign(lab, [copy], keys.FOREIGN_USER)
    with pytest.raises(CommandFailed):
        run([*keyring, "--checksig", str(copy)], timeout_s=600)


@debian_only
def test_release_2_renews_a_few_and_shares_the_rest(lab: Lab) -> None:
    first, second = rpms(lab, 1), rpms(lab, 2)
    renewed = {*seeds.RENEWED, "lab-release"}
    assert first.keys() == second.keys()
    for name, place in first.items():
        assert place.samefile(second[name]) == (name not in renewed), name
    for name in seeds.RENEWED:
        assert first[name].name.replace(".lab1.", ".lab2.") == second[name].name


@pytest.mark.parametrize("release", RELEASES)
def test_dependencies_are_closed(lab: Lab, tmp_path: Path, release: int) -> None:
    options = {"cachedir": "cache", "logdir": "log", "persistdir": "persist", "reposdir": "none"}
    argv = ["dnf", "-q", f"--repofrompath=lab,file://{lab.release(release)}", "--repo=lab"]
    argv += [f"--setopt={name}={tmp_path / place}" for name, place in options.items()]
    said = run([*argv, f"--releasever={release}", "repoclosure"], timeout_s=600)
    assert said.decode().strip() == ""


def test_building_again_does_nothing(lab: Lab) -> None:
    assert not dist.build(lab)
    assert not node.build(lab)


_ASK = """
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
root=$2/root
shift 2
exec rpm --root "$root" --dbpath /var/lib/rpm "$@"
"""


def _ask(lab: Lab, place: Path, *words: str) -> bytes:
    """rpm's answer about the tree. Reading a database writes beside it: not into the tree."""
    for name in ("upper", "work", "root"):
        (place / name).mkdir(exist_ok=True)
    command = ["unshare", "--mount", "sh", "-ec", _ASK, "sh", str(lab.tree), str(place), *words]
    return run(command, timeout_s=600)


def test_tree_is_what_its_packages_say(lab: Lab, tmp_path: Path) -> None:
    assert _ask(lab, tmp_path, "-Va") == b""
    owned = set(_ask(lab, tmp_path, "-qla").decode().splitlines())
    found = {
        "/" + str(place.relative_to(lab.tree))
        for place in lab.tree.rglob("*")
        if not place.is_relative_to(lab.tree / "var/lib/rpm")
    }
    assert found - owned == {"/etc/machine-id"}  # and ld.so.cache is a %ghost: owned, no digest


def test_tree_holds_signed_headers_and_no_secrets(lab: Lab, tmp_path: Path) -> None:
    # Which tag holds a signature differs between rpm 4 and 6; what -i shows does not.
    _, *packages = re.split(r"^Name +: ", _ask(lab, tmp_path, "-qai").decode(), flags=re.M)
    assert len(packages) > 50
    assert [each.split()[0] for each in packages if "RSA/SHA" not in each] == []
    assert list((lab.tree / "etc/ssh").glob("ssh_host_*")) == []
    assert (lab.tree / "etc/machine-id").read_bytes() == b""
    assert not (lab.tree / "root/.ssh/authorized_keys").exists()


@debian_only
def test_tree_has_debian_s_own_bytes(lab: Lab) -> None:
    native = run(["dpkg", "--print-architecture"], timeout_s=10).decode().strip()
    compared = 0
    for package in debian.installed(native).values():
        conffiles = dict(package.conffiles)
        for path, digest in package.digests().items():
            place = lab.tree / debian.merged(path).lstrip("/")
            if path in conffiles or path in REPLACED_BY_OWN or place.is_symlink():
                continue
            if not place.is_file():
                continue
            with place.open("rb") as stream:
                found = hashlib.file_digest(stream, "md5").hexdigest()
            assert found == digest, path
            compared += 1
    assert compared > 2000

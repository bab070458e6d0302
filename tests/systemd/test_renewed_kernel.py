# SPDX-License-Identifier: GPL-2.0-or-later
"""An image is baked of one whose kernel a repository has in another version, as each month."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import debian, debs, keys
from tests.lab.bootable import system
from tests.lab.bootable.boot import initramfs
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.convert import Converter
from tests.lab.dist import build_rpm, index
from tests.lab.layout import Lab
from tests.lab.rpmspec import Package
from tests.systemd.fleet import baked

pytestmark = [pytest.mark.lab, pytest.mark.slow]

_META = "linux-image-cloud-amd64"
_KERNEL = re.compile(r"linux-image-(\d[\w.+~-]*-cloud-amd64)")
# What kernel-install(8) does on such a distribution.
_POSTTRANS = """\
%posttrans
set -e
depmod -a {version}
{initramfs}
sed -i 's/{old}/{version}/g' /boot/grub2/grub.cfg
"""


@dataclass(frozen=True)
class Renewed:
    """A repository, below the lab's distribution, and the version of its kernel."""

    repository: str
    version: str


def _others(lab: Lab, old: str) -> list[str]:
    """Versions of Debian's kernel for clouds that the lab's machines do not have."""
    listed = system.run(lab, ["apt-cache", "--names-only", "search", "^linux-image-"]).decode()
    names = (line.partition(" ")[0] for line in listed.splitlines())
    found = {match[1] for name in names if (match := _KERNEL.fullmatch(name))}
    return sorted(found - {old})


def _packed(lab: Lab, version: str, old: str) -> tuple[Package, Package]:
    """The kernel as Debian has it, and a newer package of those that want the newest kernel."""
    name = f"linux-image-{version}"
    place = lab.root / "debs"
    place.mkdir(exist_ok=True)
    if not list(place.glob(f"{name}_*.deb")):
        system.run(lab, ["apt-get", "-qq", "download", name], directory=str(place))
    (archive,) = place.glob(f"{name}_*.deb")
    packages = {name: debs.read(lab, archive)}
    debs.unpack(lab, packages)
    converter = Converter(
        debian.Closure(packages, {name: ()}), machine=lab.arch, scratch=lab.work / "pristine"
    )
    script = _POSTTRANS.format(version=version, old=old, initramfs=shlex.join(initramfs(version)))
    meta = Package(_META, "99", "1.lab2", lab.arch, "The newest kernel", (), requires=(name,),
                   scriptlets=script)  # fmt: skip
    return converter.convert(name, 1), meta


@pytest.fixture
def renewed(bootable: Lab) -> Iterator[Renewed]:
    (old,) = (place.name for place in (bootable.tree / "usr/lib/modules").iterdir())
    versions = _others(bootable, old)
    if not versions:  # Debian testing keeps the newest only
        pytest.skip(f"Debian has no other kernel for clouds than {old} here")
    place, scratch = bootable.dist / "kernel", bootable.work / "build"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        made: list[Path] = [
            build_rpm(package, scratch, place, bootable.arch)
            for package in _packed(bootable, versions[-1], old)
        ]
        keys.sign_all(bootable, made)
        index(place, ())
        yield Renewed(place.name, versions[-1])
    finally:
        shutil.rmtree(place)
        shutil.rmtree(bootable.work, ignore_errors=True)  # not there if nothing was fetched


def test_a_bake_that_renews_the_kernel(
    machines: Ec2Cloud, renewed: Renewed, tmp_path: Path
) -> None:
    """The image boots it, and machines of it are trusted, after a reboot too."""
    repositories = ("1", renewed.repository)
    with baked(machines, "ec2", tmp_path, repositories) as fleet, fleet.node() as node:
        assert node.do("uname -r").strip() == renewed.version
        assert not node.refusals()
        node.reboot()
        assert not node.refusals()

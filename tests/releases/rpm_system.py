# SPDX-License-Identifier: GPL-2.0-or-later
"""A system of RPMs alone: the lab's distribution as what a controller runs, without dpkg and apt.

Its repositories are laid out as those of Fedora and EL: a release that stays as it was, its
updates, its sources. Python packages that mock-cloud needs are packed from the virtual
environment: Debian 12 has some of them too old, and others not at all.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from mock_cloud.process import run
from tests.lab import debs, dist, keys, node, seeds, srpm
from tests.lab.convert import Converter
from tests.lab.layout import Lab, code_digest, locked, stamp_matches
from tests.lab.rpmspec import Entry, Kind, Package, directory

REPOSITORIES = "/srv/repositories"  # in the system
_PACKAGES_DIRECTORY = "/usr/lib/python3/dist-packages"
_FEDORA_NAMES = {"apache-libcloud": "python3-libcloud"}  # the others are python3-NAME there
_OWN = "mock-cloud"
_BINDINGS = "rpm"  # PyPI's finds the system's, which is python3-rpm
_SYSTEM = (
    *("bash", "ca-certificates", "coreutils", "dnf", "findutils", "git", "grep", "lab-release"),
    *("lab-rpm-config", "make", "mount", "passwd", "procps", "python3", "python3-venv", "rpm"),
    *("sed", "tar", "util-linux"),
)
_REPO = """\
[{name}]
name={name}
baseurl=file://{place}/{name}
enabled={enabled}
gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/{key}
metadata_expire=0

"""


def find_obstacle() -> str | None:
    """Why the virtual environment's packages are none for the system's Python, or None."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    system = run(["/usr/bin/python3", "-c", ask], timeout_s=30).decode().strip()
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return None if own == system else f"the environment has Python {own}, the system {system}"


def build_repositories(lab: Lab) -> Path:
    """The directory of the repositories, made unless it is there for the same inputs."""
    place = lab.root / "controller"
    needed = list(_needed(_OWN))
    key = (lab.dist / "key").read_text() + code_digest(("../releases/rpm_system", "own"))
    key += " ".join(f"{one.name}-{one.version}" for one in needed)
    if stamp_matches(place / "key", key):
        return place
    shutil.rmtree(place, ignore_errors=True)
    base = place / "baseos"
    base.mkdir(parents=True)
    for package in lab.release(1).glob("*.rpm"):
        os.link(package, base / package.name)
    _pack(lab, [_from_environment(one) for one in needed], base)
    dist.index(base, seeds.BUILD_GROUP)
    for name, packages in (
        ("updates", [one for one in lab.release(2).glob("*.rpm") if one.stat().st_nlink == 1]),
        ("baseos-source", [srpm.build(lab, srpm.hello(lab))]),
    ):
        (place / name).mkdir()
        for package in packages:
            shutil.copyfile(package, place / name / package.name)
        keys.sign(lab, list((place / name).glob("*.src.rpm")))
        dist.index(place / name, ())
    (place / "key").write_text(key)
    return place


def _pack(lab: Lab, packages: list[Package], out: Path) -> None:
    """Pack `packages`, and what a controller needs of Debian's beyond the lab's distribution."""
    closure = dist.choose(lab, (*seeds.SEEDS, *seeds.CONTROLLER))
    work = lab.work
    shutil.rmtree(work, ignore_errors=True)
    debs.unpack(lab, closure.packages)
    converter = Converter(closure, machine=lab.arch, scratch=work / "pristine")
    known = dist.choose(lab, seeds.SEEDS).packages
    packages += [converter.convert(name, 1) for name in closure.packages if name not in known]
    query = [
        "rpm",
        "-qp",
        "--nosignature",
        "--qf",
        "[%{PROVIDES}\\n]",
        *map(str, out.glob("*.rpm")),
    ]
    provided = set(run(query, timeout_s=120).decode().split())
    provided.update(name for package in packages for name in package.provides)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        made = list(
            pool.map(
                lambda package: dist.build_rpm(
                    dist.without_absent_sonames(package, provided), work / "build", out, lab.arch
                ),
                packages,
            )
        )
    keys.sign(lab, made)
    shutil.rmtree(work)


def _needed(name: str) -> Iterator[metadata.Distribution]:
    """The installed distributions that `name` needs, and what they need, each once."""
    queue, seen = _requirements(name), {_BINDINGS}
    while queue:
        one = queue.pop(0)
        if one in seen:
            continue
        seen.add(one)
        yield metadata.distribution(one)
        queue += _requirements(one)


def _requirements(name: str) -> list[str]:
    """Names of the distributions that an installed one needs here, without its extras."""
    found = []
    for line in metadata.requires(name) or ():
        words, _, marker = line.partition(";")
        match = re.match(r"[A-Za-z0-9._-]+", words)
        if match is None or "extra ==" in marker:
            continue
        one = re.sub(r"[-_.]+", "-", match[0]).lower()
        try:
            metadata.distribution(one)
        except metadata.PackageNotFoundError:  # by its marker it is for another Python or system
            continue
        found.append(one)
    return found


def _rpm_name(name: str) -> str:
    plain = re.sub(r"[-_.]+", "-", name).lower()
    return _FEDORA_NAMES.get(plain, f"python3-{plain.removeprefix('python-')}")


def _from_environment(one: metadata.Distribution) -> Package:
    """An installed Python distribution as a package, in Debian's place for its modules."""
    site = Path(sysconfig.get_path("purelib"))
    entries: dict[str, Entry] = {}
    for file in one.files or ():
        source = Path(str(one.locate_file(file))).resolve()
        if not source.is_relative_to(site) or "__pycache__" in source.parts:
            continue  # its commands, and what Python makes by itself
        place = f"{_PACKAGES_DIRECTORY}/{source.relative_to(site)}"
        entries[place] = Entry(place, Kind.FILE, source.stat().st_mode & 0o755, source=source)
        for parent in Path(place).parents:
            if not parent.is_relative_to(_PACKAGES_DIRECTORY):
                break
            entries.setdefault(str(parent), directory(str(parent)))
    return Package(
        _rpm_name(one.name), one.version, "1.lab1", os.uname().machine, one.name,
        tuple(entries[path] for path in sorted(entries)),
        requires=("python3", *(_rpm_name(name) for name in _requirements(one.name))),
    )  # fmt: skip


def make_tree(lab: Lab, root: Path) -> Path:
    """A fresh system at `root`, which is made; returns the repositories to mount in it."""
    with locked(lab):
        repositories = build_repositories(lab)
    node.install(
        root, baseurl=f"file://{repositories}/baseos", keys=(lab.package_key,), packages=_SYSTEM
    )
    key = "RPM-GPG-KEY-lab-1-primary"
    files = {
        f"etc/pki/rpm-gpg/{key}": lab.package_key.read_text(),
        "etc/yum.repos.d/lab.repo": "".join(
            _REPO.format(name=name, place=REPOSITORIES, key=key, enabled=enabled)
            for name, enabled in (("baseos", 1), ("updates", 1), ("baseos-source", 0))
        ),
    }
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return repositories

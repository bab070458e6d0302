# SPDX-License-Identifier: GPL-2.0-or-later
"""mock-core-configs' rhel-9 as it is, with a stand-in for the CDN, by both engines."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mock_cloud.process import run
from tests.lab import dist, keys
from tests.lab.http import FileServer
from tests.lab.layout import Lab, locked
from tests.lab.rooms import Room
from tests.lab.rpmspec import Package
from tests.lab.tls import Authority, Issued
from tests.peers.conftest import ENGINES
from tests.peers.sides import Side

pytestmark = [pytest.mark.lab, pytest.mark.slow]

_CHROOT = "rhel-9-x86_64"
_HOST = "cdn.redhat.com"
_CONTENT = "/content/dist/rhel9/9/x86_64"
# What the file wants and the lab's distribution has by other names, or has no need of.
_STUBS = {
    "redhat-release": ("lab-release",), "glibc-minimal-langpack": (), "info": ("texinfo",),
    # It brings what Fedora's python3-dnf does: /usr/bin/dnf-3, and rpmkeys.
    "python3-dnf-plugins-core": ("dnf", "dnf-plugins-core", "rpm"),
    "subscription-manager": (),
}  # fmt: skip
# Debian's rpm, which the lab's distribution is packed from, defaults to ~/.rpmdb.
_SITE = "config_opts['macros']['%_dbpath'] = '/var/lib/rpm'\n"


@pytest.fixture(scope="module")
def source() -> Path:
    found = os.environ.get("MOCK_CLOUD_TEST_MOCK_SOURCE")
    if not found:
        pytest.skip("needs mock-core-configs: make test-peers MOCK=checkout")
    return Path(found) / "mock-core-configs/etc/mock"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("vendor"), "redhat-uep")


@pytest.fixture(scope="module")
def repositories(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The three of the CDN: the lab's distribution, what it lacks, and nothing."""
    place = tmp_path_factory.mktemp("cdn")
    made = {name: place / name for name in ("appstream", "codeready-builder")}
    for path in made.values():
        path.mkdir()
    with locked(lab):
        packages = [
            dist.build_rpm(
                Package(name, "1", "1", "noarch", f"The lab's {name}", (),
                        requires=requires),
                place / "work", made["appstream"], "noarch",
            )
            for name, requires in _STUBS.items()
        ]  # fmt: skip
        keys.sign(lab, packages)
    for path in made.values():
        run(["createrepo_c", "--quiet", str(path)], timeout_s=60)
    return {"baseos": lab.release(1), **made}


@pytest.fixture
def cdn(repositories: Mapping[str, Path], authority: Authority) -> Iterator[FileServer]:
    """Port 443 of an address of its own; it wants a client's certificate."""
    mounts = {f"{_CONTENT}/{name}/os": path for name, path in repositories.items()}
    context = authority.server(_HOST, clients=True)
    with (
        Room() as room,
        room.inside(
            lambda: FileServer(mounts, host=room.address, port=443, context=context)
        ) as server,
    ):
        yield server


def subscribe(side: Side, lab: Lab, authority: Authority, issued: Issued, host: str) -> None:
    """What subscription-manager and distribution-gpg-keys put onto a system."""
    etc = side.place / "etc"
    entitlements, ca = etc / "pki/entitlement", etc / "rhsm/ca"
    for directory in (entitlements, ca):
        directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(authority.path, ca / "redhat-uep.pem")
    shutil.copy(issued.certificate, entitlements / "1234567890.pem")
    shutil.copy(issued.key, entitlements / "1234567890-key.pem")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{host} {_HOST}\n")
    known = side.place / "share/distribution-gpg-keys/redhat"
    known.mkdir(parents=True, exist_ok=True)
    for name in ("release", "PQC-release"):
        shutil.copy(lab.package_key, known / f"RPM-GPG-KEY-redhat9-{name}")


@pytest.mark.parametrize("engine", ENGINES)
def test_rhel_9_builds_with_its_file_unchanged(
    lab: Lab, warm_sides: Mapping[str, Side], cdn: FileServer, authority: Authority, source: Path,
    plain_srpm: Path, engine: str,
) -> None:  # fmt: skip
    side = warm_sides[engine]
    host = cdn.url.partition("://")[2].rpartition(":")[0]
    subscribe(side, lab, authority, authority.issue("1234567890"), host)
    for name in (f"{_CHROOT}.cfg", "templates/rhel-9.tpl"):
        shutil.copy(source / name, side.etc / name)
        assert (side.etc / name).read_bytes() == (source / name).read_bytes()
    with (side.etc / "site-defaults.cfg").open("a") as stream:
        stream.write(_SITE)
    results = side.scratch(f"rhel-{engine}")
    words = ("mock", "-v", "-r", _CHROOT, "--resultdir", str(results), str(plain_srpm))
    played = side.run(words)
    assert played.code == 0, played.output
    assert "reached through this machine: baseos, appstream, codeready-builder" in played.output
    assert list(results.glob("toy-plain-*.noarch.rpm"))
    asked = {access.path.removeprefix(_CONTENT).split("/")[1] for access in cdn.accesses()}
    assert asked == {"baseos", "appstream", "codeready-builder"}
    assert {access.status for access in cdn.accesses()} == {200}
    assert "redhat-release" in (results / "root.log").read_text()
    assert "entitlement" not in "".join(path.read_text() for path in results.glob("*.log"))

# SPDX-License-Identifier: GPL-2.0-or-later
"""The way of a user on a real OpenStack whose servers are the lab's machines.

From `setup` to an image of one's own, shared, and a build on it in a second project.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.sshkeys import make_key_pair
from tests.integration.conftest import Ended, User
from tests.lab import chroots, srpm
from tests.lab.keys import package_keys
from tests.lab.layout import TODAY, Lab, generation_lab
from tests.real_openstack.cloud import RealOpenStack
from tests.real_openstack.guests import Guests
from tests.waiting import wait_for

# openstacksdk has much to say of what it will remove.
pytestmark = [
    pytest.mark.openstack,
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]

NETWORK = "guests"
_TIMEOUT_S = 7200.0  # of what hangs: machines are emulated


def lab_of(lab: Lab, kind: str) -> Lab:
    """The lab that a kind of servers is of."""
    if kind == "namespaces":
        return lab
    today = generation_lab(lab, TODAY)
    if not (today.dist / "key").is_file():
        pytest.skip("machines with systemd: there is no lab of today's generation: make lab-today")
    return today


@pytest.fixture(scope="module", params=["namespaces", "machines"])
def guests(
    request: pytest.FixtureRequest, real_openstack: RealOpenStack, lab: Lab
) -> Iterator[Guests]:
    """Servers of a kind, and a network of theirs that all projects may use."""
    with Guests(lab_of(lab, request.param)) as guests:
        admin = real_openstack.connect("admin")
        network = admin.network
        _remove(admin, real_openstack)  # of a run that was killed
        made = network.create_network(name=NETWORK, is_shared=True)
        network.create_subnet(
            network_id=made.id,
            ip_version=4,
            cidr=guests.subnet,
            gateway_ip=guests.gateway,
            enable_dhcp=False,
            allocation_pools=[{"start": f"{guests.gateway}0", "end": f"{guests.gateway}99"}],
        )
        yield guests
        _remove(admin, real_openstack)


def _remove(admin: Any, cloud: RealOpenStack) -> None:
    """The network with all servers on it, and the images of its users."""
    for image in admin.image.images(owner=cloud.seeded["builds"]["project"]):
        admin.image.delete_image(image)
    for made in list(admin.network.networks(name=NETWORK)):
        ports = [port.device_id for port in admin.network.ports(network_id=made.id)]
        for server in admin.compute.servers(all_projects=True):
            if server.id in ports:
                admin.compute.delete_server(server)
        wait_for(lambda made=made: not list(admin.network.ports(network_id=made.id)))  # type: ignore[misc]
        admin.network.delete_network(made)


@dataclass(frozen=True)
class Packager:
    """Somebody of a project, with a home and remotes of their own."""

    user: User
    lab: Lab
    project: str

    @property
    def sign_key(self) -> Path:
        return self.user.place / "image-key"

    def setup(self, *words: str | Path, keys: str) -> Ended:
        options = ["--batch", "--force", "--provider", "openstack", "--cloud", self.project]
        options += ["--networks", NETWORK, "--reach", "private", "--size", "name:lab.small"]
        options += ["--manifest-keys", keys, "--package-keys"]
        options += [",".join(map(str, package_keys(self.lab)))]
        if self.lab.has_systemd:  # emulated, they are slower than any that a cloud has
            options += ["--boot-timeout", "30m", "--connect-timeout", "10m"]
            options += ["--silence-timeout", "20m"]
        else:
            options += ["--unsafe-containers", "true"]
        where = ("--directory", self.user.config.path / "remotes.d")
        return self.user.cloud("setup", "cloud", *options, *where, *words)

    def image(self, action: str, *words: str | Path) -> Ended:
        return self.user.cloud(
            "image", action, "cloud", *words, "--configdir", self.user.config.path,
            timeout_s=_TIMEOUT_S,
        )  # fmt: skip


def packager(place: Path, cloud: RealOpenStack, guests: Guests, project: str) -> Packager:
    lab = guests.lab
    (place / "home").mkdir(parents=True)
    config = chroots.write(lab, place / "etc", repository_url=guests.repository_url)
    with (config.path / "site-defaults.cfg").open("a") as stream:
        stream.write(f"config_opts['basedir'] = {str(place / 'var/lib/mock')!r}\n")
    own = cloud.seeded[project]
    names = {"username": project, "password": own["password"], "project_name": project}
    domains = {"user_domain_id": "default", "project_domain_id": "default"}
    entry = {
        "auth": {"auth_url": cloud.seeded["keystone"], **names, **domains},
        "region_name": cloud.seeded["region"],
    }
    clouds = place / "clouds.yaml"
    clouds.write_text(json.dumps({"clouds": {project: entry}}))  # JSON is YAML
    clouds.chmod(0o600)
    options = ("--configdir", str(config.path), "-r", config.chroot(), "--remote", "cloud")
    extra = {"OS_CLIENT_CONFIG_FILE": str(clouds)}
    made = Packager(User(place, config, place.parent / "cache", options, extra), lab, project)
    key = make_key_pair()
    with os.fdopen(os.open(made.sign_key, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as stream:
        stream.write(key.private.reveal())
    made.sign_key.with_suffix(".pub").write_text(f"{key.public}\n")
    return made


@pytest.mark.row("from setup to a build in a second project")
def test_from_setup_to_a_build_in_a_second_project(
    real_openstack: RealOpenStack, guests: Guests, hello_srpm: Path, tmp_path: Path
) -> None:
    cloud, lab = real_openstack, guests.lab
    baker = packager(tmp_path / "baker", cloud, guests, "builds")
    known: list[str | Path] = []
    keys = str(baker.sign_key.with_suffix(".pub"))
    if not lab.has_systemd:
        keys, known = f"{lab.manifest_key},{keys}", ["--manifest", guests.manifest]
    told = baker.setup("--image", "name:lab-stock", *known, keys=keys)
    missing = [line for line in told.stdout.splitlines() if "MISSING" in line]
    assert len(missing) == lab.has_systemd, told.stdout + told.stderr
    assert all("known-good set for x86_64" in line for line in missing)
    baked = baker.image(
        "bake", "--sign-key", baker.sign_key, "--repo", f"{guests.repository_url}/1",
        "--package", "patch", *(("--accept-unverified-base",) if lab.has_systemd else ()),
    ).expect()  # fmt: skip
    assert "a node of the image is trusted by the new manifest" in baked.stderr
    listed = json.loads(baker.image("list", "--json").expect().stdout)
    (image,) = (one for one in listed if one["name"] != "lab-stock")
    assert (image["standing"], image["state"]) == ("verified", "available")
    other = cloud.seeded["other"]["project"]
    out = tmp_path / "for-friend"
    shared = baker.image("share", image["image"], "--with", other, "--export", out).expect()
    manifest, *public = map(Path, shared.stdout.split())

    friend = packager(tmp_path / "friend", cloud, guests, "other")
    glance = cloud.connect("other").image
    glance.update_member(other, image["image"], status="accepted")
    words = ("--image", image["image"], "--manifest", manifest)
    told = friend.setup(*words, keys=",".join(map(str, public)))
    assert "MISSING" not in told.stdout, told.stdout + told.stderr
    before = {name: len(cloud.requests(name)) for name in ("keystone", "nova")}
    package = srpm.build(lab, srpm.plain()) if lab.has_systemd else hello_srpm
    built = friend.user.mock(package, timeout_s=_TIMEOUT_S).expect()
    assert "node trusted (tier 1)" in built.stderr
    check_requests({name: cloud.requests(name)[start:] for name, start in before.items()})
    results = friend.user.basedir / friend.user.config.chroot() / "result"
    assert {path.suffix for path in results.iterdir()} >= {".rpm", ".log"}
    where = ("--configdir", friend.user.config.path)
    friend.user.cloud("release", "--all", "--force", *where).expect()
    cloud.connect("builds").image.delete_image(image["image"])
    wait_for(lambda: not guests.names())
    for project in ("builds", "other"):
        assert not list(cloud.connect(project).compute.servers())
    assert not list(cloud.connect("builds").image.images(owner=cloud.seeded["builds"]["project"]))


def check_requests(asked: Mapping[str, list[str]]) -> None:
    """A build's, as the services logged them: each is asked for once what it is asked for."""
    ours = {
        name: [line for line in lines if "mock-cloud/" in line] for name, lines in asked.items()
    }
    assert len(ours["keystone"]) == 1, ours
    waiting = [line for line in ours["nova"] if re.match(r"GET /v2.1/servers/[0-9a-f-]{36} ", line)]
    others = [line.split()[:2] for line in ours["nova"] if line not in waiting]
    # A flavor by its name, and the order.
    assert others == [["GET", "/v2.1/flavors"], ["POST", "/v2.1/servers"]], ours

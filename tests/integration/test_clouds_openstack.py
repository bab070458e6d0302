# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock --remote openstack` and `--remote rackspace`: real nodes, set up by cloud-init."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.lab.clouds.faults import answer, html_502, reset_after, too_many_requests
from tests.lab.clouds.openstack import FLAVOR, OpenStackCloud
from tests.lab.clouds.openstack_identity import (
    API_KEY,
    COMPUTE,
    CREDENTIAL_ID,
    CREDENTIAL_SECRET,
    REGION,
    USER,
)
from tests.lab.layout import Lab
from tests.waiting import wait_for

pytestmark = pytest.mark.lab

CLOUDS_YAML = """\
clouds:
  lab:
    auth:
      auth_url: {auth_url}/v3
      application_credential_id: {credential}
      application_credential_secret: {secret}
    region_name: {region}
    compute_service_name: {compute}
"""
REMOTES = {
    "openstack": '[openstack]\ncloud = "lab"\nfloating_ip_pool = "public"\n',
    "rackspace": '[rackspace]\nregion = "{region}"\nendpoint = "{auth_url}"\n',
    "libcloud": """[libcloud]
driver = "rackspace"
[libcloud.arguments]
key = "env:RACKSPACE_USERNAME"
secret = "env:RACKSPACE_API_KEY"
region = "ord"
ex_force_auth_url = "{auth_url}"
""",
}
REMOTE = """\
[remote]
provider = "{provider}"

{table}
[node.{arch}]
images = ["{image}"]
sizes = ["{size}", "3"]

[lease]
idle_ttl = 0

[attest]
manifest = "{manifest}"
manifest_keys = ["{manifest_key}"]
package_keys = ["{package_key}"]
unsafe_containers = true
"""


@pytest.fixture
def user(openstack: OpenStackCloud, lab: Lab, tmp_path: Path, cache: Path) -> User:
    """Somebody with an account: clouds.yaml for OpenStack, two variables for Rackspace."""
    config = openstack.write_config(tmp_path / "etc")
    for provider, table in REMOTES.items():
        text = REMOTE.format(
            provider=provider,
            table=table.format(region=REGION, auth_url=openstack.auth_url),
            arch=config.arch,
            image=openstack.image_id,
            size=FLAVOR,
            manifest=openstack.manifest,
            manifest_key=lab.manifest_key,
            package_key=lab.package_key,
        )
        (config.path / f"remotes.d/{provider}.toml").write_text(text)
    place = tmp_path / "home/.config/openstack"
    place.mkdir(parents=True)
    (place / "clouds.yaml").write_text(
        CLOUDS_YAML.format(
            auth_url=openstack.auth_url,
            credential=CREDENTIAL_ID,
            secret=CREDENTIAL_SECRET,
            region=REGION,
            compute=COMPUTE,
        )
    )
    environ = {"RACKSPACE_USERNAME": USER, "RACKSPACE_API_KEY": API_KEY}
    options = ("--configdir", str(config.path), "-r", config.chroot())
    return User(tmp_path, config, cache, options, environ)


@pytest.mark.slow
def test_a_build_goes_on_when_the_api_misbehaves(
    openstack: OpenStackCloud, user: User, plain_srpm: Path, tmp_path: Path
) -> None:
    """Faults 2 to 5: and at its end there is no server and no floating address."""
    openstack.faults.add(too_many_requests(1), "POST /servers")
    openstack.faults.add(reset_after, "POST /servers")
    openstack.faults.add(html_502(), "GET /servers/detail")
    result = tmp_path / "result"
    words = ("--remote", "openstack", "--resultdir", result, plain_srpm)
    with (tmp_path / "log").open("wb") as log:
        build = user.start(*words, stdout=log, stderr=log)
    try:
        wait_for((result / "build.log").exists)
        assert len(openstack.listing().instances) == 1
        assert len(openstack.listing().addresses) == 1
        openstack.identity.expire_tokens()
        assert build.wait(60) == 0
    finally:
        build.kill()
        build.wait()
    assert list(result.glob("toy-plain-1-1*.src.rpm"))
    # Throttled, then made without an answer, then found by its name.
    assert openstack.calls.count("POST /servers") == 2
    # Refused with the token of before; a new one ended the server.
    ends = [call.status for call in openstack.calls if call.operation == "DELETE /servers/{id}"]
    assert ends == [401, 204]
    assert openstack.listing().is_empty
    assert openstack.nodes() == ()


@pytest.mark.slow
@pytest.mark.parametrize("remote", ["rackspace", "libcloud"])
def test_a_build_leaves_nothing(
    openstack: OpenStackCloud, user: User, plain_srpm: Path, tmp_path: Path, remote: str
) -> None:
    """The second is any driver of libcloud, by its name; it happens to be Rackspace's too."""
    words = ("--remote", remote, "--resultdir", tmp_path / "result", plain_srpm)
    ended = user.mock(*words).expect()
    assert "node trusted" in ended.stderr
    assert list((tmp_path / "result").glob("toy-plain-1-1*.src.rpm"))
    assert openstack.listing().is_empty
    assert openstack.nodes() == ()


def test_wrong_credentials_are_refused_at_once(
    openstack: OpenStackCloud, user: User, plain_srpm: Path
) -> None:
    """Fault 1."""
    path = user.place / "home/.config/openstack/clouds.yaml"
    path.write_text(path.read_text().replace(CREDENTIAL_SECRET, "hidden-and-wrong"))
    ended = user.mock("--remote", "openstack", plain_srpm).expect(3)
    assert f"cloud 'lab' of {path}" in ended.stderr
    assert "hidden-and-wrong" not in ended.stderr
    for call in openstack.calls:
        print(call)
    assert openstack.calls.operations() == ["POST /auth/tokens"]


def test_a_quota_is_named_and_not_tried_again(
    openstack: OpenStackCloud, user: User, plain_srpm: Path
) -> None:
    """Fault 8."""
    message = "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances"
    refusal = json.dumps({"forbidden": {"code": 403, "message": message}})
    openstack.faults.add(answer(403, refusal, "application/json"), "POST /servers", times=None)
    ended = user.mock("--remote", "openstack", plain_srpm).expect(75)
    assert message in ended.stderr
    assert openstack.calls.count("POST /servers") == 1


def test_a_server_in_error_is_replaced_if_another_size_may_do(
    openstack: OpenStackCloud, user: User, plain_srpm: Path
) -> None:
    """Faults 7 and 9: for want of room the next size is tried, for any other reason none."""
    no_room = "No valid host was found. There are not enough hosts available."
    openstack.faults.add(openstack.dying(no_room), "POST /servers", when={"flavorRef": FLAVOR})
    broken = openstack.dying("Build of instance aborted: volume is broken")
    openstack.faults.add(broken, "POST /servers", times=None, when={"flavorRef": "3"})
    ended = user.mock("--remote", "openstack", plain_srpm).expect(75)
    assert "volume is broken" in ended.stderr
    assert openstack.listing().is_empty

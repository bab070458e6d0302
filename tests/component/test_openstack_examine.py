# SPDX-License-Identifier: GPL-2.0-or-later
"""What `doctor` says of a remote whose file names what is not there, or is used up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from mock_cloud.cloud.apis.openstack import OpenStackApi
from mock_cloud.cloud.provider import Finding
from mock_cloud.errors import ConfigError
from mock_cloud.settings import NodeSettings, OpenStackSettings
from tests.component.openstack_answers import Answers, make_api, run_answers

ALL = OpenStackSettings(
    zones=("nova",), networks=("private",), security_groups=("ssh",), floating_ip_pool="public"
)


@pytest.fixture
def cloud() -> Iterator[tuple[Answers, str]]:
    with run_answers() as (answers, url):
        yield answers, url


def findings(
    cloud: tuple[Answers, str], placement: OpenStackSettings, size: str = "id-m1.tiny"
) -> dict[str, Finding]:
    answers, url = cloud
    image = answers.images.add("lab", "o")
    api = make_api(url, placement, NodeSettings((image,), (size,)))
    return {one.what.split(" ")[0]: one for one in api.examine("x86_64")}


def test_all_that_is_named_is_there(cloud: tuple[Answers, str]) -> None:
    found = findings(cloud, ALL)
    assert all(one.ok for one in found.values()), found
    assert found["networks"].found.endswith("; 1 of 500 ports in use")
    assert found["floating"].found.endswith("; 0 of 50 addresses in use")
    assert found["security"].found == "port 22 is open to 192.0.2.0/24"
    assert found["credentials"].found.startswith("0 of 10 servers in use, 0 of 20 cores")


@pytest.mark.parametrize(
    ("changes", "what", "words", "mend"),
    [
        ({"zones": ("nowhere",)}, "zones", "zone nowhere is not there", "nova"),
        ({"zones": ("old",)}, "zones", "zone old is not available", "nova"),
        ({"networks": ("privat",)}, "networks", "no networks are called 'privat'", "private"),
        ({"networks": ("1" * 32,)}, "networks", "no networks are called", ""),
        ({"security_groups": ("shh",)}, "security", "no security group 'shh'", "ssh"),
        ({"floating_ip_pool": "outside"}, "floating", "no floating IP pool 'outside'", "public"),
    ],
)
def test_what_is_not_there(
    cloud: tuple[Answers, str], changes: dict[str, object], what: str, words: str, mend: str
) -> None:
    one = findings(cloud, replace(ALL, **changes))[what]  # type: ignore[arg-type]
    assert not one.ok
    assert words in one.found
    assert mend in one.mend


def test_a_group_that_opens_no_port_22_is_noted(cloud: tuple[Answers, str]) -> None:
    """Noted only: there are networks without filters."""
    one = findings(cloud, replace(ALL, security_groups=("web",)))["security"]
    assert (one.ok, one.found) == (True, "web: no rule opens port 22")
    assert "--dst-port 22" in one.mend
    api = make_api(cloud[1], OpenStackSettings(), NodeSettings(("i",), ("s",)))
    assert "no rule of its security groups (default)" in api.explain_silence("x")


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("id-m1.huge", "needs 4000 cores, and 20 are left"),
        ("id-m1.wide", "needs 999999 MiB of memory, and 51200 are left"),
        ("id-v1.small", "has no disk of its own"),
        ("none", "there is no flavor none"),
        ("name:m9*", "no flavor is called 'm9*'"),
        ("name:m1.*", "several flavors are called 'm1.*'"),
    ],
)
def test_a_flavor_that_cannot_be_had(cloud: tuple[Answers, str], size: str, words: str) -> None:
    one = findings(cloud, ALL, size)["flavor"]
    assert not one.ok
    assert words in one.found
    assert one.mend


def test_a_flavor_without_disk_boots_from_a_volume(cloud: tuple[Answers, str]) -> None:
    assert findings(cloud, replace(ALL, volume_gib=20), "name:v1.small")["flavor"].ok


def test_ports_and_addresses_are_counted(cloud: tuple[Answers, str]) -> None:
    cloud[0].quota["port"].update(limit=1)
    cloud[0].quota["floatingip"].update(used=49, reserved=1)
    found = findings(cloud, ALL)
    assert (found["networks"].ok, found["networks"].found) == (False, "1 of 1 ports are in use")
    assert not found["floating"].ok


def test_a_cloud_that_tells_no_quotas(cloud: tuple[Answers, str]) -> None:
    cloud[0].quota.clear()
    cloud[0].limits.clear()
    found = findings(cloud, ALL)
    assert all(one.ok for one in found.values())


def api_of(cloud: tuple[Answers, str]) -> OpenStackApi:
    return make_api(cloud[1], ALL, NodeSettings(("i",), ("s",)))


def test_the_newest_image_of_a_name(cloud: tuple[Answers, str]) -> None:
    answers, _ = cloud
    answers.images.add("fedora-41", "o", created_at="2026-01-01T00:00:00Z")
    newest = answers.images.add("fedora-42", "o", created_at="2026-03-01T00:00:00Z")
    answers.images.add("fedora-40", "o", created_at="2026-02-01T00:00:00Z")
    names = api_of(cloud)._names
    assert names.image("name:fedora-4?") == newest
    assert names.image("name:fedora-4?") == newest
    assert names.image("name:fedora-42") == newest
    assert answers.asked.count("GET /v2/images") == 2
    assert names.image("any-id") == "any-id"
    with pytest.raises(ConfigError, match="no active image is called 'fedroa'") as caught:
        names.image("name:fedroa")
    assert "fedora" in str(caught.value.hint)


def test_what_the_cloud_has_is_listed_by_name(cloud: tuple[Answers, str]) -> None:
    answers, url = cloud
    image = answers.images.add("Fedora-Cloud-Base-43", "o")
    choices = make_api(url, OpenStackSettings(), NodeSettings(("i",), ("s",))).choices()

    def listed(key: str) -> dict[str, str]:
        return {one.value: one.text for one in choices.find(key, "x86_64")}

    assert listed("images")[image].startswith("Fedora-Cloud-Base-43, ")
    assert listed("sizes")["id-v1.small"] == "v1.small, 1 CPUs, 64 MiB, no disk: needs volume_gib"
    assert {"ssh", "default"} <= listed("security_groups").keys()
    assert list(listed("zones")) == ["nova", "old"]
    assert listed("floating_ip_pool").keys() == {"public"}
    assert "private" in listed("networks").values() and "public" not in listed("networks").values()
    assert not listed("market") and not choices.is_search("images", "fedora")

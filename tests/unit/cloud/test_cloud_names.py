# SPDX-License-Identifier: GPL-2.0-or-later
import re
from dataclasses import replace

import pytest

from mock_cloud.cloud.apis.adapter import TAG_EXPIRES, TAG_LEASE
from mock_cloud.cloud.apis.tags import make_name, parse_name
from mock_cloud.cloud.images import TAG_OWNER
from tests.component.openstack_parts import make_launch

ME = "me@here:0/0123abcd"
LAUNCH = make_launch("a1b2c3d4e5f6", owner=ME)
NAME = make_name(LAUNCH)


@pytest.mark.parametrize(
    "name",
    [
        None,
        7,
        "",
        "web-1",
        "mock-cloud-a1b2c3d4e5f6",
        "mock-cloud-web-0123456789abcdef-x713fb300",
        f"my-{NAME}",
        f"{NAME}-copy",
        NAME.upper(),
        f"{NAME}\n",
    ],
)
def test_anybody_elses_name_has_no_tags(name: object) -> None:
    assert parse_name(name, ME) == {}


def test_a_name_is_a_dns_label() -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,61}[a-z0-9]", NAME)


@pytest.mark.parametrize("number", ["", "-1", "-12"])
def test_the_owner_reads_his_tags(number: str) -> None:
    name = make_name(replace(LAUNCH, name=LAUNCH.name + number))
    assert parse_name(name, ME) == {
        TAG_LEASE: "a1b2c3d4e5f6",
        TAG_OWNER: ME,
        TAG_EXPIRES: LAUNCH.tags[TAG_EXPIRES],
    }


def test_nobody_else_is_taken_for_the_owner() -> None:
    for other in ("me@there:0/0123abcd", "me@here:0/99999999", "", "#"):
        found = parse_name(NAME, other)
        assert found[TAG_LEASE] == "a1b2c3d4e5f6"
        assert found[TAG_OWNER] not in (other, ME, "")

# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cloud-admin.md asks for the rights that are used; docs/clouds.md lists what is tested."""

from __future__ import annotations

import json
import re

from tests.lab.clouds.actions import called_actions
from tests.lab.layout import repository_root

TOP = repository_root()


def test_the_policy_has_the_rights_that_are_used() -> None:
    found = re.search(
        r"^```json\n(.*?)^```", (TOP / "docs/cloud-admin.md").read_text(), re.M | re.S
    )
    assert found
    statements = json.loads(found[1])["Statement"]
    asked = {
        action.removeprefix("ec2:")
        for one in statements
        for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    }
    assert asked == called_actions()
    # "IAM and AWS STS quotas": characters of a managed policy, blanks apart.
    assert len("".join(found[1].split())) <= 6144
    # What ends something without a tag of ours can only be what baking needs.
    ending = [one for one in statements if "ec2:TerminateInstances" in one["Action"]]
    assert all("aws:ResourceTag/mock-cloud-owner" in one["Condition"]["Null"] for one in ending)


def test_each_row_about_openstack_has_a_test_with_the_real_one() -> None:
    """And each test there a row: `make test-openstack` prints their names."""
    _, _, text = (TOP / "docs/clouds.md").read_text().partition("## OpenStack")
    rows = re.findall(r"^\| ([^|]+?) \|", text.partition("## EC2")[0], re.M)
    assert len(rows) == len(set(rows)) and rows[0] == "what"
    tests = [path.read_text() for path in (TOP / "tests/real_openstack").glob("test_*.py")]
    assert set(rows[1:]) == set(re.findall(r'row\("([^"]+)"\)', "".join(tests)))

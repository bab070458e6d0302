# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cloud-admin.md asks for the rights that are used; docs/clouds.md lists what is tested."""

from __future__ import annotations

import ast
import json
import re

from tests.lab.layout import repository_root

TOP = repository_root()
_ACTION = re.compile(
    r"(?:Describe|Run|Terminate|Start|Stop|Create|Delete|Modify|Release|Cancel|Deregister|Register"
    r"|Get|Attach|Detach|Associate|Disassociate|Allocate|Authorize|Revoke|Copy|Import)[A-Z]\w+"
)


def called_actions() -> set[str]:
    """The API's actions among the strings of what speaks to it."""
    return {
        node.value
        for path in (TOP / "mock_cloud/cloud/apis").glob("ec2*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and _ACTION.fullmatch(node.value)
    }


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

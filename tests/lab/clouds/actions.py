# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of EC2's actions the product calls."""

from __future__ import annotations

import ast
import re

from tests.lab.layout import repository_root

_ACTION = re.compile(
    r"(?:Describe|Run|Terminate|Start|Stop|Create|Delete|Modify|Release|Cancel|Deregister|Register"
    r"|Get|Attach|Detach|Associate|Disassociate|Allocate|Authorize|Revoke|Copy|Import)[A-Z]\w+"
)


def called_actions() -> set[str]:
    """The API's actions among the strings of what speaks to it."""
    return {
        node.value
        for path in (repository_root() / "mock_cloud/cloud/apis").glob("ec2*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and _ACTION.fullmatch(node.value)
    }

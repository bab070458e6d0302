# SPDX-License-Identifier: GPL-2.0-or-later
"""What the IAM policy in docs/cloud-admin.md lets a user do: each request of the lab is held to it.

Which resources an action is about: "Actions, resources, and condition keys for Amazon EC2" in
Amazon's Service Authorization Reference. Evaluated are the few operators that the policy has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from tests.lab.layout import repository_root

Tags = Mapping[str, str]
TagsOf = Callable[[str], "Tags | None"]
"""The tags of a resource by its id; None for one that is not there."""

_WHERE = "arn:aws:ec2:us-east-1"
_ACCOUNT = "123456789012"
_KINDS = {
    "ami": "image", "snap": "snapshot", "i": "instance", "vol": "volume",
    "eni": "network-interface", "sg": "security-group", "sir": "spot-instances-request",
    "subnet": "subnet", "eipalloc": "elastic-ip",
}  # fmt: skip
_NO_ACCOUNT = ("image", "snapshot")
_STARTED = ("instance", "volume", "network-interface")


@cache
def documented_policy() -> list[dict[str, Any]]:
    """Its statements."""
    text = (repository_root() / "docs/cloud-admin.md").read_text()
    found = re.search(r"^```json\n(.*?)^```", text, re.M | re.S)
    assert found
    statements: list[dict[str, Any]] = json.loads(found[1])["Statement"]
    return statements


def denial(action: str, sent: Mapping[str, str], tags_of: TagsOf) -> str:
    """What the policy does not let its user do; empty if all of a request is allowed."""
    for name, resource, context in _asked(action, sent, tags_of):
        if not any(_allows(one, f"ec2:{name}", resource, context) for one in documented_policy()):
            return f"ec2:{name} on {resource}"
    return ""


_Asked = tuple[str, str, dict[str, str]]
"""An action, the ARN of a resource, and the condition keys that have a value."""


def _asked(action: str, sent: Mapping[str, str], tags_of: TagsOf) -> Iterator[_Asked]:
    if action.startswith("Describe"):
        yield action, "*", {}
        return
    made = _made(action, sent)
    if not made and not any(_is_id(name, value) for name, value in sent.items()):
        yield action, _arn("*", "*"), {}
    for kind, tags in made.items():
        context = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
        yield action, _arn(kind, "*"), context
        if tags:
            yield "CreateTags", _arn(kind, "*"), {**context, "ec2:CreateAction": action}
    for name, value in sent.items():
        if _is_id(name, value):
            tags = tags_of(value)
            if tags is not None:
                context = {f"aws:ResourceTag/{key}": text for key, text in tags.items()}
                yield action, _arn(_KINDS[value.partition("-")[0]], value), context


def _is_id(name: str, value: str) -> bool:
    kind, dash, _ = value.partition("-")
    return bool(dash) and kind in _KINDS and re.search(r"Id(\.\d+)?$", name) is not None


def _made(action: str, sent: Mapping[str, str]) -> dict[str, Tags]:
    """The kinds of resources that an action makes, with the tags that each is to have."""
    if action == "CreateImage":
        kinds = ["image", "snapshot"]
    elif action == "RunInstances":
        is_spot = sent.get("InstanceMarketOptions.MarketType") == "spot"
        kinds = [*_STARTED, *(["spot-instances-request"] if is_spot else [])]
    else:
        return {}
    found: dict[str, Tags] = {kind: {} for kind in kinds}
    for name, kind in sent.items():
        prefix = name.removesuffix("ResourceType")
        if name.startswith("TagSpecification.") and prefix != name:
            keys = {one: sent[one] for one in sent if one.startswith(f"{prefix}Tag.")}
            found[kind] = {
                key: keys[f"{one.removesuffix('Key')}Value"]
                for one, key in keys.items()
                if one.endswith(".Key")
            }
    return found


def _arn(kind: str, name: str) -> str:
    return f"{_WHERE}:{'' if kind in _NO_ACCOUNT else _ACCOUNT}:{kind}/{name}"


def _allows(
    statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]
) -> bool:
    return (
        statement["Effect"] == "Allow"
        and any(fnmatchcase(action, one) for one in _list(statement["Action"]))
        and any(fnmatchcase(resource, one) for one in _list(statement["Resource"]))
        and all(
            _holds(operator, key, _list(values), context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _holds(operator: str, key: str, values: list[str], context: Mapping[str, str]) -> bool:
    if operator == "Null":
        return values == [str(key not in context).lower()]
    assert operator == "StringEquals", operator
    return context.get(key) in values


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value

# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud policy`: the rules of a verdict, each with its reason."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mock_cloud.attest.policy import MANDATORY, SHIPPED, Policy, declared
from mock_cloud.attest.rules.remote_agents import AGENTS
from mock_cloud.console import Console
from mock_cloud.steps.attest.policies import read_policy, rule_name
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "policy",
        help="show or check the rules of a verdict",
        description="Show the rules by which nodes are trusted or refused, each with its reason, or"
        " check a file with rules of your own.",
        epilog="examples: mock-cloud policy show strict; mock-cloud policy check koji.toml",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="print a policy's rules, with their reasons")
    show.add_argument(
        "policy",
        nargs="?",
        default="standard",
        metavar="FILE",
        help="standard (default), strict or a policy file",
    )
    show.add_argument("--json", action="store_true", help="print a JSON object")
    show.set_defaults(run=_show)
    check = actions.add_parser("check", help="check a policy file; exit status 3 for a bad one")
    check.add_argument("file", type=Path, metavar="FILE", help="a policy file")
    check.set_defaults(run=_check)


def _show(arguments: argparse.Namespace, console: Console) -> int:
    make = SHIPPED.get(arguments.policy)
    policy = read_policy(Path(arguments.policy)) if make is None else make()
    if arguments.json:
        print(json.dumps(_to_object(policy), indent=2))
    else:
        print("\n".join(_lines(policy)))
    return 0


def _check(arguments: argparse.Namespace, console: Console) -> int:
    policy = read_policy(arguments.file)
    own = len(policy.forbidden) - len(SHIPPED[policy.base]().forbidden)
    print(
        f"{printable(policy.name)}: {policy.base} with {len(policy.changed)} rules changed,"
        f" {len(policy.allowed)} things allowed, {own} forbidden; sha256 {policy.sha256}"
    )
    return 0


def _to_object(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "base": policy.base,
        "sha256": policy.sha256,
        "always": {check.value: why for check, why in MANDATORY.items()},
        "rules": [
            {
                "name": rule_name(name),
                "value": getattr(policy.rules, name),
                "text": rule.text,
                "reason": policy.find_reason(name),
                "changed": name in policy.changed,
            }
            for name, rule in declared().items()
        ],
        "allowed": [_entry(one) for one in policy.allowed],
        "forbidden": [_entry(one) for one in policy.forbids()],
        "agents": [
            {"name": one.name, "who": one.who, "allowed": one in policy.allowed_agents()}
            for one in AGENTS
        ],
    }


def _entry(one: Any) -> dict[str, str]:
    return {"name": one.name, "what": one.what(), "reason": one.reason}


def _lines(policy: Policy) -> Iterator[str]:
    found = _to_object(policy)
    yield f"policy: {printable(policy.name)}, from {policy.base}"
    yield f"sha256: {policy.sha256}"
    yield "always:"
    for name, why in found["always"].items():
        yield f"  {name}: {why}"
    yield "rules:"
    for rule in found["rules"]:
        mark = " (changed)" if rule["changed"] else ""
        yield f"  {rule['name']} = {_value(rule)}{mark}: {rule['text']}"
        yield f"      {printable(rule['reason'])}"
    for title in ("allowed", "forbidden"):
        if found[title]:
            yield f"{title}:"
        for one in found[title]:
            yield f"  {one['name']}: {printable(one['what'])}"
            yield f"      {printable(one['reason'])}"
    yield "agents for remote control, of which none runs unless the remote has it in allow_agents:"
    for one in found["agents"]:
        yield f"  {one['name']}: {one['who']}{' (allowed)' if one['allowed'] else ''}"


def _value(rule: dict[str, Any]) -> str:
    value = rule["value"]
    if isinstance(value, float):
        days, rest_s = divmod(value, 86400)
        return f"{days:g}d" if days and not rest_s else f"{value:g}s"
    return json.dumps(value)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Policy files: read with the line of each mistake, and what they make of a remote's settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from mock_cloud.attest.policy import SHIPPED, Allowances, Forbidden, Policy, declared, standard
from mock_cloud.attest.rules.remote_agents import AGENTS
from mock_cloud.config import toml_values as checks
from mock_cloud.config.toml_tables import Document, Each, Key, Tables, read_document
from mock_cloud.errors import ConfigError
from mock_cloud.settings import AttestSettings, Remote, SecondLook

T = TypeVar("T", Allowances, Forbidden)

_REASON: Final = Key("reason", checks.text, "why, in a sentence", required=True)
_PROGRAM: Final = Key("program", checks.text, "path of a program")
_MODULE: Final = Key("module", checks.text, "name of a kernel module")
_TABLES: Final[Tables] = {
    "policy": {
        "base": Key("base", checks.text, "the rules that the file changes: standard or strict"),
    },
    "rule": Each(
        {"value": Key("value", lambda raw, _: raw, "what it is to be", required=True),
         "reason": _REASON},
        checks.plain_word,
    ),
    "allow": Each(
        {
            "program": _PROGRAM,
            "command": Key("command", checks.strings, "its command line, word by word"),
            "ports": Key("ports", checks.strings, 'what it listens on, such as "tcp 9100"'),
            "file": Key("file", checks.text, "path of a file or directory that may vary"),
            "kind": Key("kind", checks.text, "as what it may vary, such as data or state"),
            "module": _MODULE,
            "reason": _REASON,
        },
        checks.plain_word,
    ),
    "forbid": Each(
        {
            "program": _PROGRAM,
            "module": _MODULE,
            "package": Key("package", checks.text, "name of a package"),
            "reason": _REASON,
        },
        checks.plain_word,
    ),
}  # fmt: skip


def find_policy(settings: AttestSettings) -> Policy:
    """The policy that a remote names, with the agents that it allows. ConfigError."""
    make = SHIPPED.get(settings.policy)
    policy = read_policy(Path(settings.policy)) if make is None else make()
    known = [agent.name for agent in AGENTS]
    if unknown := sorted(set(settings.allow_agents) - set(known)):
        raise ConfigError(
            f"allow_agents: {', '.join(map(repr, unknown))} is none that is known",
            hint=f"known are {', '.join(known)}",
        )
    return replace(policy, agents=tuple(sorted(set(settings.allow_agents))))


def find_making_policy(settings: AttestSettings) -> Policy:
    """The rules by which manifests of the remote are made: standard's, with its agents.

    ConfigError.
    """
    return find_policy(replace(settings, policy=standard().name))


def read_policy(path: Path) -> Policy:
    """The policy in the TOML file `path`, called like the file. ConfigError with the line."""
    document = read_document(path, _TABLES)
    name = path.stem
    if name in SHIPPED:
        raise ConfigError(f"{path}: {name} is the name of another policy", hint="rename the file")
    tables = document.tables
    base_name = tables.get("policy", {}).get("base", standard().name)
    if base_name not in SHIPPED:
        known = ", ".join(SHIPPED)
        document.refuse(f"base: {base_name!r} is none of {known}", "policy", "base")
    base = SHIPPED[base_name]()
    values, changed = {}, {}
    for key, said in tables.get("rule", {}).items():
        field_name, values[field_name] = _read_rule(document, key, said["value"])
        changed[field_name] = said["reason"]
    return replace(
        base,
        name=name,
        rules=replace(base.rules, **values),
        allowed=_read_each(document, "allow", Allowances),
        forbidden=(*base.forbidden, *_read_each(document, "forbid", Forbidden)),
        changed=changed,
    )


def _read_rule(document: Document, key: str, raw: Any) -> tuple[str, Any]:
    """The rule's field, and its value."""
    names = {rule_name(one): one for one in declared()}
    if key not in names:
        document.refuse(f"unknown rule {key!r}; known: {', '.join(names)}", f"rule.{key}")
    name = names[key]
    rule = declared()[name]
    check: checks.ValueCheck = checks.flag
    if name != key:
        check = checks.duration(rule.least, rule.most)
    elif rule.most:
        check = checks.integer(int(rule.least), int(rule.most))
    try:
        return name, check(raw, document.path.parent)
    except checks.Refused as error:
        document.refuse(f"{key}: {error}; it says: {rule.text}", f"rule.{key}", "value")


def rule_name(field_name: str) -> str:
    """What a rule is called in files and for people: its field without the unit."""
    return field_name.removesuffix("_s")


def _read_each(document: Document, table: str, kind: type[T]) -> tuple[T, ...]:
    found = []
    for name, values in document.tables.get(table, {}).items():
        try:
            found.append(kind(name=name, **values))
        except ValueError as error:
            document.refuse(f"[{table}.{name}]: {error}", f"{table}.{name}")
    return tuple(found)


def tightened(remote: Remote) -> Remote:
    """The remote with settings that are at least as strict as its policy. ConfigError.

    Idempotent. What a policy allows loosens no setting.
    """
    settings = remote.attest
    rules = find_policy(settings).rules
    if settings.unsafe_containers and not rules.containers:
        raise ConfigError(
            f"{remote.source}: unsafe_containers does not go with the policy {settings.policy}",
            hint="take out one of both; a policy file may set the rule containers",
        )
    ages = [one for one in (settings.manifest_max_age_s, rules.manifest_max_age_s) if one]
    stricter = replace(
        settings,
        second_look=SecondLook.ALWAYS if rules.second_look else settings.second_look,
        manifest_threshold=max(settings.manifest_threshold, rules.manifest_threshold),
        manifest_max_age_s=min(ages),
        verdict_max_age_s=min(settings.verdict_max_age_s, rules.verdict_max_age_s),
    )
    return replace(remote, attest=stricter)

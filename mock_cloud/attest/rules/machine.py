# SPDX-License-Identifier: GPL-2.0-or-later
"""What may vary on a machine that runs, or on instances of an image: logs, and daemons' state.

A manifest of such a machine must hold at the next login, when systemd-logind has written down a
session more, and after a daemon was started anew. Whatever `runtime` does not name is pinned as
found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mock_cloud.attest.evidence import Evidence
from mock_cloud.attest.files import FileFact
from mock_cloud.attest.rules import cloudinit, runtime
from mock_cloud.attest.rules.volatile import (
    VolatileKind,
    VolatileRule,
    cloud_init_rules,
    fits,
    text_rules,
)

_BOOTED: Final = "/run/systemd/system"
"""Where this is, systemd is the first process: sd_booted(3)."""


def machine_rules(evidence: Evidence, *, of_cloud: bool = False) -> tuple[VolatileRule, ...]:
    """The rules for this machine, of what `evidence` shows to be there.

    cloud-init writes its own anew at each boot, whoever lends the machine: `of_cloud` or not.
    """
    rules = [VolatileRule("/var/log", VolatileKind.STATE)]
    if is_booted_by_systemd(evidence):
        rules += systemd_rules(of_instances=False)
    if of_cloud or any(fact.path == cloudinit.RUN_DIR for fact in evidence.files):
        rules += (*cloud_init_rules(), *text_rules(of_instances=True))
    rules += _pid_files(evidence)
    return tuple(dict.fromkeys(rules))


def image_rules(evidence: Evidence) -> tuple[VolatileRule, ...]:
    """The rules for instances of the image that this node of it runs."""
    if is_booted_by_systemd(evidence):
        return systemd_rules(of_instances=True)
    return text_rules(of_instances=True)


def is_booted_by_systemd(evidence: Evidence) -> bool:
    return any(fact.path == _BOOTED for fact in evidence.files)


def systemd_rules(*, of_instances: bool) -> tuple[VolatileRule, ...]:
    """What systemd and the daemons it starts write, on a machine or on instances of an image."""
    return (
        VolatileRule("/var/log", VolatileKind.STATE),
        *(VolatileRule(path, VolatileKind.RUNTIME) for path in runtime.RUNTIME_PLACES),
        VolatileRule("/run/systemd/transient", VolatileKind.SCOPES),
        *text_rules(of_instances=of_instances),
    )


def chosen_rule(evidence: Evidence, path: str) -> VolatileRule:
    """The narrowest rule that lets `path` vary. ValueError: not there, or it is read as code."""
    fact = next((fact for fact in evidence.files if fact.path == path), None)
    if fact is None:
        raise ValueError(f"{path[:200]!a} is not on the machine, or was not measured")
    kinds = VolatileKind
    for kind in (kinds.STATE,) if fact.type == "d" else (kinds.PIDFILE, kinds.DATA, kinds.LOG):
        rule = VolatileRule(path, kind)
        if fits(rule, fact):
            return rule
    raise ValueError(f"{path[:200]!a} is more than data: executable, setuid, or open to all")


def _pid_files(evidence: Evidence) -> Iterator[VolatileRule]:
    for fact in evidence.files:
        if _may_be_pid_file(fact):
            try:
                rule = VolatileRule(fact.path, VolatileKind.PIDFILE)
            except ValueError:
                continue  # in a place of code: pinned
            if fits(rule, fact):
                yield rule


def _may_be_pid_file(fact: FileFact) -> bool:
    name = fact.path.rpartition("/")[2]
    is_pid = name.endswith(".pid") or name in ("pid", "pidfile")
    return fact.type == "f" and fact.path.startswith("/run/") and is_pid

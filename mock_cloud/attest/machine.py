# SPDX-License-Identifier: GPL-2.0-or-later
"""What may vary on a machine that runs: logs, and the state that systemd and daemons keep in /run.

A manifest of such a machine must hold at the next login, when systemd-logind has written down a
session more, and after a daemon was started anew. Whatever is not named here is pinned as found.
Names are of systemd 249 to 257 (src/core/unit.c, src/login, src/journal, src/udev).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mock_cloud.attest.evidence import Evidence
from mock_cloud.attest.files import FileFact
from mock_cloud.attest.volatile import VolatileKind, VolatileRule, fits, text_rules

_BOOTED: Final = "/run/systemd/system"
"""Where this is, systemd is the first process: sd_booted(3)."""
_STATE: Final = (
    "/run/log/journal",
    *(
        f"/run/systemd/{name}"
        for name in (
            "ask-password", "dynamic-uid", "inhibit", "journal", "machines", "netif", "propagate",
            "seats", "sessions", "units", "users",
        )
    ),
    "/run/udev/data",
    "/run/udev/links",
    "/run/udev/tags",
    "/run/udev/watch",
    "/run/user/0/systemd/units",
)  # fmt: skip


def machine_rules(evidence: Evidence) -> tuple[VolatileRule, ...]:
    """The rules for this machine, of what `evidence` shows to be there."""
    kinds = VolatileKind
    rules = [VolatileRule("/var/log", kinds.STATE)]
    if any(fact.path == _BOOTED for fact in evidence.files):
        rules += (VolatileRule(path, kinds.STATE) for path in _STATE)
        rules.append(VolatileRule("/run/systemd/transient", kinds.SCOPES))
        rules.append(VolatileRule("/run/udev/queue", kinds.DATA))
        rules.append(VolatileRule("/var/lib/systemd/random-seed", kinds.DATA))
        rules += text_rules(of_instances=False)
    rules += _pid_files(evidence)
    return tuple(dict.fromkeys(rules))


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

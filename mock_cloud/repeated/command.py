# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds that are repeated: where they count after a scratch build, or by builders who must agree.

Each part is a command of its own (`parts`); here is who builds what, and what follows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_INTERRUPTED, CloudError, ConfigError
from mock_cloud.invocation.model import CommandLine
from mock_cloud.ledger.scratch import note_scratch
from mock_cloud.ledger.store import Ledger
from mock_cloud.places import state_dir
from mock_cloud.provenance.verification import verify_results
from mock_cloud.repeated.audit_draws import find_seed, is_drawn
from mock_cloud.repeated.audits import ANY_BUILD, judge_builds, list_agreements, note_audit
from mock_cloud.repeated.duplicates import (
    SAYS_NOTHING,
    DuplicateOrder,
    build_together,
    choose_sides,
    end_of_failed,
    find_side_keys,
    settle,
)
from mock_cloud.repeated.parts import Side, build_part, private_place, publish
from mock_cloud.settings import Remote
from mock_cloud.steps.lease.builders import find_flagged, note
from mock_cloud.steps.sign.renewing import sign_agreed

_SIGNALLED: Final = 128


def build_scratch(
    words: Sequence[str], remote: Remote, then: Remote, resultdir: Path, console: Console
) -> int:
    """Build on `remote`; 0 if `then` is to build it now, else the exit code, its logs published.

    `words` are mock's. Of what it built nothing is kept. The ledger has how it ended.
    """
    with private_place(resultdir) as place:
        side = Side(remote.name, remote.name)
        built = build_part(words, side, place, resultdir, console, is_shown=True)
        if built.code:
            publish(built, resultdir, words)
    if built.code in SAYS_NOTHING or built.code > _SIGNALLED:
        return built.code
    now_unix, has_failed = int(time.time()), built.code != 0
    note(
        console,
        note_scratch(remote.name, then.name, built.seconds, now_unix, has_failed=has_failed),
    )
    if has_failed:
        console.info(f"remote {then.name} was spared this build")
    else:
        console.info(f"remote {remote.name}: it builds; remote {then.name} builds what counts")
    return built.code


def build_duplicates(
    line: CommandLine, remote: Remote, count: int, resultdir: Path, console: Console
) -> int:
    """Build with `count` builders, and publish what they agree on; mock's exit code.

    CloudError where there are not so many; as `build_together`.
    """
    others, judge = _load_others(line, remote)
    ledger = Ledger(state_dir())
    sides = choose_sides(remote, others, find_flagged(ledger))[:count]
    if len(sides) < count:
        raise CloudError(
            f"remote {remote.name}: {count} builders of different owners are wanted, and there are"
            f" {len(sides)}",
            hint="name more remotes in [audit] remotes; mock-cloud trust list shows flags",
        )
    if judge and judge[0].name in {side.remote for side in sides}:
        raise ConfigError(f"remote {judge[0].name} cannot judge what it builds itself")
    keys = find_side_keys([remote, *others, *judge], console)
    order = DuplicateOrder(line.argv, tuple(sides), resultdir, _judging(judge))
    return build_together(order, ledger, keys, console)


def build_audited(line: CommandLine, remote: Remote, resultdir: Path, console: Console) -> int:
    """Build on `remote`, and once more elsewhere if that is drawn; mock's exit code.

    What it leaves is published unless it was drawn and is not agreed on, as by `settle`. CloudError
    where no other builder gives a result; Disagreed, ProvenanceRefused, InputError, ConfigError.
    """
    others, judge = _load_others(line, remote)
    fallback = [load_remote(name, line.configdir_path) for name in remote.fallback]
    all_remotes = [remote, *others, *fallback, *judge]
    keys = find_side_keys(list({one.name: one for one in all_remotes}.values()), console)
    ledger = Ledger(state_dir())
    seed = find_seed(ledger, console)
    with private_place(resultdir) as place:
        mine = Side(remote.name, remote.name)
        first = build_part(line.argv, mine, place, resultdir, console, is_shown=True)
        if first.code:  # its packages would be compared with nothing
            return publish(first, resultdir, line.argv)
        built = verify_results(first.place, keys, ANY_BUILD, time.time()).signed.provenance
        if not is_drawn(ledger, built, seed, console):
            return publish(first, resultdir, line.argv)
        node = built.used.node
        no_work = {*find_flagged(ledger), node.builder}
        for side in choose_sides(remote, others, no_work, owner=node.owner):
            if side.remote == remote.audit.judge:
                continue
            again = build_part(line.argv, side, place, resultdir, console)
            if again.code == EXIT_INTERRUPTED:
                return again.code
            if again.code not in SAYS_NOTHING:
                break
        else:
            raise CloudError(
                f"remote {remote.name}: the build is to be audited, and no builder of another owner"
                " gave a result: nothing was published",
                hint="name more remotes in [audit] remotes; mock-cloud trust list shows flags",
            )
        by = _judging([one for one in judge if one.name not in (remote.name, node.remote)])
        order = DuplicateOrder(line.argv, (mine, side), resultdir, by)
        if again.code:
            return end_of_failed(order, (first, again), console)
        audit = judge_builds(first.place, again.place, keys)
        entries = note_audit(ledger, audit)
        if not audit.agree:
            return settle(order, (first, again), [audit], entries, ledger, keys, console)
        console.info(f"{side.name} agrees on {len(audit.compared)} packages")
        sign_agreed(first.place, remote, list_agreements(built.job, [audit]), console)
        return publish(first, resultdir, line.argv)


def _load_others(line: CommandLine, remote: Remote) -> tuple[list[Remote], list[Remote]]:
    """The other remotes of `[audit] remotes`, and its judge, if there is one. ConfigError."""
    names = [name for name in remote.audit.remotes if name != remote.name]
    judges = [remote.audit.judge] if remote.audit.judge else []
    others, judge = (
        [load_remote(name, line.configdir_path) for name in each] for each in (names, judges)
    )
    return others, judge


def _judging(judge: Sequence[Remote]) -> Side | None:
    return next((Side(one.name, one.name) for one in judge), None)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A build of which chance says, once it has ended, whether another builder builds the same.

1. A secret seed is committed to. 2. The build, as always, but in a private directory; its entry in
the ledger has the digests of its packages, and its provenance is signed. 3. The draw, which follows
from both. 4. If it is drawn: the same by a builder of another owner, to whom it looks like any
build, and a comparison. 5. Only then are results in the resultdir.
"""

from __future__ import annotations

import time
from pathlib import Path

from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_INTERRUPTED, CloudError
from mock_cloud.invocation.model import CommandLine
from mock_cloud.launcher.duplicate import compares_packages
from mock_cloud.settings import Remote


def is_random(line: CommandLine, remote: Remote) -> bool:
    """Whether chance is to say that of this command's build. CommandLineError."""
    return remote.audit.random and compares_packages(line, remote, "[audit] random")


def build_audited(line: CommandLine, remote: Remote, resultdir: Path, console: Console) -> int:
    """Build on `remote`, and once more elsewhere if that is drawn; mock's exit code.

    What it leaves is published unless it was drawn and is not agreed on, as by `settle`. CloudError
    where no other builder gives a result; Disagreed, ProvenanceRefused, InputError, ConfigError.
    """
    from mock_cloud.cli.audits import ANY_BUILD, judge_builds, note_audit  # these take a while
    from mock_cloud.cli.drawing import find_seed, is_drawn
    from mock_cloud.cli.duplicates import (
        SAYS_NOTHING,
        DuplicateOrder,
        choose_sides,
        end_of_failed,
        find_side_keys,
        settle,
    )
    from mock_cloud.cli.parts import Side, build_part, private_place, publish
    from mock_cloud.ledger.store import Ledger
    from mock_cloud.places import state_dir
    from mock_cloud.provenance.verification import verify_results
    from mock_cloud.steps.lease.builders import find_flagged

    settings = remote.audit
    configdir = Path(line.configdir) if line.configdir else None
    others = [load_remote(name, configdir) for name in settings.remotes if name != remote.name]
    fallback = [load_remote(name, configdir) for name in remote.fallback]
    judge = load_remote(settings.judge, configdir) if settings.judge else None
    all_remotes = [remote, *others, *fallback, *([judge] if judge else [])]
    keys = find_side_keys(list({one.name: one for one in all_remotes}.values()), console)
    ledger = Ledger(state_dir())
    seed = find_seed(ledger, console)
    with private_place(resultdir) as place:
        mine = Side(remote.name, remote.name)
        first = build_part(line.argv, mine, place, resultdir, console, is_shown=True)
        if first.code:  # its packages would be compared with nothing
            publish(first.place, resultdir, is_logs_only=True)
            return first.code
        built = verify_results(first.place, keys, ANY_BUILD, time.time()).signed.provenance
        if not is_drawn(ledger, built, seed, console):
            publish(first.place, resultdir)
            return 0
        node = built.used.node
        no_work = {*find_flagged(ledger), node.builder}
        for side in choose_sides(remote, others, no_work, owner=node.owner):
            if side.remote == settings.judge:
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
        by = None if judge is None else Side(judge.name, judge.name)
        if by is not None and by.remote in (remote.name, node.remote):
            by = None  # it does not judge itself
        order = DuplicateOrder(line.argv, (mine, side), resultdir, by)
        if again.code:
            return end_of_failed(order, (first, again), console)
        audit = judge_builds(first.place, again.place, keys)
        entries = note_audit(ledger, audit)
        if not audit.agree:
            return settle(order, (first, again), [audit], entries, ledger, keys, console)
        publish(first.place, resultdir)
        console.info(f"{side.name} agrees on {len(audit.compared)} packages")
        return 0

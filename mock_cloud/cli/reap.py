# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud reap`: end nodes that no command needs any more."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mock_cloud.cloud.images import STORES, find_image_store
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.orphans import FoundOrphans, Reaped, ask_remote
from mock_cloud.config.remotes import list_remotes, load_remote
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_INFRASTRUCTURE, CommandLineError, MockCloudError
from mock_cloud.images.unfinished import Unfinished, remove_abandoned
from mock_cloud.places import state_dir
from mock_cloud.settings import Remote
from mock_cloud.wire.dataclass import dataclass

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_ASKED_AT_ONCE: Final = 8
"""Remotes that are asked at once: one that does not answer is waited for for a minute."""

_DESCRIPTION = """\
Ask a remote what it has of yours, and end what is needed no more: given back, expired, idle for
too long, left by a command that died, or named by no lease. Volumes, addresses and keys that
outlived their node go too, and so do unfinished images of bakes that died. Nodes at work, and
whatever is somebody else's, are left alone. Exit status 0, or 75 if a remote could not be asked or
something could not be ended.
"""
_EXAMPLES = """\
examples:
  mock-cloud reap ec2 --dry-run    what would be ended, and why
  mock-cloud reap --all            end it, at all remotes
  mock-cloud reap ec2 --expired    also what a lost state directory of yours left there
"""


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "reap",
        help="end what earlier commands left at a remote",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("remote", nargs="*", metavar="NAME", help="a remote")
    parser.add_argument("--all", action="store_true", help="all remotes there are")
    parser.add_argument(
        "--expired",
        action="store_true",
        help="also expired nodes that you made here with another state directory",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="end nothing, only say what it would end"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--configdir", metavar="DIR", type=Path, help="instead of /etc/mock")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    if arguments.all == bool(arguments.remote):
        raise CommandLineError("name remotes, or give --all", hint="mock-cloud nodes lists yours")
    reaped = []
    for one in reap(
        arguments.remote,
        state_dir(),
        arguments.configdir,
        with_lost_state=arguments.expired,
        dry_run=arguments.dry_run,
    ):
        reaped.append(one)
        if not arguments.json:
            _tell(one, console, dry_run=arguments.dry_run)
    if arguments.json:
        print(json.dumps([row for one in reaped for row in _rows(one)], indent=2))
    elif not any(one.nodes or one.images or one.problem for one in reaped):
        console.info("nothing to clean up")
    return max(map(_exit_code, reaped), default=0)


def _exit_code(reaped: ReapedRemote) -> int:
    """What may mend itself (75) outranks what must be mended (a remote that is not there, 3)."""
    left = [item.error for item in reaped.nodes] + [image.problem for image in reaped.images]
    return EXIT_INFRASTRUCTURE if any(left) else reaped.exit_code


def _tell(reaped: ReapedRemote, console: Console, *, dry_run: bool) -> None:
    for item in reaped.nodes:
        what = f"remote {item.remote or reaped.remote}: node {item.lease_id}"
        if item.error is not None:
            console.error(f"{what} ({item.reason}) was not ended: {item.error}")
        else:
            console.info(f"{what} {'would be' if dry_run else 'was'} ended: {item.reason}")
    for image in reaped.images:
        if dry_run:
            console.info(f"the unfinished image {image.handle} would be removed")
        else:
            image.tell(console)
    if reaped.problem:
        hint = f" ({reaped.hint})" if reaped.hint else ""
        console.error(f"remote {reaped.remote}: {reaped.problem}{hint}")


def _rows(reaped: ReapedRemote) -> Sequence[dict[str, str | None]]:
    """A row a node or image; for a remote that could not be asked one of neither."""
    empty = dict.fromkeys(("lease", "image", "reason", "problem")) | {"remote": reaped.remote}
    failed = [empty | {"problem": reaped.problem}] if reaped.problem else []
    nodes = [
        empty
        | {
            "lease": item.lease_id,
            "remote": item.remote or reaped.remote,
            "reason": item.reason,
            "problem": item.error,
        }
        for item in reaped.nodes
    ]
    images = [
        empty | {"image": one.handle, "reason": "its bake died", "problem": one.problem or None}
        for one in reaped.images
    ]
    return nodes + images + failed


@dataclass(frozen=True, slots=True)
class ReapedRemote:
    """What was ended of one remote. `problem` says why not all could be, empty if it was.

    `exit_code` is that problem's own. `images` were left by bakes that died.
    """

    remote: str
    nodes: tuple[Reaped, ...]
    images: tuple[Unfinished, ...] = ()
    problem: str = ""
    hint: str = ""
    exit_code: int = 0


def reap(
    names: Sequence[str],
    state_dir: Path,
    configdir: Path | None,
    *,
    with_lost_state: bool = False,
    dry_run: bool = False,
) -> Iterator[ReapedRemote]:
    """Clean up remotes, or all there are if none is named. They are asked at once.

    What is over of them is ended in the order of their names. One that fails does not keep
    the others from their turn.
    """
    chosen = names or _find_names(state_dir, configdir)

    def ask(name: str) -> tuple[Remote, FoundOrphans] | MockCloudError:
        try:
            remote = load_remote(name, configdir, to_end=True)
            found = ask_remote(remote, state_dir, with_lost_state=with_lost_state, dry_run=dry_run)
        except MockCloudError as error:
            return error
        return remote, found

    ended: set[str] = set()
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        for name, answer in zip(chosen, pool.map(ask, chosen), strict=True):
            if isinstance(answer, MockCloudError):
                yield _failed(name, answer)
                continue
            remote, found = answer
            nodes: tuple[Reaped, ...] = ()
            try:
                nodes = tuple(found.end(ended))
                ended |= {node.lease_id for node in nodes if node.error is None}
                images = _remove_images(remote, state_dir, dry_run=dry_run)
            except MockCloudError as error:
                yield _failed(name, error, nodes)
            else:
                yield ReapedRemote(name, nodes, tuple(images))
    Journal(state_dir).forget_old()


def _failed(name: str, error: MockCloudError, nodes: tuple[Reaped, ...] = ()) -> ReapedRemote:
    return ReapedRemote(name, nodes, (), error.message, error.hint or "", error.exit_code)


def _remove_images(remote: Remote, state_dir: Path, *, dry_run: bool) -> Sequence[Unfinished]:
    if remote.provider not in STORES:
        return ()
    return remove_abandoned(state_dir, find_image_store(remote), dry_run=dry_run)


def _find_names(state_dir: Path, configdir: Path | None) -> list[str]:
    """Remotes that have a file, and those that only the journal still knows."""
    journal = Journal(state_dir)
    known = {lease.remote for lease in journal.leases() if lease.owner == journal.owner}
    return sorted(known | {file.name for file in list_remotes(configdir)})

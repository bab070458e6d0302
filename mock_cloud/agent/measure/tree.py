# SPDX-License-Identifier: GPL-2.0-or-later
"""Files and trees together: the walk, the workers, and what they add up to."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import field

from mock_cloud.agent.measure import mounts, opening, pool
from mock_cloud.agent.measure.files import Seen
from mock_cloud.agent.measure.walk import Root, Task, Unreadable, Walker, errno_name
from mock_cloud.wire.dataclass import dataclass

_FILES_SINK = 0


@dataclass(frozen=True, slots=True)
class TreeDigest:
    """What a tree adds up to: its digest, its regular files, their bytes."""

    sha256: str
    files: int
    size_bytes: int


@dataclass(slots=True)
class FileFacts:
    """The file part of the evidence. `rows_json`: entries as JSON text, comma-joined."""

    rows_json: str = ""
    unreadable: list[Unreadable] = field(default_factory=list)
    trees: dict[str, TreeDigest] = field(default_factory=dict)


def measure_files(
    *,
    root: str = "/",
    skip: Sequence[str] = (),
    trees: Sequence[str] = (),
    processes: int | None = None,
    meanwhile: Callable[[frozenset[int]], None] | None = None,
) -> FileFacts:
    """Every file below `root`, apart from `skip`, and the digests of `trees`.

    `skip` and `trees` are the node's absolute paths; trees are not among the files. With
    `root` "/", all visible mounts are walked; another root must not have mounts below it.
    Raises ValueError for a path that is not absolute and normal, OSError if `root` cannot be
    opened, `pool.WorkerFailed`.
    """
    for path in (*skip, *trees):
        if not path.startswith("/") or os.path.normpath(path) != path:
            raise ValueError(f"{path!r} is not an absolute, normal path")
    facts = FileFacts()
    table = mounts.read_mounts("self") if root == "/" else []
    with ExitStack() as stack:
        roots = _system_roots(root, table, frozenset(skip) | frozenset(trees), stack, facts)
        for number, path in enumerate(trees, start=1):
            tree = _tree_root(root, path, number, facts)
            if tree is not None:
                stack.callback(os.close, tree.fd)
                roots.append(tree)
        output = _measure(roots, processes or os.cpu_count() or 1, meanwhile)
    facts.unreadable += output.unreadable
    if root == "/":
        # What was mounted or unmounted meanwhile may have been over a file that we read.
        moved = set(table) ^ set(mounts.read_mounts("self"))
        facts.unreadable += sorted({(mount.point, "crossed") for mount in moved})
    facts.rows_json = pool.SEPARATOR.join(output.rows.get(_FILES_SINK, ()))
    for tree in roots:
        if tree.sink != _FILES_SINK:
            facts.trees[trees[tree.sink - 1]] = _digest(output, tree.sink)
    facts.unreadable.sort()
    return facts


def digest_tree(path: str, processes: int | None = None) -> TreeDigest:
    """The digest of the tree at `path`, as `trees` of the evidence has it.

    Raises OSError if anything in it cannot be measured.
    """
    return _digest(_measure_tree(path, processes, None), 1)


def digest_changes(path: str, known: Seen) -> tuple[TreeDigest, Seen]:
    """The same of a tree of which files are `known`, and what is known of it now.

    Of a known file neither content nor attributes are read: for what has to be proved it is no way.
    """
    output = _measure_tree(path, None, known)
    return _digest(output, 1), output.seen


def _measure_tree(path: str, processes: int | None, known: Seen | None) -> pool.Output:
    fd = os.open(path, opening.DIRECTORY)
    try:
        root = Root(fd, ".", "", path, sink=1)
        output = _measure([root], processes or os.cpu_count() or 1, None, known)
    finally:
        os.close(fd)
    if output.unreadable:
        where, what = min(output.unreadable)
        number = getattr(errno, what, errno.EBUSY if what == "changed" else errno.EXDEV)
        raise OSError(number, f"cannot be measured: {what}", where)
    return output


def _measure(
    roots: list[Root],
    processes: int,
    meanwhile: Callable[[frozenset[int]], None] | None,
    known: Seen | None = None,
) -> pool.Output:
    """Two rounds: all files but the big ones, as they are found; then the big, largest first."""
    output = pool.Output()
    walker = Walker(roots)
    pool.run_workers(
        roots,
        walker.batches(),
        processes=processes,
        defer=True,
        known=known,
        meanwhile=meanwhile,
        output=output,
    )
    output.unreadable += walker.unreadable
    big = sorted(output.deferred, reverse=True)
    if big:
        tasks: Iterator[list[Task]] = (
            [(number, directory, [name], [])] for _, number, directory, name in big
        )
        pool.run_workers(
            roots, tasks, processes=min(processes, len(big)), defer=False, known=known,
            output=output,
        )  # fmt: skip
    return output


def _system_roots(
    root: str,
    table: list[mounts.MountEntry],
    skip: frozenset[str],
    stack: ExitStack,
    facts: FileFacts,
) -> list[Root]:
    if root != "/":
        fd = os.open(root, opening.DIRECTORY)
        stack.callback(os.close, fd)
        return [Root(fd, "/", "/", "/", skip=skip)]
    visible = {point: mount.fstype for point, mount in mounts.find_visible(table).items()}
    visible.setdefault("/", "")  # in a chroot the root need not be a mount
    opened: dict[str, int] = {}
    for point, fstype in visible.items():
        if fstype in mounts.UNWALKED_TYPES or _is_below(point, skip):
            continue
        try:
            opened[point] = os.open(point, opening.DIRECTORY)
        except NotADirectoryError:
            continue  # a mount on a file: measured in the file's directory
        except OSError as error:
            facts.unreadable.append((point, errno_name(error)))
            continue
        stack.callback(os.close, opened[point])
    devices = {point for point in opened if visible[point] == mounts.DEVICE_TYPE}
    # A root that is walked whole reports itself; any other mount point is one entry.
    whole = frozenset(opened) - devices
    entries = (skip | visible.keys()) - whole
    return [
        Root(
            fd,
            point,
            "/" if point == "/" else f"{point}/",
            point,
            files_only=point in devices,
            points=whole,
            skip=entries,
        )
        for point, fd in opened.items()
    ]


def _is_below(point: str, skip: frozenset[str]) -> bool:
    return any(point == path or point.startswith(f"{path}/") for path in skip)


def _tree_root(root: str, path: str, sink: int, facts: FileFacts) -> Root | None:
    try:
        fd = opening.open_in_root(root, path, opening.DIRECTORY)
    except OSError as error:
        facts.unreadable.append((path, errno_name(error)))
        return None
    return Root(fd, ".", "", path, sink=sink)


def _digest(output: pool.Output, sink: int) -> TreeDigest:
    lines = pool.SEPARATOR.join(output.rows.get(sink, ())).split(pool.SEPARATOR)
    lines.sort()
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    files, size_bytes = output.totals.get(sink, (0, 0))
    return TreeDigest(digest.hexdigest(), files, size_bytes)

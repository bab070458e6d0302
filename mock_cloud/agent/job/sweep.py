# SPDX-License-Identifier: GPL-2.0-or-later
"""Removes what no verdict covers from the directories that attestation does not look into.

Inputs, caches, layers and chroots are too much to be measured file by file at each command: the
trees that the controller recorded are measured as one digest each, and the rest is skipped. So
before the first job of a command, when nothing else of it runs, the rest goes: no matter who put it
there, no job finds it, and no set-id program, device or link in it is of use to anybody.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from typing import Final

from mock_cloud.agent.deadman.end_node import empty
from mock_cloud.agent.engine.chroot import MOCK_TREE
from mock_cloud.wire.layout import MOCK_CACHEDIR, MOCK_LIBDIR

_TREES: Final = ("layers", "dnf")
_RECORDS: Final = ("layer.json", "chroot.json")
_HEX: Final = frozenset("0123456789abcdef")


def sweep_workspace(workspace: str, trees: Collection[str], *, owned: bool) -> None:
    """Of what is skipped, leave `trees`, the directories above them, and inputs. OSError.

    Inputs are compared with their digests whenever they are used. A node that is not `owned`
    keeps what its owner's mock has there: of mock's places only what is ours is swept.
    """
    _empty(os.path.join(workspace, "jobs"))
    for name in _TREES:
        _sweep_directory(os.path.join(workspace, name), trees)
    _sweep_blobs(os.path.join(workspace, "blobs"))
    if owned:
        _sweep_directory(MOCK_LIBDIR, trees)
        _empty(MOCK_CACHEDIR)
        return
    for base in _paths(MOCK_LIBDIR):
        for path in _paths(base):
            name = os.path.basename(path)
            if name == "overlay" or name.startswith(f"{MOCK_TREE}."):
                _sweep_path(path, trees)


def _sweep_directory(directory: str, trees: Collection[str]) -> None:
    for path in _paths(directory):
        _sweep_path(path, trees)


def _sweep_path(path: str, trees: Collection[str]) -> None:
    if path in trees and _is_directory(path):  # as a whole: its digest was compared
        return
    facts = os.lstat(path)
    if _is_roots_directory(facts) and any(tree.startswith(f"{path}/") for tree in trees):
        _sweep_directory(path, trees)
    elif os.path.basename(path) not in _RECORDS or not _is_data(facts):
        _remove(path)


def _sweep_blobs(directory: str) -> None:
    for path in _paths(directory):
        name = os.path.basename(path).removesuffix(".part")
        if len(name) != 64 or not _HEX.issuperset(name) or not _is_data(os.lstat(path)):
            _remove(path)


def _is_data(facts: os.stat_result) -> bool:
    """Root's file, under one name, that nobody runs and nobody else writes to."""
    unwanted = 0o7113 | (0o020 if facts.st_gid else 0)
    is_plain = stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1
    return is_plain and facts.st_uid == 0 and not facts.st_mode & unwanted


def _is_roots_directory(facts: os.stat_result) -> bool:
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == 0 and not facts.st_mode & 0o4002


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _paths(directory: str) -> list[str]:
    """What lies in it, if it is a directory and no link."""
    if not _is_directory(directory):
        return []
    return [os.path.join(directory, name) for name in sorted(os.listdir(directory))]


def _empty(directory: str) -> None:
    for path in _paths(directory):
        _remove(path)


def _remove(path: str) -> None:
    if _is_directory(path):
        empty(path)
        os.rmdir(path)  # here it is seen if anything stayed
    else:
        os.unlink(path)

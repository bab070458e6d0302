# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies of an image tree, to be changed."""

from __future__ import annotations

import os
from pathlib import Path

from mock_cloud.process import run


def copy_tree(tree: Path, copy: Path) -> None:
    """Make `copy` of `tree`, which shares nothing with it that a process can see.

    Hard links would be faster, but a new link changes an inode's ctime: to a measurement of a
    node of `tree` that runs meanwhile, the file changed.
    """
    run(["cp", "-a", "--reflink=auto", str(tree), str(copy)], timeout_s=120)


def change_a_byte(tree: Path, copy: Path, victim: str) -> None:
    """Make `copy` of `tree` in which the last byte of the file `victim` is another."""
    copy_tree(tree, copy)
    change_last_byte(copy / victim)


def change_last_byte(path: Path) -> None:
    """Of a file, whose times stay as they are."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    facts = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))

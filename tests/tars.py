# SPDX-License-Identifier: GPL-2.0-or-later
"""Tar archives that this project made itself, unpacked by each Python."""

from __future__ import annotations

import tarfile
from pathlib import Path


def unpack_own(archive: Path, place: Path) -> set[str]:
    """Unpack the toolkit or the kit `archive` into the directory `place`; its members' names.

    Debian 12's Python has no filters for extraction, and that of Debian 13 warns without one.
    """
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        tar.extractall(place)  # noqa: S202  our own
        return set(tar.getnames())

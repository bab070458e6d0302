# SPDX-License-Identifier: GPL-2.0-or-later
"""Telling a full disk of the node from a failed build.

A build may fail on a full file system of its own making (a test with /dev/full, a small
/dev/shm), so the words alone prove nothing: the node's file systems are looked at when they
appear, since what failed may free space before it ends.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from mock_cloud.agent.engine.errors import NoSpace

_WORDS: Final = b"No space left on device"  # glibc's text for ENOSPC
_RPM_NEEDS: Final = re.compile(r"At least [\d.]+ ?[KMGT]?B more space needed on the \S+ filesystem")
_NEARLY_FULL_BYTES: Final = 16 << 20
_NEARLY_FULL_INODES: Final = 64


class SpaceWatch:
    """Looks at the file systems of the directories `places` while a command runs."""

    def __init__(self, places: Sequence[str]) -> None:
        self._places = places
        self._last = b""
        self._full = ""
        self._said = False

    def look(self, output: bytes) -> None:
        """Take notice of a piece of the command's output."""
        text = self._last + output
        self._last = text[-len(_WORDS) :]
        if _WORDS in text:
            self._said = True
            self.glance()

    def raise_if_said(self, text: str) -> None:
        """NoSpace if the disk was full at some time, and `text` or the output complained of it.

        `text` is the end of a log: it may hold old complaints, so neither alone proves it.
        """
        said = self._said or _WORDS.decode() in text
        if _RPM_NEEDS.search(text) or (said and self._full):
            self.raise_if_full(text)

    def glance(self) -> None:
        """Take notice of file systems that are full now; what failed may free space soon."""
        if not self._full:
            self._full = self._find_full()

    def raise_if_full(self, output: str = "") -> None:
        """NoSpace if the disk was full when the command complained, or is now."""
        needs = _RPM_NEEDS.search(output)
        full = self._full or self._find_full()
        if needs or full:
            where = full or f"{self._places[0]} (rpm: {needs[0] if needs else ''})"
            raise NoSpace(f"no-space: the node's disk is full: {where}")

    def _find_full(self) -> str:
        for place in self._places:
            try:
                facts = os.statvfs(place)
            except FileNotFoundError:
                continue
            free = facts.f_frsize * facts.f_bavail
            if free < _NEARLY_FULL_BYTES:
                return f"{place}: {free} bytes free"
            if facts.f_files and facts.f_favail < _NEARLY_FULL_INODES:
                return f"{place}: {facts.f_favail} inodes free"
        return ""

# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks for secrets where none may be: files, command lines, environments."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mock_cloud.process import run


class Search:
    """Looks for secrets where they must not be.

    Processes in the network namespace at `home`, if given, may have them in their environment:
    their user put them there.
    """

    def __init__(self, words: tuple[str, ...], home: str = "") -> None:
        self.words = words
        self.found: set[str] = set()
        self._home = Path(home).stat().st_ino if home else 0

    def trees(self, *roots: Path, but: tuple[Path, ...] = ()) -> None:
        patterns = [part for word in self.words for part in ("-e", word)]
        for root in roots:
            said = run(
                ["sh", "-c", 'grep -rlaF "$@" || true', "grep", *patterns, "--exclude-dir=proc",
                 "--exclude-dir=sys", str(root)],
                timeout_s=300,
            )  # fmt: skip
            self.found.update(set(said.decode().split()) - {str(one) for one in but})

    @contextmanager
    def processes(self) -> Iterator[None]:
        """Command lines and environments of all processes but this one, again and again."""
        end = threading.Event()

        def look() -> None:
            while not end.wait(0.02):
                for entry in Path("/proc").iterdir():
                    if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                        continue
                    with suppress(OSError):
                        is_home = (entry / "ns/net").stat().st_ino == self._home
                        for name in ("cmdline", *(() if is_home else ("environ",))):
                            data = (entry / name).read_bytes()
                            if any(word.encode() in data for word in self.words):
                                self.found.add(f"{name}: {data[:200]!r}")

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

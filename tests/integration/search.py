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
    their user put them there. So may what is on its way there, before it has entered it.
    """

    def __init__(self, words: tuple[str, ...], home: str = "") -> None:
        self.words = words
        self.found: set[str] = set()
        self._home = Path(home).stat().st_ino if home else 0
        self._way = f"nsenter\0--net={home}\0".encode()

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
                        # Read before the rest is looked at: it enters, or becomes another program.
                        data = {
                            name: (entry / name).read_bytes() for name in ("environ", "cmdline")
                        }
                        is_home = (entry / "ns/net").stat().st_ino == self._home
                        if is_home or data["cmdline"].startswith(self._way):
                            del data["environ"]
                        for name, text in data.items():
                            if any(word.encode() in text for word in self.words):
                                self.found.add(f"{name}: {text[:200]!r}")

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

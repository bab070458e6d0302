# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.traced_build: which functions of the product a build calls on this machine.

The build is that of tests/unit/session: a source package, a node in this process, no retries. What
runs on a node is not counted, nor is what Python calls by itself: properties, comprehensions,
methods with two underscores.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType

import mock_cloud
from tests.unit.session.scripted_place import PACKAGE, Place

_PRODUCT = str(Path(mock_cloud.__file__).parent) + os.sep


def trace() -> set[tuple[str, str]]:
    """(file, function) of all that was called from the command line to the package in its place."""
    called: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_PRODUCT):
            name = getattr(code, "co_qualname", code.co_name)  # since Python 3.11
            called.add((code.co_filename.removeprefix(_PRODUCT), name))

    with tempfile.TemporaryDirectory() as scratch:
        for name in ("STATE", "CACHE", "CONFIG"):
            os.environ[f"XDG_{name}_HOME"] = f"{scratch}/{name}"
        place = Place(Path(scratch))
        place.enter(setattr)
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            code = place.build()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
            place.cloud.close()
        if code or PACKAGE not in place.names():
            raise RuntimeError(place.screen.getvalue())
    return {
        (file, name)
        for file, name in called
        if not file.startswith("agent/")
        and "<" not in name.replace("<locals>", "")
        and "__" not in name
    }


def main() -> int:
    """Print two numbers, or with --list the functions."""
    found = trace()
    if sys.argv[1:] == ["--list"]:
        for file, name in sorted(found):
            print(f"{file}: {name}")
    print(len(found), len({file for file, _ in found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

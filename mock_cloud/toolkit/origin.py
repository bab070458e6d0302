# SPDX-License-Identifier: GPL-2.0-or-later
"""What something packed was made of and chosen by, and whether all of that is still the same."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from mock_cloud import __version__

PACKAGE: Final = Path(__file__).parents[1]
_CODE: Final = Path(__file__).parent
_LINKER_CACHE: Final = Path("/etc/ld.so.cache")


def base_python() -> Path:
    """The interpreter behind the running one, outside of any virtual environment."""
    return Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()


def describe_origin(
    inputs: Iterable[Path], listed: Iterable[Path], absent: Iterable[Path] = ()
) -> dict[str, Any]:
    """The origin as JSON has it: files, directories in which others could appear, and what decides.

    `absent` are files that would have been taken. What chose among all of these is the product's
    own code, by its bytes: a checkout or a patched package changes without a new version. Where
    libraries are found, ld.so.cache decides. OSError.
    """
    return {
        "product": [__version__, _code_digest()],
        "linker": _digest_of(_LINKER_CACHE),
        "inputs": [[str(path), *_stamp(path)] for path in sorted(set(inputs))],
        "absent": sorted({str(path) for path in absent}),
        "listed": {str(path): _names_in(path) for path in sorted(set(listed))},
    }


def is_current(origin: dict[str, Any]) -> bool:
    """Whether it would be described the same now. OSError, ValueError, KeyError, TypeError."""
    return (
        origin["product"] == [__version__, _code_digest()]
        and origin["linker"] == _digest_of(_LINKER_CACHE)
        and all(found == _stamp(path) for path, *found in origin["inputs"])
        and not any(Path(path).exists() for path in origin["absent"])
        and all(names == _names_in(Path(path)) for path, names in origin["listed"].items())
    )


def _stamp(path: str | Path) -> list[int]:
    """What changes when a file is replaced or written, its times set back or not."""
    facts = os.stat(path)  # noqa: PTH116  a Path for each of hundreds takes longer than this
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


def _names_in(directory: Path) -> str:
    names = sorted(path.name for path in directory.iterdir() if path.name != "__pycache__")
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


@functools.cache
def _code_digest() -> str:
    """sha256 of the modules that pack; a process has loaded one state of them."""
    total = hashlib.sha256()
    for path in sorted(_CODE.glob("*.py")):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _digest_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""

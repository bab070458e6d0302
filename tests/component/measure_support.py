# SPDX-License-Identifier: GPL-2.0-or-later
"""Measuring for tests: evidence of the running machine without reading its whole disk."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.agent.measure import evidence
from tests.records import joined

ROOT_DIR = Path(__file__).resolve().parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def measure(root: Path | str = "/", **options: Any) -> dict[str, Any]:
    """The evidence by section."""
    return joined(
        evidence.measure(
            options.get("nonce", "n"),
            options.get("skip", []),
            options.get("trees", []),
            options.get("processes", 2),
            str(root),
        )
    )


def measure_running() -> dict[str, Any]:
    """Evidence of what runs here; no directory below / is descended into."""
    tops = [str(path) for path in Path("/").iterdir() if path.is_dir() and not path.is_symlink()]
    return measure(skip=tops)


def rows(found: dict[str, Any]) -> dict[str, list[Any]]:
    """The files of the evidence by path."""
    return {row[0]: row for row in found["files"]}


def process(found: dict[str, Any], pid: int) -> dict[str, Any]:
    """The one process of that pid in the evidence."""
    (one,) = (one for one in found["processes"] if one["pid"] == pid)
    return dict(one)


def sleeper(directory: Path) -> Path:
    """A program of our own that only sleeps, to be deleted or patched."""
    program = directory / "sleeper"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    return program


def eventually(check: Callable[[], bool], what: str, timeout_s: float = 300.0) -> None:
    """Wait until `check` is true."""
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, f"{what} did not happen in {timeout_s} s"
        time.sleep(0.01)


@contextlib.contextmanager
def running(argv: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is ended and reaped afterwards."""
    options.setdefault("stdin", subprocess.DEVNULL)
    with subprocess.Popen(argv, **options) as child:
        try:
            yield child
        finally:
            child.kill()


def exe(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return ""


def wait_until_loaded(pid: int, program: Path) -> None:
    """Wait until `program` runs with its C library: the kernel names it before it maps it."""

    def loaded() -> bool:
        return exe(pid) == str(program) and "libc" in Path(f"/proc/{pid}/maps").read_text()

    eventually(loaded, f"loading of {program}")


def in_namespaces(script: str, *arguments: object) -> Any:
    """What the python `script` prints, from JSON.

    It is process 1 of a pid namespace of its own, with a mount namespace and /proc.
    """
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "-p",
            "-f",
            "--mount-proc",
            sys.executable,
            "-c",
            script,
            *map(str, arguments),
        ],
        cwd=ROOT_DIR,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found

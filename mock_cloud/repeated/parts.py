# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds that are a part of another command, which publishes their results once it knows them.

Each is a command of its own, `mock --remote`, with a directory of its own: whatever holds for one
build holds for each of them, and none knows of another.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mock_cloud.console import Console
from mock_cloud.errors import ResultDirError
from mock_cloud.file_owner import as_owner
from mock_cloud.invocation.model import ANY_HOST, DETACHED, PART, PART_OF, PUBLISHED
from mock_cloud.provenance.statement import EVIDENCE_NAME, PROVENANCE_NAME
from mock_cloud.real_mock import find_real_mock, has_plugin
from mock_cloud.wire.dataclass import dataclass

_PREFIX: Final = ".mock-cloud-part-"
_TAIL: Final = 5
_SIGNALLED: Final = 128
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ABOUT_PACKAGES: Final = (PROVENANCE_NAME, EVIDENCE_NAME)
_running: Final[list[subprocess.Popen[bytes]]] = []


@dataclass(frozen=True, slots=True)
class Side:
    """A builder among others: a remote, or those of its lent machines that have one owner.

    `hosts` are their names; empty: all that the remote has. `name` is for messages and directories.
    """

    name: str
    remote: str
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """How a build ended, where its results are, and how long it took."""

    side: Side
    place: Path
    code: int
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return self.side.name


def mark() -> str:
    """A word for names of directories, of this moment and process."""
    return f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"


@contextmanager
def private_place(resultdir: Path) -> Iterator[Path]:
    """A new directory below `resultdir`, removed at the end. ResultDirError."""
    try:
        with as_owner():
            resultdir.mkdir(parents=True, exist_ok=True)
            place = resultdir / f"{_PREFIX}{mark()}"
            place.mkdir(mode=0o700)
    except OSError as error:
        raise ResultDirError(f"cannot use {resultdir}: {error.strerror}") from error
    try:
        with _signals_for_parts():
            yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _signals_for_parts() -> Iterator[None]:
    """Ctrl-C reaches each part by itself, and other signals are passed on: the parts clean up."""

    def pass_on(number: int, _frame: object) -> None:
        for part in list(_running):
            if number != signal.SIGINT:
                part.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def build_part(
    words: Sequence[str],
    side: Side,
    place: Path,
    resultdir: Path,
    console: Console,
    *,
    is_shown: bool = False,
) -> Built:
    """A build by `side`, in the directory of its name below `place`.

    `words` are mock's; what they say of a remote and of results does not count. What it prints
    is shown, or goes into a file beside its results, of which the last lines are shown if it fails.
    `resultdir` is the whole command's: the node learns no other, so it cannot tell a build that
    will be compared from one that will not.
    """
    name = side.name
    results, log = place / name, place / f"{name}.output"
    environ = {key: value for key, value in os.environ.items() if key != DETACHED} | {
        PART: ",".join(side.hosts) or ANY_HOST,
        PART_OF: str(resultdir),
    }
    console.info(f"remote {name}: building")
    begun = time.monotonic()
    with log.open("wb") as kept:
        output = None if is_shown else kept
        part = subprocess.Popen(
            _argv(words, side, results),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ,
        )  # fmt: skip
        _running.append(part)
        ended = part.wait()
        code = ended if ended >= 0 else _SIGNALLED - ended  # as a shell has it
        _running.remove(part)
    seconds = time.monotonic() - begun
    console.info(f"remote {name}: exit status {code}")
    if code and not is_shown:
        for line in log.read_text(errors="replace").splitlines()[-_TAIL:]:
            console.info(f"remote {name}: {line}")
    return Built(side, results, code, seconds)


def _argv(words: Sequence[str], side: Side, results: Path) -> list[str]:
    at = words.index("--") if "--" in words else len(words)
    return [sys.executable, "-m", "mock_cloud.launcher", *words[:at], "--remote", side.remote,
            "--resultdir", str(results), *words[at:]]  # fmt: skip


def publish(built: Built, resultdir: Path, words: Sequence[str]) -> int:
    """Into the resultdir, by rename: it is the same file system. What is there is replaced.

    Of a build that failed no package is published, and nothing that is signed about one. Then
    mock's own plugins do their work on it, if the command `words` has any. Returns the build's exit
    code, or theirs where they fail.
    """
    packages = []
    try:
        with as_owner():
            for path in sorted(built.place.rglob("*")):
                name = path.relative_to(built.place)
                if path.is_dir():
                    (resultdir / name).mkdir(exist_ok=True)
                elif built.code and (path.suffix == ".rpm" or path.name in _ABOUT_PACKAGES):
                    continue
                else:
                    path.replace(resultdir / name)
                    packages += [str(name)] if path.suffix == ".rpm" else []
    except OSError as error:
        raise ResultDirError(f"cannot write to {resultdir}: {error.strerror}") from error
    real = find_real_mock(os.environ)
    if real is None or not has_plugin(real):
        return built.code
    return _finish(built, resultdir, words, packages) or built.code


def _finish(built: Built, resultdir: Path, words: Sequence[str], packages: Sequence[str]) -> int:
    """Have mock's own plugins work on what was published; the exit code, 0 also if none has to."""
    with tempfile.NamedTemporaryFile("w", prefix="mock-cloud-published-") as told:
        json.dump({"directory": str(resultdir), "packages": packages}, told)
        told.flush()
        environ = {**os.environ, PUBLISHED: json.dumps([told.name, built.code])}
        argv = _argv(words, built.side, resultdir)
        part = subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=environ)
        _running.append(part)
        ended = part.wait()
        _running.remove(part)
    code = ended if ended >= 0 else _SIGNALLED - ended
    return 0 if code == built.code else code

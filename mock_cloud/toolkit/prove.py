# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a toolkit's self-test before the toolkit is used, and to find what belongs into one."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Final

from mock_cloud import process
from mock_cloud.errors import ConfigError
from mock_cloud.model import toolkit_argv
from mock_cloud.process import CommandFailed
from mock_cloud.toolkit import empty_root, self_test
from mock_cloud.wire.layout import WORKSPACE

_EMPTY_ROOT: Final = Path(empty_root.__file__)
_SELF_TEST: Final = Path(self_test.__file__)
_PLACE: Final = f"{WORKSPACE}/toolkit/self-test"
_TIMEOUT_S: Final = 120.0

# In place of the agent's main.py: the same, but each process records what it imports.
_RECORDING_MAIN: Final = f"""\
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import {_SELF_TEST.stem} as self_test
self_test.record(os.path.join(sys.path[0], self_test.RECORD))
from mock_cloud.agent.main import main
sys.exit(main(sys.argv[1:]))
"""

_EMPTY_FILES: Final = (
    self_test.MARK.lstrip("/"), "dev/null", "etc/machine-id", "etc/ssh/ssh_host_ed25519_key",
    "tmp/file", "var/cache/mock/file", "var/lib/mock/file", "var/log/file",
)  # fmt: skip
_FILES: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
}
# They are looked for by the agent; the loader in their place fails when it is run.
_PROGRAMS: Final = ("usr/bin/dnf", "usr/bin/rpm")


class Proof(Enum):
    """How far a toolkit was tried before its use."""

    EMPTY_ROOT = "ran in an empty root"
    THIS_ROOT = "ran, without jobs: this user has no namespaces"
    NOT_RUN = "did not run: another architecture's"


class ToolkitBroken(ConfigError):
    """A toolkit that was packed here does not work here, so it would work on no node."""


class _NoNamespaces(Exception):
    """There can be no root of the toolkit's own."""


def prove(members: Mapping[str, tuple[int, bytes]]) -> Proof:
    """Try the toolkit of these members (mode and bytes by path). ToolkitBroken says what fails."""
    _, proof = _run(lambda place: write_members(place, members))
    return proof


def record_loaded(lay_out: Callable[[Path], None]) -> list[str]:
    """The modules that the agent looks for while it does all that it can, by name.

    `lay_out` writes a toolkit with the whole library of its python into a directory.
    ToolkitBroken: not even that works.
    """

    def with_record(place: Path) -> None:
        lay_out(place)
        (place / "agent/main.py").write_text(_RECORDING_MAIN)

    loaded, _ = _run(with_record, record=True)
    return loaded


def _run(lay_out: Callable[[Path], None], *, record: bool = False) -> tuple[list[str], Proof]:
    with tempfile.TemporaryDirectory(prefix="mock-cloud-toolkit-") as name:
        root = Path(name)
        place = root / _PLACE.lstrip("/")
        place.mkdir(parents=True)
        lay_out(place)
        (place / "agent" / _SELF_TEST.name).write_bytes(_SELF_TEST.read_bytes())
        _furnish(root, (place / "ld.so").read_bytes())
        try:
            _test([sys.executable, "-I", "-S", "-B", str(_EMPTY_ROOT), name], _PLACE, record=record)
            proof = Proof.EMPTY_ROOT
        except _NoNamespaces:
            _test([], str(place), record=record)
            proof = Proof.THIS_ROOT
        recorded = place / "agent" / self_test.RECORD
        return sorted(set(recorded.read_text().split())) if record else [], proof


def _test(before: list[str], place: str, *, record: bool) -> None:
    """Run the self-test of the toolkit at `place` by the command `before`."""
    workspace = str(Path(place).parents[1])
    words = [workspace, f"{place}/agent/{self_test.RECORD}"] if record else [workspace]
    argv = [*before, *toolkit_argv(place, _SELF_TEST.name, *words)]
    try:
        said = process.run(argv, timeout_s=_TIMEOUT_S, extra_env={"LC_ALL": "C"})
        failed = str(json.loads(said)["failed"])
    except CommandFailed as error:
        if error.status == f"exit status {empty_root.UNAVAILABLE}":
            raise _NoNamespaces from error
        failed = (error.output.strip().splitlines() or [str(error.status)])[-1]
    except (ValueError, KeyError, TypeError) as error:
        raise ToolkitBroken("the toolkit's self-test gave no answer") from error
    if failed:
        raise ToolkitBroken(
            f"the toolkit that was packed here does not work: {failed}",
            hint="report this with the output of python3 -VV; no node was asked for",
        )


def write_members(place: Path, members: Mapping[str, tuple[int, bytes]]) -> None:
    """Unpack members into the directory `place`. OSError."""
    for name, (mode, data) in members.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)


def _furnish(root: Path, program: bytes) -> None:
    """What the agent expects of any system."""
    (root / "proc").mkdir()
    for name in (*_EMPTY_FILES, *_FILES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(_FILES.get(name, ""))
    for name in _PROGRAMS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(program)
        (root / name).chmod(0o755)

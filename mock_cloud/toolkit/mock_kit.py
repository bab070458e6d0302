# SPDX-License-Identifier: GPL-2.0-or-later
"""Packs this machine's own mock for nodes: its code and what it imports, without native parts.

So that both sides are one version, whatever the node has installed. What is native (python, the
bindings of rpm, dnf) is the node's own and attested there. Byte code is made here, where it is
sent from: none that a job could write is ever loaded, and compiling took 0.7 s of each job.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple, TypedDict

from mock_cloud import process
from mock_cloud.errors import ConfigError
from mock_cloud.process import CommandFailed
from mock_cloud.toolkit import archive, origin
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import load_json

_FORMAT: Final = "mock-cloud/mock-kit/3"
_PROBE: Final = Path(__file__).with_name("mock_probe.py")
_PROBE_TIMEOUT_S: Final = 60.0
_CONSTANTS: Final = "mockbuild/constants.py"
# A packaged mock has its own directories written there.
_OWN_PLACE: Final = b"\nPKGPYTHONDIR = os.path.dirname(os.path.abspath(__file__))\n"

_PACKAGED: Final = Path("/usr/libexec/mock/mock")
_HELPER: Final = "consolehelper"
_MODULE: Final = b"mockbuild"
_SHEBANG_MAX_BYTES: Final = 256
_SCRIPT_MAX_BYTES: Final = 1 << 20


class MockProgram(NamedTuple):
    """mock's script and the interpreter that runs it."""

    script: Path
    python: Path


class _Probe(TypedDict):
    """What mock_probe.py prints. `files`: path in the kit, path here."""

    version: str
    files: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class MockKit:
    """A packed mock in the cache: a gzipped tar with `mock.py` at its top."""

    path: Path
    sha256: str
    size_bytes: int
    version: str


def find_mock(real: Path | None) -> MockProgram | None:
    """The program behind `real`, the `mock` that a user starts; None where there is none to pack.

    It is a Python script that imports mock's package, or what packages have: a link to
    consolehelper, or a program of mock's own, which start /usr/libexec/mock/mock. A wrapper of
    somebody's is None.
    """
    if real is None:
        return None
    for script in (real.resolve(), _PACKAGED):
        python = _interpreter(script)
        if python is not None and _MODULE in _read(script, _SCRIPT_MAX_BYTES):
            return MockProgram(script, python)
        if _first_line(script) and script.name != _HELPER:
            return None
    return None


def pack_mock(cache_dir: Path, script: Path, python: Path) -> MockKit:
    """The kit of the mock that `python` runs by `script`, from `cache_dir` if it is up to date.

    The same files make the same kit. `cache_dir` is made if need be. Raises ConfigError for a
    mock that cannot be imported, one that needs a compiled module other than rpm, and a cache
    that cannot be written.
    """
    key = hashlib.sha256(f"{script}\0{python}".encode(errors="surrogateescape")).hexdigest()
    index = cache_dir / f"mock-{key[:16]}.json"
    return _find(index) or _pack(index, script, python)


def _pack(index: Path, script: Path, python: Path) -> MockKit:
    probe: _Probe = json.loads(_ask(python, script))
    members = {name: Path(path).read_bytes() for name, path in probe["files"]}
    members[_CONSTANTS] += _OWN_PLACE
    with tempfile.TemporaryDirectory(prefix="mock-cloud-kit-") as place:
        for name, data in members.items():
            target = Path(place, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        _ask(python, script, Path(place))
        for path in Path(place).rglob("*.pyc"):
            members[str(path.relative_to(place))] = path.read_bytes()
    packed = archive.pack_tar({name: (0o644, data) for name, data in members.items()})
    digest = hashlib.sha256(packed).hexdigest()
    sources = {Path(path) for _, path in probe["files"]}
    facts = {
        "format": _FORMAT,
        "version": probe["version"],
        "digest": digest,
        "size_bytes": len(packed),
        # The interpreter decides what is standard library; a plugin may be added, say.
        "origin": origin.describe_origin([*sources, python], {path.parent for path in sources}),
    }
    kit = _kit(index, facts)
    archive.write_with_index(kit.path, packed, index, facts, "mock's kit")
    return kit


def _find(index: Path) -> MockKit | None:
    try:
        facts: dict[str, Any] = load_json(index.read_bytes())
        kit = _kit(index, facts)
        current = (
            facts["format"] == _FORMAT
            and origin.is_current(facts["origin"])
            and kit.path.stat().st_size == kit.size_bytes
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there yet, or not ours: packed anew
    return kit if current else None


def _kit(index: Path, facts: dict[str, Any]) -> MockKit:
    path = index.with_name(f"mock-{facts['digest']}.tar.gz")
    return MockKit(path, facts["digest"], facts["size_bytes"], facts["version"])


def _ask(python: Path, *words: Path) -> bytes:
    argv = [str(python), "-s", "-B", str(_PROBE), *map(str, words)]
    try:
        return process.run(argv, timeout_s=_PROBE_TIMEOUT_S)
    except CommandFailed as error:
        why = error.output.strip().splitlines()[-1:] or [str(error)]
        raise ConfigError(
            f"mock's own code cannot be packed for the node: {why[0]}",
            hint='engine = "chroot" does without mock',
        ) from error


def _interpreter(script: Path) -> Path | None:
    """The Python of the script's first line; None if it is no Python script."""
    words = _first_line(script).split()
    if words and words[0].rpartition("/")[2] == "env":
        words = words[1:]
    if not words or not words[0].rpartition("/")[2].startswith(("python", "platform-python")):
        return None
    return Path(words[0]) if words[0].startswith("/") else Path("/usr/bin") / words[0]


def _first_line(script: Path) -> str:
    """What follows ``#!``; empty without one."""
    head = _read(script, _SHEBANG_MAX_BYTES)
    return head[2:].split(b"\n")[0].decode(errors="replace") if head[:2] == b"#!" else ""


def _read(script: Path, max_bytes: int) -> bytes:
    try:
        with script.open("rb") as stream:
            return stream.read(max_bytes)
    except OSError:
        return b""

# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes into a toolkit, and which files of the controller it came from."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypedDict

import mock_cloud.agent
from mock_cloud import process
from mock_cloud.errors import ConfigError
from mock_cloud.toolkit import elf

AGENT: Final = Path(mock_cloud.agent.__file__).parent
_SCRIPT: Final = Path(__file__).with_name("probe.py")
_PROBE_TIMEOUT_S: Final = 120.0

_EMPTY_ZIP: Final = b"PK\x05\x06" + bytes(18)  # an end record alone

# Loaded by the C library at run time, so nothing names them: cancelling a thread, and (before
# glibc 2.34) reading /etc/passwd and asking DNS.
UNNAMED_LIBRARIES: Final = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2")


class Probe(TypedDict):
    """What probe.py prints. `extensions`: path in the toolkit, path here."""

    version: str
    arch: str
    zip: str
    extensions: list[tuple[str, str]]
    sources: list[str]


@dataclass(slots=True)
class Contents:
    """`members`: mode and bytes by path in the toolkit. `inputs`: files they came from."""

    arch: str
    python_version: str
    members: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    inputs: list[Path] = field(default_factory=list)

    def add(self, name: str, source: Path) -> None:
        """The file at `source` as it is."""
        self.members[name] = (0o644, source.read_bytes())
        self.inputs.append(source)

    def add_binary(self, name: str, source: Path) -> None:
        """The ELF object at `source`, slimmed."""
        self.members[name] = (0o755, elf.slim(source.read_bytes(), source))
        self.inputs.append(source)


def base_python() -> Path:
    """The interpreter behind the running one, outside of any virtual environment."""
    return Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()


def agent_sources() -> list[Path]:
    """The agent's modules and the package's own `__init__`, in order."""
    return [AGENT.parent / "__init__.py", *sorted(AGENT.rglob("*.py"))]


def gather(python: Path) -> Contents:
    """Everything the toolkit of `python` holds. InputError, ConfigError, CommandFailed."""
    with tempfile.TemporaryDirectory(prefix="mock-cloud-toolkit-") as name:
        staging = Path(name)
        found = probe(python, staging)
        contents = Contents(found["arch"], found["version"])
        contents.inputs += [Path(path) for path in found["sources"]]
        add_modules(contents, staging, found)
    _add_binaries(contents, python, {member: Path(path) for member, path in found["extensions"]})
    return contents


def add_modules(contents: Contents, staging: Path, found: Probe) -> None:
    """What `probe` left in `staging`, and the agent."""
    for path in sorted(staging.rglob("*.py*")):
        contents.members[str(path.relative_to(staging))] = (0o644, path.read_bytes())
    for path in agent_sources():
        contents.add(f"agent/{path.relative_to(AGENT.parent.parent)}", path)
    contents.add("agent/main.py", AGENT / "main.py")
    # To find its library, python asks every directory above its own for this archive, first of
    # all (Modules/getpath.py, ZIP_LANDMARK). One of ours ends the search before the node's.
    contents.members[found["zip"]] = (0o644, _EMPTY_ZIP)


def _add_binaries(contents: Contents, python: Path, extensions: dict[str, Path]) -> None:
    loader = elf.find_loader(python)
    contents.members["ld.so"] = (0o755, elf.confine_loader(loader.read_bytes(), loader))
    contents.inputs.append(loader)
    contents.add_binary("bin/python3", python)
    libraries = elf.list_libraries(loader, python)
    for member, path in extensions.items():
        contents.add_binary(member, path)
        libraries |= elf.list_libraries(loader, path)
    for name in UNNAMED_LIBRARIES:
        beside = libraries["libc.so.6"].with_name(name)
        if name not in libraries and beside.exists():
            libraries[name] = beside
    for name, path in libraries.items():
        contents.add_binary(f"lib/{name}", path)
    libc = libraries["libc.so.6"]
    contents.members["lib/libc.so.6"] = (0o755, elf.confine_libc(libc.read_bytes(), libc))


def probe(python: Path, staging: Path, *foreign: Path) -> Probe:
    """Run probe.py under `python`, which see. ConfigError, CommandFailed."""
    # A fixed hash seed: the order of sets goes into bytecode.
    text = process.run(
        [str(python), "-s", "-S", "-B", *map(str, (_SCRIPT, AGENT, staging, *foreign))],
        timeout_s=_PROBE_TIMEOUT_S,
        extra_env={"PYTHONHASHSEED": "0"},
    )
    try:
        found: Probe = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"{python} did not describe itself",
            hint="the toolkit needs a CPython with its standard library",
        ) from error
    return found

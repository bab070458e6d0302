# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes into a toolkit, and which files of the controller it came from."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import field
from pathlib import Path
from typing import Any, Final, TypedDict

from mock_cloud import process
from mock_cloud.errors import ConfigError, InputError
from mock_cloud.toolkit import elf, prove
from mock_cloud.toolkit.origin import PACKAGE
from mock_cloud.toolkit.probe import list_sources
from mock_cloud.wire.dataclass import dataclass

_SCRIPT: Final = Path(__file__).with_name("probe.py")
_PROBE_TIMEOUT_S: Final = 120.0

_EMPTY_ZIP: Final = b"PK\x05\x06" + bytes(18)  # an end record alone

# Loaded by the C library at run time, so nothing names them: cancelling a thread, and (before
# glibc 2.34) reading /etc/passwd and asking DNS.
UNNAMED_LIBRARIES: Final = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2")

# Of a python's library: large, and for nobody who measures and builds.
_LEFT_OUT: Final = re.compile(
    r"config-.*|.*-packages|test|tests|ensurepip|idlelib|lib2to3|pydoc_data|tkinter|turtledemo"
)


class Interpreter(TypedDict):
    """What probe.py tells of the python that runs it. `path`: where its library lies."""

    version: str
    build: str
    arch: str
    library: str
    path: list[str]
    cache_tag: str


class Probe(TypedDict):
    """What probe.py found. `library`: in the toolkit; `extensions`: path there, path here."""

    library: str
    extensions: list[tuple[str, str]]
    sources: list[str]


@dataclass(slots=True)
class Contents:
    """`members`: mode and bytes by path in the toolkit. `inputs`: files they came from.

    Others would have been among them, had they been there: those in `absent`, and what the
    directories `listed` may come to hold. `build` is the interpreter's own word, if it runs here.
    """

    arch: str
    python_version: str
    build: str = ""
    members: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    inputs: list[Path] = field(default_factory=list)
    absent: list[Path] = field(default_factory=list)
    listed: set[Path] = field(default_factory=set)

    def add(self, name: str, source: Path) -> None:
        """The file at `source` as it is."""
        self.members[name] = (0o644, source.read_bytes())
        self.inputs.append(source)

    def add_binary(self, name: str, source: Path) -> None:
        """The ELF object at `source`, slimmed."""
        self.members[name] = (0o755, elf.slim(source.read_bytes(), source))
        self.inputs.append(source)


def agent_sources() -> list[Path]:
    """What of our own package runs on a node, and the package's own `__init__`, in order."""
    return [PACKAGE / "__init__.py", *list_sources(PACKAGE)]


def gather(python: Path) -> Contents:
    """Everything the toolkit of `python` holds. InputError, ConfigError, CommandFailed."""
    own = describe_python(python)
    contents = Contents(own["arch"], own["version"], own["build"])
    libraries = _add_program(contents, python)
    with tempfile.TemporaryDirectory(prefix="mock-cloud-toolkit-") as name:
        staging = Path(name)
        found = probe(python, staging, _find_loaded(own, contents, libraries))
        sources = [Path(path) for path in found["sources"]]
        contents.inputs += sources
        contents.listed |= {path.parent for path in sources}
        add_modules(contents, staging, found["library"])
    for member, path in found["extensions"]:
        contents.add_binary(member, Path(path))
        libraries.follow(Path(path))
    libraries.add_to(contents)
    return contents


def find_loaded(python: Path) -> list[str]:
    """The modules that an agent under `python` loads. InputError, ConfigError, CommandFailed."""
    own = describe_python(python)
    contents = Contents(own["arch"], own["version"])
    return _find_loaded(own, contents, _add_program(contents, python))


def _find_loaded(own: Interpreter, program: Contents, libraries: _Libraries) -> list[str]:
    """By trying a toolkit of `program` with the whole library of its python."""
    whole, everything = Contents(program.arch, program.python_version), libraries.copy()
    extensions = [path for one in own["path"] for path in Path(one).glob("lib-dynload/*.so")]
    for path in extensions:
        try:
            everything.follow(path)
        except InputError:  # one whose library is not installed cannot be loaded here either
            continue
    everything.add_to(whole)
    _add_agent(whole, own["library"])

    def lay_out(place: Path) -> None:
        prove.write_members(place, {**program.members, **whole.members})
        _copy_library(own, place / own["library"])

    return prove.record_loaded(lay_out)


def _copy_library(own: Interpreter, target: Path) -> None:
    """The library of a python, sources with their bytecode if it is there already."""
    bytecode = f".{own['cache_tag']}.pyc"

    def left_out(_: Any, names: list[str]) -> Collection[str]:
        return {
            name
            for name in names
            if _LEFT_OUT.fullmatch(name)
            or ("." in name and not name.endswith((".py", ".so", bytecode)))
        }

    for place in map(Path, own["path"]):
        if place.name != "lib-dynload":  # it is inside of another one
            shutil.copytree(place, target, ignore=left_out, dirs_exist_ok=True)


def add_modules(contents: Contents, staging: Path, library: str) -> None:
    """What `probe` left in `staging`, and the agent."""
    for path in sorted(staging.rglob("*.py*")):
        contents.members[str(path.relative_to(staging))] = (0o644, path.read_bytes())
    _add_agent(contents, library)


def _add_agent(contents: Contents, library: str) -> None:
    for path in agent_sources():
        contents.add(f"agent/{path.relative_to(PACKAGE.parent)}", path)
        contents.listed.add(path.parent)
    contents.add("agent/main.py", PACKAGE / "agent/main.py")
    # To find its library, python asks every directory above its own for this archive, first of
    # all (Modules/getpath.py, ZIP_LANDMARK). One of ours ends the search before the node's.
    contents.members[f"{library.replace('.', '')}.zip"] = (0o644, _EMPTY_ZIP)


class _Libraries:
    """The libraries that programs of this machine load: path by the name that is asked for."""

    def __init__(self, loader: Path, program: Path) -> None:
        self._loader = loader
        self.found = elf.list_libraries(loader, program)

    def copy(self) -> _Libraries:
        other = object.__new__(_Libraries)
        other._loader, other.found = self._loader, dict(self.found)
        return other

    def follow(self, path: Path) -> None:
        """All that the object at `path` needs. InputError, CommandFailed."""
        known = {*self.found, self._loader.name}
        if not known.issuperset(elf.list_needed(path.read_bytes(), path)):
            self.found = {**elf.list_libraries(self._loader, path), **self.found}

    def add_to(self, contents: Contents) -> None:
        libc = self.found["libc.so.6"]
        for name in UNNAMED_LIBRARIES:
            beside = libc.with_name(name)
            if name not in self.found and beside.exists():
                self.found[name] = beside
            elif name not in self.found:
                contents.absent.append(beside)
        for name, path in self.found.items():
            contents.add_binary(f"lib/{name}", path)
        contents.members["lib/libc.so.6"] = (0o755, elf.confine_libc(libc.read_bytes(), libc))


def _add_program(contents: Contents, python: Path) -> _Libraries:
    """Loader and interpreter; the libraries that it needs, which are not added yet."""
    loader = elf.find_loader(python)
    contents.members["ld.so"] = (0o755, elf.confine_loader(loader.read_bytes(), loader))
    contents.inputs.append(loader)
    contents.add_binary("bin/python3", python)
    return _Libraries(loader, python)


def describe_python(python: Path) -> Interpreter:
    """The interpreter in its own words. ConfigError, CommandFailed."""
    found: Interpreter = _ask(python)
    return found


def probe(python: Path, staging: Path, loaded: Collection[str], *foreign: Path) -> Probe:
    """Run probe.py under `python`, which see; `loaded` are modules' names.

    ConfigError, CommandFailed.
    """
    with tempfile.NamedTemporaryFile("w", prefix="mock-cloud-loaded-") as names:
        names.write("\n".join(loaded))
        names.flush()
        found: Probe = _ask(python, PACKAGE, staging, Path(names.name), *foreign)
    return found


def _ask(python: Path, *words: Path) -> Any:
    # A fixed hash seed: the order of sets goes into bytecode.
    text = process.run(
        [str(python), "-s", "-S", "-B", *map(str, (_SCRIPT, *words))],
        timeout_s=_PROBE_TIMEOUT_S,
        extra_env={"PYTHONHASHSEED": "0"},
    )
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"{python} did not describe itself",
            hint="the toolkit needs a CPython with its standard library",
        ) from error

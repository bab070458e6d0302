# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes into a toolkit made of packages, for an architecture that cannot run here.

Nothing of the packages is executed: libraries are followed by what ELF objects ask for, modules
by what the sources import, what compiled code names, and what an agent loads under this machine's
own python.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from mock_cloud.errors import InputError
from mock_cloud.process import CommandFailed
from mock_cloud.toolkit import elf
from mock_cloud.toolkit.contents import (
    UNNAMED_LIBRARIES,
    Contents,
    Probe,
    add_modules,
    describe_python,
    find_loaded,
    probe,
)
from mock_cloud.toolkit.machines import Machine
from mock_cloud.toolkit.origin import base_python
from mock_cloud.toolkit.probe import BUILT_IN, NEVER
from mock_cloud.toolkit.tree import Tree

_PROGRAM: Final = re.compile(r"usr/bin/python(3\.\d+)")
_EXTENSION: Final = re.compile(r"(\w+)\.(?:cpython-[\w-]+|abi3)\.so")
# A module that is built in has a function of this name, but for a few (Modules/config.c.in).
_INITIALISER: Final = re.compile(rb"\0PyInit_(\w+)(?=\0)")
# What compiled code imports by name, as _ctypes does ctypes._layout, and time _strptime.
_NAMED: Final = re.compile(rb"(?<=\0)(?:_\w+|\w+(?:\.\w+)+)(?=\0)", re.ASCII)
_CORE_MODULES: Final = ("_warnings", "builtins", "marshal", "sys")
_HINT: Final = "the packages of that release do not make a toolkit; choose another one"


def gather_foreign(tree: Tree, machine: Machine) -> Contents:
    """Everything the toolkit of the python in `tree` holds.

    Raises InputError for packages that lack something or are of another architecture.
    """
    found = tree.find("usr/bin/python3") or ""
    match = _PROGRAM.fullmatch(found)
    if match is None:
        raise InputError("the packages have no /usr/bin/python3", hint=_HINT)
    python = f"python{match[1]}"
    libraries = _Libraries(tree, machine)
    contents = Contents(machine.name, match[1])
    loader = libraries.start(found)
    contents.members["bin/python3"] = (0o755, elf.slim(tree.read(found), Path(found)))
    name, data = loader
    contents.members["ld.so"] = (0o755, elf.confine_loader(data, Path(name)))
    _add_library(contents, tree, python, libraries)
    for name in UNNAMED_LIBRARIES:
        libraries.want(name, required=False)
    for name, (path, data) in sorted(libraries.found.items()):
        make = elf.confine_libc if name == "libc.so.6" else elf.slim
        contents.members[f"lib/{name}"] = (0o755, make(data, Path(path)))
    if "libc.so.6" not in libraries.found:
        raise InputError("the packages' python does not use the GNU C library", hint=_HINT)
    contents.python_version = _exact_version(contents, match[1])
    return contents


def _add_library(contents: Contents, tree: Tree, python: str, libraries: _Libraries) -> None:
    """The modules that the agent needs, and the agent."""
    for directory in (f"usr/lib64/{python}", f"usr/lib/{python}"):
        if tree.find(f"{directory}/os.py"):
            break
    else:
        raise InputError(f"the packages have no library for {python}", hint=_HINT)
    with tempfile.TemporaryDirectory(prefix="mock-cloud-toolkit-") as name:
        # Named as in the tree, since the toolkit's own library is named after it.
        library = Path(name, "in", posixpath.basename(posixpath.dirname(directory)), python)
        extensions = _lay_out(tree, directory, library)
        built_in = _built_in(contents.members["bin/python3"][1], libraries)
        (library / BUILT_IN).write_text("\n".join(built_in))
        staging = Path(name, "out")
        staging.mkdir()
        code = [*_interpreter(contents.members["bin/python3"][1], libraries)]
        code += [libraries.check(path) for path in extensions.values()]
        named = {name.decode() for data in code for name in _NAMED.findall(data)}
        loaded = sorted({*find_loaded(base_python()), *filter(partial(_is_module, library), named)})
        interpreter = _interpreter_of(python)
        contents.inputs.append(interpreter)
        found = _probe(interpreter, staging, loaded, library)
        add_modules(contents, staging, found["library"])
    for member, placeholder in found["extensions"]:
        path = extensions[Path(placeholder).stem]
        data = libraries.check(path)
        libraries.follow(path, data)
        place = f"{posixpath.dirname(member)}/{posixpath.basename(path)}"
        contents.members[place] = (0o755, elf.slim(data, Path(path)))


def _built_in(program: bytes, libraries: _Libraries) -> list[str]:
    """The modules that are part of the interpreter or of its library."""
    code = _interpreter(program, libraries)
    names = {name.decode() for data in code for name in _INITIALISER.findall(data)}
    return sorted(names.union(_CORE_MODULES))


def _interpreter(program: bytes, libraries: _Libraries) -> Iterator[bytes]:
    """The objects that python itself is made of."""
    yield program
    for name, (_, data) in libraries.found.items():
        if name.startswith("libpython"):
            yield data


def _is_module(library: Path, name: str) -> bool:
    """Whether `name` is a module of the `library`, and not one of those that nobody needs."""
    if any(name == one or name.startswith(f"{one}.") for one in NEVER):
        return False
    path = library.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _lay_out(tree: Tree, directory: str, library: Path) -> dict[str, str]:
    """Write the sources below `directory` of the tree to `library`, as probe.py wants them.

    Returns the paths of extension modules by name.
    """
    extensions = {}
    (library / "lib-dynload").mkdir(parents=True)
    for path in tree.below(directory):
        inside = Path(path[len(directory) + 1 :])
        match = _EXTENSION.fullmatch(inside.name)
        if match and inside.parent == Path("lib-dynload"):
            extensions[match[1]] = tree.find(path) or path
            (library / "lib-dynload" / f"{match[1]}.so").touch()
        elif inside.suffix == ".py" and "site-packages" not in inside.parts:
            (library / inside).parent.mkdir(parents=True, exist_ok=True)
            (library / inside).write_bytes(tree.read(tree.find(path) or path))
    return extensions


def _interpreter_of(version: str) -> Path:
    """One of the same version if there is one: only that makes bytecode for it."""
    own = "python{}.{}".format(*sys.version_info[:2])
    found = None if version == own else shutil.which(version)
    if found is not None:
        with contextlib.suppress(CommandFailed):  # a version manager's stand-in runs nothing
            describe_python(Path(found))
            return Path(found)
    return base_python()


def _probe(interpreter: Path, staging: Path, loaded: list[str], library: Path) -> Probe:
    try:
        return probe(interpreter, staging, loaded, library)
    except CommandFailed as error:
        raise InputError(
            f"{interpreter} cannot take the library of the packages' {library.name} apart:"
            f" {(error.output.strip().splitlines() or ['no message'])[-1]}",
            hint=f"install {library.name} here, or choose packages of a release with a python that"
            " is here",
        ) from error


class _Libraries:
    """The shared libraries that objects of a tree ask for, found in the tree."""

    def __init__(self, tree: Tree, machine: Machine) -> None:
        self._tree = tree
        self._machine = machine
        self._loader = ""
        self.found: dict[str, tuple[str, bytes]] = {}
        """Path in the tree and bytes, by the name that is asked for."""

    def start(self, program: str) -> tuple[str, bytes]:
        """Follow `program`; its loader's path and bytes."""
        data = self.check(program)
        named = elf.find_loader(Path(program), data)
        path = self._tree.find(str(named))
        if path is None:
            raise InputError(f"the packages have no loader {named}", hint=_HINT)
        self._loader = named.name
        self.follow(program, data)
        return path, self.check(path)

    def check(self, path: str) -> bytes:
        """The object at `path`. InputError if it is of another architecture."""
        data = self._tree.read(path)
        machine = self._machine
        if elf.machine_of(data, Path(path)) != (machine.elf, machine.bits, machine.little_endian):
            raise InputError(f"/{path} of the packages is not of {machine.name}", hint=_HINT)
        return data

    def follow(self, path: str, data: bytes) -> None:
        """Find all that the object asks for, and what that asks for."""
        for name in elf.list_needed(data, Path(path)):
            self.want(name, wanted_by=path)

    def want(self, name: str, *, wanted_by: str = "", required: bool = True) -> None:
        """Find the library `name`. InputError if it is required and not there."""
        if name in self.found or name == self._loader:
            return
        for directory in self._machine.library_directories:
            path = self._tree.find(f"{directory}/{name}")
            if path is not None:
                self.found[name] = (path, self.check(path))
                self.follow(*self.found[name])
                return
        if required:
            raise InputError(f"/{wanted_by} needs {name}, which no package has", hint=_HINT)


def _exact_version(contents: Contents, version: str) -> str:
    """The interpreter's own word for its version, such as 3.11.2; else as far as it is known."""
    text = re.compile(rb"\0(" + re.escape(version).encode() + rb"\.\d+\w*\+?)\0")
    for name, (_, data) in contents.members.items():
        match = text.search(data) if name == "bin/python3" or "libpython" in name else None
        if match:
            return match[1].decode()
    return version

# SPDX-License-Identifier: GPL-2.0-or-later
"""Which modules of a python the agent needs, compiled.

usage: probe.py                                                   describes this python
       probe.py PACKAGE-DIRECTORY STAGING-DIRECTORY LOADED [LIBRARY]

A script of its own, since only an interpreter of the version that is packed can compile its
bytecode; standard library only. It prints one JSON object; with a staging directory it writes
modules into it.

What is packed is what an agent loaded when it was tried, by name in the file LOADED, what the
agent's sources import, and what all of these import in turn, as far as sources show.

LIBRARY is the library of a python that cannot run here (another architecture's), as
`foreign.py` lays it out: extension modules are empty files `lib-dynload/NAME.so`, and
the file `built-in` names those without a file. Where the
interpreter that runs this is of another version, modules are copied instead of compiled.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    del sys.path[0]  # this script's directory: its neighbours are not the standard library

import ast
import contextlib
import encodings.aliases
import functools
import importlib.machinery
import json
import modulefinder
import platform
import py_compile
import shutil
import sysconfig
from collections.abc import Collection
from pathlib import Path
from types import CodeType
from typing import Any

BUILT_IN = "built-in"

# Reached from the standard library only by code that the agent never runs. What it does load is
# packed all the same.
NEVER = (
    "_pydecimal", "asyncio", "concurrent", "csv", "decimal", "distutils", "doctest", "ensurepip",
    "fractions", "ftplib", "idlelib", "importlib.metadata", "importlib.resources", "lib2to3",
    "multiprocessing", "pdb", "plistlib", "pprint", "py_compile", "pydoc", "pydoc_data",
    "readline", "rlcompleter", "statistics", "test", "tkinter", "turtle", "unittest", "venv",
    "wsgiref", "xml", "xmlrpc",
)  # fmt: skip


def list_sources(package: Path) -> list[Path]:
    """What of our own package runs on a node: the agent, and what both ends speak."""
    return sorted(path for room in ("agent", "wire") for path in (package / room).rglob("*.py"))


def agent_imports(package: Path) -> set[str]:
    """The modules named in import statements of what runs on a node, our own apart."""
    names: set[str] = set()
    for path in list_sources(package):
        for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    return {name for name in names if name.partition(".")[0] != "mock_cloud"}


@functools.cache
def _codecs() -> frozenset[str]:
    return frozenset(path.stem for path in Path(encodings.__path__[0]).glob("*.py"))


def codecs_of(code: CodeType) -> set[str]:
    """The modules of the encodings that code may name: python looks for them by name."""
    names = {one for one in code.co_consts if isinstance(one, str) and one.isascii()}
    if not {"encode", "decode", "open", "TextIOWrapper"}.intersection(code.co_names):
        names.clear()
    plain = {encodings.normalize_encoding(name).lower() for name in names}
    modules = {encodings.aliases.aliases.get(name, name) for name in plain}
    found = {f"encodings.{name}" for name in modules & _codecs()}
    return found.union(*(codecs_of(one) for one in code.co_consts if isinstance(one, CodeType)))


class _Finder(modulefinder.ModuleFinder):
    """Knows modules by `path` and by what is built into the python that is packed."""

    def __init__(self, path: list[str], built_in: Collection[str], excludes: list[str]) -> None:
        super().__init__(path=path, excludes=excludes)
        self._built_in = built_in

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:
        if path is None and name in self._built_in:
            return None, None, ("", "", 6)  # C_BUILTIN of the module imp, which modulefinder uses
        # With a path it does not ask what is built into the interpreter that runs this.
        return super().find_module(name, self.path if path is None else path, parent)  # type: ignore[arg-type]

    def sets_itself(self, name: str) -> bool:
        """Whether the package of `name` puts it into sys.modules: it has no file then.

        As collections does with collections.abc since Python 3.14, and os with os.path.
        """
        package: str | None = getattr(self.modules.get(name.rpartition(".")[0]), "__file__", None)
        return package is not None and any(
            isinstance(target, ast.Subscript)
            and isinstance(target.value, ast.Attribute)
            and target.value.attr == "modules"
            and isinstance(target.slice, ast.Constant)
            and target.slice.value == name
            for node in ast.walk(ast.parse(Path(package).read_bytes()))
            if isinstance(node, ast.Assign)
            for target in node.targets
        )


def own_path() -> list[str]:
    """The directories of this interpreter's own standard library."""
    stdlib = sysconfig.get_path("stdlib")
    return [entry for entry in sys.path if entry.startswith(stdlib) and Path(entry).is_dir()]


def find_modules(
    package: Path, loaded: set[str], path: list[str], built_in: Collection[str]
) -> _Finder:
    """What the agent imports, what is `loaded`, and all that these import.

    ImportError if something that the agent imports is not there. Of the `loaded` some never were:
    programs look for modules that they can do without.
    """
    wanted = agent_imports(package)
    direct = {name for one in wanted | loaded for name in (one, one.partition(".")[0])}
    finder = _Finder(path, built_in, [name for name in NEVER if name not in direct])
    for name in sorted(wanted):
        try:
            finder.import_hook(name)
        except ImportError:
            if not finder.sets_itself(name):
                raise
    code = [compile(file.read_bytes(), str(file), "exec") for file in list_sources(package)]
    for name in sorted(loaded):
        with contextlib.suppress(ImportError):
            finder.import_hook(name)
    finder.import_hook("os")
    codes = [getattr(module, "__code__", None) for module in finder.modules.values()]
    code += [one for one in codes if one is not None]
    for name in sorted(set[str]().union(*map(codecs_of, code))):
        with contextlib.suppress(ImportError):
            finder.import_hook(name)
    return finder


def check_imports(package: Path, finder: _Finder) -> None:
    """What modules import when they are loaded is there, from the agent's imports on.

    ImportError that names both. For a python that cannot be tried here.
    """
    known = {*finder.modules}
    ahead = sorted(known & agent_imports(package))
    seen: set[str] = set()
    while ahead:
        name = ahead.pop()
        file: str | None = getattr(finder.modules.get(name), "__file__", None)
        if name in seen or not file or not file.endswith(".py"):
            continue
        seen.add(name)
        for node in ast.parse(Path(file).read_bytes()).body:
            if isinstance(node, ast.Import):
                needed = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                needed = [node.module]
            else:
                continue
            for one in needed:
                if one not in known and not finder.sets_itself(one):
                    raise ImportError(f"{name} imports {one}, which would not be packed")
            ahead += needed


def files_of(finder: _Finder) -> list[tuple[str, Path, bool]]:
    """Name, file and whether it is a package, of each module that has a file."""
    found = []
    for name, module in sorted(finder.modules.items()):
        file: str | None = getattr(module, "__file__", None)
        if file:
            found.append((name, Path(file), getattr(module, "__path__", None) is not None))
    return found


def compile_file(source: Path, target: Path, shown: str) -> None:
    """Bytecode that is never compared with its source, naming `shown` in tracebacks."""
    target.parent.mkdir(parents=True, exist_ok=True)
    py_compile.compile(
        str(source),
        cfile=str(target),
        dfile=shown,
        doraise=True,
        optimize=0,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _describe() -> dict[str, Any]:
    """This interpreter. Keys as in `contents.Interpreter`."""
    library = f"{sys.platlibdir}/{Path(sysconfig.get_path('stdlib')).name}"
    return {
        "version": platform.python_version(),
        "build": sys.version,
        "arch": platform.machine(),
        "library": library,
        "path": own_path(),
        "cache_tag": sys.implementation.cache_tag,
    }


def main(package: Path, staging: Path, loaded: Path, foreign: Path | None = None) -> dict[str, Any]:
    """Put everything into `staging` and describe it. Keys as in `contents.Probe`."""
    library: str = _describe()["library"]
    path, compiles = own_path(), True
    built_in: Collection[str] = sys.builtin_module_names
    if foreign is not None:
        library = f"{foreign.parent.name}/{foreign.name}"
        path = [str(foreign), str(foreign / "lib-dynload")]
        built_in = (foreign / BUILT_IN).read_text().split()
        compiles = foreign.name == "python{}.{}".format(*sys.version_info[:2])
    extensions: list[list[str]] = []
    sources: list[str] = []
    finder = find_modules(package, {*loaded.read_text().split()}, path, built_in)
    if foreign is not None:
        check_imports(package, finder)
    for name, file, is_package in files_of(finder):
        sources.append(str(file))
        if file.name.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
            extensions.append([f"{library}/lib-dynload/{file.name}", str(file)])
            continue
        stem = name.replace(".", "/") + ("/__init__" if is_package else "")
        if compiles:
            # Without the source beside it, a .pyc is found under the module's own name.
            compile_file(file, staging / library / f"{stem}.pyc", f"{library}/{stem}.py")
        else:
            (staging / library / stem).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, staging / library / f"{stem}.py")
    for file in list_sources(package) if compiles else ():
        inside = "agent" / file.relative_to(package.parent)
        cached = f"{file.stem}.{sys.implementation.cache_tag}.pyc"
        compile_file(file, staging / inside.parent / "__pycache__" / cached, str(inside))
    return {"library": library, "extensions": extensions, "sources": sources}


if __name__ == "__main__":
    json.dump(main(*map(Path, sys.argv[1:])) if sys.argv[1:] else _describe(), sys.stdout)

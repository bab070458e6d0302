# SPDX-License-Identifier: GPL-2.0-or-later
"""Which modules of a python the agent needs, compiled.

usage: probe.py AGENT-PACKAGE-DIRECTORY STAGING-DIRECTORY [LIBRARY]

A script of its own, since only an interpreter of the version that is packed can compile its
bytecode; standard library only. It writes into the staging directory and prints one JSON object.

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
import importlib.machinery
import json
import modulefinder
import platform
import py_compile
import shutil
import sysconfig
from collections.abc import Collection
from pathlib import Path
from typing import Any

BUILT_IN = "built-in"

# What is reached by name at run time only, or wanted whatever the agent imports at present.
ALWAYS = (
    "__future__", "codecs", "ctypes", "encodings.ascii", "encodings.cp437", "encodings.idna",
    "encodings.latin_1", "encodings.unicode_escape", "encodings.utf_8", "hashlib", "json", "pty",
    "select", "sqlite3", "ssl", "tarfile", "traceback", "urllib.request", "zlib", "_hashlib",
    "_strptime",
)  # fmt: skip

# Reached from the standard library only by code that the agent never runs.
NEVER = (
    "_pydecimal", "asyncio", "concurrent", "csv", "decimal", "distutils", "doctest", "ensurepip",
    "fractions", "ftplib", "idlelib", "importlib.metadata", "importlib.resources", "lib2to3",
    "multiprocessing", "pdb", "plistlib", "pprint", "py_compile", "pydoc", "pydoc_data",
    "readline", "rlcompleter", "statistics", "test", "tkinter", "turtle", "unittest", "venv",
    "wsgiref", "xml", "xmlrpc",
)  # fmt: skip


def agent_imports(package: Path) -> set[str]:
    """The modules named in import statements anywhere below `package`, its own apart."""
    names: set[str] = set()
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    return {name for name in names if name.partition(".")[0] != "mock_cloud"}


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


def own_path() -> list[str]:
    """The directories of this interpreter's own standard library."""
    stdlib = sysconfig.get_path("stdlib")
    return [entry for entry in sys.path if entry.startswith(stdlib) and Path(entry).is_dir()]


def find_modules(
    wanted: set[str], path: list[str], built_in: Collection[str]
) -> list[tuple[str, Path, bool]]:
    """Name, file and whether it is a package, of `wanted` and all that they import."""
    direct = wanted | {name.partition(".")[0] for name in wanted}
    finder = _Finder(path, built_in, [name for name in NEVER if name not in direct])
    for name in sorted(wanted):
        finder.import_hook(name)
    finder.import_hook("os")
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


def main(agent: Path, staging: Path, foreign: Path | None = None) -> dict[str, Any]:
    """Put everything into `staging` and describe it. Keys as in `contents.Probe`."""
    library = f"{sys.platlibdir}/{Path(sysconfig.get_path('stdlib')).name}"
    path, compiles = own_path(), True
    built_in: Collection[str] = sys.builtin_module_names
    if foreign is not None:
        library = f"{foreign.parent.name}/{foreign.name}"
        path = [str(foreign), str(foreign / "lib-dynload")]
        built_in = (foreign / BUILT_IN).read_text().split()
        compiles = foreign.name == "python{}.{}".format(*sys.version_info[:2])
    extensions: list[list[str]] = []
    sources: list[str] = []
    wanted = agent_imports(agent) | set(ALWAYS)
    for name, file, is_package in find_modules(wanted, path, built_in):
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
    for file in sorted(agent.rglob("*.py")) if compiles else ():
        inside = Path("agent/mock_cloud/agent") / file.relative_to(agent)
        cached = f"{file.stem}.{sys.implementation.cache_tag}.pyc"
        compile_file(file, staging / inside.parent / "__pycache__" / cached, str(inside))
    return {
        "version": platform.python_version(),
        "arch": platform.machine(),
        "zip": f"{library.replace('.', '')}.zip",
        "extensions": extensions,
        "sources": sources,
    }


if __name__ == "__main__":
    json.dump(main(*map(Path, sys.argv[1:])), sys.stdout)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Run by the interpreter that is packed: which of its modules the agent needs, compiled.

usage: probe.py AGENT-PACKAGE-DIRECTORY STAGING-DIRECTORY

A script of its own, since only that interpreter can compile its bytecode; standard library
only. It compiles into the staging directory and prints one JSON object.
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
import sysconfig
from pathlib import Path
from typing import Any

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


def find_modules(wanted: set[str]) -> list[tuple[str, Path, bool]]:
    """Name, file and whether it is a package, of `wanted` and all that they import."""
    stdlib = sysconfig.get_path("stdlib")
    path = [entry for entry in sys.path if entry.startswith(stdlib) and Path(entry).is_dir()]
    direct = wanted | {name.partition(".")[0] for name in wanted}
    finder = modulefinder.ModuleFinder(
        path=path, excludes=[name for name in NEVER if name not in direct]
    )
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


def main(agent: Path, staging: Path) -> dict[str, Any]:
    """Compile everything into `staging` and describe it. Keys as in `contents._Probe`."""
    library = f"{sys.platlibdir}/{Path(sysconfig.get_path('stdlib')).name}"
    extensions: list[list[str]] = []
    sources: list[str] = []
    wanted = agent_imports(agent) | set(ALWAYS)
    for name, path, is_package in find_modules(wanted):
        sources.append(str(path))
        if path.name.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
            extensions.append([f"{library}/lib-dynload/{path.name}", str(path)])
            continue
        stem = name.replace(".", "/") + ("/__init__" if is_package else "")
        # Without the source beside it, a .pyc is found under the module's own name.
        compile_file(path, staging / library / f"{stem}.pyc", f"{library}/{stem}.py")
    for path in sorted(agent.rglob("*.py")):
        inside = Path("agent/mock_cloud/agent") / path.relative_to(agent)
        cached = f"{path.stem}.{sys.implementation.cache_tag}.pyc"
        compile_file(path, staging / inside.parent / "__pycache__" / cached, str(inside))
    return {
        "version": platform.python_version(),
        "arch": platform.machine(),
        "zip": f"{library.replace('.', '')}.zip",
        "extensions": extensions,
        "sources": sources,
    }


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1]), Path(sys.argv[2])), sys.stdout)

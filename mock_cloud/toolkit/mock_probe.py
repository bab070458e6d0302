# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files a mock consists of, asked of mock's own interpreter: no compiled ones.

usage: mock_probe.py SCRIPT         prints what `mock_kit.Probe` has, as one JSON object
       mock_probe.py SCRIPT KIT     imports mock from the directory KIT alone, and compiles it there

A script of its own, since only mock's interpreter knows what mock imports and from where.
Standard library only, Python 3.9. Modules are imported, as mock would at its start; nothing of
mock is run.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    del sys.path[0]  # this script's directory: its neighbours are not mock's

import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import logging
import py_compile
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PACKAGE = "mockbuild"
OWN_PLUGIN = "remote.py"
NODES_OWN = "rpm"
"""Compiled, and has to agree with the node's librpm: each node has its own."""

_LEFT_OUT = ("__pycache__", "test", "tests")
_COMPILED = (*importlib.machinery.EXTENSION_SUFFIXES, *importlib.machinery.BYTECODE_SUFFIXES)


def import_mock(script: Path, package: Path) -> None:
    """Import the script, every module of its package and every plugin. ImportError."""
    _load("mock_script", script)
    for path in sorted(package.glob("*.py")):
        importlib.import_module(_PACKAGE if path.stem == "__init__" else f"{_PACKAGE}.{path.stem}")
    for path in sorted((package / "plugins").glob("*.py")):
        if path.name != OWN_PLUGIN:
            try:
                _load(f"mock_plugin_{path.stem}", path)
            except ImportError as error:  # a plugin that cannot work here cannot be wanted
                print(f"{path.name}: {error}", file=sys.stderr)


def _load(name: str, path: Path) -> None:
    # A packaged script's name does not end in .py.
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, loader))
    module.__file__ = str(path)
    sys.modules[name] = module
    loader.exec_module(module)


def foreign_modules() -> dict[str, Path]:
    """Name → file of what is loaded beside the standard library."""
    found = {}
    for name, module in list(sys.modules.items()):
        file: str | None = getattr(module, "__file__", None)
        if file is not None and not name.startswith("__") and not _is_standard(Path(file)):
            found[name] = Path(file)
    return found


def forget_foreign() -> None:
    """Unload what site-packages had loaded at the start (site, .pth): mock may not want it."""
    for name in foreign_modules():
        del sys.modules[name]


def find_dependencies() -> dict[str, Path]:
    """Name → file or directory of what mock imported beside its own package."""
    found = {}
    for name, file in sorted(foreign_modules().items()):
        if "." not in name and name not in (_PACKAGE, NODES_OWN) and not name.startswith("mock_"):
            found[name] = file.parent if file.stem == "__init__" else file
    return found


def _is_standard(path: Path) -> bool:
    standard = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    sites = ("site-packages", "dist-packages")
    return any(
        top in path.parents and not any(site in path.relative_to(top).parts for site in sites)
        for top in standard
    )


def _list_files(name: str, path: Path) -> Iterator[tuple[str, str]]:
    """(name in the kit, path here) of a file or of all that is in a directory, data too.

    `_check` tells whether mock can do without what is compiled.
    """
    if path.is_file():
        if not path.name.endswith(_COMPILED):
            yield path.name, str(path)
        return
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        wanted = not set(inside.parts) & set(_LEFT_OUT) and not file.name.endswith(_COMPILED)
        if wanted and file.is_file():
            yield f"{name}/{inside}", str(file)


def find_distributions(modules: dict[str, Path]) -> dict[str, Path]:
    """Name → file or directory of the rest of the distributions that `modules` belong to.

    That is their metadata, where modules find versions and entry points, and the modules beside
    them. As in importlib.metadata, the first of a name on the path is the one.
    """
    found: dict[str, Path] = {}
    seen = set()
    for place in map(Path, sys.path):
        for path in sorted([*place.glob("*.dist-info"), *place.glob("*.egg-info")]):
            distribution = importlib.metadata.Distribution.at(path)
            tops = _top_level(distribution) - {NODES_OWN, *_LEFT_OUT}
            name = path.stem.partition("-")[0].lower()
            if name in seen or not tops & modules.keys():
                continue
            seen.add(name)
            found[path.name] = path
            for top in sorted(tops - modules.keys()):
                beside = (place / top, place / f"{top}.py")
                found.update((top, file) for file in beside if file.exists())
    return found


def _top_level(distribution: importlib.metadata.Distribution) -> set[str]:
    declared = distribution.read_text("top_level.txt")
    if declared:
        return set(declared.split())
    return {file.parts[0].partition(".")[0] for file in distribution.files or ()}


def _describe(script: Path) -> dict[str, Any]:
    """Everything the kit has to hold. Keys as in `mock_kit.Probe`. ImportError."""
    forget_foreign()
    sys.path.insert(0, str(script.parent))  # as for any script
    sys.argv[0] = str(script)  # a mock that is not packaged finds itself by it
    package = Path(importlib.import_module(_PACKAGE).__path__[0])
    import_mock(script, package)
    version: str = sys.modules[f"{_PACKAGE}.constants"].VERSION
    files = list(_list_files(_PACKAGE, package))
    files = [pair for pair in files if pair[0] != f"{_PACKAGE}/plugins/{OWN_PLUGIN}"]
    modules = find_dependencies()
    for name, path in {**modules, **find_distributions(modules)}.items():
        files += _list_files(name, path)
    return {"version": version, "files": [["mock.py", str(script)], *files]}


class _NodesOwn(importlib.abc.MetaPathFinder):
    """Finds the bindings of rpm where this interpreter has them, and nothing else there."""

    def __init__(self, path: list[str]) -> None:
        self._path = path

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if path is None and fullname == NODES_OWN:
            return importlib.machinery.PathFinder.find_spec(fullname, self._path)
        return None


def _check(kit: Path) -> None:
    """Import mock from `kit` with nothing beside it but the standard library and rpm.

    ImportError names what has no pure form.
    """
    forget_foreign()
    sys.meta_path.append(_NodesOwn(list(sys.path)))
    sys.path[:] = [str(kit), *(entry for entry in sys.path if _is_standard(Path(entry) / "x"))]
    sys.argv[0] = str(kit / "mock.py")
    import_mock(kit / "mock.py", kit / _PACKAGE)


def compile_loaded(kit: Path) -> None:
    """Byte code beside each module that was imported from `kit`, for nodes with this Python.

    It is never compared with its source. Other versions of Python pass it over, by its name.
    """
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for path in sorted(set(foreign_modules().values())):
        if kit in path.parents:
            shown = str(path.relative_to(kit))
            py_compile.compile(str(path), dfile=shown, doraise=True, invalidation_mode=unchecked)


def main(script: str, kit: str = "") -> int:
    """Both uses; an import that fails is one line on standard error and status 1."""
    logging.disable()
    try:
        if kit:
            _check(Path(kit))
            compile_loaded(Path(kit))
        else:
            json.dump(_describe(Path(script)), sys.stdout)
    except ImportError as error:
        print(f"{error.name or script}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

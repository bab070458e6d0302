# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.size [CHECKOUT]: how large the product is, for docs/architecture.md.

What runs is the package in CHECKOUT (default: this one), under the Python that runs this. Times are
processor seconds, the least of five runs: what waits for a busy disk or machine is not counted.
"""

from __future__ import annotations

import ast
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_RUNS = 5
_LOADED = re.compile(r"^import time:.*\| +(mock_cloud[\w.]*)$", re.M)
_NO_NAMES = {"__init__", "__main__"}
_NOT_COUNTED = {"main", "add_parser", "TYPE_CHECKING"}  # entry points, a command's words, a flag
# Names that may stand in several modules, and why.
_MAY_STAND_TWICE = {
    "InjectedFile": "as a provider made it, as a verdict knows it; neither imports the other",
    "read_file": "a user's file with a message of ours; a package's file",
    "run": "what each module of cli and a few more begin with",
}
_REMOTE = """\
[remote]
provider = "local"
arches = ["x86_64"]
[local]
image = "/"
[attest]
manifest = "here.toml"
manifest_keys = ["here.toml"]
package_keys = ["here.toml"]
"""
_CHROOT = """\
config_opts['root'] = 'r'
config_opts['target_arch'] = 'x86_64'
config_opts['dnf.conf'] = '[main]\\nreposdir=/dev/null\\n[o]\\nbaseurl=http://localhost/\\n'
"""


def measure(checkout: Path) -> Iterator[tuple[str, str]]:
    """What is counted, and how much of it there is."""
    modules = sorted((checkout / "mock_cloud").rglob("*.py"))
    yield "product lines", f"{sum(len(one.read_bytes().splitlines()) for one in modules):,}"
    yield "modules", str(len(modules))
    stems = Counter(one.stem for one in modules if one.stem not in _NO_NAMES)
    yield "module names that stand twice", str(sum(count > 1 for count in stems.values()))
    twice = names_twice(checkout)
    yield "public names defined twice", str(sum(not why for why in twice.values()))
    for one, why in twice.items():
        yield f"  {one}", why
    with tempfile.TemporaryDirectory() as scratch:
        build = Program(
            checkout, Path(scratch), "mock_cloud.launcher", *make_refused_build(Path(scratch))
        )
        loaded = {*_LOADED.findall(build.run({"PYTHONPROFILEIMPORTTIME": "1"}))}
        yield "modules loaded by `mock --remote`", str(len(loaded))
        yield "`mock --remote` until it looks for the package", f"{build.seconds():.2f} s"
        if (checkout / "tests/traced_build.py").exists():
            traced = [sys.executable, "-m", "tests.traced_build"]
            done = subprocess.run(traced, cwd=checkout, capture_output=True, text=True, check=True)
            functions, files = done.stdout.split()
            yield "functions a build calls on this machine", functions
            yield "files that they are in", files
        nodes = Program(checkout, Path(scratch), "mock_cloud.cli", "nodes")
        yield "`mock-cloud nodes`", f"{nodes.seconds():.2f} s"


def names_twice(checkout: Path) -> dict[str, str]:
    """Public names that several modules define, and why they may; empty if they may not."""
    modules = (checkout / "mock_cloud").rglob("*.py")
    names = Counter(name for one in modules for name in public_names(one))
    return {name: _MAY_STAND_TWICE.get(name, "") for name in sorted(names) if names[name] > 1}


def public_names(module: Path) -> Iterator[str]:
    """Functions, classes and constants that a module defines for others."""
    for node in ast.parse(module.read_bytes()).body:
        found: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = [one.id for one in targets if isinstance(one, ast.Name)]
        yield from (
            name
            for name in found
            if not name.startswith("_") and name not in _NOT_COUNTED and len(name) > 1  # TypeVars
        )


def make_refused_build(home: Path) -> tuple[str, ...]:
    """The words of a build on a local remote, both written below `home`; its package is missing."""
    remotes = home / "mock/remotes.d"
    remotes.mkdir(parents=True)
    (remotes / "here.toml").write_text(_REMOTE)
    (home / "r.cfg").write_text(_CHROOT)
    return "--remote", "here", "-r", str(home / "r.cfg"), "--rebuild", "/nonexistent.src.rpm"


class Program:
    """One of the programs, with a home of its own."""

    def __init__(self, checkout: Path, home: Path, module: str, *words: str) -> None:
        code = f"import sys; from {module} import main; sys.exit(main())"
        self._argv = [sys.executable, "-c", code, *words]
        self._env = {**os.environ, "PYTHONPATH": str(checkout), "HOME": str(home)}
        self._env |= {f"XDG_{one}_HOME": str(home) for one in ("CONFIG", "STATE", "CACHE")}
        self._env.pop("MOCK_REMOTE", None)
        self._home = home  # not in a checkout, which would come before CHECKOUT

    def run(self, more: dict[str, str] | None = None) -> str:
        """What it printed as errors."""
        env = {**self._env, **(more or {})}
        done = subprocess.run(
            self._argv, cwd=self._home, env=env, capture_output=True, text=True, check=False
        )
        if "Traceback" in done.stderr:
            raise RuntimeError(done.stderr)
        return done.stderr

    def seconds(self) -> float:
        return min(self._seconds() for _ in range(_RUNS))

    def _seconds(self) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.run()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> int:
    """Print the table."""
    checkout = Path(sys.argv[1] if sys.argv[1:] else ".").resolve()
    for what, value in measure(checkout):
        print(f"{what:<50} {value}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

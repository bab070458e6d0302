# SPDX-License-Identifier: GPL-2.0-or-later
"""mock-plugins/remote.py by itself: what it may need, whom it believes, what it refuses."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.layout import repository_root

PLUGIN = repository_root() / "mock-plugins/remote.py"

# The names that the plugin imports; the integration tests have the real ones.
_MOCKBUILD = {
    "util.py": "",
    "exception.py": "class Error(Exception): pass\nclass ConfigError(Error): pass\n",
    "trace_decorator.py": "import logging\ngetLog = logging.getLogger\n",
}


def test_it_is_one_file_for_python_39_and_the_standard_library() -> None:
    tree = ast.parse(PLUGIN.read_text(), feature_version=(3, 9))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names | {"mockbuild"}
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))
    # Loaded before it is in sys.modules: a dataclass would look itself up there and fail.
    assert "dataclasses" not in imported
    assert len(PLUGIN.read_text().splitlines()) < 320


@pytest.fixture
def mockbuild(tmp_path: Path) -> Path:
    (tmp_path / "mockbuild").mkdir()
    (tmp_path / "mockbuild/__init__.py").touch()
    for name, text in _MOCKBUILD.items():
        (tmp_path / "mockbuild" / name).write_text(text)
    return tmp_path


def call(mockbuild: Path, expression: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Evaluate an expression in the plugin as mock loads it, in a process of its own."""
    code = (
        "import importlib.util as u, json, os, tempfile\n"
        f"spec = u.spec_from_file_location('remote', {str(PLUGIN)!r})\n"
        "plugin = u.module_from_spec(spec); spec.loader.exec_module(plugin)\n"
        f"print(json.dumps({expression}))\n"
    )
    environ = {"PATH": os.defpath, "PYTHONPATH": str(mockbuild), **env}
    return subprocess.run(
        [sys.executable, "-S", "-c", code],  # the standard library and mock's modules are enough
        env=environ,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "conf", "environ", "opts", "found"),
    [
        ([], {}, {}, {}, None),
        ([], {}, {}, {"remote": None}, None),
        ([], {}, {}, {"remote": False}, None),
        ([], {}, {}, {"remote": "of-file"}, "of-file"),
        ([], {}, {"MOCK_REMOTE": "of-environ"}, {"remote": "of-file"}, "of-environ"),
        ([], {}, {"MOCK_REMOTE": ""}, {"remote": "of-file"}, "of-file"),
        ([], {"name": "of-launcher"}, {"MOCK_REMOTE": "x"}, {"remote": "y"}, "of-launcher"),
        (["--remote", "typed", "x"], {}, {"MOCK_REMOTE": "x"}, {"remote": "y"}, "typed"),
        (["--remote=typed"], {}, {}, {}, "typed"),
        (["--no-remote"], {"name": "x"}, {"MOCK_REMOTE": "x"}, {"remote": "y"}, None),
        (["--shell", "--", "ls", "--remote", "x"], {}, {}, {}, None),
        (["--shell", "--", "ls", "--no-remote"], {}, {}, {"remote": "y"}, "y"),
    ],
)
def test_which_remote_is_chosen(
    mockbuild: Path,
    words: list[str],
    conf: dict[str, str],
    environ: dict[str, str],
    opts: dict[str, object],
    found: str | None,
) -> None:
    done = call(mockbuild, f"plugin.find_remote({words!r}, {conf!r}, {opts!r})", **environ)
    assert json.loads(done.stdout) == found, done.stderr


def test_a_remote_that_is_no_name_is_refused(mockbuild: Path) -> None:
    done = call(mockbuild, "plugin.find_remote([], {}, {'remote': ['x']})")
    assert "ConfigError: config_opts['remote'] is ['x']" in done.stderr


def read_report(mockbuild: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = mockbuild / "report"
    path.write_text(text)
    return call(mockbuild, f"plugin.read_report(os.open({str(path)!r}, os.O_RDONLY))")


def test_a_sound_report_is_read(mockbuild: Path) -> None:
    names = ["x-1~rc1-1.fc43.noarch.rpm", "y-2^git-1/y-c++-2^git-1.x86_64.rpm"]
    done = read_report(mockbuild, json.dumps({"directory": "/r", "packages": names}))
    assert json.loads(done.stdout) == ["/r", names], done.stderr
    assert json.loads(read_report(mockbuild, "").stdout) is None


@pytest.mark.parametrize(
    "name",
    [
        "x;reboot.rpm", "$(id).rpm", "`id`.rpm", "x y.rpm", "x\n.rpm", "../x.rpm", "/x.rpm",
        "a/b/x.rpm", "-x.rpm", ".x.rpm", "x.rpm ", "x'.rpm", "x&.rpm", "x|y.rpm", "x>y.rpm",
        "x*.rpm", "~/x.rpm", "x.txt", "", "é.rpm",
    ],
)  # fmt: skip
def test_a_name_that_a_shell_would_read_is_refused(mockbuild: Path, name: str) -> None:
    report = {"directory": "/r", "packages": ["good-1-1.noarch.rpm", name]}
    done = read_report(mockbuild, json.dumps(report))
    assert "is refused: nothing was signed" in done.stderr and not done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "1", "null", '{"directory": "/r"}', '{"directory": "r", "packages": []}',
        '{"directory": 1, "packages": []}', '{"directory": "/r", "packages": [1]}',
        '{"directory": "/r", "packages": 1}',
        '{"directory": "/r", "packages": []}' + " " * (1 << 20),
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_malformed_report_is_one_error(mockbuild: Path, text: str) -> None:
    done = read_report(mockbuild, text)
    assert "Error: the session's report cannot be read" in done.stderr.splitlines()[-1]

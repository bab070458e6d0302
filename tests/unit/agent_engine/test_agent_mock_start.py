# SPDX-License-Identifier: GPL-2.0-or-later
"""What starts mock on a node: mock's script runs as by itself, with two habits made cheaper."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from mock_cloud.agent.engine.mock.start import write_start

_TRACE_DECORATOR = """\
import inspect

def caller():
    frames = inspect.getouterframes(inspect.currentframe())
    return frames[1][0].f_globals["__name__"], frames[1].function, frames[1].lineno, frames[1][4]
"""

# `templated_dictionary` renders each value it is asked for.
_TEMPLATES = """\
import jinja2

def render(text, **names):
    return jinja2.Template(text, keep_trailing_newline=True).render(names)
"""

_SCRIPT = """\
import json, sys
from mockbuild import trace_decorator
import templated_dictionary as templates

def ask():
    return trace_decorator.caller()

text = "{{ what }}\\n"
print(json.dumps({
    "caller": ask(),
    "rendered": [templates.render(text, what=1), templates.render(text, what=2)],
    "compiled": templates.jinja2.Template.cache_info().misses,
    "environment": templates.jinja2.Environment.__name__,
    "inspect": trace_decorator.inspect.getsourcefile(ask),
    "argv": sys.argv, "path": sys.path[0], "file": __file__, "name": __name__,
    "main": sys.modules["__main__"].ask is ask,
}))
sys.exit(7)
"""


def _start(place: Path) -> subprocess.CompletedProcess[str]:
    write_start(str(place / "start.py"))
    argv = [sys.executable, "-s", "-E", "-B", place / "start.py", place / "kit/mock.py", "--init"]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_mock_runs_as_it_would_by_itself_with_two_habits_made_cheaper(tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    (kit / "mockbuild").mkdir(parents=True)
    (kit / "mockbuild/__init__.py").touch()
    (kit / "mockbuild/trace_decorator.py").write_text(_TRACE_DECORATOR)
    (kit / "templated_dictionary.py").write_text(_TEMPLATES)
    (kit / "mock.py").write_text(_SCRIPT)
    ended = _start(tmp_path)
    assert ended.returncode == 7, ended.stderr
    script = str(kit / "mock.py")
    asks = _SCRIPT.splitlines().index("    return trace_decorator.caller()") + 1
    assert json.loads(ended.stdout) == {
        "caller": ["__main__", "ask", asks, None],
        "rendered": ["1\n", "2\n"],
        "compiled": 1,
        "environment": "Environment",
        "inspect": script,
        "argv": [script, "--init"],
        "path": str(kit),
        "file": script,
        "name": "__main__",
        "main": True,
    }


def test_a_mock_without_these_habits_is_run_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit/mock.py").write_text("import sys\nprint(sys.argv[1:])\nraise KeyError('x')\n")
    ended = _start(tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "['--init']\n")
    assert f'File "{tmp_path}/kit/mock.py", line 3' in ended.stderr

# SPDX-License-Identifier: GPL-2.0-or-later
"""What starts mock on a node: mock's script runs as by itself, some of its habits made cheaper."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

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

PLAIN = ["", "a\\n", "{ a } % #}\\n\\n", "a\\r\\nb\\r"]

def ask():
    return trace_decorator.caller()

text = "{{ what }}\\n"
print(json.dumps({
    "caller": ask(),
    "rendered": [templates.render(text, what=1), templates.render(text, what=2)],
    "plain": [templates.render(text) for text in PLAIN],
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


def test_mock_runs_as_it_would_by_itself_with_its_habits_made_cheaper(tmp_path: Path) -> None:
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
        "plain": ["", "a\n", "{ a } % #}\n\n", "a\nb\n"],
        "compiled": 2,
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


_USES = """\
from pyroute2 import IPRoute{more}

def set_up():
    routes = IPRoute()
    return routes.link_lookup(ifname="lo"), routes.link("set", index=7, state="down")
"""

_DOWNLOADER = """\
import requests

RETRIES = 3

class FileDownloader:
    tmpdir = "made"

    @classmethod
    def get(cls, name):
        return requests.fetch(name)
"""

_LOADS = """\
import json, sys
from mockbuild import util
from mockbuild.backend import FileDownloader

def loaded():
    return [name for name in ("pyroute2", "requests") if name in sys.modules]

said = [loaded(), util.set_up(), loaded(), FileDownloader.get("x"), FileDownloader.tmpdir, loaded()]
import mockbuild.file_downloader, pyroute2
said += [mockbuild.file_downloader.RETRIES, pyroute2.IPRoute is not util.IPRoute]
print(json.dumps(said))
"""


@pytest.mark.parametrize("more", ["", ", NetlinkError"])
def test_what_mock_seldom_uses_is_loaded_when_it_is_used(tmp_path: Path, more: str) -> None:
    kit = tmp_path / "kit"
    (kit / "mockbuild").mkdir(parents=True)
    for name, text in {
        "mockbuild/__init__.py": "",
        "mockbuild/backend.py": "from .file_downloader import FileDownloader\n",
        "mockbuild/file_downloader.py": _DOWNLOADER,
        "mockbuild/util.py": _USES.format(more=more),
        "pyroute2.py": "class NetlinkError(Exception): pass\nclass IPRoute:\n"
        "    def link(self, *words, **facts): return [words, facts]\n",
        "requests.py": "fetch = '<{}>'.format\n",
        "mock.py": _LOADS,
    }.items():
        (kit / name).write_text(text)
    ended = _start(tmp_path)
    assert ended.returncode == 0, ended.stderr
    before = ["pyroute2"] if more else []
    set_up = [[socket.if_nametoindex("lo")], [["set"], {"index": 7, "state": "down"}]]
    whole = ["pyroute2", "requests"]
    assert json.loads(ended.stdout) == [
        before, set_up, ["pyroute2"], "<x>", "made", whole, 3, True
    ]  # fmt: skip


def test_a_mock_that_names_what_is_not_there_fails_as_it_would_by_itself(tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    (kit / "mockbuild").mkdir(parents=True)
    (kit / "mockbuild/__init__.py").touch()
    (kit / "mockbuild/util.py").write_text("from pyroute2 import IPRoute\n")
    (kit / "mock.py").write_text("import mockbuild.util\n")
    ended = _start(tmp_path)
    assert ended.returncode == 1
    assert "No module named 'pyroute2'" in ended.stderr
    assert "start.py" not in ended.stderr.splitlines()[-1]

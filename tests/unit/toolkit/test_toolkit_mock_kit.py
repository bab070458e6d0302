# SPDX-License-Identifier: GPL-2.0-or-later
"""Packing a mock: a small program laid out as mock is, asked of this very interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mock_cloud.errors import ConfigError
from mock_cloud.toolkit import mock_kit
from mock_cloud.toolkit.mock_kit import MockKit, MockProgram, find_mock, pack_mock
from tests.tars import unpack_own

PYTHON = Path(sys.executable)
FILES = {
    "mock.py": (
        "import mockbuild.config\nif __name__ == '__main__':\n    print(mockbuild.config.names())\n"
    ),
    "mockbuild/__init__.py": "",
    "mockbuild/constants.py": "import os\nVERSION = '9.9'\nPKGPYTHONDIR = '/usr/lib/elsewhere'\n",
    "mockbuild/config.py": (
        "import json, os\nimport lone\nimport helper\nfrom . import constants\n"
        "def names():\n    return sorted(os.listdir(constants.PKGPYTHONDIR + '/plugins'))\n"
    ),
    "mockbuild/plugins/__init__.py": "",
    "mockbuild/plugins/site.py": "from helper import deep\n",
    "mockbuild/plugins/broken.py": "import no_such_thing\n",
    "mockbuild/plugins/remote.py": "raise SystemExit('not to be imported')\n",
    "lone.py": "",
    "helper/__init__.py": "",
    "helper/deep.py": "",
    "helper/tests/test_it.py": "",
    "beside.py": "",
}


def write_mock(place: Path) -> Path:
    for name, text in FILES.items():
        path = place / "there" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return place / "there/mock.py"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return write_mock(tmp_path)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MockKit]:
    """A mock that nobody changes, and its kit."""
    place = tmp_path_factory.mktemp("packed")
    unchanged = write_mock(place)
    return unchanged, pack_mock(place / "cache", unchanged, PYTHON)


def test_a_kit_has_mock_all_plugins_but_ours_and_what_they_import(
    packed: tuple[Path, MockKit], tmp_path: Path
) -> None:
    _, kit = packed
    assert kit.version == "9.9"
    assert kit.size_bytes == kit.path.stat().st_size
    names = unpack_own(kit.path, tmp_path / "kit")
    left_out = {"mockbuild/plugins/remote.py", "beside.py", "helper/tests/test_it.py"}
    assert {name for name in names if not name.endswith(".pyc")} == set(FILES) - left_out
    ran = subprocess.run(
        [PYTHON, "-s", "-E", "-B", tmp_path / "kit/mock.py"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "['__init__.py', '__pycache__', 'broken.py', 'site.py']" in ran.stdout


def test_what_mock_imports_is_compiled_where_it_is_packed(
    packed: tuple[Path, MockKit], tmp_path: Path
) -> None:
    _, kit = packed
    unpack_own(kit.path, tmp_path / "kit")
    # The byte code counts, whatever the file says and however old it is: nothing is compiled there.
    (tmp_path / "kit/mockbuild/config.py").write_text("def names():\n    return 2\n")
    where = "import mockbuild.config as it; print(it.names(), it.__cached__)"
    ran = subprocess.run(
        [PYTHON, "-s", "-E", "-B", "-c", where],
        capture_output=True, text=True, check=True, cwd=tmp_path / "kit",
    )  # fmt: skip
    assert "['__init__.py', '__pycache__', 'broken.py', 'site.py']" in ran.stdout
    (tmp_path / "kit/__pycache__").rename(tmp_path / "other")
    cached = tmp_path / "kit/mockbuild/__pycache__"
    cached.rename(cached.with_name("of-another-python"))
    ran = subprocess.run(
        [PYTHON, "-s", "-E", "-B", "-c", "import mockbuild.config as it; print(it.names())"],
        capture_output=True, text=True, check=True, cwd=tmp_path / "kit",
    )  # fmt: skip
    assert ran.stdout == "2\n"


@pytest.mark.parametrize(
    ("info", "listing"),
    [
        ("helper-1.2.dist-info", {"METADATA": "Name: helper\nVersion: 1.2\n", "RECORD": (
            "helper/__init__.py,,\nhelper/deep.py,,\nhelper/words.txt,,\nsibling.py,,\n"
            "tests/__init__.py,,\n../bin/helper,,\n"
        )}),
        ("helper-1.2.egg-info", {  # as Debian's packages have it
            "PKG-INFO": "Name: helper\nVersion: 1.2\n", "top_level.txt": "helper\nsibling\ntests\n",
        }),
    ],
)  # fmt: skip
def test_distributions_are_taken_whole(
    script: Path, tmp_path: Path, info: str, listing: dict[str, str]
) -> None:
    # As pyroute2 up to 0.7.3 does it: what it exports is found by its entry points.
    found = "from importlib.metadata import entry_points as points, version\n"
    files = {
        "helper/__init__.py": f"{found}(point,) = points(group='helper')\nnamed = point.load()\n",
        "helper/words.txt": "words",
        "sibling.py": "named = 'sibling'\n",
        f"{info}/entry_points.txt": "[helper]\nnamed = sibling:named\n",
        "tests/__init__.py": "",
        "other-2.dist-info/METADATA": "Name: other\nVersion: 2\n",
        "other-2.dist-info/RECORD": "other.py,,\n",
        "mockbuild/config.py": f"{found}import helper\nwords = helper.named + version('helper')\n",
        "mock.py": (
            "import os, helper, mockbuild.config\n"
            "if __name__ == '__main__':\n"
            "    print(mockbuild.config.words, open(helper.__path__[0] + '/words.txt').read())\n"
        ),
        **{f"{info}/{name}": text for name, text in listing.items()},
    }
    for name, text in files.items():
        path = script.parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    kit = pack_mock(tmp_path / "cache", script, PYTHON)
    names = unpack_own(kit.path, tmp_path / "kit")
    assert not [name for name in names if name.startswith(("tests", "other"))]
    ran = subprocess.run(
        [PYTHON, "-s", "-E", "-B", tmp_path / "kit/mock.py"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout == "sibling1.2 words\n"


def test_the_same_mock_makes_the_same_kit(packed: tuple[Path, MockKit], tmp_path: Path) -> None:
    script, first = packed
    assert pack_mock(tmp_path / "two", script, PYTHON).sha256 == first.sha256
    written = first.path.stat().st_ino
    assert pack_mock(first.path.parent, script, PYTHON).path.stat().st_ino == written


@pytest.mark.parametrize("change", ["edit", "add"])
def test_a_changed_mock_is_packed_anew(script: Path, tmp_path: Path, change: str) -> None:
    before = pack_mock(tmp_path / "cache", script, PYTHON).sha256
    plugins = script.parent / "mockbuild/plugins"
    if change == "edit":
        (plugins / "site.py").write_text("changed = True\n")
    else:
        (plugins / "second.py").write_text("")
    assert pack_mock(tmp_path / "cache", script, PYTHON).sha256 != before


def test_what_has_no_pure_form_is_named(script: Path, tmp_path: Path) -> None:
    (script.parent / "mockbuild/config.py").write_text("import fast_thing\n")
    with pytest.raises(ConfigError, match="fast_thing"):
        pack_mock(tmp_path / "cache", script, PYTHON)


def test_a_package_that_needs_its_compiled_part_is_named(script: Path, tmp_path: Path) -> None:
    # A data file stands for the compiled part: it is no module of Python, so it stays here.
    (script.parent / "helper/part.so").write_text("")
    (script.parent / "helper/__init__.py").write_text(
        "import os\n"
        "if not os.path.exists(os.path.dirname(__file__) + '/part.so'):\n"
        "    raise ImportError('no part', name='helper.part')\n"
    )
    with pytest.raises(ConfigError, match=r"helper\.part"):
        pack_mock(tmp_path / "cache", script, PYTHON)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("#!/usr/bin/python3 -tt\n", "/usr/bin/python3"),
        ("#!/usr/bin/env python3\n", "/usr/bin/python3"),
        ("#!/usr/libexec/platform-python\n", "/usr/libexec/platform-python"),
    ],
)
def test_the_interpreter_is_the_scripts(tmp_path: Path, first: str, expected: str) -> None:
    script = tmp_path / "mock"
    script.write_text(f"{first}import mockbuild\n")
    assert find_mock(script) == MockProgram(script, Path(expected))


@pytest.mark.parametrize("first", ["#!/bin/sh\n", "#!/usr/bin/python3\n"])
def test_somebodys_wrapper_is_no_mock_to_pack(tmp_path: Path, first: str) -> None:
    wrapper = tmp_path / "mock"
    wrapper.write_text(f"{first}exec('mock.py')\n")
    assert find_mock(wrapper) is None
    assert find_mock(None) is None


@pytest.mark.parametrize("helper", [b"\x7fELF", b"#!/usr/bin/python3\n"])
def test_behind_consolehelper_is_the_packaged_mock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helper: bytes
) -> None:
    packaged = tmp_path / "libexec"
    packaged.write_text("#!/usr/bin/python3\nimport mockbuild\n")
    monkeypatch.setattr(mock_kit, "_PACKAGED", packaged)
    (tmp_path / "consolehelper").write_bytes(helper)
    (tmp_path / "mock").symlink_to("consolehelper")
    assert find_mock(tmp_path / "mock") == MockProgram(packaged, Path("/usr/bin/python3"))

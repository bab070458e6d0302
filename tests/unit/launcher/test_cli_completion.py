# SPDX-License-Identifier: GPL-2.0-or-later
"""What Tab offers, as the shells themselves say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_COMMAND = [sys.executable, "-c", "from mock_cloud.cli import main; raise SystemExit(main())"]
_OFFER = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
compopt() { :; }  # works within a completion only
for name in "$1"; do
  "$(complete -p "$name" | sed -n 's/.* -F \\([^ ]*\\) .*/\\1/p')"
done
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _script(shell: str) -> str:
    command = [*_COMMAND, "completion", shell]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "script"
    path.write_text(_script("bash"))
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("remotes.d/cloudy.toml", "remotes.d/lent.toml", "remotes.d/notes.txt"):
        path = tmp_path / ".config/mock" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ("mine-1-x86_64.cfg", "site-defaults.cfg"):
        (tmp_path / ".config/mock" / name).touch()
    (tmp_path / "mixed.cfg").touch()
    (tmp_path / "minor.spec").touch()
    return tmp_path


def _offered(script: Path, home: Path, *words: str) -> set[str]:
    result = subprocess.run(
        ["bash", "--norc", "-c", _OFFER, "bash", str(script), *words],
        check=True,
        capture_output=True,
        text=True,
        cwd=home,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
    )
    assert result.stderr == ""
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("words", "wanted", "unwanted"),
    [
        (("mock", "--remote", ""), {"cloudy", "lent"}, {"notes", "mine-1-x86_64"}),
        (("mock", "--remote", "cl"), {"cloudy"}, {"lent"}),
        (("mock", "-r", "mi"), {"mine-1-x86_64", "mixed.cfg"}, {"minor.spec"}),
        (("mock", "--root", ""), {"mine-1-x86_64"}, {"site-defaults"}),
        (("mock", "--re"), {"--remote", "--rebuild", "--resultdir"}, {"--root"}),
        (("mock", "mi"), {"minor.spec"}, {"mine-1-x86_64"}),
        (("mock-cloud", "doctor", ""), {"cloudy", "lent"}, {"notes"}),
        (("mock-cloud", "release", "le"), {"lent"}, {"cloudy"}),
        (("mock-cloud", "image", "bake", "cl"), {"cloudy"}, {"lent"}),
        (("mock-cloud", "known-good", "make", "--remote", ""), {"cloudy", "lent"}, {"notes"}),
        (("mock-cloud", "re"), {"release", "reap"}, {"doctor"}),
    ],
    ids=" ".join,
)
def test_bash_offers_names(
    bash_script: Path, home: Path, words: tuple[str, ...], wanted: set[str], unwanted: set[str]
) -> None:
    offered = _offered(bash_script, home, *words)
    assert wanted <= offered
    assert not unwanted & offered


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_the_script_is_the_shells_language(shell: str, tmp_path: Path) -> None:
    shtab = pytest.importorskip("shtab")
    if shell not in shtab.SUPPORTED_SHELLS:
        pytest.skip(f"shtab {shtab.__version__} has no {shell}")
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell}")
    script = tmp_path / "script"
    script.write_text(_script(shell))
    subprocess.run([program, "-n", str(script)], check=True)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What `pip install` puts beside the code."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mock_cloud.places import find_shipped
from tests.lab.layout import repository_root

_NOT_NEEDED = shutil.ignore_patterns(".*", "tests", "build", "*.egg-info", "__pycache__")


@pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="no setuptools")
def test_an_installation_has_what_manuals_and_messages_name(tmp_path: Path) -> None:
    top = repository_root()
    tree = shutil.copytree(top, tmp_path / "tree", ignore=_NOT_NEEDED)
    # What pip puts below its prefix, without a build of the code.
    command = [sys.executable, "setup.py", "-q", "install_data", "--install-dir", "../prefix"]
    subprocess.run(command, check=True, capture_output=True, cwd=tree)
    prefix = tmp_path / "prefix"
    names = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file()}
    pages = {f"share/man/man{page.suffix[1:]}/{page.name}" for page in top.glob("docs/man/*")}
    examples = {
        f"share/mock-cloud/remotes.d/{path.name}" for path in top.glob("etc/mock/remotes.d/*")
    }
    completion = {f"share/bash-completion/completions/{name}" for name in ("mock", "mock-cloud")}
    pages |= {f"share/doc/mock-cloud/{page.name}" for page in top.glob("docs/*.md")}
    assert pages and examples
    assert pages | examples | completion | {"share/mock-cloud/remote.py"} <= names


def test_what_came_with_it_is_found_in_a_checkout_too() -> None:
    examples = find_shipped("etc/mock/remotes.d", "remotes.d")
    assert examples is not None and (examples / "ec2.toml").is_file()
    assert find_shipped("no-such", "no-such") is None

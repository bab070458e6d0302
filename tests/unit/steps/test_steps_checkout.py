# SPDX-License-Identifier: GPL-2.0-or-later
"""--scm-enable: what fails says so in the words and with the status of what failed.

Needs a checkout of mock: MOCK_CLOUD_TEST_MOCK names its mock.py, MOCK_CLOUD_TEST_MOCK_PYTHON the
Python that has what it imports.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.console import Console
from mock_cloud.errors import CheckoutFailed, CommandLineError
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.steps.check.checkout import checked_out
from mock_cloud.toolkit.mock_kit import MockProgram

SPEC = """\
Name: thing
Version: 1
Release: 1
Summary: A thing
License: MIT
%description
A thing.
"""
LINE = parse_command_line(["--buildsrpm", "--scm-enable"], {})


@pytest.fixture
def program() -> MockProgram:
    script = os.environ.get("MOCK_CLOUD_TEST_MOCK")
    if not script:
        pytest.skip("no mock on this machine: set MOCK_CLOUD_TEST_MOCK=…/mock.py")
    python = os.environ.get("MOCK_CLOUD_TEST_MOCK_PYTHON", "/usr/bin/python3")
    return MockProgram(Path(script), Path(python))


def settings(**given: str) -> ConfigOpts:
    opts = default_config_opts()
    opts["scm"] = True
    opts["scm_opts"].update(package="thing", **given)
    return opts


def test_a_method_that_mock_has_not_is_a_wrong_command_line() -> None:
    with (
        pytest.raises(CommandLineError, match="Unsupported SCM method: pijul") as caught,
        checked_out(LINE, settings(method="pijul"), None, Console()),
    ):
        pass
    assert caught.value.exit_code == 5


def test_gits_own_words_and_status(program: MockProgram, tmp_path: Path) -> None:
    opts = settings(git_get=f"git clone {tmp_path}/nowhere SCM_PKG")
    with (
        pytest.raises(
            CheckoutFailed, match=r"fatal: repository .*/nowhere.* does not exist"
        ) as caught,
        checked_out(LINE, opts, program, Console()),
    ):
        pass
    assert caught.value.exit_code == 128
    assert "git clone" in caught.value.message


def test_a_checkout(program: MockProgram, tmp_path: Path) -> None:
    repository = tmp_path / "thing"
    repository.mkdir()
    (repository / "thing.spec").write_text(SPEC)
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", str(repository), *words], check=True, timeout=600)
    opts = settings(git_get=f"git clone {repository} SCM_PKG")
    with checked_out(LINE, opts, program, Console()) as line:
        assert Path(str(line.spec)).read_text().startswith("Name: thing")

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command loads: no library, and none of our rooms, that it has no use for."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from mock_cloud.process import run
from tests.lab.layout import repository_root
from tests.size import Program, make_refused_build


def loaded(place: Path, module: str, *words: str) -> set[str]:
    """Names of all modules that the command imports."""
    program = Program(repository_root(), place, module, *words)
    said = program.run({"PYTHONPROFILEIMPORTTIME": "1"})
    return set(re.findall(r"^import time:.*\| +([\w.]+)$", said, re.M))


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Of a build on a local remote whose package is not there."""
    place = tmp_path_factory.mktemp("refused")
    return loaded(place, "mock_cloud.launcher", *make_refused_build(place))


def test_a_refused_build_loads_no_ssh_no_verdicts_and_no_clouds(refused: set[str]) -> None:
    assert {"mock_cloud.session", "mock_cloud.config.remotes"} <= refused
    rooms = ("remote", "attest", "signed", "agent", "cloud.apis", "cloud.hosts", "cloud.local")
    ours = tuple(f"mock_cloud.{room}." for room in rooms)
    assert [name for name in refused if name.startswith(ours)] == []
    assert not {"paramiko", "libcloud", "cryptography", "yaml", "shtab", "rpm"} & refused


def test_a_build_loads_no_room_that_could_be_deleted(refused: set[str]) -> None:
    rooms = tuple(f"mock_cloud.{room}" for room in ("images", "koji", "repeated", "several"))
    ours = {name for name in refused if name.partition(".")[0] == "mock_cloud"}
    assert [name for name in ours if name.startswith(rooms)] == []
    assert len(ours) <= 90


def test_a_command_loads_the_rules_of_its_engine(refused: set[str]) -> None:
    assert "mock_cloud.config.engine" in refused
    assert not {"mock_cloud.config.mock_engine", "mock_cloud.invocation.mock_words"} & refused


def test_nodes_loads_no_templates_and_no_clouds(tmp_path: Path) -> None:
    found = loaded(tmp_path, "mock_cloud.cli", "nodes")
    assert "mock_cloud.cloud.listing" in found
    assert not {"jinja2", "paramiko", "libcloud", "cryptography", "mock_cloud.cli.image"} & found


def test_an_agent_starts_no_jobs_and_loads_no_engine() -> None:
    """Another process of the toolkit does."""
    code = "import mock_cloud.agent.serve, mock_cloud.agent.serve_jobs, sys; print(*sys.modules)"
    found = run([sys.executable, "-c", code], timeout_s=60).decode().split()
    assert "mock_cloud.agent.job.running" in found
    assert not {"mock_cloud.agent.job.runner", "mock_cloud.agent.engine.run"} & set(found)


def test_paramiko_brings_neither_invoke_nor_a_reader_of_mails() -> None:
    code = (
        "import mock_cloud.remote, sys; print(*sys.modules);"
        "import paramiko; from importlib import metadata;"
        "assert paramiko.__version__ == metadata.version('paramiko')"
    )
    found = run([sys.executable, "-c", code], timeout_s=60).decode().split()
    assert "paramiko.transport" in found
    assert not {"invoke", "asyncio", "email.message", "importlib.metadata"} & set(found)

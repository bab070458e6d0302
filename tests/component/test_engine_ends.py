# SPDX-License-Identifier: GPL-2.0-or-later
"""How a job in a lab node is ended for what it does: it takes too much memory, or is silent."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.component.cloud_nodes import eventually
from tests.component.engine_node import NEEDS_LAB, EngineSite, engine_site
from tests.memory_hierarchy import hierarchy

pytestmark = NEEDS_LAB


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineSite]:
    with engine_site(tmp_path_factory.mktemp("ends")) as site:
        assert site.run("init").exit == 0
        yield site


def limit(site: EngineSite, job: str, size: int) -> Path:
    """The group of a job that has begun, with a limit."""
    terminal = site.node.job_dir(job) / "terminal"
    eventually(lambda: b"begun" in terminal.read_bytes())
    (group,) = hierarchy().glob(f"mock-cloud-job-{job}")
    (group / "memory.limit_in_bytes").write_text(str(size))
    return group


def test_a_job_that_is_killed_for_memory_says_so_and_one_beside_it_does_not(
    site: EngineSite,
) -> None:
    eats = site.node.start(site.request("shell", "printf begun; read go; exec tail /dev/zero"))
    group = limit(site, eats, 64 << 20)
    fails = site.node.start(site.request("shell", "printf begun; read go; exit 9", beside=eats))
    limit(site, fails, 1 << 30)
    site.node.ask("input", eats, "\n", False)
    eaten = site.node.wait(eats)
    site.node.ask("input", fails, "\n", False)
    failed = site.node.wait(fails)
    assert (eaten.exit, eaten.status["cause"]) == (247, "memory")
    assert eaten.status["message"].startswith("out of memory on the node")
    assert (failed.exit, failed.status["cause"]) == (9, "")
    assert not group.exists()


def test_a_silent_job_is_ended_as_one_that_took_too_long(site: EngineSite) -> None:
    ended = site.run("chroot", "echo begun; sleep 1000", output_timeout_s=1)
    assert (ended.exit, ended.status["cause"]) == (11, "silence")
    assert "nothing was printed for 1 s" in ended.stderr
    assert "what ran: sleep 1000" in ended.stderr


def test_a_silent_build_is_cleaned_up_after(site: EngineSite) -> None:
    ended = site.rebuild(site.source("silent", build="sleep 1000"), output_timeout_s=3)
    assert (ended.exit, ended.status["cause"]) == (11, "silence")
    assert "Cleaning up build root ('cleanup_on_failure=True')" in ended.stderr
    eventually(lambda: site.node.processes() == [])


def test_a_silent_shell_may_think(site: EngineSite) -> None:
    job = site.node.start(site.request("shell", "echo begun; read go", output_timeout_s=1))
    terminal = site.node.job_dir(job) / "terminal"
    eventually(lambda: b"begun" in terminal.read_bytes())
    site.node.ask("input", job, "go\n", False)
    assert site.node.wait(job).exit == 0


def kill_jail_of(command: str) -> None:
    """Kill the first process of the jail in which `command` runs, from outside."""

    def find() -> int | None:
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (entry / "cmdline").read_bytes() == f"{command}\0".replace(" ", "\0").encode():
                    return int(entry.name)
        return None

    eventually(lambda: find() is not None)
    pid = find()
    assert pid is not None
    while True:
        words = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        if words["NSpid"].split()[-1] == "1":
            break
        pid = int(words["PPid"])
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("mode", ["chroot", "shell", "rebuild"])
def test_a_jail_that_is_ended_from_outside_is_no_failed_build(site: EngineSite, mode: str) -> None:
    seconds = {"chroot": 10001, "shell": 10002, "rebuild": 10003}[mode]
    command = f"sleep {seconds}"
    if mode == "rebuild":
        request = site.request("rebuild", site.source("jailed", build=command))
    else:
        request = site.request(mode, command)
    job = site.node.start(request)
    kill_jail_of(command)
    ended = site.node.wait(job)
    assert ended.exit == 75
    assert "was ended from outside of its jail, by signal 9" in ended.status["message"]
    eventually(lambda: site.node.processes() == [])


def test_a_program_that_kills_itself_is_one(site: EngineSite) -> None:
    assert site.run("chroot", "kill -9 $$").exit == 247

# SPDX-License-Identifier: GPL-2.0-or-later
"""Two jobs of the chroot engine in one chroot, in a lab node: as mock's lock has it."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.component.cloud_nodes import eventually
from tests.component.engine_node import (
    NEEDS_LAB,
    EngineSite,
    engine_site,
    make_source,
)
from tests.tree_archives import archive, file

pytestmark = NEEDS_LAB
LOCKED = "ERROR: Build root is locked by another process.\n"
BEGUN = "begun"
KEPT = ["/var/lib/mock/lab-1-x86_64"]


class Site(EngineSite):
    """A node with a chroot that was initialised."""

    def start_shell(self, command: str, **changes: Any) -> str:
        """A shell that has begun: all its processes are there."""
        job = self.node.start(self.request("shell", f"echo {BEGUN}; {command}", **changes))
        terminal = self.node.job_dir(job) / "terminal"
        eventually(lambda: f"{BEGUN}\n".encode() in terminal.read_bytes())
        return job

    def start_cat(self, **changes: Any) -> str:
        """The same with a cat, whose process is there as well: it has answered."""
        job = self.start_shell("cat", **changes)
        self.node.ask("input", job, "word\n", False)
        terminal = self.node.job_dir(job) / "terminal"
        eventually(lambda: b"word\n" in terminal.read_bytes())
        return job

    @contextmanager
    def shell(self) -> Iterator[str]:
        """A shell that waits for the end of its input; it has ended well after the block."""
        job = self.start_shell("cat")
        yield job
        self.node.ask("input", job, "", True)
        ended = self.node.wait(job)
        assert ended.exit == 0, ended.stderr


def kill_all(pids: Collection[int]) -> None:
    for pid in pids:
        with suppress(
            ProcessLookupError
        ):  # the init of its namespace was killed, and took it along
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with engine_site(tmp_path_factory.mktemp("beside")) as made:
        site = Site(made.node, made.server, made.sources)
        assert site.run("init").exit == 0
        yield site


@pytest.fixture(autouse=True)
def _nothing_is_left(site: Site) -> Iterator[None]:
    """After each test: no process, and the chroot vouched for with what was done in it."""
    yield
    eventually(lambda: site.node.processes() == [])
    assert site.chroot("true").exit == 0
    assert "is not covered" not in site.chroot("true").stderr


def test_a_job_works_beside_another_and_sees_what_it_writes(site: Site) -> None:
    packed = site.sources.parent / "copyin.tree"
    packed.write_bytes(archive(file(b"copied", b"one")))
    with site.shell() as job:
        item = site.node.put(packed, "copyin", "copyin.tree")
        ended = site.run("copyin", "/var/tmp/", inputs=[item], beside=job)
        assert ended.exit == 0, ended.stderr
        assert "chroot init" not in ended.stderr  # as mock, which finds it initialised
        assert ended.status["layers"] == {}
        assert ended.status["chroots"] == KEPT
        assert site.chroot("cat /var/tmp/copied", beside=job).stdout == b"one"
    assert site.chroot("cat /var/tmp/copied").stdout == b"one"


def test_packages_are_installed_beside_a_shell(site: Site) -> None:
    with site.shell() as job:
        ended = site.run("install", "bison", beside=job)
        assert ended.exit == 0, ended.stderr
        assert site.chroot("rpm -q bison", beside=job).exit == 0
    assert site.chroot("rpm -q bison").exit == 0
    assert len(list((site.node.workspace / "dnf").iterdir())) == 1


def test_a_build_that_does_not_clean_works_beside_a_shell(site: Site) -> None:
    source = site.node.put(make_source(site.sources, "beside"), "srpm")
    kept = replace(site.config, clean=False, cleanup_on_success=False)
    with site.shell() as job:
        ended = site.run("rebuild", source.name, inputs=[source], config=kept, beside=job)
        assert ended.exit == 0, ended.stderr
        assert "beside-1.0-1.lab1.noarch.rpm" in ended.results()


@pytest.mark.parametrize("mode", ["clean", "init", "scrub"])
def test_what_empties_the_chroot_is_refused_beside_another(site: Site, mode: str) -> None:
    assert site.chroot("touch /root/stays").exit == 0
    with site.shell() as job:
        ended = site.run(mode, *(["all"] if mode == "scrub" else []), beside=job)
        assert (ended.exit, LOCKED in ended.stderr) == (60, True)
        assert site.chroot("test -e /root/stays", beside=job).exit == 0
    assert site.chroot("test -e /root/stays").exit == 0


def test_the_first_jobs_own_cleaning_is_refused_while_another_works(site: Site) -> None:
    go = "while [ ! -e /root/go ]; do sleep 0.1; done"
    slow = make_source(site.sources, "slow", build="while [ ! -e /tmp/go ]; do sleep 0.1; done")
    source = site.node.put(slow, "srpm")
    kept = replace(site.config, clean=False)  # but cleaned up after success, as mock's default
    job = site.node.start(site.request("rebuild", source.name, inputs=[source], config=kept))
    site.node.wait_for_phase(job, "rpmbuild")
    other = site.start_shell(go, beside=job)
    assert site.chroot("touch /tmp/go", beside=job).exit == 0
    ended = site.node.wait(job)
    assert (ended.exit, LOCKED in ended.stderr) == (60, True)
    assert "slow-1.0-1.lab1.noarch.rpm" in ended.results()
    entered = site.node.ask("input", other, "", True)
    assert entered == "ok"
    assert site.node.ask("cancel", other) is True


def test_the_first_jobs_end_leaves_the_second_one_at_work(site: Site) -> None:
    """The last job's record is the chroot's."""
    first = site.start_shell("cat")
    second = site.start_shell("read word; echo $word > /root/late; cat /root/late", beside=first)
    site.node.ask("input", first, "", True)
    ended = site.node.wait(first)
    assert ended.exit == 0
    assert not any("/overlay/upper." in path for path in ended.status["layers"])
    assert ended.status["chroots"] == KEPT
    site.node.ask("input", second, "said\n", True)
    ended = site.node.wait(second)
    assert (ended.exit, ended.stdout) == (0, b"begun\nsaid\n")
    assert [path for path in ended.status["layers"] if "/overlay/upper." in path]
    assert site.chroot("cat /root/late").stdout == b"said\n"


@pytest.mark.parametrize("victim", ["first", "second"])
def test_a_job_that_is_cancelled_takes_no_other_along(site: Site, victim: str) -> None:
    first = site.start_shell("cat")
    second = site.start_shell("cat", beside=first)
    gone, stays = (first, second) if victim == "first" else (second, first)
    assert site.node.ask("cancel", gone) is True
    assert site.node.wait(gone).exit == 7
    assert site.node.ask("state", stays) == "running"
    site.node.ask("input", stays, "still here", True)
    ended = site.node.wait(stays)
    assert (ended.exit, ended.stdout) == (0, b"begun\nstill here")


def test_a_second_job_whose_engine_is_killed_leaves_nothing(site: Site) -> None:
    first = site.start_cat()
    before = set(site.node.processes())
    second = site.start_cat(beside=first)
    mounts = site.node.mounts()
    kill_all(set(site.node.processes()) - before)
    eventually(lambda: site.node.ask("state", second) != "running")
    eventually(lambda: set(site.node.processes()) == before)  # the last of them is being reaped
    assert site.node.mounts() == mounts
    site.node.ask("input", first, "", True)
    ended = site.node.wait(first)
    assert ended.exit == 0
    assert [path for path in ended.status["layers"] if "/overlay/upper." in path]


def test_a_first_job_that_is_killed_leaves_the_second_one_at_work(site: Site) -> None:
    mounts = site.node.mounts()
    first = site.start_cat()
    victims = site.node.processes()
    second = site.start_shell("cat > /root/after; cat /root/after", beside=first)
    kill_all(victims)
    eventually(lambda: site.node.ask("state", first) == "vanished")
    site.node.ask("input", second, "at work", True)
    ended = site.node.wait(second)
    assert (ended.exit, ended.stdout) == (0, b"begun\nat work")
    assert site.node.mounts() == mounts
    assert site.chroot("cat /root/after").stdout == b"at work"


def test_nobody_works_beside_a_job_that_is_not_there(site: Site) -> None:
    ended = site.chroot("touch /root/nobody", beside="job-0")
    assert (ended.exit, LOCKED in ended.stderr) == (60, True)
    done = site.node.start(site.request("chroot", "true"))
    site.node.wait(done)
    ended = site.chroot("touch /root/nobody", beside=done)
    assert (ended.exit, LOCKED in ended.stderr) == (60, True)
    assert site.chroot("test ! -e /root/nobody").exit == 0


def test_nobody_works_beside_a_job_in_another_chroot(site: Site) -> None:
    with site.shell() as job:
        other = replace(site.config, root="other-1-x86_64")
        ended = site.chroot("true", beside=job, config=other)
        assert (ended.exit, LOCKED in ended.stderr) == (60, True)


@pytest.mark.slow
def test_nobody_works_beside_a_job_that_is_making_its_chroot(site: Site) -> None:
    root = replace(site.config, root="slow-1-x86_64", chroot_setup_cmd=["install", "bash"])
    job = site.node.start(site.request("init", config=root))
    site.node.wait_for_phase(job, "chroot init")
    ended = site.chroot("true", beside=job, config=root)
    assert (ended.exit, LOCKED in ended.stderr) == (60, True)
    assert site.node.wait(job).exit == 0


@pytest.mark.parametrize("name", ["..", "a/b", "../../etc", "."])
def test_a_job_beside_which_to_work_is_named_by_a_plain_name(site: Site, name: str) -> None:
    _, answer = site.node.launch(site.request("chroot", "true", beside=name))
    assert answer == f"there is no job {name!r}"


def test_what_lies_on_the_node_is_not_swept_for_a_job_beside_another(site: Site) -> None:
    with site.shell() as job:
        second, answer = site.node.launch(site.request("chroot", "true", beside=job))
        assert answer == "ok"
        assert site.node.wait(second).exit == 0
        assert site.node.job_dir(job).is_dir()


def test_a_job_beside_another_sees_none_of_its_processes(site: Site) -> None:
    """Nor can it signal them, though both are root in the chroot."""
    with site.shell() as job:
        ended = site.chroot("ls /proc | grep -c '^[0-9]'; kill -9 -1; echo here", beside=job)
        assert ended.exit == 0, ended.stderr
        assert site.node.ask("state", job) == "running"
        assert int(ended.stdout.split()[0]) < 6

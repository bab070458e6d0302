# SPDX-License-Identifier: GPL-2.0-or-later
"""Several packages at once: real processes, pipes and signals; the builds in them are played."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mock_cloud.wire.rpmheader import Tag
from tests.unit.several.several_command import start
from tests.unit.signed.package_maker import numbers, package_file
from tests.waiting import wait_for

_LINE = re.compile(r"(?:[a-z]+-[a-z0-9]+-1-1: |INFO: |ERROR: |WARNING: |       ).*")


# A server that has loaded the command forks it: each would take a third of a second to load.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.unit.several.several_command"])


class Started:
    """A command at work."""

    def __init__(self, top: Path, jobs: int, words: list[str]) -> None:
        place = Path(tempfile.mkdtemp(dir=top))
        self._said = place / "out", place / "err"
        self._process = _PROCESSES.Process(target=start, args=(top, jobs, words, *self._said))
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    @property
    def returncode(self) -> int:
        code = self.poll()
        assert code is not None, "it has not ended"
        return code

    def wait(self) -> int:
        self._process.join(300)
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        self.wait()
        out, err = (path.read_text() for path in self._said)
        return out, err

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


class Command:
    """The command in a process group of its own, as a shell would start it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.results = top / "results"

    @contextmanager
    def running(self, *names: str, jobs: int = 2) -> Iterator[Started]:
        words = []
        for name in names:
            if name.startswith("--"):
                words.append(name)
                continue
            path = self.top / f"{name}-1-1.src.rpm"
            path.write_bytes(package_file("p", b"p", [numbers(Tag.SOURCEPACKAGE, [1])]))
            words.append(str(path))
        process = Started(self.top, jobs, words)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()

    def run(self, *names: str, jobs: int = 2) -> tuple[int, str, str]:
        with self.running(*names, jobs=jobs) as process:
            out, err = process.communicate()
        return process.returncode, out, err

    def has_begun(self, name: str) -> bool:
        return (self.top / f"began-{name}-1-1").exists()

    def packages(self) -> set[str]:
        return {path.name for path in self.results.glob("*.rpm")}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_each_leaves_what_mock_leaves_and_its_own_beside(command: Command) -> None:
    code, _, err = command.run("ok-a", "ok-b", "ok-c")
    assert code == 0 and "3 of 3 packages were built" in err
    assert command.packages() == {f"ok-{one}-1-1.noarch.rpm" for one in "abc"}
    lines = (command.results / "build.log").read_text().splitlines()
    pairs = set(zip(lines[::2], lines[1::2], strict=True))  # no line of another in between
    assert pairs == {(f"ok-{one}-1-1 one", f"ok-{one}-1-1 two") for one in "abc"}
    own = command.results / "ok-a-1-1"
    assert {path.name for path in own.iterdir()} == {
        "build.log", "ok-a-1-1.noarch.rpm", "remote_provenance.json",
    }  # fmt: skip
    assert (own / "ok-a-1-1.noarch.rpm").samefile(command.results / "ok-a-1-1.noarch.rpm")
    assert not (command.results / "remote_provenance.json").exists()
    # The chroot that stays after mock is the last package's.
    assert "ok-a-1-1: INFO: begins in job-1" in err and "ok-c-1-1: INFO: begins in None" in err


def test_again_logs_gain_what_is_new_alone(command: Command) -> None:
    command.run("ok-a", "ok-b")
    command.run("ok-a", "ok-b")
    assert len((command.results / "build.log").read_text().splitlines()) == 8


def test_one_is_in_place_while_another_is_built(command: Command) -> None:
    with command.running("wait-a", "ok-b", "ok-c") as process:
        wait_for(lambda: len(command.packages()) == 2)
        assert process.poll() is None
        (command.top / "go").touch()
        assert process.wait() == 0
    assert len(command.packages()) == 3


def test_no_more_at_once_than_asked_for_or_than_nodes(command: Command) -> None:
    names = [f"wait-{one}" for one in "abcde"]
    for jobs, at_once in ((2, 2), (9, 3)):
        for path in command.top.glob("began-*"):
            path.unlink()
        (command.top / "go").unlink(missing_ok=True)
        with command.running(*names, jobs=jobs) as process:
            wait_for(lambda n=at_once: sum(map(command.has_begun, names)) == n)
            time.sleep(0.5)
            assert sum(map(command.has_begun, names)) == at_once
            (command.top / "go").touch()
            assert process.wait() == 0


def test_after_a_failure_none_begins_and_those_at_work_go_on(command: Command) -> None:
    with command.running("wait-a", "fail-30", "ok-c", "ok-d") as process:
        wait_for(lambda: "fail-30-1-1.noarch.rpm" in command.packages())
        time.sleep(0.5)
        (command.top / "go").touch()
        _, err = process.communicate()
    assert process.returncode == 30
    assert command.packages() == {"wait-a-1-1.noarch.rpm", "fail-30-1-1.noarch.rpm"}
    assert "fail-30-1-1: exit status 30" in err
    assert "not begun, since another one failed: ok-c-1-1, ok-d-1-1" in err


def test_the_exit_code_is_that_of_the_first_on_the_command_line(command: Command) -> None:
    with command.running("wait-a", "fail-1", "fail-30", jobs=3) as process:
        wait_for(lambda: command.has_begun("fail-30") and command.has_begun("fail-1"))
        (command.top / "go").touch()
        process.communicate()
    assert process.returncode == 1


def test_a_build_that_is_killed_is_one_that_failed(command: Command) -> None:
    code, _, err = command.run("killed-a", "ok-b")
    assert code == 137 and "killed-a-1-1: exit status 137" in err


def test_lines_are_whole_and_say_whose_they_are(command: Command) -> None:
    code, out, err = command.run("noise-a", "noise-b", "noise-c", jobs=3)
    assert code == 0
    assert all(_LINE.fullmatch(line) for line in err.splitlines()), err
    for one in "abc":
        said = [line for line in err.splitlines() if line.startswith(f"noise-{one}-1-1: noise")]
        wanted = [f"noise-{one}-1-1: noise-{one}-1-1 says {n} in pieces" for n in range(300)]
        assert said == wanted
    assert sorted(out.splitlines()) == [f"noise-{one}-1-1: no line end \x1b[2J" for one in "abc"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 7), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_all_and_logs_are_kept(
    command: Command, number: signal.Signals, code: int
) -> None:
    with command.running("wait-a", "wait-b", "ok-c") as process:
        wait_for(lambda: command.has_begun("wait-a") and command.has_begun("wait-b"))
        time.sleep(0.3)
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == code and not command.has_begun("ok-c")
    assert err.count("user interrupt" if number == 2 else "Exiting on signal") == 3
    assert "wait-a-1-1 one" in (command.results / "build.log").read_text()
    assert "wait-b-1-1 one" in (command.results / "build.log").read_text()


def test_a_command_that_is_killed_leaves_no_process(command: Command) -> None:
    with command.running("wait-a", "wait-b") as process:
        wait_for(lambda: command.has_begun("wait-a") and command.has_begun("wait-b"))
        pids = [int((command.top / f"began-wait-{one}-1-1").read_text()) for one in "ab"]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def is_gone(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(lambda: all(map(is_gone, pids)))


def test_what_is_wrong_is_found_before_any_begins(command: Command) -> None:
    code, _, err = command.run("ok-a", "ok-b", "ok-a")
    assert code == 5 and "ok-a-1-1.src.rpm is named twice" in err
    assert not command.has_begun("ok-b") and not command.results.exists()


CHAIN = "results/small"


def marks(command: Command) -> dict[str, str]:
    """Which package of a chain has which mark."""
    found = (command.top / CHAIN).glob("*-1-1/*")
    return {one.parent.name[:-4]: one.name for one in found if one.name in ("success", "fail")}


def test_a_chain_goes_on_from_what_it_has_built(command: Command) -> None:
    code, _, err = command.run("--chain", "ok-a", "needs-b-a", "ok-c")
    assert code == 0, err
    assert marks(command) == dict.fromkeys(("ok-a", "needs-b-a", "ok-c"), "success")
    assert "Packages built: 3" in err and "Packages successfully built in this order:" in err
    assert (command.top / CHAIN / "repodata/repomd.xml").exists()
    saw = (command.top / "saw-needs-b-a-1-1").read_text()
    assert saw == "ok-a-1-1"  # not what comes after it, whatever was done first
    code, _, err = command.run("--chain", "ok-a", "needs-b-a", "ok-c")
    assert code == 0 and "Packages skipped: 3" in err and "Packages built: 0" in err


def test_a_chain_of_which_one_fails(command: Command) -> None:
    code, _, err = command.run("--chain", "fail-1", "ok-b", jobs=1 + 1)
    assert code == 4 and marks(command)["fail-1"] == "fail"
    assert "Stopping the --chain build because --continue isn't specified" in err
    code, _, err = command.run("--chain", "--continue", "fail-1", "ok-b", "ok-c")
    assert code == 4 and marks(command) == {"fail-1": "fail", "ok-b": "success", "ok-c": "success"}
    assert "Some packages successfully built in this order:" in err


def test_a_chain_in_the_wrong_order_is_tried_again(command: Command) -> None:
    code, _, err = command.run("--chain", "--recurse", "needs-b-c", "ok-c")
    assert code == 0, err
    assert "Trying to rebuild 1 failed pkgs, because --recurse is set." in err
    assert marks(command) == {"needs-b-c": "success", "ok-c": "success"}
    code, _, err = command.run("--chain", "--recurse", "needs-d-x", "ok-e")
    assert code == 4 and "Tried 2 times - following pkgs could not be successfully built:" in err
    assert "needs-d-x" not in marks(command)


def test_what_is_no_packages_fault_ends_the_chain_with_its_code(command: Command) -> None:
    with command.running("--chain", "--continue", "fail-75", "wait-b", "ok-c") as process:
        wait_for((command.top / CHAIN / "fail-75-1-1/fail-75-1-1.noarch.rpm").exists)
        time.sleep(0.5)
        (command.top / "go").touch()
        process.communicate()
    assert process.returncode == 75 and not command.has_begun("ok-c")
    assert marks(command)["wait-b"] == "success"


def test_what_is_no_package_is_one_that_failed_and_no_other_is(command: Command) -> None:
    code, _, err = command.run("--chain", "--continue", "garbage-a", "ok-b", "ok-c")
    assert code == 4 and "no lead of an RPM package" in err
    assert marks(command) == {"garbage-a": "fail", "ok-b": "success", "ok-c": "success"}

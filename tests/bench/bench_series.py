# SPDX-License-Identifier: GPL-2.0-or-later
"""Small commands on one kept chroot, and a small warm build: both engines beside local mock.

python -m tests.bench.bench_series [--rounds N]

Needs a mock (MOCK_CLOUD_TEST_MOCK names the mock.py of a checkout, MOCK_CLOUD_TEST_MOCK_PYTHON its
Python), root, a group mock and a user in it. All three work in turn, so that what else the machine
does weighs alike on them. Processor time is that of the controller and of its whole node.
"""

from __future__ import annotations

import argparse
import contextlib
import grp
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.real_mock import find_source, find_user, usual_rpm
from tests.lab import chroots, dist, manifest, node, srpm
from tests.lab.http import FileServer
from tests.lab.layout import Lab, default_lab, locked

_RELEASE = "from mock_cloud.cli import main; raise SystemExit(main(['release', '--all']))"
_SMALL = ("--chroot", "true")
RELIES = ", one verdict"
_SETTLE_S = 0.3
"""For what the node does after a command has ended."""


class Group:
    """A control group (cgroups(7), version 2): the processor time of all that starts in it."""

    def __init__(self, name: str) -> None:
        lines = Path("/proc/mounts").read_text().splitlines()
        mounts = [line.split()[1] for line in lines if line.split()[2] == "cgroup2"]
        if not mounts:
            pytest.skip("no control groups of version 2 are mounted")
        self._path = Path(mounts[0], f"{name.replace(' ', '-')}.{os.getpid()}")
        self._path.mkdir()

    def enter(self) -> None:
        """Put this process into it."""
        self.add(0)

    def add(self, pid: int) -> None:
        """Put a process into it; what it starts from then on is in it, too."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def drop(self, pid: int) -> None:
        """Take a process out of it; 0 is this one."""
        (self._path.parent / "cgroup.procs").write_text(str(pid))

    def processor_s(self) -> float:
        """Seconds of all its processes, of those that ended too."""
        word, usage = (self._path / "cpu.stat").read_text().split()[:2]
        assert word == "usage_usec"
        return int(usage) / 1e6

    def close(self) -> None:
        """Remove it, once its last process has ended."""
        deadline_s = time.monotonic() + 30
        while (self._path / "cgroup.procs").read_text() and time.monotonic() < deadline_s:
            time.sleep(0.1)
        self._path.rmdir()


@dataclass(frozen=True)
class Mock:
    """One way to run mock, with a chroot of its own: words before the mode, and environment."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(repr=False)
    group: Group

    def run(self, *words: str) -> float:
        """Seconds from start to exit, which must be 0."""
        seconds, done = self.end("-q", *words)
        if done.returncode != 0:
            raise SystemExit(f"{self.name}: {' '.join(words)}: {done.returncode}\n{done.stderr}")
        return seconds

    def end(self, *words: str) -> tuple[float, subprocess.CompletedProcess[str]]:
        """Seconds from start to exit, and how it ended."""
        began_s = time.monotonic()
        done = subprocess.run(
            [*self.argv, *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=self.group.enter,
        )
        return time.monotonic() - began_s, done


@contextlib.contextmanager
def made_mocks(lab: Lab, recipe: srpm.Recipe) -> Iterator[tuple[list[Mock], Path, Path]]:
    """Every way to run mock, local mock first; the recipe's source package; a scratch directory."""
    with locked(lab):
        for make in (dist.build, node.build, manifest.build):
            make(lab)
        package = srpm.build(lab, recipe)
    with tempfile.TemporaryDirectory() as scratch, FileServer({"/dist": lab.dist}) as server:
        place = Path(scratch)
        place.chmod(0o755)
        mocks = _mocks(lab, place, f"{server.url}/dist")
        try:
            yield mocks, package, place
        finally:
            for mock in mocks[1:]:
                subprocess.run([sys.executable, "-c", _RELEASE], env=mock.env, check=True)
            for mock in mocks:
                mock.group.close()


def run(lab: Lab, rounds: int) -> None:
    """Print the figures of `rounds` commands and builds, after one of each that warms up."""
    with made_mocks(lab, srpm.plain()) as (mocks, package, place):
        for mock in mocks:
            mock.run("--init")
        _measure(f"one of a series of {' '.join(_SMALL)}", mocks, rounds, _command)
        _measure(f"a warm build of {package.name}", mocks, rounds, _builds(place, package))


def _command(mock: Mock) -> float:
    return mock.run(*_SMALL)


def _builds(place: Path, package: Path) -> Callable[[Mock], float]:
    def build(mock: Mock) -> float:
        return mock.run("--resultdir", str(place / mock.name / "out"), str(package))

    return build


def _measure(title: str, mocks: Sequence[Mock], rounds: int, once: Callable[[Mock], float]) -> None:
    took: dict[str, list[float]] = {mock.name: [] for mock in mocks}
    used: dict[str, list[float]] = {mock.name: [] for mock in mocks}
    for number in range(rounds + 1):
        for mock in mocks:
            before_s = mock.group.processor_s()
            seconds = once(mock)
            time.sleep(_SETTLE_S)
            if number:
                took[mock.name].append(seconds)
                used[mock.name].append(mock.group.processor_s() - before_s)
    print(f"{title}, {rounds} rounds, seconds, load {os.getloadavg()[0]:.1f}")
    for name in took:
        print(f"  {name}")
        for what, values in (("wall", took), ("processor", used)):
            print(f"    {what:10} {_compared(values[name], values[mocks[0].name])}")


def _compared(values: Sequence[float], local: Sequence[float]) -> str:
    middle, of_local = statistics.median(values), statistics.median(local)
    return (
        f"median {middle:6.2f}   min {min(values):6.2f}   max {max(values):6.2f}"
        f"   beyond local mock {middle - of_local:+6.2f}   {middle / of_local:5.2f}x"
    )


def _mocks(lab: Lab, place: Path, url: str) -> list[Mock]:
    """Local mock first. Each has a configuration and a state of its own, and so a node."""
    script, package, python = find_source()
    user = find_user()
    sudo = {"SUDO_UID": str(user.pw_uid), "SUDO_GID": str(user.pw_gid), "SUDO_USER": user.pw_name}
    commands = place / "bin"
    commands.mkdir()
    program = commands / "mock"
    program.write_text(f"#!{python}\n{script.read_text()}")
    program.chmod(0o755)
    (commands / "mockbuild").symlink_to(package)
    plain = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with_mock = {**plain, "PATH": f"{commands}:{plain['PATH']}"}
    # What mock has compiled of itself lies beside it, where it is installed.
    mine = {**plain, **sudo, "PYTHONPYCACHEPREFIX": str(place / "compiled")}
    launcher = (sys.executable, "-m", "mock_cloud.launcher")
    remote = ("--remote", "local")
    made = []
    for name, argv, words, env in (
        ("local mock", (*usual_rpm(place), python, str(script)), (), mine),
        ("mock engine", launcher, remote, with_mock),
        ("chroot engine", launcher, remote, plain),
        (f"mock engine{RELIES}", launcher, remote, with_mock),
        (f"chroot engine{RELIES}", launcher, remote, plain),
    ):
        own = place / name
        own.mkdir()
        config = chroots.write(lab, own / "etc", repository_url=url)
        if name.endswith(RELIES):
            remote_file = config.remote_file.read_text()
            age = '[attest]\nverdict_max_age = "2m"'
            config.remote_file.write_text(remote_file.replace("[attest]", age))
        _configure(own, config.path, script, user.pw_uid)
        options = ("--configdir", str(config.path), "-r", config.chroot(), *words)
        state = {"XDG_STATE_HOME": str(own / "state")}
        made.append(Mock(name, (*argv, *options), {**env, **state}, Group(name)))
    return made


def _configure(own: Path, config: Path, script: Path, uid: int) -> None:
    """What real mock needs on any machine; the results are its user's."""
    group = grp.getgrnam("mock").gr_gid
    for name in ("lib", "cache"):
        (own / name).mkdir()
        os.chown(own / name, 0, group)
        (own / name).chmod(0o2775)
    (own / "out").mkdir()
    os.chown(own / "out", uid, group)
    logging = script.parent.parent / "etc/mock/logging.ini"
    (config / "logging.ini").write_text(logging.read_text())
    with (config / "site-defaults.cfg").open("a") as stream:
        stream.write(
            f"config_opts['basedir'] = {str(own / 'lib')!r}\n"
            f"config_opts['cache_topdir'] = {str(own / 'cache')!r}\n"
            "config_opts['isolation'] = 'simple'\n"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    try:
        run(default_lab(), parser.parse_args(arguments).rounds)
    except pytest.skip.Exception as skipped:
        print(f"not measured: {skipped.msg}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

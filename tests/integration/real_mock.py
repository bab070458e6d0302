# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy of a real mock, with our plugin beside its own, and a user who may run it.

`mock` on the PATH, as distributions package it, or MOCK_CLOUD_TEST_MOCK naming the mock.py of a
checkout and MOCK_CLOUD_TEST_MOCK_PYTHON the Python that has what it imports.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration import real_mock
from tests.integration.conftest import Ended, User
from tests.lab.layout import repository_root

_PACKAGED = Path("/usr/libexec/mock/mock")
_TIMEOUT_S = 900.0  # of what hangs; how long it takes says how busy the machine is


def find_source() -> tuple[Path, Path, str]:
    """mock.py, its package, and its Python; skips the test if the machine has no mock."""
    named = os.environ.get("MOCK_CLOUD_TEST_MOCK")
    if named:
        script = Path(named)
        python = os.environ.get("MOCK_CLOUD_TEST_MOCK_PYTHON", "/usr/bin/python3")
        return script, script.parent / "mockbuild", python
    if not _PACKAGED.is_file():
        pytest.skip("no mock on this machine: install it, or set MOCK_CLOUD_TEST_MOCK=…/mock.py")
    python = "/usr/bin/python3"
    where = "import mockbuild; print(mockbuild.__path__[0])"
    found = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    return _PACKAGED, Path(found.stdout.strip()), python


def find_user() -> pwd.struct_passwd:
    """Somebody but root in the group mock; skips the test if there is nobody."""
    try:
        members = grp.getgrnam("mock").gr_mem
    except KeyError:
        members = []
    for name in members:
        if pwd.getpwnam(name).pw_uid != 0:
            return pwd.getpwnam(name)
    pytest.skip("no user in the group mock: groupadd -f mock; useradd -m -G mock builder")


@dataclass(frozen=True)
class Started:
    """A mock that runs, and what it has printed."""

    child: subprocess.Popen[bytes]
    output: Path

    def wait_for(self, text: str) -> None:
        deadline_s = time.monotonic() + _TIMEOUT_S
        while text not in self.output.read_text(errors="replace"):
            assert self.child.poll() is None and time.monotonic() < deadline_s, self.output
            time.sleep(0.05)

    def session(self) -> int:
        """The process id of the session: its only child."""
        pid = self.child.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def user_words(user: pwd.struct_passwd) -> list[str]:
    """The words that make a command `user`'s, whom `mock` makes root again.

    The capabilities are in place of the setuid bit of usermode's userhelper.
    """
    groups = ",".join(map(str, os.getgrouplist(user.pw_name, user.pw_gid)))
    capabilities = "+setuid,+setgid"
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", f"--groups={groups}",
            f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"]  # fmt: skip


@dataclass(frozen=True)
class RealMock:
    """mock in `place`/py, run for `user` as sudo would start it.

    With `logging.ini`, configuration goes to `place`/etc, which is given with --configdir. `before`
    are words that it is started with.
    """

    place: Path
    user: pwd.struct_passwd
    python: str
    before: tuple[str, ...] = ()

    @property
    def script(self) -> Path:
        return self.place / "py/mock.py"

    @property
    def plugin(self) -> Path:
        return self.place / "py/mockbuild/plugins/remote.py"

    @property
    def session(self) -> Path:
        return self.place / "bin/mock-cloud-session"

    @property
    def environment(self) -> dict[str, str]:
        """What sudo leaves, and where the session keeps its state."""
        return {
            "PATH": f"{self.place / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "USER": "root",
            "SUDO_UID": str(self.user.pw_uid),
            "SUDO_GID": str(self.user.pw_gid),
            "SUDO_USER": self.user.pw_name,
            "XDG_STATE_HOME": str(self.place / "state"),
            "XDG_CACHE_HOME": str(self.place / "cache"),
            "PYTHONHASHSEED": "0",  # --debug-config prints sets
        }

    def argv(self, *words: str | Path) -> list[str]:
        return [*self.before, self.python, str(self.script), *map(str, words)]

    def run(self, *words: str | Path) -> Ended:
        """Run mock to its end."""
        return end(self.argv(*words), cwd=self.place, env=self.environment)

    def on_terminal(self, *words: str | Path) -> Ended:
        """The same on a terminal of its own; all that is printed is standard output."""
        argv = ["script", "-qefc", shlex.join(self.argv(*words)), "/dev/null"]
        return end(argv, cwd=self.place, env={**self.environment, "TERM": "xterm"})

    @contextmanager
    def started(self, *words: str | Path) -> Iterator[Started]:
        """mock, started; killed by its pid if it still runs at the end."""
        with (self.place / "output").open("w+") as output:
            child = subprocess.Popen(
                self.argv(*words),
                cwd=self.place,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            try:
                yield Started(child, self.place / "output")
            finally:
                child.kill()
                child.wait()

    def launch(self, *words: str | Path) -> Ended:
        """Run the launcher like mock: under sudo, for a user in the group mock."""
        path = f"{self.script.parent}:{self.environment['PATH']}"
        return end(
            [str(self.place / "bin/launcher"), *map(str, words)],
            cwd=self.place,
            env={**self.environment, "PATH": path},
            extra_groups=[grp.getgrnam("mock").gr_gid],
        )

    def as_user(self, *argv: str) -> Ended:
        """Run a command as the user himself."""
        env = {name: text for name, text in self.environment.items() if "SUDO" not in name}
        return end(
            list(argv),
            cwd=self.place,
            env={**env, "HOME": self.user.pw_dir, "USER": self.user.pw_name},
            user=self.user.pw_uid,
            group=self.user.pw_gid,
            extra_groups=os.getgrouplist(self.user.pw_name, self.user.pw_gid),
        )

    def copy(self, name: str) -> RealMock:
        """A copy for one test to edit."""
        place = self.place / "copies" / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.place / "py", place / "py")
        (place / "bin").symlink_to(self.place / "bin")
        return RealMock(place, self.user, self.python)


def end(argv: list[str], **given: Any) -> Ended:
    """Run a command to its end, without standard input."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
        **given,
    )
    texts = (stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr))
    return Ended(tuple(argv), done.returncode, *texts)


_BOOTSTRAP = (
    "        bootstrap_buildroot_config = config_opts.copy()\n",
    "        bootstrap_buildroot_config = config_opts.copy()\n"
    "        bootstrap_buildroot_config._aliases.update(config_opts._aliases)\n",
)
"""What templated-dictionary does from 1.5 on, which mock requires and PyPI has not."""


def make(place: Path) -> RealMock:
    """Copy the machine's mock to `place` and install the plugin there."""
    script, package, python = find_source()
    user = find_user()
    mock = RealMock(place, user, python)
    mock.script.parent.mkdir(parents=True)
    mock.script.write_text(script.read_text().replace(*_BOOTSTRAP))
    shutil.copytree(package, mock.script.parent / "mockbuild")
    with (mock.script.parent / "mockbuild/constants.py").open("a") as constants:
        # A packaged mock has its own directories written there.
        constants.write(f"\nPKGPYTHONDIR = {str(mock.script.parent / 'mockbuild')!r}\n")
    shutil.copy(repository_root() / "mock-plugins/remote.py", mock.plugin)
    _write_commands(mock)
    for name in ("state", "cache", "results"):
        (place / name).mkdir()
        os.chown(place / name, user.pw_uid, user.pw_gid)
    for name in ("lib", "mock-cache"):
        (place / name).mkdir()
        os.chown(place / name, 0, grp.getgrnam("mock").gr_gid)
        (place / name).chmod(0o2775)
    return mock


@contextmanager
def made() -> Iterator[RealMock]:
    """`make` where the user may go, since pytest's own directories are root's; removed after."""
    place = Path(tempfile.mkdtemp(prefix="mock-cloud-real-"))
    try:
        place.chmod(0o755)
        yield make(place)
    finally:
        shutil.rmtree(place)


def configure(mock: RealMock, config: Path) -> None:
    """Add to a configuration directory what mock needs on any machine."""
    (config / "logging.ini").write_text(_logging(find_source()[0]))
    with (config / "site-defaults.cfg").open("a") as stream:
        stream.write(
            f"config_opts['basedir'] = {str(mock.place / 'lib')!r}\n"
            f"config_opts['cache_topdir'] = {str(mock.place / 'mock-cache')!r}\n"
            "config_opts['isolation'] = 'simple'\n"
        )


def usual_rpm(place: Path) -> list[str]:
    """What stands before a command so that rpm has its database where mock expects it.

    Debian's is in the user's home: it complains in mock's chroots, which mock reads as file names.
    """
    own = Path("/usr/lib/rpm/macros")
    text, count = re.subn(r"(?m)^%_dbpath\s.*/\.rpmdb.*$", "%_dbpath /var/lib/rpm", own.read_text())
    if not count:
        return []
    (place / "macros").write_text(text)
    # An empty one: what is asked of it would make one, and leave it.
    script = f'mount --bind "$0" {own} && mount -t tmpfs tmpfs /var/lib/rpm && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(place / "macros")]


def _logging(script: Path) -> str:
    for path in (script.parent.parent / "etc/mock/logging.ini", Path("/etc/mock/logging.ini")):
        if path.is_file():
            return path.read_text()
    pytest.skip("mock's logging.ini is missing")


def _write_commands(mock: RealMock) -> None:
    """`mock` beside mock.py for the launcher to find; our own commands, as pip installs them."""
    packaged = mock.script.with_name("mock")
    packaged.write_text(f'#!/bin/sh\nexec {shlex.quote(mock.python)} {mock.script} "$@"\n')
    packaged.chmod(0o755)
    venv, base = mock.place / "venv", _session_python(mock.user)
    subprocess.run([base, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=600)
    places = [str(repository_root()), *(path for path in sys.path if "site-packages" in path)]
    (packages,) = venv.glob("lib/python3*/site-packages")
    (packages / "mock-cloud.pth").write_text("".join(f"{place}\n" for place in places))
    mock.session.parent.mkdir()
    modules = {"mock-cloud-session": "handover", "launcher": "launcher", "mock-cloud": "cli"}
    for name, module in modules.items():
        command = mock.session.parent / name
        command.write_text(
            f"#!{venv}/bin/python\nimport sys\n"
            f"from mock_cloud.{module} import main\nsys.exit(main())\n"
        )
        command.chmod(0o755)


def _session_python(user: pwd.struct_passwd) -> str:
    """This Python, or the system's where the user may not run this one."""
    own = str(Path(sys.executable).resolve())
    who: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
    try:
        subprocess.run([own, "-c", ""], check=True, timeout=600, **who)
    except PermissionError:
        return "/usr/bin/python3"
    return own


def add_mock(place: Path) -> Path:
    """A directory for the PATH with the machine's mock, as a package would put it there."""
    script, package, python = real_mock.find_source()
    place.mkdir()
    text = script.read_text().split("\n", 1)[1]
    (place / "mock").write_text(f"#!{python}\n{text}")
    (place / "mock").chmod(0o755)
    shutil.copytree(package, place / "mockbuild")
    return place


def with_mock(made: User) -> User:
    """The same user on a machine that has a mock."""
    path = f"{add_mock(made.place / 'mock')}:{made.environment['PATH']}"
    logging = real_mock.find_source()[0].parent.parent / "etc/mock/logging.ini"
    if logging.is_file():
        shutil.copy(logging, made.config.path)
    return replace(made, extra={**made.extra, "PATH": path})

# SPDX-License-Identifier: GPL-2.0-or-later
"""A system with a `mock` on it: real mock, or the launcher with one of the engines.

What a peer starts sees its own /etc/mock and /usr/bin/mock, in a mount namespace of its own. That
`mock` writes down what it was called with, how it ended and how long it took.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.real_mock import user_words

_PYTHON = "/usr/bin/python3"

ROOT = "lab-1-x86_64"
"""The chroot that all peers build in."""

CHOICE = "config_opts['remote'] = 'local'\n"
"""What chooses the remote in /etc/mock/site-defaults.cfg."""

_TIMEOUT_S = 3600.0  # of what hangs; how long it takes says how busy the machine is
_TURNS = 300

# It names what it starts, so that the launcher can tell what a `mock` on the PATH is: itself by
# `mock_cloud.launcher`, mock by `mockbuild`.
_RECORDER = """\
#!{python}
# {about}
import json, os, signal, subprocess, sys, time
if os.getuid():  # as consolehelper does for a member of the group mock
    os.environ.update(USERHELPER_UID=str(os.getuid()), USER="root", LOGNAME="root")
    os.setgroups([0])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
start = time.monotonic()
child = subprocess.Popen([*{argv!r}, *sys.argv[1:]])
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
signal.signal(signal.SIGINT, signal.SIG_IGN)
code = child.wait()
with open({calls!r}, "a") as stream:
    print(json.dumps([sys.argv[1:], code, time.monotonic() - start]), file=stream)
sys.exit(code if code >= 0 else 128 - code)
"""
# What follows sees `$0`/etc, bin and share laid over this machine's, and mock's chroots in their
# usual place, for programs that ask nobody where they are.
_OWN_SYSTEM = """\
mount -t overlay -o "lowerdir=$0/etc:/etc" overlay /etc &&
mount -t overlay -o "lowerdir=$0/bin:/usr/bin" overlay /usr/bin &&
mount -t overlay -o "lowerdir=$0/share:/usr/share" overlay /usr/share &&
{ test ! -d /var/lib/mock || mount --bind "$0/lib" /var/lib/mock; } &&
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One `mock` that ended: its words, exit code, and how long it took."""

    words: tuple[str, ...]
    code: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Played:
    """A peer at its end: exit code, all that it printed, and its calls of mock."""

    code: int
    output: str
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Side:
    """One system. `before` are the words that a command of it is started with."""

    name: str
    place: Path
    environment: Mapping[str, str]
    user: pwd.struct_passwd
    before: tuple[str, ...] = ()

    @property
    def etc(self) -> Path:
        """/etc/mock of the system."""
        return self.place / "etc/mock"

    @property
    def home(self) -> Path:
        return self.place / "home"

    @property
    def lib(self) -> Path:
        """config_opts['basedir']."""
        return self.place / "lib"

    @property
    def root(self) -> str:
        """config_opts['root']. Real mock ends what has its root there: no process of a node has."""
        return f"here-{ROOT}" if self.name == "local" else ROOT

    def scratch(self, name: str) -> Path:
        """An empty directory that all may write to."""
        made = self.place / "scratch" / name
        made.mkdir(parents=True)
        made.chmod(0o777)
        return made

    @contextlib.contextmanager
    def without_remote(self) -> Iterator[None]:
        """Within the block no file of the system chooses a remote."""
        site = self.etc / "site-defaults.cfg"
        text = site.read_text()
        site.write_text(text.replace(CHOICE, ""))
        try:
            yield
        finally:
            site.write_text(text)

    def install(self, name: str, text: str) -> None:
        """Make /usr/bin/`name`."""
        path = self.place / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def install_mock(self, about: str, *argv: str) -> None:
        """Make /usr/bin/mock, which notes its words and starts `argv` with them."""
        text = _RECORDER.format(
            python=_PYTHON, about=about, argv=list(argv), calls=str(self._calls)
        )
        self.install("mock", text)

    def _become(self) -> tuple[str, ...]:
        """The words that make the next command the user's, whom /usr/bin/mock makes root again."""
        uid, gid = self.user.pw_uid, self.user.pw_gid
        for top in (self.home, self.place / "tmp", self.place / "scratch"):
            subprocess.run(["chown", "-R", f"{uid}:{gid}", str(top)], check=True)
        return tuple(user_words(self.user))

    @property
    def _calls(self) -> Path:
        return self.place / "calls"

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        as_user: bool = False,
        timeout_s: float = _TIMEOUT_S,
    ) -> Played:
        """Run a program to its end; after `timeout_s` it is killed, and its code is -9.

        It is root's, or the user's, to whom then all of his home and scratch directories belong.
        """
        environment = {**self.environment, **(env or {})}
        become: tuple[str, ...] = ()
        if as_user:
            environment = {name: text for name, text in environment.items() if "SUDO" not in name}
            environment |= {"USER": self.user.pw_name, "LOGNAME": self.user.pw_name}
            become = self._become()
        self._calls.write_text("")
        self._calls.chmod(0o666)
        words = ["unshare", "--mount", "sh", "-c", _OWN_SYSTEM, str(self.place)]
        output = self.place / "output"
        with output.open("wb") as stream:
            child = subprocess.Popen(
                [*words, *self.before, *become, *map(str, argv)],
                cwd=cwd or self.place,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                code = child.wait()
        _end_group(child.pid)
        lines = [json.loads(line) for line in self._calls.read_text().splitlines()]
        calls = tuple(Call(tuple(words), code, seconds) for words, code, seconds in lines)
        return Played(code, output.read_text(errors="replace"), calls)


def _end_group(group: int) -> None:
    """End what a script left in its background: it may hold a chroot that the next one needs."""
    for turn in itertools.count():
        try:
            os.killpg(group, signal.SIGTERM if turn < _TURNS else signal.SIGKILL)
        except ProcessLookupError:
            return
        with contextlib.suppress(ChildProcessError):  # ours only where orphans are adopted
            os.waitpid(-group, os.WNOHANG)
        time.sleep(0.2)

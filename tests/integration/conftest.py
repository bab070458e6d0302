# SPDX-License-Identifier: GPL-2.0-or-later
"""The real `mock` and `mock-cloud` as a user runs them: subprocesses with a state of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fault_table import saw_end
from tests.lab import chroots
from tests.lab.chroots import ConfigDirectory
from tests.lab.http import FileServer
from tests.lab.layout import Lab

_TIMEOUT_S = 900.0  # of what hangs; how long it takes says how busy the machine is
BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Ended:
    """A finished command. Its output is text; bytes that are not UTF-8 are surrogates."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    def expect(self, code: int = 0) -> Ended:
        """Itself, if it ended so; else a failure that shows what it printed."""
        assert self.code == code, (
            f"{self.argv}\n{self.code}, not {code}\n{self.stdout}{self.stderr}"
        )
        return self


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a home, a state directory and a configuration directory.

    Words go to the launcher and to `mock-cloud` as they are, after `options`.
    """

    place: Path
    config: ConfigDirectory
    cache: Path
    options: tuple[str, ...]
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MOCK", "XDG_", "SUDO_", "PYTEST"))
        }
        return {
            **kept,
            "HOME": str(self.place / "home"),
            # A directory without any `mock` in it, so that this machine's own is never run.
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "XDG_STATE_HOME": str(self.place / "state"),
            "XDG_CACHE_HOME": str(self.cache),
            **self.extra,
        }

    @property
    def mocks(self) -> list[str]:
        """mock's words without a remote."""
        return [word for word in self.options if word not in ("--remote", "local")]

    @property
    def basedir(self) -> Path:
        """config_opts['basedir']: the directory of the default result directories."""
        return self.place / "var/lib/mock"

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "mock_cloud.launcher", *self.options, *words]

    def mock(
        self,
        *words: str | Path,
        stdin: bytes | None = None,
        timeout_s: float = _TIMEOUT_S,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Ended:
        """Run the launcher to its end."""
        argv = self.argv(*map(str, words))
        return self.run(argv, stdin=stdin, timeout_s=timeout_s, env=env, cwd=cwd)

    def cloud(
        self,
        *words: str | Path,
        env: Mapping[str, str] | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> Ended:
        """Run `mock-cloud` to its end."""
        argv = [str(BIN / "mock-cloud"), *map(str, words)]
        return self.run(argv, env=env, timeout_s=timeout_s)

    def run(
        self,
        argv: list[str],
        *,
        stdin: bytes | None = None,
        timeout_s: float = _TIMEOUT_S,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Ended:
        given: dict[str, Any] = {"input": stdin} if stdin is not None else {}
        given = given or {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            argv,
            env={**self.environment, **(env or {})},
            cwd=cwd or self.place,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            **given,
        )
        texts = (stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr))
        ended = Ended(tuple(argv), done.returncode, *texts)
        saw_end(ended.code, ended.stderr)
        return ended

    def start(self, *words: str | Path, **given: Any) -> subprocess.Popen[bytes]:
        """Start the launcher; whoever starts it waits for it."""
        given.setdefault("stdin", subprocess.DEVNULL)
        argv = self.argv(*map(str, words))
        return subprocess.Popen(argv, env=self.environment, cwd=self.place, **given)

    def nodes(self) -> list[dict[str, Any]]:
        """What `mock-cloud nodes --json` lists."""
        listed: list[dict[str, Any]] = json.loads(self.cloud("nodes", "--json").expect().stdout)
        return listed

    def release(self) -> None:
        """Give everything back; nothing may be left."""
        self.cloud("release", "--all", "--force").expect()
        assert self.nodes() == []


def new_user(
    place: Path,
    config: ConfigDirectory,
    cache: Path,
    *words: str,
    extra: Mapping[str, str] | None = None,
) -> User:
    """A user whose home and basedir are below `place`, and whose commands begin with `words`."""
    (place / "home").mkdir(parents=True)
    with (config.path / "site-defaults.cfg").open("a") as stream:
        stream.write(f"config_opts['basedir'] = {str(place / 'var/lib/mock')!r}\n")
    options = ("--configdir", str(config.path), "-r", config.chroot(), *words)
    return User(place, config, cache, options, extra or {})


MakeUser = Callable[[str], User]


@pytest.fixture(scope="session")
def make_user(
    lab: Lab, lab_repo: FileServer, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeUser]:
    """Makes users that share nothing but the cache; at the end no node of theirs may be left."""
    users: list[User] = []

    def make(name: str) -> User:
        place = tmp_path_factory.mktemp(name)
        config = chroots.write(lab, place / "etc", repository_url=f"{lab_repo.url}/dist")
        with config.remote_file.open("a") as stream:
            # A node that fails is what most tests of failures look at, not the one after it.
            stream.write("\n[build]\nretries = 0\n\n[lease]\nmax_builds = 10000\n")
        users.append(new_user(place, config, cache, "--remote", "local"))
        return users[-1]

    yield make
    for user in users:
        user.release()
        shutil.rmtree(user.place)


@pytest.fixture(scope="module")
def builders(make_user: MakeUser, request: pytest.FixtureRequest) -> Iterator[User]:
    """A user with a builder more for each name in the module's BUILDERS: a remote and its node."""
    names: tuple[str, ...] = request.module.BUILDERS
    user = make_user("builders")
    text = user.config.remote_file.read_text()
    for name in names:
        user.config.remote_file.with_name(f"{name}.toml").write_text(text)
    for name in ("local", *names):  # here and not in a test, for the guard against leaks
        user.mock("--remote", name, "--init").expect()
    yield user
    user.release()


@pytest.fixture(scope="session")
def mock(make_user: MakeUser) -> User:
    """A user whose one node is warm, for all tests that do it no harm.

    The node starts here and not in a test: to the guard against leaks it was there before.
    """
    user = make_user("user")
    user.mock("--init").expect()
    return user


@pytest.fixture
def lone_mock(make_user: MakeUser) -> Iterator[User]:
    """A user without a node; what the test leaves is given back when it ends."""
    user = make_user("lone")
    yield user
    user.release()

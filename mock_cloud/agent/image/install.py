# SPDX-License-Identifier: GPL-2.0-or-later
"""Upgrades and installs packages in the node itself, with its own dnf, signatures checked.

A job can't do this: it sees the node's root read-only (`job.confine`). What dnf and package
scripts do here is measured afterwards; no signature that dnf accepted is taken on its word.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from mock_cloud.agent.measure.headers import BACKENDS, find_databases
from mock_cloud.wire.layout import NODE_PATH
from mock_cloud.wire.orders import KEYS_MARK, InstallOrder

PROGRAMS: Final = ("/usr/bin/dnf5", "/usr/bin/dnf-3", "/usr/bin/dnf")
_RPM: Final = "/usr/bin/rpm"
_VERSIONS: Final = (_RPM, "-qa", "--qf", r"%{NAME}.%{ARCH} %{EVR}\n")
_HISTORY: Final = "/var/lib/dnf/history.sqlite"
_CHUNK: Final = 1 << 16
_LOOK_EVERY_S: Final = 0.5
_SHORT_S: Final = 60.0

_Sink = Callable[[bytes], None]


class InstallError(Exception):
    """Nothing could be installed; the message says why."""


def install_packages(
    order: InstallOrder, scratch: str, sink: _Sink, stopped: threading.Event
) -> tuple[int, bool]:
    """Run dnf; what it prints goes to `sink`. Its exit status; whether the node is to be rebooted.

    It is if what was installed before is not as it was: see `has_changed`.

    `scratch` is a directory of our own that is made, and gone afterwards: dnf's cache and logs
    lie there. Signing keys that dnf imported are taken out again. Once `stopped` is set dnf is
    ended. InstallError, OSError.
    """
    program = next((path for path in PROGRAMS if os.access(path, os.X_OK)), None)
    if program is None:
        raise InstallError(f"the node has none of {', '.join(PROGRAMS)}")
    with _directory(scratch):
        environment = _environment(scratch)
        keys, before = _keys(environment), _versions(environment)
        argv, code = _argv(program, order, scratch), 0
        if order.upgrade:
            code = _run([*argv, "upgrade"], environment, sink, stopped)
        if order.packages and code == 0:
            code = _run([*argv, "install", *order.packages], environment, sink, stopped)
        for key in sorted(_keys(environment) - keys):
            _call([_RPM, "-e", key], environment)
        is_stale = has_changed(before, _versions(environment))
    _settle_databases()
    return code, is_stale


def has_changed(before: Mapping[str, set[str]], after: Mapping[str, set[str]]) -> bool:
    """Whether a package is another version, gone, or there in one more, as a kernel is."""
    return any(after.get(name) != versions for name, versions in before.items())


def _argv(program: str, order: InstallOrder, scratch: str) -> list[str]:
    keys = os.path.join(scratch, "keys")
    os.mkdir(keys)
    for name, text in order.keys.items():
        with open(os.path.join(keys, name), "x", encoding="utf-8") as stream:
            stream.write(text)
    conf = os.path.join(scratch, "dnf.conf")
    with open(conf, "x", encoding="utf-8") as stream:
        stream.write(order.dnf_conf.replace(KEYS_MARK, keys))
    argv = [program, "-y", "-c", conf]
    options = [f"cachedir={scratch}/cache", f"logdir={scratch}/log", "gpgcheck=1"]
    options.append("*.gpgcheck=1")  # a repository's own word on it would go first
    if order.only_these:
        options += [f"reposdir={scratch}/none", "plugins=0"]
    elif not program.endswith("dnf5"):
        # Its repository of what was installed before is never signed (dnf-plugin-local(8)).
        argv.append("--disableplugin=local")
    argv += [f"--setopt={option}" for option in options]
    if order.releasever:
        argv += ["--releasever", order.releasever]
    return argv


def _environment(scratch: str) -> dict[str, str]:
    return {"PATH": NODE_PATH, "LC_ALL": "C.UTF-8", "TERM": "dumb", "HOME": scratch}


@contextlib.contextmanager
def _directory(path: str) -> Iterator[None]:
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path, 0o700)
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _run(
    argv: Sequence[str], environment: dict[str, str], sink: _Sink, stopped: threading.Event
) -> int:
    child = subprocess.Popen(
        list(argv),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        bufsize=0,
    )
    assert child.stdout is not None  # noqa: S101 (for mypy)
    output = child.stdout.fileno()
    try:
        while not stopped.is_set():
            ready, _, _ = select.select([output], [], [], _LOOK_EVERY_S)
            data = os.read(output, _CHUNK) if ready else b""
            if data:
                sink(data)
            elif ready or child.poll() is not None:
                return child.wait()  # a script's daemon may hold the pipe: not waited for
        raise InstallError("the controller went away")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()


def _keys(environment: dict[str, str]) -> set[str]:
    """The signing keys in the package database, as package names."""
    return set(_call([_RPM, "-q", "gpg-pubkey"], environment, may_fail=True).split())


def _versions(environment: dict[str, str]) -> dict[str, set[str]]:
    """The versions in which each package is installed, by its name and architecture."""
    found = defaultdict(set)
    for line in _call(_VERSIONS, environment).splitlines():
        name, _, version = line.partition(" ")
        found[name].add(version)
    return found


def _call(argv: Sequence[str], environment: dict[str, str], *, may_fail: bool = False) -> str:
    done = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SHORT_S,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        if may_fail:
            return ""
        said = done.stderr.decode(errors="replace").strip()
        raise InstallError(f"{' '.join(argv)} failed: {said[-400:]}")
    return done.stdout.decode(errors="replace")


def _settle_databases() -> None:
    """Write the logs of rpm's and dnf's databases into them: a first boot must not change them."""
    paths = [_HISTORY] if os.path.exists(_HISTORY) else []
    paths += (
        os.path.join(one.path, BACKENDS[one.backend])
        for one in find_databases()
        if one.backend == "sqlite"
    )
    for path in paths:
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=_SHORT_S)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise InstallError(f"{path} can't be settled: {error}") from error

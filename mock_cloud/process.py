# SPDX-License-Identifier: GPL-2.0-or-later
"""The one choke point for child processes on the controller.

argv lists only, stdin closed, an environment built anew, a deadline, and a message on
failure that can be pasted back into a shell.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mock_cloud.errors import MockCloudError
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import NODE_PATH

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TERM", "SSH_AUTH_SOCK")


class CommandFailed(MockCloudError):
    """A local command ended with a non-zero status, a signal, or past its deadline."""

    def __init__(self, argv: Sequence[str], status: int | str, output: str) -> None:
        self.argv = tuple(argv)
        self.status = status
        self.output = output
        tail = output.strip().splitlines()[-1:] or ["(no output)"]
        super().__init__(f"{shlex.join(argv)}: {status}: {tail[0]}")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A child's environment: a short list, the C.UTF-8 locale, and `extra`."""
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    env.setdefault("PATH", NODE_PATH)
    env["LC_ALL"] = "C.UTF-8"
    env.update(extra or {})
    return env


def own_environment() -> dict[str, str]:
    """This process's own, for what its user named: as OpenSSH gives it to a ProxyCommand.

    A cloud's tool finds its profile there, and the proxy that leads to the cloud.
    """
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    extra_env: Mapping[str, str] | None = None,
) -> bytes:
    """Run `argv` to its end and return its standard output.

    Standard input is empty unless `stdin` gives bytes. Raises `CommandFailed` on a non-zero
    status, on a missing program, and past `timeout_s` seconds (the child is killed and reaped).
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin if stdin is not None else b"",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
            cwd=cwd,
            env=environment(extra_env),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        text = (error.stderr or b"").decode(errors="replace")
        raise CommandFailed(argv, f"no end within {timeout_s:g} s", text) from error
    except OSError as error:
        raise CommandFailed(argv, "cannot start", str(error)) from error
    if done.returncode != 0:
        text = (done.stderr or done.stdout).decode(errors="replace")
        raise CommandFailed(argv, f"exit status {done.returncode}", text)
    return done.stdout


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit status, negative for a signal, and what it printed."""

    status: int
    stdout: bytes
    stderr: bytes


def converse(
    argv: Sequence[str], *, timeout_s: float, output_max_bytes: int,
    extra_env: Mapping[str, str] | None = None,
) -> Ended:  # fmt: skip
    """Run a command that passes on what somebody else says, to its end, whatever its status.

    It has a session of its own, and whatever it started ends with it. Raises `CommandFailed` if it
    cannot start, past `timeout_s` seconds, and if either stream is longer than
    `output_max_bytes`.
    """
    with _in_own_session(argv, subprocess.DEVNULL, environment(extra_env)) as child:
        streams = _read_both(child, argv, time.monotonic() + timeout_s, output_max_bytes)
        status = child.wait()
    return Ended(status, *streams)


def hear(
    argv: Sequence[str], is_enough: Callable[[bytes], bool], *, timeout_s: float, most_bytes: int
) -> tuple[bytes, bytes]:
    """What a command says on stdout until it is enough, and on stderr; then it is ended.

    Its stdin stays open and empty meanwhile, for one that leads to somebody who speaks first. It
    has `own_environment`.
    Raises as `converse` does.
    """
    with _in_own_session(argv, subprocess.PIPE, own_environment()) as child:
        return _read_both(child, argv, time.monotonic() + timeout_s, most_bytes, is_enough)


@contextlib.contextmanager
def _in_own_session(
    argv: Sequence[str], stdin: int, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The command, whose session is ended with the block unless it was waited for."""
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(argv, "cannot start", str(error)) from error
    try:
        yield child
    finally:
        if child.returncode is None:  # not reaped, so the number still is its group's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()


def _read_both(
    child: subprocess.Popen[bytes],
    argv: Sequence[str],
    deadline: float,
    most: int,
    is_enough: Callable[[bytes], bool] = lambda _: False,
) -> tuple[bytes, bytes]:
    found = {"stdout": bytearray(), "stderr": bytearray()}
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout or -1, selectors.EVENT_READ, "stdout")
        selector.register(child.stderr or -1, selectors.EVENT_READ, "stderr")
        while selector.get_map():
            left_s = deadline - time.monotonic()
            ready = selector.select(left_s) if left_s > 0 else []
            if not ready:
                said = bytes(found["stderr"][-4096:]).decode(errors="replace")
                raise CommandFailed(argv, "no end in time", said)
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                found[key.data] += data
                if len(found[key.data]) > most:
                    raise CommandFailed(argv, f"printed more than {most} bytes", "")
            if is_enough(bytes(found["stdout"])):
                break
    return bytes(found["stdout"]), bytes(found["stderr"])

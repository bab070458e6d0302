# SPDX-License-Identifier: GPL-2.0-or-later
"""The one choke point for child processes on the controller.

argv lists only, stdin closed, an environment built anew, a deadline, and a message on
failure that can be pasted back into a shell.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from mock_cloud.errors import MockCloudError

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
    """A child's environment: a short list of ours, the C.UTF-8 locale, and `extra`."""
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    env.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    env["LC_ALL"] = "C.UTF-8"
    env.update(extra or {})
    return env


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

# SPDX-License-Identifier: GPL-2.0-or-later
"""--scm-enable: sources are checked out here, where the user's credentials are, and sent.

mock's own scm module does it, run by mock's own Python as the invoking user.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from mock_cloud import process
from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.values import read_option
from mock_cloud.console import Console
from mock_cloud.errors import CheckoutFailed, CommandLineError, UnsupportedByEngine
from mock_cloud.invocation.model import PACKAGE_BUILDS, CommandLine
from mock_cloud.process import CommandFailed
from mock_cloud.toolkit.mock_kit import MockProgram

_DRIVER: Final = Path(__file__).with_name("scm_driver.py")
_TIMEOUT_S: Final = 3600.0
_METHODS: Final = ("cvs", "svn", "git", "distgit")  # scmWorker in mock's scm.py
_OPTIONS: Final = ("scm_opts", "macros", "tar", "tar_binary")


@contextlib.contextmanager
def checked_out(
    line: CommandLine, opts: ConfigOpts, program: MockProgram | None, console: Console
) -> Iterator[CommandLine]:
    """`line` with the checked-out --spec and --sources, which live as long as the block.

    UnsupportedByEngine without a mock here, CommandLineError (as mock has it) when its scm module
    fails, CheckoutFailed when the command does that it calls. `line` itself where its mode
    takes no sources.
    """
    if line.mode not in PACKAGE_BUILDS:
        yield line
        return
    method = read_option(opts, "scm_opts")["method"]
    if method not in _METHODS:
        raise CommandLineError(
            f"--scm-enable: Unsupported SCM method: {method}",
            hint="there are " + ", ".join(_METHODS),
        )
    if program is None:
        raise UnsupportedByEngine(
            "--scm-enable needs a mock on this machine: it checks the sources out here",
            hint="check the sources out, then --buildsrpm --spec SPEC --sources DIR",
        )
    with tempfile.TemporaryDirectory(prefix="mock-cloud-scm-") as scratch:
        console.info("checking the sources out on this machine")
        sources, spec = _check_out(opts, program, Path(scratch))
        opts["scm"] = False
        yield replace(line, scm=False, scm_opts=(), spec=spec, sources=sources)


def _check_out(opts: ConfigOpts, program: MockProgram, scratch: Path) -> tuple[str, str]:
    """The directory of sources and the spec file."""
    answer = scratch / "answer"
    told = {name: read_option(opts, name) for name in _OPTIONS}
    argv = [program.python, _DRIVER, program.script.parent, answer]
    try:
        process.run(
            [str(word) for word in argv],
            timeout_s=_TIMEOUT_S,
            stdin=json.dumps(told).encode(),
            # What the user's git, svn or cvs needs to know, as in mock.
            extra_env={**os.environ, "TMPDIR": str(scratch)},
        )
        sources, spec = json.loads(answer.read_bytes())
    except CommandFailed as error:
        if answer.exists():
            raise _failed(answer) from error
        lines = [text for text in error.output.splitlines() if text.strip()] or [str(error)]
        hint = "mock-scm is a package of its own" if "No module named" in lines[-1] else None
        raise CommandLineError(f"--scm-enable: {lines[-1].strip()}", hint=hint) from error
    except (OSError, ValueError) as error:
        raise CommandLineError(
            f"--scm-enable: mock's scm module left no answer: {error}"
        ) from error
    return str(sources), str(spec)


def _failed(answer: Path) -> CheckoutFailed:
    command, status, lines = json.loads(answer.read_bytes())
    words = "; ".join(line.strip() for line in lines) or "(no output)"
    return CheckoutFailed(f"--scm-enable: {command}: exit status {status}: {words}", max(status, 1))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends nodes in a process of its own, so that a user who watches does not wait for it.

The journal says first that they are over. Whatever becomes of that process, the next command of
their owner finds them there, as it finds those of commands that were killed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.leased import EndBeside
from mock_cloud.cloud.listing import ENDED_AT_ONCE, LoadRemote, end_given_up
from mock_cloud.config.remotes import load_remote, read_remote
from mock_cloud.places import state_dir
from mock_cloud.settings import Remote
from mock_cloud.steps.context import Build

_MAIN: Final = "import sys; from mock_cloud.steps.release.ending import main; main(sys.argv[1:])"
_PAUSES_S: Final = (10.0, 60.0, None)
"""Between attempts: an API that is out for a moment. Later ones are for other commands."""


def find_end_beside(build: Build) -> EndBeside | None:
    """How the node of a build is ended without being waited for; None where that is waited for.

    A script sees a node gone when its command has ended, as before. So does Koji's builder. And a
    key that wants a touch for each login is not asked for one when its user has turned away.
    """
    is_watched = build.console.is_terminal and build.shadow is None
    if not is_watched or any(host.certificate for host in build.remote.hosts):
        return None
    return partial(start_ending, remote_file=build.remote.source)


def start_ending(
    leases: Sequence[str], *, remote_file: Path | None = None, configdir: Path | None = None
) -> None:
    """Start the process that ends these leases, which were given up. OSError.

    Their remote's file is `remote_file`, or the one of its name in `configdir`.
    """
    where = [str(path.absolute()) if path is not None else "" for path in (remote_file, configdir)]
    subprocess.Popen(
        [sys.executable, "-c", _MAIN, *where, *leases],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def main(words: Sequence[str]) -> None:
    """The process: a remote's file, a directory of configuration, leases."""
    remote_file, configdir, *leases = words

    def load(name: str) -> Remote:
        if remote_file:
            return read_remote(name, Path(remote_file), to_end=True)
        return load_remote(name, Path(configdir) if configdir else None, to_end=True)

    journal = Journal(state_dir())
    with ThreadPoolExecutor(ENDED_AT_ONCE) as pool:
        list(pool.map(lambda lease: _end(journal, lease, load), leases))


def _end(journal: Journal, lease: str, load: LoadRemote) -> None:
    for pause_s in _PAUSES_S:
        if end_given_up(journal, lease, load) or pause_s is None:
            return
        time.sleep(pause_s)

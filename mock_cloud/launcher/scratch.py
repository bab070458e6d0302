# SPDX-License-Identifier: GPL-2.0-or-later
"""A build on one remote before the one that counts on another: only what succeeds goes there."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import (
    EXIT_INFRASTRUCTURE,
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    CommandLineError,
    ConfigError,
)
from mock_cloud.invocation.model import PART, CommandLine
from mock_cloud.settings import Remote

PACKAGE_BUILDS: Final = ("rebuild", "buildsrpm")
"""Modes of which results can be kept apart until something is known of them."""
_SAYS_NOTHING: Final = (EXIT_INFRASTRUCTURE, EXIT_REFUSED, EXIT_INTERRUPTED)
"""Ends that are not the package's."""
_SIGNALLED: Final = 128


def find_then(line: CommandLine, remote: Remote) -> Remote | None:
    """The remote that builds again what succeeds on `remote`; None if this is all there is.

    CommandLineError, ConfigError.
    """
    name = line.then or remote.then
    if PART in os.environ or not name:
        return None
    if line.mode not in PACKAGE_BUILDS:
        if line.then:
            raise CommandLineError(f"--then builds packages: not with --{line.mode}")
        return None
    if line.is_several:
        raise CommandLineError(
            f"--jobs: what is built at once is not built again on {name}", hint="leave out --jobs"
        )
    if line.detach:
        raise CommandLineError(
            f"--detach: the build on {name} would have nobody to begin it",
            hint="run it in the background by your shell's means",
        )
    then = load_remote(name, Path(line.configdir) if line.configdir else None)
    if then.scratch or then.then or then.name == remote.name:
        raise ConfigError(
            f"remote {name} builds what counts after {remote.name}, and is a scratch remote itself"
            if then.name != remote.name
            else f"remote {name} cannot build again what it built",
            hint=f"name a remote that you trust: --then, or then in {remote.source}",
        )
    return then


def build_scratch(
    words: Sequence[str], remote: Remote, then: Remote, resultdir: Path, console: Console
) -> int:
    """Build on `remote`; 0 if `then` is to build it now, else the exit code, its logs published.

    `words` are mock's. Of what it built nothing is kept. The ledger has how it ended.
    """
    from mock_cloud.cli.parts import (  # these take a while
        Side,
        build_part,
        private_place,
        publish,
    )
    from mock_cloud.ledger.scratch import note_scratch
    from mock_cloud.steps.lease.builders import note

    with private_place(resultdir) as place:
        side = Side(remote.name, remote.name)
        built = build_part(words, side, place, resultdir, console, is_shown=True)
        if built.code:
            publish(built.place, resultdir, is_logs_only=True)
    if built.code in _SAYS_NOTHING or built.code > _SIGNALLED:
        return built.code
    now_unix, has_failed = int(time.time()), built.code != 0
    note(
        console,
        note_scratch(remote.name, then.name, built.seconds, now_unix, has_failed=has_failed),
    )
    if has_failed:
        console.info(f"remote {then.name} was spared this build")
    else:
        console.info(f"remote {remote.name}: it builds; remote {then.name} builds what counts")
    return built.code

# SPDX-License-Identifier: GPL-2.0-or-later
"""The first look: a command line that cannot mean a remote is the real mock's, at once.

It stands before every local build, so it and what it imports (`scan`, `real_mock`) take from the
standard library only what costs nothing. It may err in one direction: where it is not sure,
`dispatch` reads the command line and the configuration properly.
"""

from __future__ import annotations

import os
import sys

from mock_cloud import entry
from mock_cloud.launcher.scan import configuration_may_choose
from mock_cloud.real_mock import become_mock, find_real_mock, without_our_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one mock command line; mock's exit code, or ours (see errors)."""
    if argv is None:
        entry.quiet_interrupts()
    words = list(sys.argv[1:] if argv is None else argv)
    real = find_real_mock(os.environ)
    if real is not None and not may_be_remote(words, os.environ):
        try:  # noqa: SIM105  contextlib is an import
            become_mock(real, words)
        except OSError:
            pass  # `run_launcher` says it
    if argv is None:
        entry.mend_streams()
        entry.leave_quickly()
    from mock_cloud.launcher.dispatch import (
        run_launcher,  # not before it is needed: it imports a lot
    )

    return run_launcher(words, real)


def may_be_remote(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """False only if neither words nor environment nor a configuration can choose a remote."""
    if environ.get("MOCK_REMOTE"):
        return True
    for number, word in enumerate(words):
        if word == "--":
            words = words[:number]
            break
        # With --config-opts remote=…, --plugin-option remote:… and argparse's abbreviations.
        if "remote" in word or word.startswith(("--remot", "--no-r")):
            return True
    # What mock has no such option for is answered here, or left out of what mock gets.
    return without_our_words(words) != list(words) or configuration_may_choose(words)

# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud`: look after the nodes that `mock --remote` builds on."""

from __future__ import annotations

from mock_cloud import entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status as in mock-cloud(1). Never raises for users' errors.

    Without `argv` it is the process's own command line.
    """
    if argv is None:
        entry.quiet_interrupts()
        entry.mend_streams()
        entry.leave_quickly()
    from mock_cloud.cli.verbs import run  # not before: it imports a lot

    return run(argv)

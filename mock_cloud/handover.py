# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud-session`: performs what mock's plugin took over, as the user who called mock.

Its two arguments are numbers of open files: one to read what mock handed over from, one to
write a report of the results to.
"""

from __future__ import annotations

import sys

from mock_cloud import entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Perform one invocation that a running mock handed over; mock's exit code, or ours."""
    if argv is None:
        entry.quiet_interrupts()
        entry.mend_streams()
        entry.leave_quickly()
    from mock_cloud.console import Console  # not before: they import a lot
    from mock_cloud.exit_status import end_well
    from mock_cloud.launcher.handed_over import run

    words = list(sys.argv[1:] if argv is None else argv)
    console = Console()
    return end_well(console, lambda: run(words, console))


if __name__ == "__main__":
    sys.exit(main())

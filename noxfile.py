# SPDX-License-Identifier: GPL-2.0-or-later
"""The unit tests under each Python: `nox`, or `make test-pythons`.

An interpreter that is not on this machine's PATH is named in the summary, and skipped. A release
has a classifier in pyproject.toml once all units were run under it.
"""

from __future__ import annotations

import nox

# From requires-python to the release after the newest.
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")


@nox.session(python=PYTHONS)
def units(session: nox.Session) -> None:
    """The unit tests, with the oldest to the newest Python. Words after -- go to pytest."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", "-m", "not slow", "tests/unit", *session.posargs)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The unit tests under each Python: `nox`, or `make test-pythons`.

An interpreter that is not on this machine's PATH is named in the summary, and skipped. A supported
release has a classifier in pyproject.toml, once the units were run under it; the next one is tried
before its time where it can be had.
"""

from __future__ import annotations

import nox

NEXT = "3.15"

_PROJECT = nox.project.load_toml("pyproject.toml")


@nox.session(python=[*nox.project.python_versions(_PROJECT), NEXT])
def units(session: nox.Session) -> None:
    """The unit tests, with the oldest to the newest Python. Words after -- go to pytest."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", "-m", "not slow", "tests/unit", *session.posargs)

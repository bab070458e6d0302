# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads the lab's fixtures for every test."""

import signal

from hypothesis import settings

pytest_plugins = [
    "tests.lab.fixtures",
    "tests.lab.clouds.fixtures",
    "tests.progress",
    "tests.fault_table",
]

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Ctrl-C is tried on programs that inherit this: a shell that starts the suite in its background has
# it ignored (POSIX, 2.11).
signal.signal(signal.SIGINT, signal.default_int_handler)

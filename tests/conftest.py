# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads the lab's fixtures for every test."""

from hypothesis import settings

pytest_plugins = ["tests.lab.fixtures", "tests.lab.clouds.fixtures", "tests.progress"]

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

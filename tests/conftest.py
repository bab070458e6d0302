# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads the lab's fixtures for every test."""

pytest_plugins = ["tests.lab.fixtures", "tests.lab.clouds.fixtures", "tests.progress"]

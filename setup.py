# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything stands in pyproject.toml; this file is for tools that still call setup.py."""

from setuptools import setup

setup()

# SPDX-License-Identifier: GPL-2.0-or-later
"""The drop-in `mock`: remote where a remote is chosen, else the real mock, unchanged."""

from mock_cloud.launcher.fast_path import main

__all__ = ["main"]

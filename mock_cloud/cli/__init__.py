# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud`: look after the nodes that `mock --remote` builds on."""

from mock_cloud.cli.main import main

__all__ = ["main"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Packs the self-contained tree (loader, python, libraries, agent) that nodes run."""

from mock_cloud.toolkit.machines import MACHINES, own_arch
from mock_cloud.toolkit.mock_kit import MockKit, MockProgram, find_mock, pack_mock
from mock_cloud.toolkit.pack import Packed, list_packed, pack, pack_packages, toolkit_for

__all__ = [
    "MACHINES",
    "MockKit",
    "MockProgram",
    "Packed",
    "find_mock",
    "list_packed",
    "own_arch",
    "pack",
    "pack_mock",
    "pack_packages",
    "toolkit_for",
]

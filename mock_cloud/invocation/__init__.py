# SPDX-License-Identifier: GPL-2.0-or-later
"""mock's command line, understood: modes, options, and the host paths they name."""

from mock_cloud.invocation.hostfiles import HostFile, find_srpm, host_inputs, node_args
from mock_cloud.invocation.model import MOCK_VERSION, CommandLine
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.invocation.srpm import PackageFacts, SrpmError, read_package
from mock_cloud.invocation.support import check_supported

__all__ = [
    "MOCK_VERSION",
    "CommandLine",
    "HostFile",
    "PackageFacts",
    "SrpmError",
    "check_supported",
    "find_srpm",
    "host_inputs",
    "node_args",
    "parse_command_line",
    "read_package",
]

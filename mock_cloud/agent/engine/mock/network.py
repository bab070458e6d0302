# SPDX-License-Identifier: GPL-2.0-or-later
"""A plugin of mock's that keeps builds off the network on nodes without systemd-nspawn.

With ``isolation = 'simple'`` mock leaves the network to whatever it builds. Where the controller
has systemd, its own mock would not: so the node's does not either, unless it is asked to.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from typing import Final

from mock_cloud.agent.engine.errors import ConfigurationError

NAME: Final = "mock_cloud_network"

# mock's own way of leaving the network, which it takes with systemd-nspawn only. Python 3.9.
_TEXT: Final = """\
import os

from mockbuild import uid, util
from mockbuild.exception import Error

requires_api_version = "1.1"


def init(plugins, conf, buildroot):
    leave = getattr(util, "condUnshareNet", None)
    if leave is None or not hasattr(util, "USE_NSPAWN"):
        raise Error("this mock keeps builds off the network in a way that mock-cloud does not know")

    def leave_network(unshare_net=True):
        # In a child of its own that is root in its saved ids only, just before its chroot(2).
        if util.USE_NSPAWN or not unshare_net:
            return leave(unshare_net)
        before = uid.getresuid()
        uid.setresuid(0, 0, 0)
        util.USE_NSPAWN = True
        try:
            outside = os.readlink("/proc/self/ns/net")
            leave()
            if os.readlink("/proc/self/ns/net") == outside:  # mock goes on where it may not leave
                raise Error("the node's kernel does not let a build leave the network")
        finally:
            util.USE_NSPAWN = False
            uid.setresuid(*before)

    if not getattr(util, "mock_cloud_network", False):
        util.mock_cloud_network, util.condUnshareNet = True, leave_network
"""


def add_plugin(directory: str) -> None:
    """Write the plugin into a directory of mock's plugins. OSError."""
    with open(os.path.join(directory, f"{NAME}.py"), "w", encoding="ascii") as stream:
        stream.write(_TEXT)


def link_plugins(directory: str) -> None:
    """Fill `directory` with the plugins of the node's own mock. ConfigurationError without any."""
    found = sorted(glob.glob("/usr/lib/python3*/site-packages/mockbuild/plugins/*.py"))
    if not found:
        raise ConfigurationError("the node's mock has no plugins where packages put them")
    os.makedirs(directory, exist_ok=True)
    for path in found:
        target = os.path.join(directory, os.path.basename(path))
        if not os.path.lexists(target):
            os.symlink(path, target)


def statements() -> Iterator[str]:
    """What enables the plugin, in mock's configuration."""
    yield f"config_opts['plugins'] = [*config_opts['plugins'], {NAME!r}]"
    yield f"config_opts['plugin_conf'][{f'{NAME}_enable'!r}] = True"
    yield f"config_opts['plugin_conf'][{f'{NAME}_opts'!r}] = {{}}"

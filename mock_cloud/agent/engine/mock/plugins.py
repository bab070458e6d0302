# SPDX-License-Identifier: GPL-2.0-or-later
"""mock-cloud's plugins for mock on a node without systemd-nspawn, where it is root of a namespace.

One keeps builds off the network: with ``isolation = 'simple'`` mock leaves it to whatever it
builds. Where the controller has systemd, its own mock would not: so the node's does not either,
unless it is asked to.

The other lets snapshots work. Overlayfs notes what is hidden in trusted.* attributes, which the
root of a user namespace has none of: to make a directory where one was removed fails (EIO). With
``userxattr`` it notes that in user.* (Linux 5.11, Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Final

from mock_cloud.agent.engine.errors import ConfigurationError

# mock's own way of leaving the network, which it takes with systemd-nspawn only. Python 3.9.
_NETWORK: Final = """\
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


# mock's plugin overlayfs calls mount(8), and has no setting for what it passes.
_OVERLAY: Final = """\
import subprocess

requires_api_version = "1.1"


def init(plugins, conf, buildroot):
    call = subprocess.check_call

    def check_call(argv, *args, **kwargs):
        if list(argv[:3]) == ["mount", "-t", "overlay"]:
            argv = [*argv[:3], "-o", "userxattr", *argv[3:]]
        return call(argv, *args, **kwargs)

    if not getattr(subprocess, "mock_cloud_overlay", False):
        subprocess.mock_cloud_overlay, subprocess.check_call = True, check_call
"""

_PLUGINS: Final = {"mock_cloud_network": _NETWORK, "mock_cloud_overlay": _OVERLAY}


def add_plugins(directory: str) -> None:
    """Write them into a directory of mock's plugins. OSError."""
    for name, text in _PLUGINS.items():
        with open(os.path.join(directory, f"{name}.py"), "w", encoding="ascii") as stream:
            stream.write(text)


def digest() -> str:
    """sha256 (hex) of them all."""
    return hashlib.sha256(json.dumps(_PLUGINS).encode()).hexdigest()


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
    """What enables them, in mock's configuration."""
    yield f"config_opts['plugins'] = [*config_opts['plugins'], *{list(_PLUGINS)!r}]"
    for name in _PLUGINS:
        yield f"config_opts['plugin_conf'][{f'{name}_enable'!r}] = True"
        yield f"config_opts['plugin_conf'][{f'{name}_opts'!r}] = {{}}"

# SPDX-License-Identifier: GPL-2.0-or-later
"""Installing over the channel: dnf's output streams to the controller, which waits for it.

Unlike a job it does not outlive the connection: a helper node whose controller went away is
of no use to anyone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from mock_cloud.agent.image.cleanse import cleanse_node, seal_node
from mock_cloud.agent.image.install import InstallError, install_packages
from mock_cloud.agent.image.reboot import reboot_node
from mock_cloud.agent.serve_wire import Failure
from mock_cloud.wire.decode import Malformed, decode_bytes
from mock_cloud.wire.frames import FrameHeader
from mock_cloud.wire.orders import InstallOrder

_Send = Callable[[FrameHeader, bytes], None]


def answer_install(workspace: str, body: bytes, send: _Send, gone: threading.Event) -> FrameHeader:
    """Do what the order in `body` says. The final frame has dnf's ``exit``, and ``stale``."""
    try:
        order = decode_bytes(InstallOrder, body)
    except Malformed as error:
        raise Failure("bad-request", str(error)) from error
    scratch = os.path.join(workspace, "install")

    def stream(data: bytes) -> None:
        send({"more": True}, data)

    try:
        code, is_stale = install_packages(order, scratch, stream, gone)
    except InstallError as error:
        raise Failure("install", str(error)) from error
    return {"exit": code, "stale": is_stale}


def answer_step(workspace: str, step: str) -> FrameHeader:
    """Reboot the node, or take out what is its own (``cleanse``) or ours (``seal``)."""
    if step == "cleanse":
        return {"removed": cleanse_node()}
    (reboot_node if step == "reboot" else seal_node)(workspace)
    return {}

# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts the node anew: a program runs as it was on the disk when it was started."""

from __future__ import annotations

import os
import subprocess
from typing import Final

from mock_cloud.agent.deadman.end_node import end_processes
from mock_cloud.agent.serve_wire import Failure
from mock_cloud.wire.layout import NODE_PATH

_SHUTDOWN: Final = ("shutdown", "-r", "now")
_SHORT_S: Final = 60.0


def reboot_node(workspace: str) -> None:
    """Have the node's init end all services and reboot. Failure.

    The dead-man timer is gone before: told to end, as all are then, it would switch the node off.
    """
    end_processes(workspace, {os.getpid()})
    try:
        subprocess.run(
            _SHUTDOWN, env={"PATH": NODE_PATH, "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=_SHORT_S, check=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise Failure("reboot", f"shutdown failed: {said[-400:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure("reboot", str(error)) from error

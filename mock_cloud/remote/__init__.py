# SPDX-License-Identifier: GPL-2.0-or-later
"""SSH to nodes: one connection, one agent, pinned host keys. Only here: paramiko."""

import sys

if "paramiko" not in sys.modules and "invoke" not in sys.modules:
    # paramiko's reader of ssh_config imports invoke for `Match exec`, and invoke imports asyncio
    # and unittest: 45 ms of each command. Nothing here reads ssh_config, and paramiko does
    # without invoke where it is not installed (paramiko/config.py).
    sys.modules["invoke"] = None  # type: ignore[assignment]
    import paramiko as _paramiko  # noqa: F401

    del sys.modules["invoke"]

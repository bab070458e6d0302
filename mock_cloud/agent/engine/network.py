# SPDX-License-Identifier: GPL-2.0-or-later
"""A network namespace for builds that may not use the network."""

from __future__ import annotations

from mock_cloud.agent.engine import jail
from mock_cloud.wire import syscalls


def open_isolated() -> int:
    """A descriptor of a network namespace with only a loopback in it; the caller closes it.

    It belongs to the job's user namespace: root in a chroot may do with it what it likes.
    """
    users = jail.user_namespace()

    def make() -> None:
        syscalls.enter_namespace(users, syscalls.CLONE_NEWUSER)
        syscalls.isolate_network()

    return jail.open_namespace("net", make)

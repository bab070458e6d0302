# SPDX-License-Identifier: GPL-2.0-or-later
"""The way to a cloud's node that no TCP connection of this machine's reaches."""

from __future__ import annotations

import re
import shutil
from typing import Final

from mock_cloud.cloud.hosts.route import find_jump
from mock_cloud.errors import ConfigError
from mock_cloud.model import SSH_PORT
from mock_cloud.settings import REACH_WORDS, CloudSettings

_WORD: Final = re.compile(r"\{(\w+)\}")
# For tests, never routed (RFC 5737): stands for an address while there is none.
_NOWHERE: Final = "192.0.2.1"


def find_node_way(settings: CloudSettings, address: str, handle: str) -> tuple[str, ...]:
    """The command whose stdin and stdout lead to the node's sshd; empty for TCP. ConfigError.

    `address` and `handle` are words of their own in `reach_command`, whatever they hold.
    """
    if settings.jump:
        return find_jump(settings.jump, address, SSH_PORT)
    region = str(getattr(settings, "region", ""))
    values = dict(zip(REACH_WORDS, (address, str(SSH_PORT), handle, region), strict=True))
    return tuple(_WORD.sub(lambda found: values[found[1]], one) for one in settings.reach_command)


def check_way(settings: CloudSettings, source: object) -> None:
    """Refuse, before a node is bought, a way that cannot be gone. ConfigError."""
    if settings.jump and settings.reach_command:
        raise ConfigError(f"{source}: jump and reach_command are two ways to one node")
    way = find_node_way(settings, _NOWHERE, "i-0")
    if way and shutil.which(way[0]) is None:
        raise ConfigError(f"{source}: there is no program {way[0]!r}, which leads to the nodes")

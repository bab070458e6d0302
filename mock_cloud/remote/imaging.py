# SPDX-License-Identifier: GPL-2.0-or-later
"""Making an image of a node: what is asked of its agent besides evidence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mock_cloud.errors import TransportError
from mock_cloud.remote.channel import AgentChannel
from mock_cloud.wire.frames import ACCOUNT_FILES

_ANSWER_S: Final = 60.0
_REBOOT_S: Final = 90.0
_CLEANSE_S: Final = 600.0
_INSTALL_S: Final = 6 * 3600.0
_SILENCE_S: Final = 900.0
"""How long dnf may print nothing: a slow mirror, or a large package's script."""
_PATHS_MAX: Final = 1_000_000

OnOutput = Callable[[bytes], object]


def read_accounts(agent: AgentChannel) -> dict[str, bytes]:
    """The node's passwd and group by path; what they hold is for their digests to prove."""
    found: dict[str, bytes] = {}
    with agent.call("accounts") as call:
        while True:
            header, body = call.next(within_s=_ANSWER_S)
            if not header.pop("more", False):
                break
            path = header.get("path")
            if path not in ACCOUNT_FILES or path in found:
                raise agent.protocol_error("accounts: not the files that were asked for")
            found[path] = body
    if set(found) != set(ACCOUNT_FILES):
        raise agent.protocol_error("accounts: a file is missing")
    return found


def install(agent: AgentChannel, order: bytes, on_output: OnOutput) -> tuple[int, bool]:
    """Have packages installed as `order` says, passing dnf's output on.

    dnf's exit status, and whether what was installed before has changed.
    """
    with agent.call("install", order) as call:
        while True:
            header, body = call.next(within_s=_INSTALL_S, idle_s=_SILENCE_S)
            if header.pop("more", False):
                on_output(body)
                continue
            status, is_stale = header.get("exit"), header.get("stale")
            if type(status) is not int or type(is_stale) is not bool:
                raise agent.protocol_error("install: no exit status, or not whether it is stale")
            return status, is_stale


def reboot(agent: AgentChannel) -> None:
    """Have the node start anew. The answer may be lost on the way; RemoteCommandError."""
    with suppress(TransportError):
        agent.ask("reboot", within_s=_REBOOT_S)


def cleanse(agent: AgentChannel) -> tuple[str, ...]:
    """Have taken out what is this node's own; the paths that are gone."""
    removed = agent.ask("cleanse", within_s=_CLEANSE_S).get("removed")
    if not isinstance(removed, list) or len(removed) > _PATHS_MAX:
        raise agent.protocol_error("cleanse: no list of paths")
    if not all(isinstance(path, str) and path.startswith("/") for path in removed):
        raise agent.protocol_error("cleanse: not a path")
    return tuple(removed)


def seal(agent: AgentChannel) -> None:
    """Have the agent remove itself and all else that mock-cloud put there, but chroot layers."""
    agent.ask("seal", within_s=_CLEANSE_S)

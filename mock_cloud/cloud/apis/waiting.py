# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for an instance: until it runs, then until its sshd greets. Every wait has a deadline."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Final

from mock_cloud.cloud.apis.adapter import CloudApi, Instance, InstanceState, Launch
from mock_cloud.cloud.apis.texts import NoCapacity, one_line
from mock_cloud.cloud.provider import OnPhase
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.jump_master import share_jump
from mock_cloud.model import SSH_PORT
from mock_cloud.process import CommandFailed, hear
from mock_cloud.settings import Reach
from mock_cloud.wire.terminal_text import clean

_GREETING: Final = b"SSH-2.0-"
_GREETING_LIMIT: Final = 8192  # RFC 4253, 4.2: lines before it are allowed
_SAID_LIMIT: Final = 64 << 10
_GREETING_TIMEOUT_S: Final = 10.0
_GREETING_PAUSE_S: Final = 0.2
_CONNECT_TIMEOUT_S: Final = 2.0
"""TCP repeats what was dropped after 1, 3 and 7 s: while a node boots, a new try is sooner."""
_UNKNOWN_GRACE_S: Final = 30.0
"""How long an API may not know what it has just made: EC2 promises nothing, it is seconds."""
LOOK_FOR_S: Final = 60.0
"""How long an instance may take to show whose order was not answered."""
_ADDRESS_GRACE_S: Final = 3.0
"""How long a running instance may lack an address while it has another: EC2's listings lag."""
_SHORTEST_POLL_S: Final = 0.5
_LONGEST_POLL_S: Final = 4.0
_LOOK_AGAIN_S: Final = 10.0
_OVER: Final = (InstanceState.FAILED, InstanceState.ENDED, InstanceState.STOPPED)


class NodeSilent(CloudError):
    """The instance runs, and no sshd answered in time: another one may."""


def wait_for_made(
    api: CloudApi, launch: Launch, timeout_s: float, on_phase: OnPhase
) -> Instance | None:
    """The instance of a launch that was not answered, once it shows; None if it does not in time.

    An API may go on with what it does not answer: a command that orders again at once has two.
    """
    began = time.monotonic()
    on_phase(f"{api.calls.service} did not answer: looking for {launch.name} for {timeout_s:g} s")
    while True:
        made = api.find_made(launch)
        if made:
            for twin in made[1:]:
                api.terminate(twin.handle)
            return made[0]
        if time.monotonic() >= began + timeout_s:
            return None
        _sleep(time.monotonic() - began, began + timeout_s)


def wait_until_running(
    api: CloudApi, handle: str, reach: Reach, *, deadline: float, on_phase: OnPhase
) -> tuple[Instance, str]:
    """The instance once it runs and has an address of `reach`, with that address.

    `deadline` is of time.monotonic. CloudError with the API's own reason as soon as it can't
    run any more. ConfigError if it runs and has other addresses than `reach` asks for.
    """
    began = time.monotonic()
    running_s = 0.0
    told = ""
    while True:
        instance = api.find(handle)
        if instance is not None:
            address = check_alive(instance).addresses.get(reach, "")
            if instance.state is InstanceState.RUNNING:
                if address:
                    return instance, address
                running_s = running_s or time.monotonic()
            may_come = bool(address) or api.complete(instance) or not running_s
            if not may_come and instance.addresses and _is_past(running_s + _ADDRESS_GRACE_S):
                raise _unreachable(handle, reach, instance.addresses)
            state = instance.state.value
        elif time.monotonic() >= began + _UNKNOWN_GRACE_S:
            raise CloudError(f"{handle}: {api.calls.service} does not know what it has just made")
        else:
            state = "not listed yet"
        if time.monotonic() >= deadline:
            raise _not_running(api, handle, state, reach, time.monotonic() - began)
        if state != told:
            on_phase(f"{handle} is {state}")
            told = state
        _sleep(time.monotonic() - began, deadline)


def check_alive(instance: Instance) -> Instance:
    """The instance itself, if it may yet be used. CloudError with the API's reason if not.

    NoCapacity if the reason is that the cloud had no room for it.
    """
    if instance.state in _OVER:
        reason = one_line(instance.reason) or "the API gives no reason"
        kind = NoCapacity if instance.lacks_capacity else CloudError
        raise kind(
            f"{instance.handle} is {instance.state.value}: {reason}",
            hint="the command may be run again; with spot nodes, set market to on-demand",
        )
    return instance


def wait_for_greeting(
    api: CloudApi, handle: str, address: str, way: Sequence[str] = (), *, deadline: float
) -> None:
    """Return once `address` greets as an SSH server does. NodeSilent at the deadline.

    `way` is a command that leads there. Now and then the API is asked whether the instance still
    runs: CloudError if it does not.
    """
    began = looked = time.monotonic()
    while True:
        problem = find_greeting_problem(address, deadline, way)
        if not problem:
            return
        now = time.monotonic()
        if now >= deadline:
            raise NodeSilent(f"{handle}: no SSH at {address} within {now - began:.0f} s: {problem}")
        if now >= looked + _LOOK_AGAIN_S:
            looked = now
            instance = api.find(handle)
            if instance is not None:
                check_alive(instance)
        time.sleep(min(_GREETING_PAUSE_S, deadline - now))


def find_greeting_problem(address: str, deadline: float, way: Sequence[str] = ()) -> str:
    """What hindered an SSH server at `address` from greeting; empty if it did."""
    timeout_s = max(0.1, min(_GREETING_TIMEOUT_S, deadline - time.monotonic()))
    if way:
        return _find_problem_of_way(way, timeout_s + _CONNECT_TIMEOUT_S)
    try:
        patience_s = min(timeout_s, _CONNECT_TIMEOUT_S)
        with socket.create_connection((address, SSH_PORT), patience_s) as connection:
            connection.settimeout(timeout_s)
            return _read_greeting(connection, time.monotonic() + timeout_s)
    except OSError as error:
        return error.strerror or str(error)


def _find_problem_of_way(way: Sequence[str], timeout_s: float) -> str:
    try:
        heard, said = hear(
            share_jump(way, timeout_s), _has_greeting, timeout_s=timeout_s, most_bytes=_SAID_LIMIT
        )
    except CommandFailed as error:
        return f"{way[0]}: {one_line(clean(error.output.encode()) or str(error), 300)}"
    if _has_greeting(heard):
        return ""
    return f"{way[0]}: {one_line(clean(said[-_GREETING_LIMIT:]), 300) or 'it ended without a word'}"


def _has_greeting(seen: bytes) -> bool:
    return any(line.startswith(_GREETING) for line in seen[:_GREETING_LIMIT].split(b"\n"))


def _read_greeting(connection: socket.socket, until: float) -> str:
    seen = b""
    while len(seen) < _GREETING_LIMIT and time.monotonic() < until:
        if _has_greeting(seen):
            return ""
        data = connection.recv(1024)
        if not data:
            break
        seen += data
    return "it does not greet as an SSH server does"


def _unreachable(handle: str, reach: Reach, addresses: Mapping[Reach, str]) -> ConfigError:
    others = ", ".join(f"{kind.value} {address}" for kind, address in addresses.items())
    return ConfigError(
        f"{handle} runs and has no {reach.value} address; it has {others}",
        hint=f'if this machine reaches that, set reach = "{next(iter(addresses)).value}" in the '
        "remote's file; else give nodes such an address (a subnet, floating_ip_pool)",
    )


def _not_running(
    api: CloudApi, handle: str, state: str, reach: Reach, waited_s: float
) -> CloudError:
    text = f"{handle}: not running within {waited_s:.0f} s ({state})"
    if state == InstanceState.RUNNING.value:
        return CloudError(
            f"{handle} has no {reach.value} address after {waited_s:.0f} s",
            hint="does its subnet give it one? Else set reach in the remote's file",
        )
    return CloudError(text, hint=f"look at {api.calls.service}, or raise boot_timeout")


def _is_past(moment_s: float) -> bool:
    return time.monotonic() >= moment_s


def _sleep(waited_s: float, deadline: float) -> None:
    """A pause that grows with the wait, so that the quick ones are noticed quickly; jittered."""
    ceiling_s = min(_LONGEST_POLL_S, max(_SHORTEST_POLL_S, waited_s / 4))
    pause_s = random.uniform(ceiling_s / 2, ceiling_s)  # noqa: S311 (no secret)
    time.sleep(max(0.0, min(pause_s, deadline - time.monotonic())))

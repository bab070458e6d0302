# SPDX-License-Identifier: GPL-2.0-or-later
"""A job's logs, as they grow, by byte offset: no gap, no duplicate, also after a reconnect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from mock_cloud.remote.channel import AgentChannel
from mock_cloud.wire.decode import Malformed, decode
from mock_cloud.wire.replies import JobEnd, ResultName, parse_end

OnData = Callable[[str, int, bytes], object]
"""Called with a log's name, the byte offset in it, and the bytes that stand there."""

_LOGS_MAX: Final = 4096
_ORDER_MAX_BYTES: Final = 1 << 20
_ANSWER_S: Final = 30.0


def follow_job(
    agent: AgentChannel,
    job: str,
    offsets: Mapping[str, int],
    on_data: OnData,
    *,
    within_s: float,
    idle_s: float | None = None,
) -> JobEnd:
    """Call `on_data` for what each log holds beyond `offsets`, until the job has ended.

    Names are ``terminal`` and relative paths of logs. A connection that died is noticed by
    the channel's watch; the whole takes at most `within_s`, and `idle_s` bounds how long a
    living job may say nothing.
    """
    expected = dict(offsets)
    with agent.call("job_follow", job=job, offsets=expected) as call:
        while True:
            header, body = call.next(within_s=within_s, idle_s=idle_s)
            try:
                if not header.pop("more", False):
                    return parse_end(header)
                name = decode(ResultName, header["log"])
            except (Malformed, KeyError) as error:
                raise agent.protocol_error(f"job_follow: {error}") from error
            offset = expected.get(name, 0)
            if header.get("offset") != offset or len(expected) > _LOGS_MAX or not body:
                raise agent.protocol_error(f"job_follow: {name} does not go on where it was")
            on_data(name, offset, body)
            expected[name] = offset + len(body)


def read_order_log(agent: AgentChannel) -> bytes:
    """What the agent noted of this connection so far: its own word."""
    text = bytearray()
    with agent.call("order") as call:
        while True:
            header, body = call.next(within_s=_ANSWER_S)
            text += body
            if len(text) > _ORDER_MAX_BYTES:
                raise agent.protocol_error("the order log is too large")
            if not header.get("more"):
                return bytes(text)

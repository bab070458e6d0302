# SPDX-License-Identifier: GPL-2.0-or-later
"""A job's logs, as they grow, by byte offset: no gap, no duplicate, also after a reconnect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from mock_cloud.remote.channel import AgentChannel
from mock_cloud.remote.replies import JobEnd, ReplyError, parse_end, parse_name

OnData = Callable[[str, int, bytes], object]
"""Called with a log's name, the byte offset in it, and the bytes that stand there."""

_LOGS_MAX: Final = 4096
_FOREVER_S: Final = 365 * 86400.0


def follow_job(
    agent: AgentChannel,
    job: str,
    offsets: Mapping[str, int],
    on_data: OnData,
    *,
    idle_limit_s: float | None = None,
) -> JobEnd:
    """Call `on_data` for what each log holds beyond `offsets`, until the job has ended.

    Names are ``terminal`` and relative paths of logs. A connection that died is noticed by
    the channel's watch; `idle_limit_s` bounds how long a living job may say nothing.
    """
    expected = dict(offsets)
    patience_s = _FOREVER_S if idle_limit_s is None else idle_limit_s
    with agent.call("job_follow", job=job, offsets=expected) as call:
        while True:
            header, body = call.next(within_s=patience_s)
            try:
                if not header.pop("more", False):
                    return parse_end(header)
                name = parse_name(header["log"])
            except (ReplyError, KeyError) as error:
                raise agent.protocol_error(f"job_follow: {error}") from error
            offset = expected.get(name, 0)
            if header.get("offset") != offset or len(expected) > _LOGS_MAX:
                raise agent.protocol_error(f"job_follow: {name} goes on at the wrong offset")
            on_data(name, offset, body)
            expected[name] = offset + len(body)

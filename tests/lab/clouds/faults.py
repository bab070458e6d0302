# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong between a client and a cloud's API: armed by tests, applied by the proxy.

A fault is a function of an `Exchange`: it may forward the request or not, and answer what it
likes, nothing, or a reset. Those of one provider's own words are in `ec2` and `openstack`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Request:
    """One API request. `operation` is what faults and call counts know it by."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    operation: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back. A `status` of 0 closes the connection without a word; -1 resets it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


NO_ANSWER = Response(0)
RESET = Response(-1)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request on its way. `forward` has the cloud act, as often as it is called.

    `lifted` is set when the fault is withdrawn, and at the end of the cloud.
    """

    request: Request
    forward: Callable[[], Response]
    lifted: threading.Event


Fault = Callable[[Exchange], Response]


def answer(status: int, body: str, content_type: str, **headers: str) -> Fault:
    """Always this, and the cloud never hears of it. `headers`: underscores become dashes."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    response = Response(status, body.encode(), {"Content-Type": content_type, **given})
    return lambda exchange: response


def html_502(status: int = 502) -> Fault:
    """What a load balancer says whose servers are gone."""
    text = "<html><head><title>502 Bad Gateway</title></head><body><h1>502</h1></body></html>"
    return answer(status, text, "text/html")


def too_many_requests(retry_after_s: int) -> Fault:
    """429 with Retry-After, as OpenStack's rate limits have it."""
    text = '{"overLimit": {"code": 429, "message": "This request was rate-limited."}}'
    return answer(429, text, "application/json", Retry_After=str(retry_after_s))


def flood(size_bytes: int) -> Fault:
    """A well-meant status and far more bytes than anyone asked for."""
    return answer(200, "A" * size_bytes, "text/xml")


def swallow(exchange: Exchange) -> Response:
    """The cloud acts; its answer is lost, and the client waits in vain until this is lifted."""
    exchange.forward()
    exchange.lifted.wait()
    return NO_ANSWER


def hang(exchange: Exchange) -> Response:
    """Neither act nor answer until this is lifted."""
    exchange.lifted.wait()
    return NO_ANSWER


def reset(exchange: Exchange) -> Response:
    """The connection is reset before the cloud hears of anything."""
    return RESET


def reset_after(exchange: Exchange) -> Response:
    """The cloud acts, and then the connection is reset."""
    exchange.forward()
    return RESET


def delay(seconds: float) -> Fault:
    """The right answer, late."""

    def slowly(exchange: Exchange) -> Response:
        exchange.lifted.wait(seconds)
        return exchange.forward()

    return slowly


@dataclass(slots=True)
class Armed:
    """A fault that waits for its requests. `hits` counts those it met; `lift` withdraws it.

    Requests fit if their operation matches the pattern `on` (as a shell's), and every parameter in
    `when` has its value. `skip` of them pass first; `times` are met, None for all; until
    `until_s` on the monotonic clock.
    """

    fault: Fault
    on: str
    times: int | None
    skip: int
    when: Mapping[str, str]
    until_s: float | None
    hits: int = 0
    lifted: threading.Event = field(default_factory=threading.Event)

    def lift(self) -> None:
        """Idempotent. Those that hang get their end."""
        self.lifted.set()

    def takes(self, request: Request) -> bool:
        """Whether this request is for it; counts."""
        if self.lifted.is_set() or not fnmatchcase(request.operation, self.on):
            return False
        if self.until_s is not None and time.monotonic() >= self.until_s:
            return False
        if any(request.parameters.get(name) != value for name, value in self.when.items()):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


class Faults:
    """The armed faults of one cloud; the first that fits a request is applied."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[Armed] = []
        self._shaking: tuple[random.Random, float, Sequence[Fault], str] | None = None

    def add(
        self,
        fault: Fault,
        on: str = "*",
        *,
        times: int | None = 1,
        skip: int = 0,
        when: Mapping[str, str] | None = None,
        for_s: float | None = None,
    ) -> Armed:
        """Arm `fault`; see `Armed`. With `for_s` it disarms itself after so many seconds."""
        until_s = None if for_s is None else time.monotonic() + for_s
        armed = Armed(fault, on, times, skip, dict(when or {}), until_s)
        with self._lock:
            self._armed.append(armed)
        return armed

    def shake(self, seed: int, rate: float, kinds: Sequence[Fault], on: str = "*") -> None:
        """From now on each request meets one of `kinds` with probability `rate`.

        The same seed and the same requests meet the same faults.
        """
        self._shaking = (random.Random(seed), rate, tuple(kinds), on)  # noqa: S311

    def clear(self) -> None:
        """Lift everything."""
        with self._lock:
            armed, self._armed = self._armed, []
            self._shaking = None
        for one in armed:
            one.lift()

    def take(self, request: Request) -> Armed | None:
        """The fault that this request meets."""
        with self._lock:
            for armed in self._armed:
                if armed.takes(request):
                    return armed
            if self._shaking is not None:
                chance, rate, kinds, on = self._shaking
                if fnmatchcase(request.operation, on) and chance.random() < rate:
                    return Armed(chance.choice(kinds), on, 1, 0, {}, None, hits=1)
        return None

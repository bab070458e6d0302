# SPDX-License-Identifier: GPL-2.0-or-later
"""The one way by which an adapter calls its API: deadlines, retries, and what a failure means.

libcloud's own retry is off: it sends a call again whether or not that may be done twice. No
text of a failed request is shown, only of answers: requests name the URL, which may hold user-data.
"""

from __future__ import annotations

import random
import ssl
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Any, Final, TypeVar

from mock_cloud import __version__
from mock_cloud.cloud.apis.library_rules import keep_own_rules
from mock_cloud.cloud.apis.texts import CloudIsOut, CredentialsRefused, OutcomeUnknown, one_line
from mock_cloud.cloud.provider import OnPhase
from mock_cloud.errors import CloudError, ConfigError, MockCloudError
from mock_cloud.model import utc_text
from mock_cloud.network import find_proxy
from mock_cloud.progress.listeners import tell_listener
from mock_cloud.wire.dataclass import dataclass

T = TypeVar("T")

ATTEMPT_TIMEOUT_S: Final = 20.0
"""For the driver's `timeout`: how long the API may be silent within one request."""

CREATE_TIMEOUT_S: Final = 120.0
"""The same for a request that makes a node: some APIs ask many others before they answer."""

CALL_TIMEOUT_S: Final = 60.0
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 15.0
_LONGEST_WISH_S: Final = 120.0
_NOT_ITS_TIME: Final = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED of OpenSSL's x509_vfy.h."""


class FailureKind(Enum):
    """What a failed request means for the next one."""

    THROTTLED = "throttled"
    """Nothing was done: later it may be."""
    UNREACHED = "unreached"
    """There was no connection, so nothing was asked and nothing done."""
    UNANSWERED = "unanswered"
    """Nobody knows what was done: no answer, or none of the API's own."""
    REFUSED = "refused"
    """The API said no. The same again would get the same."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One failed request, apart from the library's ways to tell.

    `code` is the API's own word for it, where the text begins with one (``RequestLimitExceeded:
    …``). `status` is HTTP's, 0 if unknown. `text` is fit for a message.
    """

    trouble: FailureKind
    text: str
    code: str = ""
    status: int = 0
    retry_after_s: float = 0.0
    is_credentials: bool = False
    is_certificate: bool = False


_PASSING: Final = frozenset({FailureKind.THROTTLED, FailureKind.UNREACHED, FailureKind.UNANSWERED})
"""Troubles after which the same request may succeed."""

Classify = Callable[[Diagnosis], "FailureKind | MockCloudError"]
"""An adapter's view on a diagnosis: what it means in this API, or the error to raise at once."""


class Breaker:
    """Remembers for one run that an API is out, so that nobody waits for it again."""

    def __init__(self) -> None:
        self.reason = ""

    def check(self) -> None:
        """CloudIsOut if it was found out before."""
        if self.reason:
            raise CloudIsOut(
                f"not asked again in this run: {self.reason}",
                hint="look at the cloud's status page; another remote may do: --remote, fallback",
            )


_breakers: dict[str, Breaker] = {}


def breaker_of(service: str) -> Breaker:
    """The breaker of `service` in this process, which is one run of a command."""
    return _breakers.setdefault(service, Breaker())


class Calls:
    """Makes the requests of one adapter. `service` names the API in messages, with its region.

    `count` is how many requests were made. `timeout_s` bounds a call with all its retries,
    `create_timeout_s` the silence of a request that makes a node.
    """

    def __init__(
        self,
        service: str,
        classify: Classify,
        *,
        breaker: Breaker | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        create_timeout_s: float = CREATE_TIMEOUT_S,
    ) -> None:
        self.service = service
        self._create_timeout_s = create_timeout_s
        self.count = 0
        self._classifier = classify
        self._breaker = breaker if breaker is not None else breaker_of(service)
        self._longest_s = timeout_s
        self._on_phase: OnPhase = tell_listener
        self._is_aside = False

    @property
    def _timeout_s(self) -> float:
        return min(self._longest_s, *_looks)

    @contextmanager
    def telling(self, on_phase: OnPhase) -> Iterator[None]:
        """Within the block the user is told why a call takes long."""
        before, self._on_phase = self._on_phase, on_phase
        try:
            yield
        finally:
            self._on_phase = before

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within the block each request is tried once, and its silence is no outage of the API.

        For what is merely good to know: a console is read from the node's host, which may be what
        has died.
        """
        before, self._is_aside = self._is_aside, True
        try:
            yield
        finally:
            self._is_aside = before

    @contextmanager
    def creating(self, connection: Any) -> Iterator[None]:
        """Within the block libcloud's `connection` waits as long as making a node may take.

        What is given up too early is made all the same, and paid for.
        """
        before = getattr(connection, "timeout", None)  # not every driver's is one of libcloud's own
        session = _session(connection)
        usual = before or ATTEMPT_TIMEOUT_S if session is None else session.timeout
        # As requests takes it: to connect, and to be answered.
        wanted = (before or ATTEMPT_TIMEOUT_S, max(self._create_timeout_s, before or 0.0))
        connection.timeout = wanted
        if session is not None:
            session.timeout = wanted
        try:
            yield
        finally:
            connection.timeout = before
            if (session := _session(connection)) is not None:  # it may be another by now
                session.timeout = usual

    def read(self, what: str, request: Callable[[], T]) -> T:
        """A request that changes nothing: repeated whatever happened, until the deadline.

        `what` says what is wanted, for messages (``describe instances``). CloudError, and what
        the adapter's classifier makes of a refusal.
        """
        self._breaker.check()
        return self._repeat(what, request, tuple(_PASSING), CloudIsOut)

    def change(
        self, what: str, request: Callable[[], T], *, repeatable: bool, is_single: bool = True
    ) -> T:
        """A request that changes something. `repeatable`: done twice it is as done once.

        Without an answer: repeated if it may be, else OutcomeUnknown at once. Not `is_single`: a
        library makes several requests of it, and the last one's failure tells nothing of the first.
        CloudIsOut and ConfigError: nothing was done.
        """
        self._breaker.check()
        again = _PASSING if repeatable else _PASSING - {FailureKind.UNANSWERED}
        if not is_single:
            again -= {FailureKind.UNREACHED}
        return self._repeat(what, request, tuple(again), OutcomeUnknown, is_single=is_single)

    def end(self, what: str, request: Callable[[], T]) -> T:
        """A request that gives something back. Tried once even if the API is out."""
        is_out = bool(self._breaker.reason)
        return self._repeat(what, request, () if is_out else tuple(_PASSING), OutcomeUnknown)

    def _repeat(
        self,
        what: str,
        request: Callable[[], T],
        again: tuple[FailureKind, ...],
        unanswered: type[CloudError],
        *,
        is_single: bool = True,
    ) -> T:
        keep_own_rules()
        deadline = time.monotonic() + self._timeout_s
        tries, may_be_done = 0, not is_single
        again = () if self._is_aside else again
        while True:
            tries += 1
            self.count += 1
            try:
                return request()
            except library_errors() as error:
                diagnosis = diagnose(error)
            # Out of the handler: the library's error, which may name the URL, is no context.
            trouble = self._classifier(diagnosis)
            is_change = unanswered is OutcomeUnknown
            if isinstance(trouble, ConfigError) and is_change and may_be_done and tries > 1:
                raise unanswered(f"{trouble.message} (after a try without an answer)") from trouble
            if isinstance(trouble, MockCloudError):
                raise trouble
            may_be_done |= trouble is FailureKind.UNANSWERED
            pause_s = _pause_s(tries, diagnosis)
            if trouble not in again or time.monotonic() + pause_s >= deadline:
                # One request without an answer, after some that were put off, is no outage.
                counted = tries if trouble in again else 1
                kind = unanswered if may_be_done else CloudIsOut
                raise self._give_up(what, trouble, diagnosis, counted, kind)
            self._say(trouble, diagnosis, pause_s, is_first=tries == 1)
            time.sleep(pause_s)

    def _say(
        self, trouble: FailureKind, diagnosis: Diagnosis, pause_s: float, *, is_first: bool
    ) -> None:
        if is_first and trouble is not FailureKind.THROTTLED:  # it may take a minute: no mere phase
            self._on_phase(
                f"waiting for {self.service}, for up to {self._timeout_s:g} s: {diagnosis.text}"
            )
        elif trouble is FailureKind.THROTTLED:
            self._on_phase(f"the API of {self.service} is throttling us: again in {pause_s:.1f} s")
        else:
            self._on_phase(f"{self.service}: {diagnosis.text}: trying again")

    def _give_up(
        self,
        what: str,
        trouble: FailureKind,
        diagnosis: Diagnosis,
        tries: int,
        unanswered: type[CloudError],
    ) -> CloudError:
        text = f"{self.service}: {what}: {diagnosis.text}"
        if trouble is FailureKind.REFUSED:
            return CloudError(text)
        if trouble is FailureKind.THROTTLED:
            return CloudError(
                f"{text} (throttled {tries} times in {self._timeout_s:g} s)",
                hint="too many calls are made with this account: try again later",
            )
        if tries > 1:
            self._breaker.reason = text
            text = f"{text} ({tries} tries in {self._timeout_s:g} s)"
        return unanswered(text, hint="is the network up, and the API's endpoint right?")


def diagnose(error: BaseException) -> Diagnosis:
    """What one of `library_errors` means, by HTTP's rules alone."""
    from libcloud.common.exceptions import BaseHTTPError
    from libcloud.common.types import InvalidCredsError, LibcloudError, MalformedResponseError

    if isinstance(error, BaseHTTPError):
        return _by_status(int(error.code), one_line(str(error.message)), _wish_s(error))
    if isinstance(error, MalformedResponseError):
        body = one_line(str(error.body or ""), 120)
        return Diagnosis(FailureKind.UNANSWERED, f"an answer that is none of the API's: {body!r}")
    if isinstance(error, LibcloudError):
        text = one_line(str(error.value))
        is_credentials = isinstance(error, InvalidCredsError)
        status = 401 if is_credentials else 0
        return Diagnosis(FailureKind.REFUSED, text, _code(text), status, 0.0, is_credentials)
    if isinstance(error, OSError):
        return _by_network(error)
    return Diagnosis(FailureKind.UNANSWERED, "an answer that cannot be understood")


def library_errors() -> tuple[type[Exception], ...]:
    """All that libcloud raises for an API's or the network's fault.

    Where an answer lacks something its parsers raise whatever comes: the last six.
    """
    from libcloud.common.exceptions import BaseHTTPError
    from libcloud.common.types import LibcloudError

    return (
        LibcloudError,
        BaseHTTPError,
        OSError,
        ET.ParseError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    )


def _session(connection: Any) -> Any:
    """requests' session of libcloud's `connection`; None before it has connected."""
    return getattr(getattr(connection, "connection", None), "session", None)


def make_ours(driver: Any) -> None:
    """Have libcloud's `driver` say who asks, and never repeat a request by itself.

    It would where its environment variable says so.
    """
    driver.connection.retryCls = Once
    if hasattr(driver.connection, "user_agent_append"):
        driver.connection.user_agent_append(f"mock-cloud/{__version__}")


def refuse_credentials(diagnosis: Diagnosis, service: str, source: str) -> CredentialsRefused:
    """For judges: the error that names where refused credentials came from, never what they are."""
    return CredentialsRefused(
        f"{service} does not accept the credentials from {source}: {diagnosis.text}",
        hint=f"mend them in {source}; are they of this cloud and region, and still valid?"
        f" {_clock()}, and requests are signed with that",
    )


def _clock() -> str:
    """What is also to blame where a signature or certificate is not accepted."""
    return f"This machine's clock says {utc_text(time.time())}"


class Once:
    """In place of `libcloud.utils.retry.Retry`: calls once."""

    def __init__(self, **_: object) -> None:
        pass

    def __call__(self, function: Callable[..., T]) -> Callable[..., T]:
        return function


def _by_status(status: int, text: str, wish_s: float) -> Diagnosis:
    trouble = FailureKind.REFUSED
    if status == 429 or (status in (413, 503) and wish_s):
        trouble = FailureKind.THROTTLED
    elif status >= 500:
        trouble = FailureKind.UNANSWERED
    return Diagnosis(
        trouble,
        text or f"HTTP status {status}",
        _code(text),
        status,
        wish_s,
        is_credentials=status == 401,
    )


def _by_network(error: OSError) -> Diagnosis:
    """For requests' errors, which are OSErrors, and those below them; with the proxy's name."""
    found = _without_proxy(error)
    url = getattr(getattr(error, "request", None), "url", None)
    proxy = find_proxy(str(url)) if url else None
    return replace(found, text=f"through the proxy {proxy}: {found.text}") if proxy else found


def _without_proxy(error: OSError) -> Diagnosis:
    from requests.exceptions import ConnectionError as NoConnection
    from requests.exceptions import ConnectTimeout, SSLError, Timeout
    from urllib3.exceptions import NewConnectionError

    if isinstance(error, SSLError):
        return Diagnosis(FailureKind.REFUSED, _certificate_text(error), is_certificate=True)
    if isinstance(error, ConnectTimeout):
        return Diagnosis(FailureKind.UNREACHED, "no connection in time")
    if isinstance(error, Timeout):
        return Diagnosis(FailureKind.UNANSWERED, "no answer in time")
    if isinstance(error, NoConnection):
        reasons = list(_reasons(error))
        was_made = not any(isinstance(one, NewConnectionError) for one in reasons)
        trouble = FailureKind.UNANSWERED if was_made else FailureKind.UNREACHED
        return Diagnosis(trouble, _connection_text(reasons[-1]))
    return Diagnosis(FailureKind.UNANSWERED, one_line(error.strerror or type(error).__name__))


def _certificate_text(error: BaseException) -> str:
    """Why there was no TLS; of a certificate whose time it is not, with the time here."""
    text = "its TLS certificate or handshake is not acceptable"
    for one in _reasons(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            why = one_line(one.verify_message, 120)
            is_time = one.verify_code in _NOT_ITS_TIME
            return f"{text}: {why}" + (f". {_clock()}" if is_time else "")
    return text


def _wish_s(error: Any) -> float:
    """Retry-After in seconds, within reason."""
    try:
        wish_s = float((error.headers or {}).get("retry-after", 0))
    except (ValueError, AttributeError):
        return 0.0
    return min(wish_s, _LONGEST_WISH_S) if wish_s > 0 else 0.0


def _code(text: str) -> str:
    """The word before the first colon, if it is a code: ``RequestLimitExceeded: …``."""
    word, colon, _ = text.partition(": ")
    return word if colon and word.replace(".", "").isalnum() else ""


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made of, the innermost last: requests' of urllib3's of Python's."""
    yield error
    for _ in range(4):
        inner = getattr(error, "reason", None) or next(iter(error.args), None)
        if not isinstance(inner, BaseException):
            return
        error = inner
        yield error


def _connection_text(reason: BaseException) -> str:
    """Why there was no connection, without the request's URL."""
    text = str(reason).rpartition(": ")[2]
    return "no connection" if "/" in text else f"no connection: {one_line(text, 120)}"


def _pause_s(tries: int, diagnosis: Diagnosis) -> float:
    """Full jitter (AWS Architecture Blog, "Exponential Backoff and Jitter"), not before wished."""
    ceiling_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(tries, 10))
    return diagnosis.retry_after_s + random.uniform(0.0, ceiling_s)  # noqa: S311 (no secret)


_looks: list[float] = [float("inf")]


@contextmanager
def looking(timeout_s: float) -> Iterator[None]:
    """Within the block no call takes longer: somebody only looks whether all is well."""
    _looks.append(timeout_s)
    try:
        yield
    finally:
        _looks.pop()

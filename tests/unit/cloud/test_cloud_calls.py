# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls to an API: what is repeated, what is not, and that nothing secret is told."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from libcloud.common.exceptions import exception_from_message
from libcloud.common.types import InvalidCredsError, LibcloudError, MalformedResponseError

from mock_cloud.cloud.apis import calls as calls_module
from mock_cloud.cloud.apis.calls import Breaker, Calls, Diagnosis, FailureKind, diagnose
from mock_cloud.cloud.apis.texts import CloudIsOut, OutcomeUnknown
from mock_cloud.errors import CloudError, ConfigError, MockCloudError
from mock_cloud.network import find_proxy
from tests.lab.http import FileServer

URL = "http://127.0.0.1:1/?Action=RunInstances&UserData=aHVzaA"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "_FIRST_PAUSE_S", 0.01)


def by_trouble(diagnosis: Diagnosis) -> FailureKind | MockCloudError:
    return diagnosis.trouble


def make_calls(timeout_s: float = 5.0) -> Calls:
    return Calls("lab", by_trouble, breaker=Breaker(), timeout_s=timeout_s)


def failing(*errors: Exception) -> Callable[[], str]:
    """A request that fails in these ways, one after the other, and then answers."""
    left = list(errors)

    def request() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return request


def http(status: int, text: str = "", **headers: str) -> Exception:
    return exception_from_message(status, text, headers)  # type: ignore[no-any-return]


BROKEN = [
    (http(502, "<html>Bad Gateway</html>"), FailureKind.UNANSWERED),
    (http(500, "InternalError: sorry"), FailureKind.UNANSWERED),
    (http(503, "down"), FailureKind.UNANSWERED),
    (http(503, "busy", **{"retry-after": "0.1"}), FailureKind.THROTTLED),
    (http(429), FailureKind.THROTTLED),
    (http(400, "InvalidAMIID.NotFound: no such image"), FailureKind.REFUSED),
    (
        MalformedResponseError("Failed to parse XML", body="<html>oops</html>"),
        FailureKind.UNANSWERED,
    ),
    (InvalidCredsError("AuthFailure: no"), FailureKind.REFUSED),
    (LibcloudError("odd"), FailureKind.REFUSED),
    (requests.exceptions.ReadTimeout(URL), FailureKind.UNANSWERED),
    (requests.exceptions.ConnectionError(URL), FailureKind.UNANSWERED),
    (requests.exceptions.SSLError(URL), FailureKind.REFUSED),
    (AttributeError("'NoneType' object has no attribute 'text'"), FailureKind.UNANSWERED),
]


@pytest.mark.parametrize(("error", "trouble"), BROKEN, ids=lambda value: str(value)[:30])
def test_what_a_failure_means(error: Exception, trouble: FailureKind) -> None:
    diagnosis = diagnose(error)
    assert diagnosis.trouble is trouble
    assert "UserData" not in diagnosis.text and "<" not in diagnosis.text


def test_a_real_refused_connection_says_so_and_no_url() -> None:
    try:
        requests.get(URL, timeout=2)
    except requests.exceptions.ConnectionError as error:
        assert diagnose(error).text == "no connection: [Errno 111] Connection refused"


def test_a_read_is_repeated() -> None:
    calls = make_calls()
    assert calls.read("look", failing(http(502), requests.exceptions.ReadTimeout())) == "answer"
    assert calls.count == 3


def test_a_change_without_a_token_is_made_once() -> None:
    calls = make_calls()
    with pytest.raises(OutcomeUnknown, match="lab: make: no answer in time"):
        calls.change("make", failing(requests.exceptions.ReadTimeout()), repeatable=False)
    assert calls.count == 1


def test_a_change_with_a_token_is_repeated() -> None:
    calls = make_calls()
    request = failing(requests.exceptions.ReadTimeout())
    assert calls.change("make", request, repeatable=True) == "answer"


def test_throttling_is_waited_out_and_told() -> None:
    calls = make_calls()
    told: list[str] = []
    began = time.monotonic()
    with calls.telling(told.append):
        request = failing(http(429, "slow down", **{"retry-after": "0.2"}))
        assert calls.change("make", request, repeatable=False) == "answer"
    assert time.monotonic() - began >= 0.2
    assert told and told[0].startswith("the API of lab is throttling us: again in 0.")


def test_a_refusal_is_final() -> None:
    calls = make_calls()
    with pytest.raises(CloudError, match="no such image"):
        calls.read("look", failing(http(400, "InvalidAMIID.NotFound: no such image")))
    assert calls.count == 1


def test_an_api_that_is_out_is_not_asked_again() -> None:
    calls = make_calls(timeout_s=0.3)
    endless = failing(*[http(502) for _ in range(100)])
    with pytest.raises(CloudIsOut, match=r"tries in 0\.3 s"):
        calls.read("look", endless)
    asked = calls.count
    with pytest.raises(CloudIsOut, match="not asked again in this run"):
        calls.read("look", endless)
    with pytest.raises(CloudIsOut):
        calls.change("make", endless, repeatable=True)
    assert calls.count == asked
    assert calls.end("terminate", failing()) == "answer", "giving back is tried all the same"


def test_what_is_asked_aside_is_asked_once_and_no_outage() -> None:
    calls = make_calls()
    with calls.aside(), pytest.raises(CloudIsOut):
        calls.read("look", failing(http(504)))
    assert calls.count == 1
    assert calls.read("look", failing(http(504))) == "answer", "asked again, as usual"


def test_no_secret_hangs_on_an_error() -> None:
    calls = make_calls()
    with pytest.raises(OutcomeUnknown) as caught:
        calls.change("make", failing(requests.exceptions.ReadTimeout(URL)), repeatable=False)
    assert caught.value.__context__ is None and caught.value.__cause__ is None
    assert "UserData" not in str(caught.value)


def test_one_unanswered_request_after_throttled_ones_is_no_outage() -> None:
    calls = make_calls()
    request = failing(http(429), requests.exceptions.ConnectionError(URL))
    with pytest.raises(OutcomeUnknown):
        calls.change("create", request, repeatable=False)
    assert calls.read("list", request) == "answer"


def unreached() -> requests.exceptions.ConnectionError:
    """What requests really raises where nobody listens."""
    try:
        requests.get(URL, timeout=2)
    except requests.exceptions.ConnectionError as error:
        return error
    raise AssertionError("somebody listens at port 1")


def test_an_order_that_never_left_was_not_taken() -> None:
    assert diagnose(unreached()).trouble is FailureKind.UNREACHED
    assert make_calls().change("make", failing(unreached()), repeatable=False) == "answer"
    with pytest.raises(CloudIsOut):
        make_calls(0.0).change("make", failing(*[unreached()] * 9), repeatable=False)


def test_an_order_that_may_have_been_taken_stays_unknown() -> None:
    lost = requests.exceptions.ReadTimeout()
    calls = make_calls(0.3)
    with pytest.raises(OutcomeUnknown):
        calls.change("make", failing(lost, *[unreached()] * 999), repeatable=True)

    def judge(diagnosis: Diagnosis) -> FailureKind | MockCloudError:
        return ConfigError("expired") if diagnosis.is_credentials else diagnosis.trouble

    for error, outcome in ((lost, OutcomeUnknown), (http(429), ConfigError)):
        calls = Calls("lab", judge, breaker=Breaker(), timeout_s=5.0)
        with pytest.raises(outcome, match="expired"):
            calls.change("make", failing(error, InvalidCredsError("no")), repeatable=True)


def test_what_a_library_does_in_several_requests_may_have_been_done() -> None:
    with pytest.raises(OutcomeUnknown):
        make_calls().change("make", failing(unreached()), repeatable=False, is_single=False)


def test_waiting_for_an_api_is_told_at_once() -> None:
    calls, told = make_calls(), list[str]()
    with calls.telling(told.append):
        calls.read("look", failing(unreached(), unreached()))
    assert told[0].startswith("waiting for lab, for up to 5 s: no connection")
    assert not told[1].startswith("waiting")


def test_who_only_looks_waits_less() -> None:
    calls = make_calls(timeout_s=60)
    endless = failing(*[http(502) for _ in range(100)])
    with calls_module.looking(0.3), pytest.raises(CloudIsOut, match=r"tries in 0\.3 s"):
        calls.read("look", endless)
    told: list[str] = []
    fresh = make_calls(timeout_s=60)
    with fresh.telling(told.append):
        fresh.read("look", failing(unreached()))
    assert "for up to 60 s" in told[0]


@pytest.mark.parametrize(
    ("words", "url"),
    [
        ("10.0.0.0/8", "https://10.1.2.3:8774/"), ("10.0.0.0/8", "https://11.1.2.3/"),
        ("fd00::/8", "https://[fd00::1]:8774/"), ("fd00::/8", "https://[fe00::1]/"),
        ("[::1]", "https://[::1]/"), ("10.0.0.1:5000", "https://10.0.0.1:5000/"),
        ("10.0.0.1:5000", "https://10.0.0.1:5001/"), ("c.example:8443", "https://c.example:8443/"),
        ("c.example:8443", "https://c.example/"), ("*.c.example", "https://x.c.example/"),
        (".c.example", "https://x.c.example/"), ("c.example", "https://notc.example/"),
        ("c.example.", "https://c.example/"), ("*", "https://c.example/"), ("", "http://h/"),
        ("a.b\tc.example", "https://c.example/"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
def test_apis_are_asked_by_the_one_rule_for_proxies(
    words: str, url: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libcloud's and openstacksdk's requests go by what docs/networks.md says, as all else."""
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    environ = {"https_proxy": "http://proxy.example:3128", "HTTP_PROXY": "proxy.example:3129",
               variable: words}  # fmt: skip
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert make_calls().read("that", lambda: 1) == 1
    with requests.Session() as session:
        asked = session.merge_environment_settings(url, {}, None, None, None)["proxies"]
    chosen = requests.utils.select_proxy(url, asked)
    ours = find_proxy(url, environ)
    assert (chosen or "").rpartition("/")[2] == ("" if ours is None else str(ours)), chosen


def test_an_api_with_a_dead_address_costs_no_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel gives it up after two minutes, and urllib3 tries one address after another."""
    make_calls().read("that", lambda: 1)
    (tmp_path / "x").write_text("here")
    with FileServer({"/": tmp_path}) as server, socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        port = int(server.url.rpartition(":")[2])
        ends = [("127.0.0.1", full.getsockname()[1])] * 2 + [("127.0.0.1", port)]
        both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", end) for end in ends]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_words, **_more: both)
        began = time.monotonic()
        assert requests.get(f"http://both.example:{port}/x", timeout=600).text == "here"
        assert time.monotonic() - began < 60
        for one in waiting:
            one.close()

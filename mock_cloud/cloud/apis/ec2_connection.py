# SPDX-License-Identifier: GPL-2.0-or-later
"""Signed requests to EC2: libcloud's driver signs and connects, the parameters are ours.

Its own methods know neither IMDSv2, volume tags, IPv6 nor pages, and their GET has user-data in
the URL, where proxies log it. POST is the same API, with the parameters in the body.
"""

from __future__ import annotations

import difflib
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from mock_cloud.cloud.apis.aws_credentials import AwsKeys, find_keys
from mock_cloud.cloud.apis.calls import ATTEMPT_TIMEOUT_S, Breaker, Calls, make_ours
from mock_cloud.cloud.apis.ec2_answers import OddAnswer, parse_error, text_at
from mock_cloud.cloud.apis.ec2_failures import make_classifier
from mock_cloud.cloud.apis.texts import CredentialsRefused
from mock_cloud.errors import ConfigError
from mock_cloud.settings import Ec2Settings

T = TypeVar("T")
Parameters = Mapping[str, str]

_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
_VERSION: Final = "2016-11-15"
_ANY_REGION: Final = "us-east-1"
_PAGES_LIMIT: Final = 200
_PAGE: Final = 500
_SIZE_LIMIT: Final = 32 << 20


class Ec2Connection:
    """Asks the API of one region. Keys are read when they are needed, and again when refused."""

    def __init__(
        self,
        settings: Ec2Settings,
        remote_file: Path,
        breaker: Breaker | None,
        call_timeout_s: float,
    ) -> None:
        self._settings = settings
        self._remote_file = remote_file
        self._keys: AwsKeys | None = None
        self._driver: Any = None
        where = urllib.parse.urlsplit(settings.endpoint).netloc or settings.region
        service = f"EC2 {where}"
        classify = make_classifier(service, self._source, remote_file)
        self.calls = Calls(service, classify, breaker=breaker, timeout_s=call_timeout_s)
        self._attempt_timeout_s = min(ATTEMPT_TIMEOUT_S, call_timeout_s / 3)

    @property
    def source(self) -> str:
        """Where the keys in use came from; ``nowhere`` before they were needed."""
        return self._source()

    def read(self, action: str, parameters: Parameters) -> ET.Element:
        """The answer to a request that changes nothing."""
        return self._renewing(
            lambda: self.calls.read(action, lambda: self._ask(action, parameters))
        )

    def read_pages(
        self, action: str, parameters: Parameters, *, page: int | None = None
    ) -> Iterator[ET.Element]:
        """The answers to a request for a list, until the API says that there are no more.

        `page` is how many entries an answer may have.
        """
        token = ""
        for _ in range(_PAGES_LIMIT):
            asked = {**parameters, "MaxResults": str(page or _PAGE)}
            if token:
                asked["NextToken"] = token
            answer = self.read(action, asked)
            yield answer
            token = text_at(answer, "nextToken")
            if not token:
                return
        raise ConfigError(f"{self.calls.service}: {action} does not end after {_PAGES_LIMIT} pages")

    def change(self, action: str, parameters: Parameters, *, repeatable: bool) -> ET.Element:
        """The answer to a request that makes something."""
        return self._renewing(
            lambda: self.calls.change(
                action, lambda: self._ask(action, parameters), repeatable=repeatable
            )
        )

    def end(self, action: str, parameters: Parameters) -> ET.Element:
        """The answer to a request that gives something back."""
        return self._renewing(lambda: self.calls.end(action, lambda: self._ask(action, parameters)))

    def _renewing(self, call: Callable[[], T]) -> T:
        """`call`, and once more if its keys were refused and newer ones have come meanwhile."""
        try:
            return call()
        except CredentialsRefused:
            used, now = self._keys, find_keys(self._settings, self._remote_file)
            if used is None or now.is_same(used):
                raise
            self._driver = None
            return call()

    def _ask(self, action: str, parameters: Parameters) -> ET.Element:
        if self._driver is None:
            self._keys = find_keys(self._settings, self._remote_file)
            self._driver = _make_driver(
                self._settings, self._remote_file, self._keys, self._attempt_timeout_s
            )
        form = {"Action": action, "Version": _VERSION, **parameters}
        response = self._driver.connection.request(
            "/",
            method="POST",
            data=urllib.parse.urlencode(form),
            headers=_FORM,
            retry_failed=False,
        )
        answer = response.object
        if not isinstance(answer, ET.Element) or len(response.body) > _SIZE_LIMIT:
            raise OddAnswer("an answer that is not XML, or too long")
        if not answer.tag.endswith(f"{action}Response"):
            raise OddAnswer("the answer to another question")
        return answer

    def _source(self) -> str:
        return "nowhere" if self._keys is None else self._keys.source


def _make_driver(settings: Ec2Settings, remote_file: Path, keys: AwsKeys, timeout_s: float) -> Any:
    from libcloud.compute.drivers import ec2

    driver_class: Any = ec2.EC2NodeDriver  # libcloud's types are its own affair
    regions = driver_class.list_regions()
    endpoint = urllib.parse.urlsplit(settings.endpoint)
    if not settings.endpoint and settings.region not in regions:
        near = difflib.get_close_matches(settings.region, regions, n=3)
        raise ConfigError(
            f"{remote_file}: [ec2] region: libcloud knows no region {settings.region!r}",
            hint=f"did you mean {' or '.join(near)}?"
            if near
            else "a newer one needs endpoint = https://ec2.REGION.amazonaws.com",
        )
    host = endpoint.hostname
    driver = driver_class(
        keys.key_id,
        keys.secret.reveal().decode(),
        secure=endpoint.scheme != "http",
        host=f"[{host}]" if host and ":" in host else host,
        port=endpoint.port or (80 if endpoint.scheme == "http" else 443),
        region=settings.region if settings.region in regions else _ANY_REGION,
        token=keys.token.reveal().decode() or None,
        # Its default for several regions is 2, which newer ones do not take.
        signature_version="4",
        timeout=timeout_s,
    )
    driver.region_name = settings.region  # what the signature is for
    driver.connection.request_path = endpoint.path
    driver.connection.responseCls = _make_response_class(ec2.EC2Response)
    make_ours(driver)
    return driver


def _make_response_class(base: Any) -> Any:
    """libcloud's response with our reader of errors: status and headers go on, codes are whole.

    Its own reader finds nothing where the name space is not the expected one.
    """
    from libcloud.common.types import MalformedResponseError

    class Response(base):  # type: ignore[misc]
        def parse_error(self) -> str:
            text = parse_error(self.body)
            if not text:
                raise MalformedResponseError(f"HTTP status {self.status}", body=self.body)
            return text

    return Response

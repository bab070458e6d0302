# SPDX-License-Identifier: GPL-2.0-or-later
"""What the refusals of OpenStack's services mean (API guide, "Faults")."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, Final

from mock_cloud.cloud.apis.calls import Diagnosis, FailureKind, refuse_credentials
from mock_cloud.cloud.apis.openstack_servers import NO_HOST
from mock_cloud.cloud.apis.texts import CredentialsRefused, NoCapacity, NotThere, QuotaReached
from mock_cloud.errors import CloudError, ConfigError, MockCloudError

_REFUSED_FOR_S: Final = 5.0
_QUOTED: Final = re.compile(r"(user_data\. Value:).*", re.DOTALL)
_HINTS: Final = {
    "multiple possible networks": "name one as networks in [openstack]: openstack network list",
    "zero disk": "volume_gib in [openstack] gives nodes a volume to boot from",
    "attribute imageref": "an image is named by its id, or as name:PATTERN",
}
"""Causes that Nova names, and where they are mended. (409, 403 and 400.)"""
_OF_QUOTAS: Final = ("quota", "exceeds", "exceeded")
# Nova: "Quota exceeded for cores, ram: Requested 8, 4096, but already used 20, 51200 of …".
_OF_SIZES: Final = re.compile(r"\b(cores|ram|vcpus?|memory|disk|gigabytes)\b")


class OpenStackClassifier:
    """The classifier, for `Calls`, of services whose credentials are from `source`.

    A refusal of credentials holds for some seconds: the clean-up that follows a failure must
    not ask again and again who is refused.
    """

    def __init__(self, service: str, source: str) -> None:
        self._service = service
        self._source = source
        self._refusal: CredentialsRefused | None = None
        self._refused_s = 0.0

    def __call__(self, diagnosis: Diagnosis) -> FailureKind | MockCloudError:
        if diagnosis.is_credentials:
            self._refusal = refuse_credentials(diagnosis, self._service, self._source)
            self._refused_s = time.monotonic()
            return self._refusal
        return _meaning(diagnosis, self._service, self._source)

    def check(self) -> None:
        """CredentialsRefused if they just were."""
        if self._refusal is not None and time.monotonic() < self._refused_s + _REFUSED_FOR_S:
            raise self._refusal


def _meaning(diagnosis: Diagnosis, service: str, source: str) -> FailureKind | MockCloudError:
    # Nova quotes what it does not accept, and user-data has a key in it.
    told = _QUOTED.sub("\\1 …", diagnosis.text)
    text = f"{service}: {told}"
    lowered = diagnosis.text.lower()
    # Nova says 403, Neutron 409, Rackspace 413.
    if diagnosis.status in (403, 409, 413) and any(word in lowered for word in _OF_QUOTAS):
        return QuotaReached(
            text,
            hint="mock-cloud nodes shows what is running; the cloud's owner sets quotas",
            is_of_size=bool(_OF_SIZES.search(lowered)),
        )
    if NO_HOST in lowered:
        return NoCapacity(text)
    if diagnosis.is_certificate:
        return CloudError(
            text, hint=f"cacert in {source} names the certificate authority of a cloud of one's own"
        )
    if diagnosis.status == 404:
        return NotThere(text)
    hint = next((hint for word, hint in _HINTS.items() if word in lowered), "")
    if hint or diagnosis.status in (400, 403):
        return ConfigError(text, hint=hint or f"see image, size, zone and network, and {source}")
    return FailureKind.THROTTLED if diagnosis.status == 413 else diagnosis.trouble


# Answers of OpenStack's services: one object, or a list in pages.
_PAGES_LIMIT: Final = 200


def read_one(connection: Any, path: str, key: str) -> dict[str, Any]:
    """The object under `key` of the answer to GET `path`. ValueError if there is none."""
    return unwrap(connection.request(path), key)


def read_all(
    connection: Any, path: str, key: str, params: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """All objects of a listing, page by page (``KEY_links`` says whether there is another)."""
    found: list[dict[str, Any]] = []
    asked = dict(params or {})
    for _ in range(_PAGES_LIMIT):
        answer = connection.request(path, params=asked).object
        page = answer.get(key) if isinstance(answer, dict) else None
        if not isinstance(page, list) or not all(isinstance(item, dict) for item in page):
            raise ValueError(f"the answer has no list {key!r}")
        found += page
        links = answer.get(f"{key}_links") or []
        if not page or not any(link.get("rel") == "next" for link in links):
            return found
        asked["marker"] = str(page[-1]["id"])
    raise ValueError(f"{key}: more than {_PAGES_LIMIT} pages")


def unwrap(response: Any, key: str) -> dict[str, Any]:
    """The object under `key` of an answer. ValueError if it is not JSON or has none."""
    answer = response.object
    found = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"the answer has no object {key!r}")
    return found

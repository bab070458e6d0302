# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers of OpenStack's services: one object, or a list in pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_PAGES_LIMIT: Final = 200


def read_one(connection: Any, path: str, key: str) -> dict[str, Any]:
    """The object under `key` of the answer to GET `path`. ValueError if there is none."""
    return unwrap(connection.request(path), key)


def read_all(
    connection: Any, path: str, key: str, params: Mapping[str, str]
) -> list[dict[str, Any]]:
    """All objects of a listing, page by page (``KEY_links`` says whether there is another)."""
    found: list[dict[str, Any]] = []
    asked = dict(params)
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

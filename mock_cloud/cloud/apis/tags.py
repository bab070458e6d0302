# SPDX-License-Identifier: GPL-2.0-or-later
"""Our tags as APIs give them back: a mapping, or one line of text where there is only that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from mock_cloud.cloud.apis.adapter import TAG_EXPIRES, TAG_LEASE, TAG_REMOTE
from mock_cloud.cloud.images import TAG_OWNER

_TAGS: Final = (TAG_LEASE, TAG_OWNER, TAG_REMOTE, TAG_EXPIRES)


def parse_tags(found: Mapping[Any, Any]) -> dict[str, str]:
    """Our tags among `found`; none unless both the lease and its owner are named."""
    tags = {name: found[name] for name in _TAGS if isinstance(found.get(name), str)}
    return tags if tags.get(TAG_LEASE) and tags.get(TAG_OWNER) else {}


def format_line(tags: Mapping[str, str], limit: int) -> str:
    """Tags as one line of at most `limit` characters, if need be without the remote's name."""
    text = urlencode(tags)
    if len(text) > limit:
        text = urlencode({name: value for name, value in tags.items() if name != TAG_REMOTE})
    return text


def parse_line(text: object) -> dict[str, str]:
    """The tags that `format_line` wrote; none if it is anybody else's text."""
    return parse_tags(dict(parse_qsl(text))) if isinstance(text, str) else {}

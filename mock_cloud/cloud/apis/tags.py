# SPDX-License-Identifier: GPL-2.0-or-later
"""Our tags: as APIs give them back, and within a node's name where an API keeps none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from mock_cloud.cloud.apis.adapter import TAG_EXPIRES, TAG_LEASE, TAG_REMOTE, Launch
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


# Tags within a node's name, for APIs that keep no tags: lease, whose it is, when it ends.
# The owner is there as a digest: an owner can tell his own, and nobody else's can be taken for it.
_NAME: Final = re.compile(
    r"mock-cloud-(?P<lease>[0-9a-f]{4,24})(?:-\d{1,3})?-(?P<owner>[0-9a-f]{16})-x(?P<expires>[0-9a-f]{8,10})"
)


def make_name(launch: Launch) -> str:
    """A name for the node, which a DNS label may be: at most 63 letters, digits and hyphens.

    It is the same for the same launch and another for each other one.
    """
    expires = int(float(launch.tags[TAG_EXPIRES]))
    return f"{launch.name}-{_digest(launch.tags[TAG_OWNER])}-x{expires:08x}"


def parse_name(name: object, own: str) -> dict[str, str]:
    """The tags in a name; none if it is anybody else's name.

    `own` is the owner who asks: what is not his has the digest for an owner, marked by a ``#``.
    """
    found = _NAME.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        return {}
    owner = own if found["owner"] == _digest(own) else f"#{found['owner']}"
    return {
        TAG_LEASE: found["lease"],
        TAG_OWNER: owner,
        TAG_EXPIRES: str(int(found["expires"], 16)),
    }


def _digest(owner: str) -> str:
    return hashlib.sha256(owner.encode()).hexdigest()[:16]

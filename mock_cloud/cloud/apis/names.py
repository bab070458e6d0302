# SPDX-License-Identifier: GPL-2.0-or-later
"""Tags within a node's name, for APIs that keep no tags: lease, whose it is, when it ends.

The owner is there as a digest: an owner can tell his own, and nobody else's can be taken for it.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from mock_cloud.cloud.apis.adapter import TAG_EXPIRES, TAG_LEASE, Launch
from mock_cloud.cloud.images import TAG_OWNER

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

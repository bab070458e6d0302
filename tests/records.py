# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence as tests look at it and write it: one dict by section."""

from __future__ import annotations

import json
from typing import Any

from mock_cloud.wire.records import encode_records, pack


def joined(text: bytes) -> dict[str, Any]:
    """The sections of unpacked evidence, their parts put together."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        name, value = json.loads(line)
        found[name] = found[name] + value if name in found else value
    return found


def packed(sections: dict[str, Any]) -> bytes:
    """Evidence of these sections, as `parse_evidence` reads it."""
    return b"".join(pack(b"".join(encode_records(sections))))

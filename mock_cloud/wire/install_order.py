# SPDX-License-Identifier: GPL-2.0-or-later
"""What the controller asks a node to install in itself. Both sides use it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Final

from mock_cloud.wire.json_strict import load_json

SCHEMA: Final = "mock-cloud/install/1"
KEYS_MARK: Final = "@GPGKEYS@"
"""Stands in `dnf_conf` for the directory that the keys are written to."""


class OrderError(ValueError):
    """The bytes are no order that this agent understands."""


@dataclass(frozen=True, slots=True)
class InstallOrder:
    """Packages to install, and where from.

    `dnf_conf` is the text of dnf.conf; `keys` maps a bare file name to an armoured certificate.
    With `only_these` the repositories of the node's own configuration are not used.
    """

    packages: list[str]
    dnf_conf: str
    keys: dict[str, str] = field(default_factory=dict)
    releasever: str = ""
    only_these: bool = False
    schema: str = SCHEMA


def to_json(order: InstallOrder) -> bytes:
    """The order as UTF-8 JSON with sorted keys."""
    return json.dumps(asdict(order), sort_keys=True).encode()


def parse_order(data: bytes) -> InstallOrder:
    """The order in `data`. OrderError names what is wrong."""
    try:
        raw = load_json(data)
    except ValueError as error:
        raise OrderError("the order is not JSON") from error
    names = {one.name for one in fields(InstallOrder)}
    if not isinstance(raw, dict) or set(raw) != names or raw["schema"] != SCHEMA:
        raise OrderError(f"not an order of schema {SCHEMA}")
    order = InstallOrder(**raw)
    for name, kind in (("dnf_conf", str), ("releasever", str), ("only_these", bool)):
        if type(getattr(order, name)) is not kind:
            raise OrderError(f"{name} is not {kind.__name__}")
    if not isinstance(order.packages, list) or not all(map(_is_word, order.packages)):
        raise OrderError("packages are not names")
    if not isinstance(order.keys, dict) or not all(
        _is_word(name) and "/" not in name and isinstance(text, str)
        for name, text in order.keys.items()
    ):
        raise OrderError("keys are not bare file names with texts")
    return order


def _is_word(value: object) -> bool:
    """An argument that no program takes for an option."""
    return isinstance(value, str) and value[:1] not in ("", "-", ".") and value.isprintable()

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the controller asks a node to install in itself. Both sides use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final

from mock_cloud.wire.decode import Malformed, exactly, matching

_SCHEMA: Final = "mock-cloud/install/1"
KEYS_MARK: Final = "@GPGKEYS@"
"""Stands in `dnf_conf` for the directory that the keys are written to."""


def _word(value: str) -> str:
    """An argument that no program takes for an option."""
    if value[:1] in ("", "-", ".") or not value.isprintable():
        raise Malformed("not a name")
    return value


_Word = Annotated[str, _word]
_FileName = Annotated[str, _word, matching("[^/]+", "a bare file name")]


@dataclass(frozen=True, slots=True)
class InstallOrder:
    """Packages to install, and where from.

    `dnf_conf` is the text of dnf.conf; `keys` maps a bare file name to an armoured certificate.
    With `only_these` the repositories of the node's own configuration are not used.
    """

    packages: list[_Word]
    dnf_conf: str
    keys: dict[_FileName, str] = field(default_factory=dict)
    releasever: str = ""
    only_these: bool = False
    schema: Annotated[str, exactly(_SCHEMA)] = _SCHEMA

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the controller orders a node to do besides jobs: install packages, end at a time."""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from typing import Annotated, Final

from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Malformed, exactly, matching, within

_SCHEMA: Final = "mock-cloud/install/2"
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
    """Packages to install, and where from. `upgrade`: what is installed is renewed before.

    `dnf_conf` is the text of dnf.conf; `keys` maps a bare file name to an armoured certificate.
    With `only_these` the repositories of the node's own configuration are not used.
    """

    packages: list[_Word]
    dnf_conf: str
    keys: dict[_FileName, str] = field(default_factory=dict)
    releasever: str = ""
    only_these: bool = False
    upgrade: bool = False
    schema: Annotated[str, exactly(_SCHEMA)] = _SCHEMA


# What the controller tells a node's dead-man timer.
ORDER_MAX_BYTES: Final = 4096
_LEASE_MAX: Final = 64
_LIFE_MAX_S: Final = 30 * 86400


def _lease(value: str) -> str:
    if not 0 < len(value) <= _LEASE_MAX or not value.isprintable():
        raise Malformed("a lease is a short word")
    return value


class Ending(Enum):
    """What the end is: `POWEROFF` for a node that we made, `WIPE` for a machine that was lent."""

    POWEROFF = "poweroff"
    WIPE = "wipe"


@dataclass(frozen=True, slots=True)
class DeadmanOrder:
    """What the controller wants, in seconds from now.

    A life of a second ends the node now, and lets the answer to the order get away.
    """

    lease: Annotated[str, _lease]
    life_s: Annotated[int, within(1, _LIFE_MAX_S)]
    grace_s: Annotated[int, within(1, _LIFE_MAX_S)]
    ending: Ending

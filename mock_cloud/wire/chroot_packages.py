# SPDX-License-Identifier: GPL-2.0-or-later
"""What a node says of the packages in a build chroot: a result of its own, for the provenance."""

from __future__ import annotations

from typing import Annotated, Final

from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import at_most, exactly, matching, within

CHROOT_PACKAGES: Final = "chroot-packages.json"
"""The result; it does not go to the resultdir."""
CHROOT_PACKAGES_MAX: Final = 16 << 20

_SCHEMA: Final = "mock-cloud/chroot-packages/1"


@dataclass(frozen=True, slots=True)
class ChrootPackage:
    """An installed package; empty texts are unknown.

    `header` is the sha256 (hex) of its immutable header, with that of its payload in it; `sigmd5`
    the digest (hex) that Koji knows packages by, `repository` the id that dnf has it from.
    """

    nevra: Annotated[str, at_most(400)]
    buildtime: Annotated[int, within(0, 1 << 32)]
    header: Annotated[str, matching(r"([0-9a-f]{64})?", "a sha256")]
    sigmd5: Annotated[str, matching(r"([0-9a-f]{32})?", "an md5")]
    repository: Annotated[str, at_most(400)]


@dataclass(frozen=True, slots=True)
class ChrootPackages:
    """All of a chroot, before what was built ran in it."""

    packages: tuple[ChrootPackage, ...]
    schema: Annotated[str, exactly(_SCHEMA)] = _SCHEMA

# SPDX-License-Identifier: GPL-2.0-or-later
"""An image manifest: everything an image may hold that no signed package accounts for.

It also fixes which packages there are, to the byte of their signed headers, so that an old
signed package is as foreign as an unsigned one. Its JSON form is canonical: the same manifest
is the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import field, fields
from functools import cached_property
from typing import Annotated, Any, Final

from mock_cloud.attest.accounts import Accounts
from mock_cloud.attest.files import FileFact, PathText, Text, parse_files, to_rows
from mock_cloud.attest.kernel import KernelFacts, kernel_to_json, parse_kernel
from mock_cloud.attest.rules.expectations import MountRule, ProgramRule, SocketRule
from mock_cloud.attest.rules.volatile import VolatileRule
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import By, Malformed, Natural, Sha256, decode, encode, exactly

_SCHEMA: Final = "mock-cloud/image-manifest/1"
SAME_AS_CONTROLLER: Final = "same-as-controller"
"""Kernel word: the node runs the controller's own kernel (provider `local`)."""
MANIFEST_MAX_BYTES: Final = 256 << 20


@dataclass(frozen=True)
class ImageManifest:
    """What an image holds. Immutable; `created` is free text, no clock is read from it.

    `packages` are pairs of NEVRA and the sha256 (hex) of the header's signed region. `entries`
    are exact files; they go before what a package says of the same path. `absent` are
    packaged files that the image lacks. `labels` are SELinux labels (hex) by path; without
    any, labels are not compared. `kernel` is exact facts, or `SAME_AS_CONTROLLER`.
    """

    name: str
    arch: str
    created: str
    packages: tuple[tuple[str, str], ...]
    entries: tuple[FileFact, ...] = field(repr=False)
    absent: tuple[str, ...] = ()
    volatile: tuple[VolatileRule, ...] = ()
    accounts: Accounts = field(default_factory=Accounts)
    mounts: tuple[MountRule, ...] = ()
    programs: tuple[ProgramRule, ...] = ()
    sockets: tuple[SocketRule, ...] = ()
    labels: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    kernel: KernelFacts | str = SAME_AS_CONTROLLER

    @cached_property
    def sha256(self) -> str:
        """Of the canonical JSON: names this manifest in verdicts."""
        return hashlib.sha256(json_bytes(manifest_to_json(self))).hexdigest()


def json_bytes(value: object) -> bytes:
    """Canonical JSON: sorted keys, no blanks, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _distinct(pairs: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    if len(dict(pairs)) != len(pairs):
        raise Malformed("a name stands twice")
    return pairs


def _read_kernel(value: object) -> KernelFacts | str:
    return SAME_AS_CONTROLLER if value == SAME_AS_CONTROLLER else parse_kernel(value)


_Numbers = Annotated[tuple[tuple[Text, Natural], ...], _distinct]


@dataclass(frozen=True)
class _Document:
    """The manifest's JSON object: `ImageManifest`, and accounts as two lists."""

    schema: Annotated[str, exactly(_SCHEMA)]
    name: Text
    arch: Text
    created: Text
    packages: tuple[tuple[Text, Sha256], ...]
    entries: Annotated[tuple[FileFact, ...], By(parse_files)]
    absent: tuple[PathText, ...]
    volatile: tuple[VolatileRule, ...]
    users: _Numbers
    groups: _Numbers
    mounts: tuple[MountRule, ...]
    programs: tuple[ProgramRule, ...]
    sockets: tuple[SocketRule, ...]
    labels: Annotated[tuple[tuple[Text, Text], ...], _distinct]
    kernel: Annotated[KernelFacts | str, By(_read_kernel)]


_SAME: Final = tuple(one.name for one in fields(ImageManifest) if one.name != "accounts")


def manifest_to_json(manifest: ImageManifest) -> dict[str, Any]:
    """The object that `parse_manifest` reads."""
    kernel = manifest.kernel
    found: dict[str, Any] = {name: encode(getattr(manifest, name)) for name in _SAME}
    return found | {
        "schema": _SCHEMA,
        "packages": sorted(found["packages"]),
        "entries": to_rows(manifest.entries),
        "absent": sorted(manifest.absent),
        "users": encode(manifest.accounts.users),
        "groups": encode(manifest.accounts.groups),
        "kernel": kernel if isinstance(kernel, str) else kernel_to_json(kernel),
    }


def parse_manifest(value: object) -> ImageManifest:
    """A manifest from its JSON object. Malformed, also for a rule that is unfit."""
    found = decode(_Document, value, "manifest")
    try:
        accounts = Accounts(found.users, found.groups)
    except ValueError as error:
        raise Malformed(f"manifest: {error}") from error
    return ImageManifest(**{name: getattr(found, name) for name in _SAME}, accounts=accounts)

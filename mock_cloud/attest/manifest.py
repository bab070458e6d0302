# SPDX-License-Identifier: GPL-2.0-or-later
"""An image manifest: everything an image may hold that no signed package accounts for.

It also fixes which packages there are, to the byte of their signed headers, so that an old
signed package is as foreign as an unsigned one. Its JSON form is canonical: the same manifest
is the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

from mock_cloud.attest import strict
from mock_cloud.attest.accounts import Accounts
from mock_cloud.attest.expectations import Invocation, MountRule, ProgramRule, SocketRule
from mock_cloud.attest.files import FileFact, is_normal, parse_files, to_rows
from mock_cloud.attest.kernel import KernelFacts, kernel_to_json, parse_kernel
from mock_cloud.attest.volatile import VolatileKind, VolatileRule
from mock_cloud.wire.decode import Malformed

_SCHEMA: Final = "mock-cloud/image-manifest/1"
SAME_AS_CONTROLLER: Final = "same-as-controller"
"""Kernel word: the node runs the controller's own kernel (provider `local`)."""
SIZE_MAX: Final = 256 << 20

T = TypeVar("T")


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


def manifest_to_json(manifest: ImageManifest) -> dict[str, Any]:
    """The object that `parse_manifest` reads."""
    kernel = manifest.kernel
    return {
        "schema": _SCHEMA,
        "name": manifest.name,
        "arch": manifest.arch,
        "created": manifest.created,
        "packages": sorted(list(pair) for pair in manifest.packages),
        "entries": to_rows(manifest.entries),
        "absent": sorted(manifest.absent),
        "volatile": [[rule.path, rule.kind.value] for rule in manifest.volatile],
        "users": [list(pair) for pair in manifest.accounts.users],
        "groups": [list(pair) for pair in manifest.accounts.groups],
        "mounts": [
            [rule.point, list(rule.types), list(rule.required), rule.may_bind]
            for rule in manifest.mounts
        ],
        "programs": [
            [
                rule.exe,
                rule.invocation.value,
                list(rule.argv),
                rule.may_generate_code,
                rule.own_namespaces,
            ]
            for rule in manifest.programs
        ],
        "sockets": [[rule.protocol, rule.port, rule.exe] for rule in manifest.sockets],
        "labels": [list(pair) for pair in manifest.labels],
        "kernel": kernel if isinstance(kernel, str) else kernel_to_json(kernel),
    }


_KEYS: Final = (
    "schema", "name", "arch", "created", "packages", "entries", "absent", "volatile", "users",
    "groups", "mounts", "programs", "sockets", "labels", "kernel",
)  # fmt: skip


def parse_manifest(value: object) -> ImageManifest:
    """A manifest from its JSON object. Malformed, also for a rule that is unfit."""
    found = strict.obj(value, "manifest", _KEYS)
    if found["schema"] != _SCHEMA:
        raise Malformed(f"manifest: schema is not {_SCHEMA}")
    try:
        return ImageManifest(
            name=strict.text(found["name"], "name"),
            arch=strict.text(found["arch"], "arch"),
            created=strict.text(found["created"], "created"),
            packages=_pairs(found, "packages", strict.sha256_hex),
            entries=parse_files(strict.items(found["entries"], "entries")),
            absent=strict.each(found["absent"], "absent", _path),
            volatile=strict.each(found["volatile"], "volatile", _volatile),
            accounts=Accounts(
                _pairs(found, "users", strict.integer), _pairs(found, "groups", strict.integer)
            ),
            mounts=strict.each(found["mounts"], "mounts", _mount),
            programs=strict.each(found["programs"], "programs", _program),
            sockets=strict.each(found["sockets"], "sockets", _socket),
            labels=_pairs(found, "labels", strict.text),
            kernel=_kernel(found["kernel"]),
        )
    except Malformed:
        raise
    except ValueError as error:
        raise Malformed(f"manifest: {error}") from error


def _pairs(
    found: dict[str, Any], key: str, read: Callable[[object, str], T]
) -> tuple[tuple[str, T], ...]:
    pairs = []
    for item in strict.items(found[key], key):
        name, value = strict.row(item, key, 2)
        pairs.append((strict.text(name, key), read(value, key)))
    if len(dict(pairs)) != len(pairs) and key != "packages":
        raise Malformed(f"{key}: a name stands twice")
    return tuple(pairs)


def _path(value: object, where: str) -> str:
    path = strict.text(value, where)
    if not is_normal(path):
        raise Malformed(f"{where}: not a normalised path: {path[:200]!a}")
    return path


def _volatile(value: object, where: str) -> VolatileRule:
    path, kind = strict.row(value, where, 2)
    return VolatileRule(strict.text(path, where), VolatileKind(strict.text(kind, where)))


def _mount(value: object, where: str) -> MountRule:
    point, types, required, may_bind = strict.row(value, where, 4)
    return MountRule(
        strict.text(point, where),
        strict.each(types, where, strict.text),
        strict.each(required, where, strict.text),
        strict.boolean(may_bind, where),
    )


def _program(value: object, where: str) -> ProgramRule:
    exe, invocation, argv, code, namespaces = strict.row(value, where, 5)
    return ProgramRule(
        strict.text(exe, where),
        Invocation(strict.text(invocation, where)),
        strict.each(argv, where, strict.text),
        strict.boolean(code, where),
        strict.boolean(namespaces, where),
    )


def _socket(value: object, where: str) -> SocketRule:
    protocol, port, exe = strict.row(value, where, 3)
    return SocketRule(
        strict.text(protocol, where),
        strict.integer(port, where, most=65535),
        strict.text(exe, where),
    )


def _kernel(value: object) -> KernelFacts | str:
    return SAME_AS_CONTROLLER if value == SAME_AS_CONTROLLER else parse_kernel(value)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence, parsed: the facts an agent measured, of which nothing is believed yet.

The form is the protocol's "Evidence" chapter, schema ``mock-cloud/evidence/1``. Parsing is
strict and bounded; whatever does not fit is refused whole with ``evidence.malformed``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mock_cloud.attest import strict
from mock_cloud.attest.files import FileFact, is_normal, parse_files
from mock_cloud.attest.kernel import KernelFacts, parse_kernel
from mock_cloud.attest.strict import Malformed
from mock_cloud.errors import AttestationRefused, Reason

SCHEMA = "mock-cloud/evidence/1"
SIZE_MAX = 512 << 20
"""Bytes of evidence JSON: about two million files of 200 bytes each."""
_EVIDENCE_KEYS = (
    "schema", "nonce", "clock", "boot_id", "uname", "skip", "duration_s", "files", "unreadable",
    "trees", "mounts", "namespaces", "processes", "self", "hidden_pids", "kernel", "sockets",
    "rpmdb", "headers",
)  # fmt: skip
_PROCESS_KEYS = (
    "pid", "ppid", "uid", "gid", "kernel", "exe", "deleted", "sha256", "cmdline", "environ",
    "tracer", "maps", "anonymous_exec", "patched", "namespaces", "caps", "root",
)  # fmt: skip
_MOUNT_KEYS = (
    "point", "root", "type", "source", "options", "super", "id", "parent",
)  # fmt: skip


class EvidenceError(AttestationRefused):
    """The bytes are not evidence of this schema, within the bounds."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the evidence is malformed: {why}",
            reasons=(Reason("evidence.malformed", "evidence", found=why),),
            hint="the agent on the node is not ours, or of another version",
        )


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory measured as one digest (a chroot layer)."""

    sha256: str
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo; `options` and `super_options` are split at commas."""

    point: str
    root: str
    type: str
    source: str
    options: frozenset[str]
    super_options: frozenset[str]
    id: int
    parent: int


@dataclass(frozen=True, slots=True)
class MappedFile:
    """An executable file mapping of a process."""

    path: str
    deleted: bool
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Process:
    """A process. `environ` holds only variables that change loading or login."""

    pid: int
    ppid: int
    uid: int
    gid: int
    kernel: bool
    exe: str | None
    deleted: bool
    sha256: str | None
    cmdline: tuple[str, ...]
    environ: tuple[tuple[str, str], ...]
    tracer: int
    maps: tuple[MappedFile, ...]
    anonymous_exec: int
    patched: tuple[str, ...]
    namespaces: Mapping[str, str]
    root: str | None


@dataclass(frozen=True, slots=True)
class Socket:
    """A listening socket; `pid` is None where no process of the node was seen to hold it."""

    protocol: str
    address: str
    port: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measurement, made by `parse_evidence` only.

    `sha256` is of the JSON bytes; `headers` are pairs of a blob's sha256 and size in bytes.
    """

    sha256: str
    nonce: str
    clock_s: float
    boot_id: str
    uname: tuple[str, ...]
    skip: tuple[str, ...]
    duration_s: float
    files: tuple[FileFact, ...] = field(repr=False)
    unreadable: tuple[tuple[str, str], ...]
    trees: Mapping[str, Tree]
    mounts: tuple[Mount, ...]
    init_namespaces: Mapping[str, str]
    self_namespaces: Mapping[str, str]
    processes: tuple[Process, ...]
    self_pid: int
    hidden_pids: tuple[int, ...]
    kernel: KernelFacts | None
    sockets: tuple[Socket, ...]
    headers: tuple[tuple[str, int], ...]


def parse_evidence(data: bytes) -> Evidence:
    """Evidence from its JSON bytes. Raises EvidenceError, which refuses the node."""
    try:
        top = strict.obj(strict.load(data, limit_bytes=SIZE_MAX), "evidence", _EVIDENCE_KEYS)
        return _evidence(top, hashlib.sha256(data).hexdigest())
    except Malformed as error:
        raise EvidenceError(str(error)) from error


def _evidence(top: dict[str, Any], sha256: str) -> Evidence:
    if top["schema"] != SCHEMA:
        raise Malformed(f"schema: not {SCHEMA}")
    spaces = strict.mapping(top["namespaces"] or {}, "namespaces", limit=2)
    rpmdb = top["rpmdb"]
    if rpmdb is not None:
        for value in strict.obj(rpmdb, "rpmdb", ("path", "backend")).values():
            strict.text(value, "rpmdb")
    return Evidence(
        sha256=sha256,
        nonce=strict.text(top["nonce"], "nonce"),
        clock_s=strict.number(top["clock"], "clock"),
        boot_id=strict.text(top["boot_id"] or "", "boot_id"),
        uname=strict.each(top["uname"], "uname", strict.text),
        skip=strict.each(top["skip"], "skip", _path),
        duration_s=strict.number(top["duration_s"], "duration_s"),
        files=parse_files(strict.items(top["files"], "files", limit=1 << 21)),
        unreadable=strict.each(top["unreadable"], "unreadable", _pair),
        trees={
            _path(path, "trees"): _tree(tree, "trees")
            for path, tree in strict.mapping(top["trees"], "trees").items()
        },
        mounts=strict.each(top["mounts"] or [], "mounts", _mount),
        init_namespaces=_namespaces(spaces.get("init") or {}, "namespaces.init"),
        self_namespaces=_namespaces(spaces.get("self") or {}, "namespaces.self"),
        processes=strict.each(top["processes"] or [], "processes", _process),
        self_pid=strict.integer(top["self"] or 0, "self"),
        hidden_pids=strict.each(top["hidden_pids"] or [], "hidden_pids", strict.integer),
        kernel=strict.optional(top["kernel"] or None, "kernel", parse_kernel),
        sockets=strict.each(top["sockets"] or [], "sockets", _socket),
        headers=strict.each(top["headers"], "headers", _header),
    )


def _path(value: object, where: str) -> str:
    path = strict.text(value, where)
    if not is_normal(path):
        raise Malformed(f"{where}: not an absolute, normalised path: {path[:200]!a}")
    return path


def _pair(value: object, where: str) -> tuple[str, str]:
    first, second = strict.row(value, where, 2)
    return strict.text(first, where), strict.text(second, where)


def _header(value: object, where: str) -> tuple[str, int]:
    digest, size = strict.row(value, where, 2)
    return strict.sha256_hex(digest, where), strict.integer(size, where)


def _tree(value: object, where: str) -> Tree:
    tree = strict.obj(value, where, ("sha256", "files", "bytes"))
    return Tree(
        strict.sha256_hex(tree["sha256"], where),
        strict.integer(tree["files"], where),
        strict.integer(tree["bytes"], where),
    )


def _mount(value: object, where: str) -> Mount:
    mount = strict.obj(value, where, _MOUNT_KEYS)
    return Mount(
        point=strict.text(mount["point"], where),
        root=strict.text(mount["root"], where),
        type=strict.text(mount["type"], where),
        source=strict.text(mount["source"], where),
        options=_options(mount["options"], where),
        super_options=_options(mount["super"], where),
        id=strict.integer(mount["id"], where),
        parent=strict.integer(mount["parent"], where),
    )


def _options(value: object, where: str) -> frozenset[str]:
    """Mount options as a text with commas, or already as a list."""
    if isinstance(value, list):
        return frozenset(strict.each(value, where, strict.text))
    return frozenset(strict.text(value, where).split(","))


def _namespaces(value: object, where: str) -> Mapping[str, str]:
    found = strict.mapping(value, where, limit=32)
    return {name: _identity(number, where) for name, number in found.items()}


def _identity(value: object, where: str) -> str:
    return str(value) if type(value) is int else strict.text(value, where)


def _process(value: object, where: str) -> Process:
    one = strict.obj(value, where, _PROCESS_KEYS)
    where = f"process {strict.integer(one['pid'], where)}"
    environ = strict.mapping(one["environ"] or {}, where, limit=4096)
    return Process(
        pid=one["pid"],
        ppid=strict.integer(one["ppid"], where),
        uid=strict.integer(one["uid"], where),
        gid=strict.integer(one["gid"], where),
        kernel=strict.boolean(one["kernel"], where),
        exe=strict.optional(one["exe"], where, strict.text),
        deleted=strict.boolean(one["deleted"], where),
        sha256=strict.optional(one["sha256"], where, strict.sha256_hex),
        cmdline=strict.each(one["cmdline"], where, strict.text),
        environ=tuple(sorted((k, strict.text(v, where)) for k, v in environ.items())),
        tracer=strict.integer(one["tracer"], where),
        maps=strict.each(one["maps"], where, _map),
        anonymous_exec=strict.integer(one["anonymous_exec"], where),
        patched=strict.each(one["patched"], where, strict.text),
        namespaces=_namespaces(one["namespaces"], where),
        root=strict.optional(one["root"], where, strict.text),
    )


def _map(value: object, where: str) -> MappedFile:
    path, deleted, sha256 = strict.row(value, where, 3)
    return MappedFile(
        strict.text(path, where),
        strict.boolean(deleted, where),
        strict.optional(sha256, where, strict.sha256_hex),
    )


def _socket(value: object, where: str) -> Socket:
    protocol, address, port, pid = strict.row(value, where, 4)
    return Socket(
        strict.text(protocol, where),
        strict.text(address, where),
        strict.integer(port, where, most=65535),
        strict.optional(pid, where, strict.integer),
    )

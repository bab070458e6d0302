# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence, parsed: the facts an agent measured, of which nothing is believed yet.

The form is the protocol's "Evidence" chapter, schema ``mock-cloud/evidence/3``. Parsing is
strict and bounded; whatever does not fit is refused whole with ``evidence.malformed``. What is
kept of a node's facts is bounded by what a node can have, not by what one could send: a record
is decoded at a time, and files are never held, but read from the packed records each time.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mock_cloud.attest import strict
from mock_cloud.attest.files import FileFact, is_normal, parse_files
from mock_cloud.attest.helpers import HelperFacts, parse_helpers
from mock_cloud.attest.kernel import KernelFacts, parse_kernel
from mock_cloud.errors import AttestationRefused, Reason
from mock_cloud.wire.decode import Malformed
from mock_cloud.wire.records import RECORD_MAX, RecordError, split_records, unpack
from mock_cloud.wire.text_places import TEXT_MAX

SCHEMA = "mock-cloud/evidence/3"
_FILES_MAX = 500_000
"""A machine with a desktop and all its development packages has half as many."""
_BYTES_MAX = 16 << 20
_VALUES_MAX = 500_000
# Of all sections but the files: 300 processes with 150 libraries each are 7 MiB and 140,000 values.
# A value takes at most some 70 bytes besides its text.
_PROCESS_KEYS = (
    "pid", "ppid", "uid", "gid", "kernel", "exe", "deleted", "sha256", "cmdline", "environ",
    "tracer", "maps", "anonymous_exec", "patched", "namespaces", "caps", "root", "started",
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
class _Tree:
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
    """A process. `environ` holds only variables that change loading or login.

    `started` is in clock ticks since boot; an execve(2) does not change it.
    """

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
    started: int


@dataclass(frozen=True, slots=True)
class Socket:
    """A listening socket; `pid` is None where no process of the node was seen to hold it."""

    protocol: str
    address: str
    port: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class Connection:
    """A connected socket of the node's and its other end; `pid` is a holder's, None for none."""

    protocol: str
    address: str
    local_port: int
    remote_address: str
    remote_port: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class Database:
    """An RPM database: its directory, rpm's name of its kind, and why it can't be read."""

    path: str
    backend: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measurement, made by `parse_evidence` only.

    `sha256` is of the records; `headers` are pairs of a blob's sha256 and size in bytes. `files`
    are read anew by each iteration, which raises EvidenceError for a row that is malformed.
    `texts` are what small files hold, by path: a claim, until it has the file's digest.
    """

    sha256: str
    nonce: str
    clock_s: float
    boot_id: str
    uname: tuple[str, ...]
    skip: tuple[str, ...]
    duration_s: float
    files: Collection[FileFact] = field(repr=False)
    unreadable: tuple[tuple[str, str], ...]
    trees: Mapping[str, _Tree]
    mounts: tuple[Mount, ...]
    init_namespaces: Mapping[str, str]
    self_namespaces: Mapping[str, str]
    processes: tuple[Process, ...]
    self_pid: int
    hidden_pids: tuple[int, ...]
    kernel: KernelFacts | None
    helpers: HelperFacts | None
    sockets: tuple[Socket, ...]
    connections: tuple[Connection, ...]
    headers: tuple[tuple[str, int], ...]
    databases: tuple[Database, ...]
    texts: Mapping[str, bytes] = field(repr=False)


class PackedFiles(Collection[FileFact]):
    """The files of packed evidence, in its order; none of them stays in memory."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._count: int | None = None

    def __iter__(self) -> Iterator[FileFact]:
        seen: set[int] = set()  # hashes: 500,000 paths may be 2 GB
        with _refusing():
            for line in split_records(unpack([self._packed])):
                if line.startswith(_FILES):
                    facts = parse_files(
                        strict.items(strict.row(_load(line), "files", 2)[1], "files")
                    )
                    count = len(seen) + len(facts)
                    seen.update(hash(fact.path) for fact in facts)
                    if len(seen) != count:
                        raise Malformed("files: a path stands twice")
                    if count > _FILES_MAX:
                        raise Malformed(f"files: more than {_FILES_MAX}")
                    yield from facts
        self._count = len(seen)

    def __len__(self) -> int:
        if self._count is None:
            self._count = sum(1 for _ in self)
        return self._count

    def __contains__(self, fact: object) -> bool:
        return any(fact == one for one in self)


def parse_evidence(packed: bytes) -> Evidence:
    """Evidence from its packed records. Raises EvidenceError, which refuses the node."""
    with _refusing():
        digest = hashlib.sha256()
        sections = _read_sections(split_records(_hashing(unpack([packed]), digest)))
        return Evidence(sha256=digest.hexdigest(), files=PackedFiles(packed), **sections)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except (Malformed, RecordError) as error:
        raise EvidenceError(str(error)) from error


def _hashing(chunks: Iterable[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _load(line: bytes) -> object:
    return strict.load(line, limit_bytes=RECORD_MAX)


def _read_sections(lines: Iterable[bytes]) -> dict[str, Any]:
    """The fields of Evidence but `files` and `sha256`: every section, and no other."""
    found: dict[str, Any] = {}
    parts: dict[str, list[Any]] = {name: [] for name in _PARTS}
    missing = {*_SINGLE, *_PARTS, "files"}
    size = values = 0
    for line in lines:
        if line.startswith(_FILES):
            missing.discard("files")
            continue
        size += len(line)
        values += line.count(b",")
        if size > _BYTES_MAX or values > _VALUES_MAX:
            raise Malformed("more is said of what runs than a node can have")
        word, value = strict.row(_load(line), "a record", 2)
        name = strict.text(word, "a section")
        if name in _PARTS:
            parts[name] += strict.each([] if value is None else value, name, _PARTS[name])
        elif name in _SINGLE and name in missing:
            found[_FIELDS.get(name, name)] = _SINGLE[name](value, name)
        else:
            raise Malformed(f"an unknown section, or one that stands twice: {name[:40]!a}")
        missing.discard(name)
    if missing:
        raise Malformed(f"sections are missing: {', '.join(sorted(missing)[:5])}")
    del found["schema"]
    spaces = found.pop("namespaces")
    found["init_namespaces"], found["self_namespaces"] = spaces
    found["texts"] = dict(parts.pop("texts"))
    return {**found, **{_FIELDS.get(name, name): tuple(items) for name, items in parts.items()}}


def _schema(value: object, where: str) -> None:
    if value != SCHEMA:
        raise Malformed(f"{where}: not {SCHEMA}")


def _database(value: object, where: str) -> Database:
    path, backend, problem = strict.row(value, where, 3)
    return Database(
        _path(path, where),
        strict.text(backend, where),
        strict.optional(problem, where, strict.text),
    )


def _text(value: object, where: str) -> tuple[str, bytes]:
    path, text = strict.row(value, where, 2)
    try:
        data = base64.b64decode(strict.text(text, where), validate=True)
    except ValueError as error:
        raise Malformed(f"{where}: not base64") from error
    if len(data) > TEXT_MAX:
        raise Malformed(f"{where}: a text of more than {TEXT_MAX} bytes")
    return _path(path, where), data


def _spaces(value: object, where: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    spaces = strict.mapping(value or {}, where, limit=2)
    init, own = (_namespaces(spaces.get(one) or {}, where) for one in ("init", "self"))
    return init, own


def _trees(value: object, where: str) -> Mapping[str, _Tree]:
    trees = strict.mapping(value, where)
    return {_path(path, where): _tree(tree, where) for path, tree in trees.items()}


def _boot_id(value: object, where: str) -> str:
    return strict.text(value or "", where)


def _self_pid(value: object, where: str) -> int:
    return strict.integer(value or 0, where)


def _kernel(value: object, where: str) -> KernelFacts | None:
    return strict.optional(value or None, where, parse_kernel)


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


def _tree(value: object, where: str) -> _Tree:
    tree = strict.obj(value, where, ("sha256", "files", "bytes"))
    return _Tree(
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
        started=strict.integer(one["started"], where),
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


def _connection(value: object, where: str) -> Connection:
    protocol, address, port, remote_address, remote_port, pid = strict.row(value, where, 6)
    return Connection(
        strict.text(protocol, where),
        strict.text(address, where),
        strict.integer(port, where, most=65535),
        strict.text(remote_address, where),
        strict.integer(remote_port, where, most=65535),
        strict.optional(pid, where, strict.integer),
    )


_FILES = b'["files",'
_FIELDS = {"clock": "clock_s", "self": "self_pid", "rpmdb": "databases"}
"""Fields of Evidence that have another name than their section."""
_SINGLE: dict[str, Callable[[object, str], Any]] = {
    "schema": _schema,
    "nonce": strict.text,
    "clock": strict.number,
    "boot_id": _boot_id,
    "duration_s": strict.number,
    "trees": _trees,
    "namespaces": _spaces,
    "self": _self_pid,
    "kernel": _kernel,
    "helpers": lambda value, where: strict.optional(value, where, parse_helpers),
}
_PARTS: dict[str, Callable[[object, str], Any]] = {
    "uname": strict.text,
    "skip": _path,
    "unreadable": _pair,
    "mounts": _mount,
    "processes": _process,
    "hidden_pids": strict.integer,
    "sockets": _socket,
    "connections": _connection,
    "headers": _header,
    "rpmdb": _database,
    "texts": _text,
}
"""Sections that are lists, with what reads one item. A new one has a line here, a field of the
same name in Evidence, and a member in what the agent measures (`LiveFacts`)."""

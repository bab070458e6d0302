# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence, parsed: the facts an agent measured, of which nothing is believed yet.

The form is the protocol's "Evidence" chapter, schema ``mock-cloud/evidence/4``. Parsing is
strict and bounded; whatever does not fit is refused whole with ``evidence.malformed``. What is
kept of a node's facts is bounded by what a node can have, not by what one could send: a record
is decoded at a time, and files are never held, but read from the packed records each time.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Annotated, Any, ClassVar

from mock_cloud.attest.files import FileFact, PathText, Text, parse_files, parse_text
from mock_cloud.attest.helpers import HelperFacts
from mock_cloud.attest.kernel import KernelFacts
from mock_cloud.errors import AttestationRefused, Reason
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import (
    By,
    Malformed,
    Natural,
    Sha256,
    at_most,
    decode,
    exactly,
    load_json,
    within,
)
from mock_cloud.wire.records import RecordError, split_records, unpack
from mock_cloud.wire.text_places import TEXT_MAX

SCHEMA = "mock-cloud/evidence/4"
_FILES_MAX = 500_000
"""A machine with a desktop and all its development packages has half as many."""
_BYTES_MAX = 16 << 20
_VALUES_MAX = 500_000
# Of all sections but the files: 300 processes with 150 libraries each are 7 MiB and 140,000 values.
# A value takes at most some 70 bytes besides its text.


class EvidenceError(AttestationRefused):
    """The bytes are not evidence of this schema, within the bounds."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the evidence is malformed: {why}",
            reasons=(Reason("evidence.malformed", "evidence", found=why),),
            hint="the agent on the node is not ours, or of another version",
        )


def _split_options(value: object) -> frozenset[str]:
    return frozenset(parse_text(value).split(","))


def _read_small_text(value: object) -> bytes:
    data = base64.b64decode(parse_text(value), validate=True)
    if len(data) > TEXT_MAX:
        raise Malformed(f"a text of more than {TEXT_MAX} bytes")
    return data


_Port = Annotated[int, within(0, 65535)]
_Options = Annotated[frozenset[str], By(_split_options)]
_Namespaces = Annotated[dict[Text, Natural], at_most(32)]


@dataclass(frozen=True, slots=True)
class _Spaces:
    """Namespaces of process 1, and of the agent itself."""

    init: _Namespaces
    own: _Namespaces = field(metadata={"json": "self"})


@dataclass(frozen=True, slots=True)
class _Tree:
    """A directory measured as one digest (a chroot layer)."""

    sha256: Sha256
    files: Natural
    size_bytes: Natural = field(metadata={"json": "bytes"})


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo; `options` and `super_options` are split at commas."""

    point: Text
    root: Text
    type: Text
    source: Text
    options: _Options
    super_options: _Options = field(metadata={"json": "super"})
    id: Natural
    parent: Natural


@dataclass(frozen=True, slots=True)
class MappedFile:
    """An executable file mapping of a process."""

    is_row: ClassVar[bool] = True
    path: Text
    deleted: bool
    sha256: Sha256 | None


@dataclass(frozen=True, slots=True)
class Process:
    """A process. `environ` holds only variables that change loading or login.

    `started` is in clock ticks since boot; an execve(2) does not change it.
    """

    pid: Natural
    ppid: Natural
    uid: Natural
    gid: Natural
    kernel: bool
    exe: Text | None
    deleted: bool
    sha256: Sha256 | None
    cmdline: tuple[Text, ...]
    environ: dict[Text, Text]
    tracer: Natural
    maps: tuple[MappedFile, ...]
    anonymous_exec: Natural
    patched: tuple[Text, ...]
    namespaces: _Namespaces
    root: Text | None
    started: Natural


@dataclass(frozen=True, slots=True)
class Socket:
    """A listening socket; `pid` is None where no process of the node was seen to hold it."""

    is_row: ClassVar[bool] = True
    protocol: Text
    address: Text
    port: _Port
    pid: Natural | None


@dataclass(frozen=True, slots=True)
class Connection:
    """A connected socket of the node's and its other end; `pid` is a holder's, None for none."""

    is_row: ClassVar[bool] = True
    protocol: Text
    address: Text
    local_port: _Port
    remote_address: Text
    remote_port: _Port
    pid: Natural | None


@dataclass(frozen=True, slots=True)
class Database:
    """An RPM database: its directory, rpm's name of its kind, and why it can't be read."""

    is_row: ClassVar[bool] = True
    path: PathText
    backend: Text
    problem: Text | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measurement, made by `parse_evidence` only.

    `sha256` is of the records; `headers` are pairs of a blob's sha256 and size in bytes. `files`
    are read anew by each iteration, which raises EvidenceError for a row that is malformed.
    `texts` are what small files hold, by path: a claim, until it has the file's digest.
    """

    sha256: str
    nonce: str
    uname: tuple[str, ...]
    skip: tuple[str, ...]
    files: Collection[FileFact] = field(repr=False)
    unreadable: tuple[tuple[str, str], ...]
    trees: Mapping[str, _Tree]
    mounts: tuple[Mount, ...]
    init_namespaces: Mapping[str, int]
    self_namespaces: Mapping[str, int]
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
                    facts = parse_files(_record(line)[1])
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


def _record(line: bytes) -> list[Any]:
    """The name of a section, and some or all of what is in it."""
    value = load_json(line)
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
        raise Malformed("a record is not a section's name and a value")
    return value


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
        name, value = _record(line)
        if name in _PARTS:
            parts[name] += decode(_PARTS[name], value, name)
        elif name in _SINGLE and name in missing:
            found[_FIELDS.get(name, name)] = decode(_SINGLE[name], value, name)
        else:
            raise Malformed(f"an unknown section, or one that stands twice: {name[:40]!a}")
        missing.discard(name)
    if missing:
        raise Malformed(f"sections are missing: {', '.join(sorted(missing)[:5])}")
    del found["schema"]
    spaces = found.pop("namespaces")
    found["init_namespaces"], found["self_namespaces"] = spaces.init, spaces.own
    found["texts"] = dict(parts.pop("texts"))
    return {**found, **{_FIELDS.get(name, name): tuple(items) for name, items in parts.items()}}


_FILES = b'["files",'
_FIELDS = {"self": "self_pid", "rpmdb": "databases"}
"""Fields of Evidence that have another name than their section."""
_SINGLE: dict[str, Any] = {
    "schema": Annotated[str, exactly(SCHEMA)],
    "nonce": Text,
    "trees": dict[PathText, _Tree],
    "namespaces": _Spaces,
    "self": Natural,
    "kernel": KernelFacts | None,
    "helpers": HelperFacts | None,
}
_PARTS: dict[str, Any] = {
    "uname": list[Text],
    "skip": list[PathText],
    "unreadable": list[tuple[Text, Text]],
    "mounts": list[Mount],
    "processes": list[Process],
    "hidden_pids": list[Natural],
    "sockets": list[Socket],
    "connections": list[Connection],
    "headers": list[tuple[Sha256, Natural]],
    "rpmdb": list[Database],
    "texts": list[tuple[PathText, Annotated[bytes, By(_read_small_text)]]],
}
"""Sections that are lists. A new one has a line here, a field of the same name in Evidence, and a
member in what the agent measures (`LiveFacts`)."""

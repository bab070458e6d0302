# SPDX-License-Identifier: GPL-2.0-or-later
"""All that a verdict rests on, in one file, so that anybody can come to the verdict again.

A zip file, since anybody can look into one: `grounds.json` (what the controller knew and asked),
`verdict.json`, `evidence.jsonl.gz` (as the node sent it), `manifest.dsse.json`, `package-keys/N`
and `headers/SHA256` (signed RPM headers). Whoever reads one has compared its digest with a signed
one before.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Final

from mock_cloud.attest.check_files import InjectedFile
from mock_cloud.attest.kernel import kernel_to_json, parse_kernel
from mock_cloud.attest.policy import parse_policy
from mock_cloud.attest.rules.expectations import MountRule, ProgramRule, SocketRule
from mock_cloud.attest.validity import verify_manifest
from mock_cloud.attest.verdict import Verdict
from mock_cloud.attest.verify import Binding, verify
from mock_cloud.model import HostKey, SshdReload, Toolkit, ToolkitFile
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Limits, Malformed, Sha256, decode_bytes, exactly, to_json
from mock_cloud.wire.records import PACKED_MAX
from mock_cloud.wire.rpmheader import BLOB_MAX

EVIDENCE_MAX: Final = 512 << 20
"""Bytes of the file; 3,000 packages with long changelogs take a tenth of it."""

_SCHEMA: Final = "mock-cloud/grounds/1"
_FACTS: Final = "grounds.json"
_VERDICT: Final = "verdict.json"
_EVIDENCE: Final = "evidence.jsonl.gz"
_MANIFEST: Final = "manifest.dsse.json"
_KEYS: Final = re.compile(r"package-keys/[0-9]{1,3}")
_HEADER: Final = re.compile(r"headers/([0-9a-f]{64})")
_MEMBERS_MAX: Final = 20_000
_TEXT_MAX: Final = 64 << 20
_LIMITS: Final = Limits(text=1 << 20, items=100_000)
_STAMP: Final = (1980, 1, 1, 0, 0, 0)  # zip's first; the file's digest is of its contents alone
_DAMAGED: Final = (
    zipfile.BadZipFile, zlib.error, struct.error, ValueError, OSError, EOFError, RuntimeError,
)  # fmt: skip
"""What zipfile raises for bytes that are no zip file, or a damaged one."""


@dataclass(frozen=True, slots=True)
class _Toolkit:
    digest: Sha256
    arch: str
    python_version: str
    files: dict[str, ToolkitFile]


@dataclass(frozen=True, slots=True)
class _Facts:
    """`grounds.json`: `attest.verify.Binding`, and what else `verify` was called with."""

    policy: Any
    at_unix: float
    timings_s: dict[str, float]
    host_key: HostKey
    nonce: str
    toolkit: _Toolkit
    injected: dict[str, InjectedFile]
    layers: dict[str, str]
    skip: tuple[str, ...]
    user: str
    mounts: tuple[MountRule, ...] | None
    programs: tuple[ProgramRule, ...]
    sockets: tuple[SocketRule, ...]
    kernel: Any
    unsafe_container: bool
    reload: SshdReload | None
    manifest_keys: tuple[HostKey, ...]
    manifest_threshold: int
    schema: Annotated[str, exactly(_SCHEMA)] = _SCHEMA


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a verdict rests on. `at_unix` is when it was made, by the controller's clock.

    `policy` is an object that `attest.policy` reads.

    `evidence` is packed, `headers` are blobs by their sha256 (hex), `package_keys` certificates as
    they were read; of `manifest_keys`, `manifest_threshold` must have signed the `manifest`.
    """

    policy: Any
    at_unix: float
    timings_s: Mapping[str, float]
    binding: Binding
    evidence: bytes = field(repr=False)
    headers: Mapping[str, bytes] = field(repr=False)
    manifest: bytes = field(repr=False)
    manifest_keys: tuple[HostKey, ...]
    manifest_threshold: int
    package_keys: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Recomputed:
    """The verdict that the grounds give, the keys by their fingerprints, the toolkit's digest."""

    verdict: Verdict
    manifest_signers: frozenset[str]
    package_certificates: tuple[str, ...]
    toolkit: str
    at_unix: float


def write_grounds(grounds: Grounds, verdict: Verdict) -> bytes:
    """The file. The same grounds are the same bytes."""
    binding = grounds.binding
    facts = _Facts(
        policy=grounds.policy,
        at_unix=grounds.at_unix,
        timings_s=dict(grounds.timings_s),
        host_key=binding.host_key,
        nonce=binding.nonce,
        toolkit=_Toolkit(
            binding.toolkit.digest,
            binding.toolkit.arch,
            binding.toolkit.python_version,
            binding.toolkit.files,
        ),
        injected=dict(binding.injected),
        layers=dict(binding.layers),
        skip=binding.skip,
        user=binding.user,
        mounts=binding.mounts,
        programs=binding.programs,
        sockets=binding.sockets,
        kernel=None if binding.kernel is None else kernel_to_json(binding.kernel),
        unsafe_container=binding.unsafe_container,
        reload=binding.reload,
        manifest_keys=grounds.manifest_keys,
        manifest_threshold=grounds.manifest_threshold,
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        _add(archive, _FACTS, to_json(facts))
        _add(archive, _VERDICT, verdict.to_json())
        _add(archive, _EVIDENCE, grounds.evidence, packed=True)
        _add(archive, _MANIFEST, grounds.manifest)
        for number, certificate in enumerate(grounds.package_keys):
            _add(archive, f"package-keys/{number}", certificate)
        for digest in sorted(grounds.headers):
            _add(archive, f"headers/{digest}", grounds.headers[digest])
    return out.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes, *, packed: bool = False) -> None:
    member = zipfile.ZipInfo(name, _STAMP)
    kind = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
    archive.writestr(member, data, compress_type=kind, compresslevel=1)


def recompute(data: bytes) -> Recomputed:
    """The verdict on the grounds in `data`: by this version's rules, at the time of the first one.

    Malformed for what is no such file. AttestationRefused where the grounds give a refusal, or the
    manifest is not signed by the keys that it names; ConfigError for its keys.
    """
    grounds = _read(data)
    manifest = verify_manifest(
        grounds.manifest, grounds.manifest_keys, threshold=grounds.manifest_threshold
    )
    keys = PackageKeys.parse(grounds.package_keys, at_unix=grounds.at_unix)
    _proof, verdict = verify(
        grounds.evidence,
        grounds.headers,
        manifest.manifest,
        keys,
        parse_policy(grounds.policy),
        grounds.binding,
        timings_s=grounds.timings_s,
    )
    toolkit = grounds.binding.toolkit.digest
    return Recomputed(verdict, manifest.signers, keys.certificates, toolkit, grounds.at_unix)


class _Headers(Mapping[str, bytes]):
    """Headers of the file, read one at a time as they are asked for."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        found = map(_HEADER.fullmatch, archive.namelist())
        self._names = {match[1]: match[0] for match in found if match}

    def __getitem__(self, digest: str) -> bytes:
        return _member(self._archive, self._names[digest], BLOB_MAX)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _read(data: bytes) -> Grounds:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _DAMAGED as error:
        raise Malformed(f"not a zip file: {error}") from error
    names = archive.namelist()
    if len(names) > _MEMBERS_MAX or len(set(names)) != len(names):
        raise Malformed(f"more than {_MEMBERS_MAX} members, or two of one name")
    known = (_FACTS, _VERDICT, _EVIDENCE, _MANIFEST)
    certificates = sorted(name for name in names if _KEYS.fullmatch(name))
    odd = [name for name in names if not _HEADER.fullmatch(name)]
    odd = sorted(set(odd) - {*known, *certificates})
    if odd or not set(known) <= set(names):
        raise Malformed(f"members are missing or unknown: {odd[:3]!a}")
    facts = decode_bytes(_Facts, _member(archive, _FACTS, _TEXT_MAX), _FACTS, limits=_LIMITS)
    tools = facts.toolkit
    binding = Binding(
        host_key=facts.host_key,
        nonce=facts.nonce,
        toolkit=Toolkit(tools.digest, Path(), tools.arch, tools.python_version, tools.files),
        injected=facts.injected,
        layers=facts.layers,
        skip=facts.skip,
        user=facts.user,
        mounts=facts.mounts,
        programs=facts.programs,
        sockets=facts.sockets,
        kernel=None if facts.kernel is None else parse_kernel(facts.kernel),
        unsafe_container=facts.unsafe_container,
        reload=facts.reload,
    )
    return Grounds(
        policy=facts.policy,
        at_unix=facts.at_unix,
        timings_s=facts.timings_s,
        binding=binding,
        evidence=_member(archive, _EVIDENCE, PACKED_MAX),
        headers=_Headers(archive),
        manifest=_member(archive, _MANIFEST, EVIDENCE_MAX),
        manifest_keys=facts.manifest_keys,
        manifest_threshold=facts.manifest_threshold,
        package_keys=tuple(_member(archive, name, _TEXT_MAX) for name in certificates),
    )


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A member's bytes. Its size is what the directory says, or it is damaged: zipfile checks."""
    found = archive.getinfo(name)
    if found.file_size > most:
        raise Malformed(f"{name} is larger than {most} bytes")
    if found.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Malformed(f"{name} is packed in another way than ours")
    try:
        with archive.open(name) as stream:
            data = stream.read(most + 1)
    except _DAMAGED as error:
        raise Malformed(f"{name}: {error}") from error
    if len(data) > most:
        raise Malformed(f"{name} is larger than {most} bytes")
    return data

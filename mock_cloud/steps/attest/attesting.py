# SPDX-License-Identifier: GPL-2.0-or-later
"""Attests one node: toolkit, evidence, headers, verdict. Sends it nothing else.

Everything that a verdict rests on is gathered here and judged in `attest.verify`, which is
pure; what was measured and decided is stored, so that it can be decided again later.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mock_cloud import __version__
from mock_cloud.agent.measure.kernel import measure_kernel
from mock_cloud.attest.check_files import InjectedFile
from mock_cloud.attest.evidence import Evidence, parse_evidence
from mock_cloud.attest.kernel import KernelFacts, parse_kernel
from mock_cloud.attest.packages import HeaderCache, verify_package
from mock_cloud.attest.rules.expectations import MountRule, SocketRule
from mock_cloud.attest.still_booting import find_patience_s, is_hanging_up
from mock_cloud.attest.verdict import NodeRefused, Verdict
from mock_cloud.attest.verify import Binding, verify
from mock_cloud.cloud.lease import LastVerdict
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.cloud.provider import InjectedFile as ProvidedFile
from mock_cloud.cloud.provider import InjectedType, OnPhase
from mock_cloud.model import Toolkit, TrustedNode
from mock_cloud.signed.keys import UnsignedError
from mock_cloud.steps.attest.known_good_sets import KnownGood
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.layout import NODE_DIRS, SKIPPED
from mock_cloud.wire.replies import Hello
from mock_cloud.wire.rpmheader import HeaderError
from mock_cloud.wire.terminal_text import escape

if TYPE_CHECKING:
    from mock_cloud.remote.unverified import UnverifiedNode

_SSHD: Final = "/usr/sbin/sshd"
_EVIDENCE: Final = ".evidence.jsonl.gz"
_EVIDENCE_KEPT: Final = 20
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class Archive:
    """Where header blobs are cached and evidence with its verdict is kept."""

    cache_dir: Path
    state_dir: Path

    def read_header(self, digest: str) -> bytes | None:
        """A blob fetched earlier, if it still has its digest."""
        try:
            blob = self._header_path(digest).read_bytes()
        except OSError:
            return None
        return blob if hashlib.sha256(blob).hexdigest() == digest else None

    def write_header(self, digest: str, blob: bytes) -> None:
        path = self._header_path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, blob)

    def find_headers(self, manifest_sha256: str) -> list[str]:
        """Digests of the headers that a trusted node of this manifest had last: a guess."""
        try:
            lines = self._set_path(manifest_sha256).read_text().splitlines()
        except (OSError, ValueError):
            return []
        return [line for line in lines if len(line) == 64 and line.isalnum()]

    def note_headers(self, manifest_sha256: str, digests: Sequence[str]) -> None:
        """What `find_headers` returns from now on; nothing where it cannot be written: a guess."""
        path = self._set_path(manifest_sha256)
        text = "".join(f"{digest}\n" for digest in digests)
        with suppress(OSError, ValueError):
            if path.read_text() == text:
                return
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, text.encode())

    def keep(self, evidence: bytes, verdict: Verdict) -> Path:
        """Store both, evidence as it came; all beyond `_EVIDENCE_KEPT` go. The verdict's path."""
        directory = self.state_dir / "verdicts"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        path = directory / f"{stamp}-{verdict.sha256[:16]}.verdict.json"
        path.write_bytes(verdict.to_json())
        path.with_name(path.name.replace(".verdict.json", _EVIDENCE)).write_bytes(evidence)
        for old in sorted(directory.iterdir())[: -2 * _EVIDENCE_KEPT]:
            old.unlink(missing_ok=True)
        return path

    def find_evidence(self, verdict: Verdict) -> bytes:
        """The packed evidence kept with `verdict`. FileNotFoundError once it was pruned."""
        directory = self.state_dir / "verdicts"
        path = next(directory.glob(f"*-{verdict.sha256[:16]}{_EVIDENCE}"), None)
        if path is None:
            raise FileNotFoundError(str(directory))
        return path.read_bytes()

    def _header_path(self, digest: str) -> Path:
        return self.cache_dir / "headers" / digest[:2] / digest

    def _set_path(self, manifest_sha256: str) -> Path:
        return self.cache_dir / "headers" / "sets" / manifest_sha256


@dataclass(frozen=True, slots=True)
class Nature:
    """What is known of a node before it is measured.

    `shares_kernel`: it runs this machine's kernel, so that its kernel's state is compared with
    what the same code reads here. `boot_s`: so long from now it may still be booting.
    `unsafe_container`: it may be one, of a host that is not measured. `agents` are pids of agents
    that this controller has there on other connections, which stay.
    """

    shares_kernel: bool
    boot_s: float = 0.0
    unsafe_container: bool = False
    agents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement of a node, packed as it came; `headers` by sha256, times in seconds.

    `taken_unix` is when it was complete, by this machine's clock.
    """

    began_unix: float
    boot_id: str
    nonce: str
    evidence: bytes
    parsed: Evidence
    headers: Mapping[str, bytes]
    timings_s: Mapping[str, float]
    taken_unix: float


@dataclass(frozen=True, slots=True)
class Attested:
    """A node that was found trustworthy, and why: `measured` under `binding` gave the verdict."""

    proof: TrustedNode
    verdict: Verdict
    measured: Measured
    binding: Binding


def attest_node(
    node: UnverifiedNode,
    leased: LeasedNode,
    toolkit: Toolkit,
    known_good: KnownGood,
    archive: Archive,
    *,
    nature: Nature,
    on_phase: OnPhase = lambda phase: None,
) -> Attested:
    """Steps 2 to 4 of the design: push our binaries, measure with them, compare.

    A node that seems to boot still is measured anew; the last measurement decides. Raises
    AttestationRefused, TransportError.
    """
    layers = dict(leased.layers)
    with checked_ahead(archive, known_good) as packages:
        measured = measure_node(
            node, toolkit, archive, layers=layers, agents=nature.agents, on_phase=on_phase
        )
    started, pause_s = time.monotonic(), _FIRST_PAUSE_S
    told = False
    while True:
        on_phase("verifying the evidence")
        binding = bind(
            node,
            leased,
            toolkit,
            measured.nonce,
            layers=layers,
            nature=nature,
        )
        try:
            return judge(leased, measured, known_good, archive, binding, packages)
        except NodeRefused as refused:
            left_s = started + find_patience_s(refused, nature.boot_s) - time.monotonic()
            if left_s <= 0:
                raise
            is_told = told or is_hanging_up(refused)
            subject = escape(refused.verdict.reasons[0].subject)
        if not is_told:
            on_phase(f"waiting for the end of the node's boot: there is {subject}")
            told = True
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        measured = measure_anew(node, archive, layers=layers, agents=nature.agents)


def measure_node(
    node: UnverifiedNode,
    toolkit: Toolkit,
    archive: Archive,
    *,
    layers: Collection[str] = (),
    agents: Sequence[int] = (),
    on_phase: OnPhase = lambda phase: None,
) -> Measured:
    """Push our binaries, measure with them over a connection of an sshd that reread its files.

    `layers` are the trees measured as one digest each, `agents` pids of agents that stay. Raises
    AttestationRefused, TransportError.
    """
    started = time.monotonic()
    on_phase("pushing the toolkit")
    node.start_agent(toolkit)
    pushed = time.monotonic()
    on_phase("measuring the node")
    return measure_anew(node, archive, layers=layers, agents=agents, toolkit_s=pushed - started)


def measure_anew(
    node: UnverifiedNode,
    archive: Archive,
    *,
    layers: Collection[str] = (),
    agents: Sequence[int] = (),
    toolkit_s: float = 0.0,
) -> Measured:
    """As `measure_node`, with the agent that it has started. `toolkit_s`: what that took."""
    started = time.monotonic()
    node.reload_sshd(agents)
    nonce = secrets.token_hex(32)
    hello = node.hello(nonce)
    return _measure(node, archive, nonce, layers, hello, toolkit_s, time.monotonic() - started)


def measure_again(node: UnverifiedNode, archive: Archive) -> Measured:
    """Measure once more over the connection that there is, as `measure_node` did; no layers."""
    nonce = secrets.token_hex(32)
    return _measure(node, archive, nonce, (), node.hello(nonce), 0.0, 0.0)


def _measure(
    node: UnverifiedNode,
    archive: Archive,
    nonce: str,
    layers: Collection[str],
    hello: Hello,
    toolkit_s: float,
    login_s: float,
) -> Measured:
    started, began_unix = time.monotonic(), time.time()
    evidence = node.measure(nonce, skip=SKIPPED, trees=sorted(layers), processes=hello.cpus)
    timings = {"toolkit": toolkit_s, "login": login_s, "measure": time.monotonic() - started}
    parsed = parse_evidence(evidence)
    headers = _fetch_headers(node, parsed, archive)
    return Measured(
        began_unix, hello.boot_id, nonce, evidence, parsed, headers, timings, time.time()
    )


def bind(
    node: UnverifiedNode,
    leased: LeasedNode,
    toolkit: Toolkit,
    nonce: str,
    *,
    layers: Mapping[str, str],
    nature: Nature,
) -> Binding:
    """What the controller knows of this one node, and asked of it with `nonce`."""
    return Binding(
        host_key=node.host_key,
        nonce=nonce,
        toolkit=toolkit,
        injected=_injected(leased.injected),
        layers=layers,
        skip=SKIPPED,
        user=leased.address.user,
        mounts=tuple(
            MountRule(one.point, (one.type,), may_bind=one.point in NODE_DIRS)
            for one in leased.mounts
        )
        or None,
        sockets=(SocketRule("tcp", leased.address.port, _SSHD),),
        kernel=own_kernel() if nature.shares_kernel else None,
        reload=node.reload,
        unsafe_container=nature.unsafe_container and not nature.shares_kernel,
    )


@contextmanager
def checked_ahead(archive: Archive, known_good: KnownGood) -> Iterator[HeaderCache]:
    """Signatures that a verdict will probably need, checked while the node is measured.

    What is found is for `verify`, complete when the block has ended. Which headers are checked is
    a guess; a signature is a fact of the header's bytes and the keys. One that does not verify is
    left to the verdict, as are all that were not guessed.
    """
    found: HeaderCache = {}
    done = threading.Event()

    def check() -> None:
        for digest in archive.find_headers(known_good.manifest.sha256):
            blob = None if done.is_set() else archive.read_header(digest)
            if blob is not None:
                with suppress(HeaderError, UnsignedError):
                    verify_package(blob, known_good.package_keys, found)

    thread = threading.Thread(target=check, name="signatures", daemon=True)
    thread.start()
    try:
        yield found
    except BaseException:
        done.set()
        raise
    finally:
        thread.join()


def judge(
    leased: LeasedNode,
    measured: Measured,
    known_good: KnownGood,
    archive: Archive,
    binding: Binding,
    checked: HeaderCache | None = None,
) -> Attested:
    """The verdict on what was measured, kept with its evidence. NodeRefused.

    `checked` are packages whose signatures were checked under `known_good` before.
    """
    try:
        proof, verdict = verify(
            measured.parsed,
            measured.headers,
            known_good.manifest,
            known_good.package_keys,
            known_good.policy,
            binding,
            cache=checked,
            timings_s=measured.timings_s,
        )
    except NodeRefused as refused:
        archive.keep(measured.evidence, refused.verdict)
        raise
    archive.keep(measured.evidence, verdict)
    archive.note_headers(
        known_good.manifest.sha256, [digest for digest, _size in measured.parsed.headers]
    )
    leased.record_verdict(
        LastVerdict(
            verdict.sha256,
            measured.began_unix,
            find_basis(known_good, binding.toolkit),
            measured.boot_id,
        )
    )
    return Attested(proof, verdict, measured, binding)


def find_basis(known_good: KnownGood, toolkit: Toolkit) -> str:
    """Digest (hex) of what verdicts rest on here, besides what shapes the node itself."""
    basis = (
        __version__,
        known_good.manifest.sha256,
        known_good.package_keys.fingerprint,
        known_good.policy.sha256,
        toolkit.digest,
    )
    return hashlib.sha256(json.dumps(basis).encode()).hexdigest()


def own_kernel() -> KernelFacts:
    """This machine's kernel state, read by the code that reads a node's."""
    return parse_kernel(json.loads(json.dumps(measure_kernel())))


class CachedHeaders(Mapping[str, bytes]):
    """Header blobs by sha256 (hex), read from the cache one at a time as they are asked for.

    One that was damaged on the disk meanwhile is not there.
    """

    def __init__(self, archive: Archive, digests: Iterable[str]) -> None:
        self._archive = archive
        self._digests = dict.fromkeys(digests)

    def __getitem__(self, digest: str) -> bytes:
        blob = self._archive.read_header(digest) if digest in self._digests else None
        if blob is None:
            raise KeyError(digest)
        return blob

    def __iter__(self) -> Iterator[str]:
        return iter(self._digests)

    def __len__(self) -> int:
        return len(self._digests)


def _fetch_headers(node: UnverifiedNode, evidence: Evidence, archive: Archive) -> CachedHeaders:
    """Have all headers of `evidence` in the cache."""
    digests = [digest for digest, _size in evidence.headers]
    missing = [digest for digest in digests if archive.read_header(digest) is None]
    for digest, blob in node.fetch_headers(missing) if missing else ():
        archive.write_header(digest, blob)
    return CachedHeaders(archive, digests)


def _injected(files: Mapping[str, ProvidedFile]) -> dict[str, InjectedFile]:
    return {path: _one_injected(file) for path, file in files.items()}


def _one_injected(file: ProvidedFile) -> InjectedFile:
    file = file.without_content()
    value = file.sha256 or None
    if file.type in (InjectedType.LINK, InjectedType.CHARACTER):
        value = file.content.decode()
    return InjectedFile(file.type.value, file.mode, file.uid, file.gid, file.size_bytes, value)

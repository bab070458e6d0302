# SPDX-License-Identifier: GPL-2.0-or-later
"""From evidence to a verdict: the only place that makes a TrustedNode.

Pure: bytes in, a proof or a refusal out. Who measured, how the bytes came and what time it is
are the caller's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from itertools import chain, islice
from typing import Final

from mock_cloud.attest.check_files import FileCheck, InjectedFile
from mock_cloud.attest.check_login import LoginCheck
from mock_cloud.attest.check_packages import check_allowed, read_installed
from mock_cloud.attest.check_policy import (
    check_agents,
    check_forbidden,
    check_unsigned,
    describe_agents,
    describe_allowed,
)
from mock_cloud.attest.check_running import ProcessCheck, check_machine, check_mounts, check_sockets
from mock_cloud.attest.evidence import Evidence, EvidenceError, parse_evidence
from mock_cloud.attest.helpers import check_helpers
from mock_cloud.attest.kernel import KernelFacts, check_hardening, check_kernel, describe_warnings
from mock_cloud.attest.knowngood import compile_known_good
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.packages import HeaderCache
from mock_cloud.attest.policy import MAY_SKIP, TIER, Policy
from mock_cloud.attest.rules.expectations import MountRule, ProgramRule, SocketRule
from mock_cloud.attest.verdict import REASONS_MAX, NodeRefused, Verdict, find_not_proven
from mock_cloud.errors import Reason
from mock_cloud.model import _SEAL, HostKey, SshdReload, Toolkit, TrustedNode
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import MOCK_LIBDIR, WORKSPACE

_UNSAFE_CONTAINER: Final = (
    "UNSAFE: the node may be a container (unsafe_containers): root of its host, of which nothing"
    " was measured, reads and changes everything in it"
)
_COUNTED_MAX: Final = 1_000_000
_LAYER_ROOTS: Final = (f"{WORKSPACE}/layers/", f"{WORKSPACE}/dnf/", f"{MOCK_LIBDIR}/")


@dataclass(frozen=True)
class Binding:
    """What this one verdict is bound to, and what the controller knows of this one node.

    `host_key` is the key that the channel showed which the evidence came through; `nonce`
    the one sent with the order to measure; `skip` exactly the list sent with it. `injected`
    maps a path to what the controller or provider put there; `layers` a layer's path to the
    tree digest recorded when our agent made it. `mounts`, if not None, go in place of the
    manifest's; `programs` and `sockets` add to them. `kernel` are the controller's own kernel
    facts for a node that shares its kernel and network (provider `local`), which is a container of
    the controller's own. `reload`: how sshd was made to read its configuration before it was
    measured; without it no node is trusted. `unsafe_container`: the node may be one, of whoever
    runs its host.
    """

    host_key: HostKey
    nonce: str
    toolkit: Toolkit = field(repr=False)
    injected: Mapping[str, InjectedFile] = field(default_factory=dict, repr=False)
    layers: Mapping[str, str] = field(default_factory=dict)
    skip: tuple[str, ...] = ()
    user: str = "root"
    mounts: tuple[MountRule, ...] | None = None
    programs: tuple[ProgramRule, ...] = ()
    sockets: tuple[SocketRule, ...] = ()
    kernel: KernelFacts | None = None
    unsafe_container: bool = False
    reload: SshdReload | None = None


def verify(
    unverified_evidence: bytes | Evidence,
    headers: Mapping[str, bytes],
    manifest: ImageManifest,
    package_keys: Sequence[bytes] | PackageKeys,
    policy: Policy,
    binding: Binding,
    *,
    cache: HeaderCache | None = None,
    timings_s: Mapping[str, float] | None = None,
) -> tuple[TrustedNode, Verdict]:
    """Proof that the node is what the manifest says, or NodeRefused with every reason.

     1. The policy asks for something, and for no less than the mandatory checks.
     2. The evidence is well-formed, answers our nonce, and left out only what we said.
     3. Every installed package is signed by a pinned key and stands in the manifest.
     4. Every file is as signed, pinned, injected or packed; none is unknown or missing.
     5. Every mount is expected.
     6. The first process is the machine's own. Every process is an allowed one, runs verified
        code and nothing else; none is hidden. Nobody else is logged in, and sshd goes by the
        configuration that was measured.
     7. Every listening socket is expected.
     8. The kernel's state is the reference's.
     9. Every chroot layer is unchanged; only those may be reused.
    10. What the policy forbids is not there, no agent for remote control runs unless it is
        allowed, and what the policy asks of the manifest is there.
    11. The proof is bound to the host key of the channel.

    The evidence may be parsed already. `headers` are blobs by their sha256 (hex), as evidence
    names them. `package_keys` are armoured OpenPGP certificates. With a `cache`, headers whose
    signature was checked before under the same keys are not checked again. `timings_s` goes
    into the verdict as it is.

    Raises NodeRefused (an AttestationRefused with the verdict that says so), ConfigError if
    `package_keys` are unusable.
    """
    keys = (
        package_keys if isinstance(package_keys, PackageKeys) else PackageKeys.parse(package_keys)
    )
    # 1
    unusable = tuple(policy.reasons())
    if unusable:
        raise NodeRefused(_verdict(None, manifest, policy, binding, unusable, len(unusable)))
    # 2
    try:
        evidence = unverified_evidence
        if not isinstance(evidence, Evidence):
            evidence = parse_evidence(evidence)
    except EvidenceError as error:
        verdict = _verdict(None, manifest, policy, binding, error.reasons, 1, timings_s)
        raise NodeRefused(verdict) from error
    # 3
    installed = read_installed(evidence, headers, keys, cache, manifest)
    varying = [rule for one in policy.allowed for rule in one.files()]
    known = compile_known_good(installed.packages, manifest, varying)
    programs, sockets = manifest.programs + binding.programs, manifest.sockets + binding.sockets
    programs += tuple(rule for one in policy.allowed for rule in one.programs())
    sockets += tuple(rule for one in policy.allowed for rule in one.sockets())
    files = FileCheck(known, policy, binding.injected, binding.toolkit, binding.layers)
    found = chain(
        _freshness(evidence, binding),
        installed.reasons,
        check_allowed(installed.packages, manifest),
        # 4
        files.reasons(evidence),
        # 5
        check_mounts(evidence, manifest.mounts if binding.mounts is None else binding.mounts),
        # 6
        () if _may_be_container(policy, binding) else check_machine(evidence),
        ProcessCheck(files.code, programs, binding.toolkit, binding.user).reasons(evidence),
        LoginCheck(binding.reload, programs, sockets, binding.toolkit, binding.user).reasons(
            evidence, shared_network=binding.kernel is not None
        ),
        # 7
        check_sockets(evidence, sockets, shared_network=binding.kernel is not None),
        # 8
        _kernel(evidence, manifest, policy, binding),
        check_helpers(evidence.helpers, unsafe_container=binding.unsafe_container),
        # 9
        _layers(evidence, binding),
        # 10
        check_unsigned(known, policy),
        check_forbidden(evidence, installed.packages, policy),
        check_agents(evidence, installed.packages, policy),
    )
    try:
        reasons = tuple(islice(found, REASONS_MAX))
        count = len(reasons) + sum(1 for _ in islice(found, _COUNTED_MAX))
        verdict = _verdict(evidence, manifest, policy, binding, reasons, count, timings_s)
        notes = (*verdict.notes, *describe_agents(evidence, installed.packages))
        verdict = replace(verdict, notes=notes)
    except EvidenceError as error:  # 2 again: files are read as they are compared
        verdict = _verdict(None, manifest, policy, binding, error.reasons, 1, timings_s)
        raise NodeRefused(verdict) from error
    if reasons:
        raise NodeRefused(verdict)
    # 11
    layers = {path: digest for path, digest in binding.layers.items() if path in evidence.trees}
    return TrustedNode(binding.host_key, verdict.sha256, TIER, layers, _SEAL), verdict


def _freshness(evidence: Evidence, binding: Binding) -> Iterator[Reason]:
    if not binding.nonce or evidence.nonce != binding.nonce:
        yield Reason("evidence.nonce", "nonce", binding.nonce, evidence.nonce[:200])
    if sorted(evidence.skip) != sorted(binding.skip):
        asked, done = (" ".join(sorted(one))[:400] for one in (binding.skip, evidence.skip))
        yield Reason("evidence.skip", "skip", asked, done)
    for path in evidence.skip:
        if not any(path == allowed or path.startswith(f"{allowed}/") for allowed in MAY_SKIP):
            yield Reason("evidence.skip", path, "measured", "left out")


def _may_be_container(policy: Policy, binding: Binding) -> bool:
    if binding.kernel is not None:
        return True  # of the controller's own
    return binding.unsafe_container and policy.rules.containers


def _kernel(
    evidence: Evidence, manifest: ImageManifest, policy: Policy, binding: Binding
) -> Iterator[Reason]:
    reference = _kernel_reference(manifest, binding)
    machine = evidence.uname[-1] if evidence.uname else ""
    wanted = binding.toolkit.arch  # the one that was asked for: a toolkit runs on no other
    if manifest.arch != wanted:
        yield Reason("manifest.arch", manifest.name, wanted, manifest.arch)
    if machine != wanted:
        yield Reason("kernel.arch", "uname", wanted, machine)
    if reference is None:
        yield Reason("kernel.no-reference", "kernel", "facts to compare with", "none")
    elif evidence.kernel is None:
        yield Reason("kernel.unknown", "kernel", "its state", "not measured")
    else:
        rules = policy.rules
        modules = {one.module for one in policy.allowed if one.module}
        allowed = replace(
            reference,
            modules=reference.modules | modules,
            modules_sysfs=reference.modules_sysfs | modules,
        )
        yield from check_kernel(evidence.kernel, allowed, may_warn=rules.kernel_warnings)
        yield from check_hardening(
            evidence.kernel,
            lockdown=rules.lockdown,
            module_signatures=rules.module_signatures,
            ptrace_scope=rules.ptrace_scope,
        )


def _kernel_reference(manifest: ImageManifest, binding: Binding) -> KernelFacts | None:
    pinned = manifest.kernel
    return pinned if isinstance(pinned, KernelFacts) else binding.kernel


def _layers(evidence: Evidence, binding: Binding) -> Iterator[Reason]:
    for path, tree in evidence.trees.items():
        recorded = binding.layers.get(path)
        if not path.startswith(_LAYER_ROOTS):
            yield Reason("layer.place", path, "below the layers", "measured as one digest")
        elif recorded is not None and recorded != tree.sha256:
            yield Reason("layer.digest", path, recorded, tree.sha256)


def _verdict(
    evidence: Evidence | None,
    manifest: ImageManifest,
    policy: Policy,
    binding: Binding,
    reasons: tuple[Reason, ...],
    count: int,
    timings_s: Mapping[str, float] | None = None,
) -> Verdict:
    counts = {}
    notes = []
    if evidence is not None:
        counts = {
            "files": len(evidence.files),
            "packages": len(evidence.headers),
            "processes": len(evidence.processes),
            "mounts": len(evidence.mounts),
            "layers": len(evidence.trees),
        }
        if evidence.skip:
            notes.append(f"not measured: {' '.join(sorted(evidence.skip))}")
        reference = _kernel_reference(manifest, binding)
        if evidence.kernel is not None and reference is not None:
            notes += describe_warnings(evidence.kernel, reference)
    if binding.unsafe_container:
        notes.append(_UNSAFE_CONTAINER)
    notes += describe_allowed(policy)
    if not manifest.labels:
        notes.append("SELinux labels were not compared: the manifest has none")
    return Verdict(
        trusted=not reasons,
        policy=policy.name,
        policy_sha256=policy.sha256,
        host_key=binding.host_key.fingerprint,
        nonce=binding.nonce,
        evidence_sha256=evidence.sha256 if evidence else "",
        manifest=manifest.name,
        manifest_sha256=manifest.sha256,
        counts=counts,
        timings_s=dict(timings_s or {}),
        reasons=reasons,
        reason_count=count,
        notes=tuple(notes),
        not_proven=find_not_proven(policy),
    )

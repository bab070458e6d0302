# SPDX-License-Identifier: GPL-2.0-or-later
"""A manifest from a node that runs: what its signer signs, and what that adds.

`bake.make_manifest` works on a tree that is not booted. For an image, here first everything is left
out that belongs to the running of this one node: kernel file systems, mounted scratch, what the
controller and the provider put there. For a machine that is what it is, only the controller's own
is. What runs is taken over only if nobody signed for it before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from mock_cloud.attest.accounts import Accounts
from mock_cloud.attest.check_login import find_role
from mock_cloud.attest.check_packages import read_installed
from mock_cloud.attest.evidence import Evidence, Mount, Process, Socket
from mock_cloud.attest.files import FileFact
from mock_cloud.attest.image_manifest import SSHD_PROGRAMS, BakeChoices, make_manifest
from mock_cloud.attest.kernel import KernelFacts
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.packages import HeaderCache, Package
from mock_cloud.attest.rules import runtime
from mock_cloud.attest.rules.expectations import (
    Invocation,
    MountRule,
    ProgramRule,
    SocketRule,
    default_mounts,
    is_interpreter,
    is_on_disk,
)
from mock_cloud.attest.rules.volatile import VolatileRule
from mock_cloud.attest.signer_report import SignerReport, read_signer_report
from mock_cloud.attest.sshd_titles import find_sshd_role, is_sshd_session
from mock_cloud.errors import AttestationRefused, Reason
from mock_cloud.model import Toolkit
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import NODE_DIRS
from mock_cloud.wire.terminal_text import escape

_VERSION: Final = re.compile(r"/vmlinuz-(\S+)")
"""In a kernel's command line, by its boot loader: BOOT_IMAGE=(hd0,gpt2)/boot/vmlinuz-VERSION."""
_EPHEMERAL: Final = 32768
"""The first port that Linux gives to a socket which asks for none (ip_local_port_range)."""


@dataclass(frozen=True, slots=True)
class LiveNode:
    """What the controller knows of the node that the evidence is from.

    `own` are paths that are this one node's and no image's (injected by the provider).
    `user` is who the controller logs in as, `toolkit` what it pushed. `is_machine`: the
    manifest is to be of this machine as it runs, not of an image that its disk becomes.
    """

    accounts: Accounts
    toolkit: Toolkit
    own: frozenset[str] = frozenset()
    user: str = "root"
    is_machine: bool = False


def make_live_manifest(
    evidence: Evidence,
    headers: Mapping[str, bytes],
    keys: PackageKeys,
    node: LiveNode,
    base: ImageManifest | None,
    *,
    name: str,
    created: str,
    volatile: tuple[VolatileRule, ...] = (),
) -> tuple[ImageManifest, SignerReport]:
    """The manifest of this machine, or the image that its disk becomes, and what is new in it.

    With the manifest of a `base`, what may run, listen, be mounted and vary is what that says;
    without one it is what is found, and `volatile`. The kernel's state is the base's, or as found;
    of another version of the base's kernel: see `_renewed_kernel`.

    Raises AttestationRefused as `bake.make_manifest` does, with ``kernel.unknown``, and with
    ``process.unknown`` for a process that no rule can name, a login or a shell among them.
    What only a verdict finds (hidden, traced, patched processes …) is for `verify`.
    """
    cache: HeaderCache = {}
    renewed = None
    if base is not None and isinstance(base.kernel, KernelFacts):
        renewed = _renewed_kernel(
            evidence,
            base.kernel,
            lambda: read_installed(evidence, headers, keys, cache).packages,
        )
    kernel = renewed or (evidence.kernel if base is None else base.kernel)
    if kernel is None:
        raise AttestationRefused(
            "no manifest for this node: the state of its kernel was not measured",
            reasons=(Reason("kernel.unknown", "kernel", "its state", "not measured"),),
        )
    found = _found(evidence, node) if base is None else _of(base)
    choices = BakeChoices(
        name=name,
        created=created,
        accounts=node.accounts,
        accepted=() if base is None else base.entries,
        volatile=volatile if base is None else base.volatile,
        mounts=found.mounts,
        programs=found.programs,
        sockets=found.sockets,
        kernel=kernel,
        booted=node.is_machine,
    )
    image = replace(evidence, files=tuple(_image_files(evidence, node)))
    manifest = make_manifest(image, headers, keys, choices, cache=cache)
    signer_report = read_signer_report(manifest, base, evidence, headers, keys, cache)
    signer_report = replace(signer_report, kernel=renewed)
    if base is None:
        signer_report = replace(
            found,
            packages=signer_report.packages,
            files=signer_report.files,
            changed=signer_report.changed,
            volatile=volatile,
            kernel=kernel if isinstance(kernel, KernelFacts) else None,
        )
    return manifest, signer_report


def _renewed_kernel(
    evidence: Evidence, base: KernelFacts, read_packages: Callable[[], Iterable[Package]]
) -> KernelFacts | None:
    """The state of another version of the `base` kernel; None if this is not one, or the same.

    Its command line is the base's with its version in place of that one's; modules that the base
    has not are files of the signed package which it came from. All that root can change in a kernel
    that runs (taints, helpers, probes) stays the base's: what a package's script left may have run
    as root at this boot.
    """
    found, release = evidence.kernel, "".join(evidence.uname[2:3])
    was = _VERSION.search(str(base.cmdline))
    if found is None or was is None or not release or was[1] == release:
        return None
    if str(base.cmdline).replace(was[1], release) != found.cmdline:
        return None
    names = {
        file.name.partition(".ko")[0].replace("-", "_")
        for package in read_packages()
        for file in package.files
        if f"/lib/modules/{release}/" in file.directory and ".ko" in file.name
    }
    modules = found.modules | found.modules_sysfs
    if not names or modules - base.modules - base.modules_sysfs - names:
        return None
    return replace(
        base, cmdline=found.cmdline, modules=found.modules, modules_sysfs=found.modules_sysfs
    )


def _image_files(evidence: Evidence, node: LiveNode) -> Iterator[FileFact]:
    """The node's files, without our own and what was put there for it; for an image, its disk's
    and what each boot writes anew."""
    scratch = tuple(
        f"{mount.point}/" for mount in evidence.mounts
        if not (mount.point == "/" or is_on_disk(mount.point, [mount.type]) or node.is_machine)
    )  # fmt: skip
    ours = tuple(f"{path}/" for path in NODE_DIRS)
    for fact in evidence.files:
        path = fact.path
        is_scratch = path.startswith(scratch) and not runtime.is_generated(path)
        if not (path in node.own or path in NODE_DIRS or path.startswith(ours) or is_scratch):
            yield fact


def _of(base: ImageManifest) -> SignerReport:
    return SignerReport(mounts=base.mounts, programs=base.programs, sockets=base.sockets)


def _found(evidence: Evidence, node: LiveNode) -> SignerReport:
    """Rules that let run, listen and be mounted just what does now, besides sshd and us."""
    exes = {process.pid: process.exe for process in evidence.processes}
    known = {rule.point: rule for rule in default_mounts()}
    return SignerReport(
        mounts=tuple(_mount_rule(one) for one in evidence.mounts if not _passes(one, known)),
        programs=tuple(dict.fromkeys(_programs(evidence, node))),
        sockets=tuple(
            dict.fromkeys(
                _socket_rule(one, exes[one.pid] or "")
                for one in evidence.sockets
                if one.pid in exes
            )
        ),
    )


def _socket_rule(socket: Socket, exe: str) -> SocketRule:
    """A client of a datagram service has another port each time."""
    protocol = socket.protocol.rstrip("6")
    is_client = protocol == "udp" and socket.port >= _EPHEMERAL
    return SocketRule(protocol, 0 if is_client else socket.port, exe)


def _passes(mount: Mount, known: Mapping[str, MountRule]) -> bool:
    rule = known.get(mount.point)
    return rule is not None and mount.type in rule.types


def _mount_rule(mount: Mount) -> MountRule:
    return MountRule(mount.point, (mount.type,), may_bind=mount.root != "/")


def _programs(evidence: Evidence, node: LiveNode) -> Iterator[ProgramRule]:
    for process in evidence.processes:
        is_ours = find_role(process, node.toolkit) is not None
        exe = process.exe or ""
        role = find_sshd_role(process.cmdline, exe, node.user)
        is_sshd = exe in SSHD_PROGRAMS and role is not None
        if not (process.kernel or is_ours or is_sshd):
            yield _program_rule(process, evidence.init_namespaces)


def _program_rule(process: Process, init: Mapping[str, int]) -> ProgramRule:
    """Just this command line. AttestationRefused for what no rule can name."""
    try:
        if is_sshd_session(process.cmdline):
            raise ValueError(f"somebody is logged in: {' '.join(process.cmdline)[:200]}")
        words = process.cmdline[1:]
        if is_interpreter(process.exe or "/") and all(word.startswith("-") for word in words):
            raise ValueError("a shell or interpreter without a script runs what it is told")
        return ProgramRule(
            process.exe or "",
            Invocation.EXACT,
            process.cmdline,
            may_generate_code=process.anonymous_exec > 0,
            own_namespaces=process.namespaces != init,
        )
    except ValueError as error:
        who = f"pid {process.pid} {process.exe or '?'}"
        raise AttestationRefused(
            f"no manifest for this node: {escape(who)} can't stand in one",
            reasons=(Reason("process.unknown", who, "a program with arguments", str(error)),),
            hint="end it there, and log out",
        ) from error

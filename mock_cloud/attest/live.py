# SPDX-License-Identifier: GPL-2.0-or-later
"""An image manifest from a node that runs: what a bake signs, and what its baker is shown.

`bake.make_manifest` works on a tree that is not booted. Here first everything is left out that
belongs to the running of this one node: kernel file systems, mounted scratch, what the controller
and the provider put there. What runs is taken over only if nobody signed for it before.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from mock_cloud.attest.accounts import Accounts
from mock_cloud.attest.bake import BakeChoices, make_manifest
from mock_cloud.attest.check_agents import find_role
from mock_cloud.attest.check_files import describe
from mock_cloud.attest.check_packages import read_installed
from mock_cloud.attest.evidence import Evidence, Mount, Process
from mock_cloud.attest.expectations import (
    DISK_TYPES,
    Invocation,
    MountRule,
    ProgramRule,
    SocketRule,
    default_mounts,
    is_sshd_invocation,
)
from mock_cloud.attest.files import FileFact
from mock_cloud.attest.knowngood import read_packages
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.packages import HeaderCache
from mock_cloud.attest.verdict import escape
from mock_cloud.attest.volatile import VolatileRule
from mock_cloud.errors import AttestationRefused, Reason
from mock_cloud.model import MOCK_LIBDIR, WORKSPACE, Toolkit
from mock_cloud.signed.keys import PackageKeys

_OUR_DIRS: Final = (WORKSPACE, MOCK_LIBDIR, "/var/cache/mock")


@dataclass(frozen=True, slots=True)
class LiveNode:
    """What the controller knows of the node that the evidence is from.

    `own` are paths that are this one node's and no image's (injected by the provider).
    `user` is who the controller logs in as, `toolkit` what it pushed.
    """

    accounts: Accounts
    toolkit: Toolkit
    own: frozenset[str] = frozenset()
    user: str = "root"


@dataclass(frozen=True, slots=True)
class Vouched:
    """What a baker's signature adds to what packages, or the base image's manifest, say.

    `changed` are packaged files that differ from their package (configuration, mostly);
    `files` belong to no package.
    """

    packages: tuple[str, ...] = ()
    files: tuple[FileFact, ...] = ()
    changed: tuple[FileFact, ...] = ()
    mounts: tuple[MountRule, ...] = ()
    programs: tuple[ProgramRule, ...] = ()
    sockets: tuple[SocketRule, ...] = ()

    def lines(self) -> Iterator[str]:
        """One a fact, for people; a node's texts are escaped."""
        for nevra in self.packages:
            yield f"package: {escape(nevra)}"
        for title, facts in (("changed", self.changed), ("file", self.files)):
            for fact in facts:
                yield f"{title}: {escape(fact.path)}: {escape(describe(fact))}"
        for mount in self.mounts:
            yield f"mount: {escape(mount.point)}: {escape(' '.join(mount.types))}"
        for program in self.programs:
            words = " ".join(program.argv) or f"{program.exe} ({program.invocation.value})"
            yield f"program: {escape(words)}"
        for socket in self.sockets:
            yield f"socket: {escape(socket.protocol)} {socket.port}: {escape(socket.exe)}"


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
) -> tuple[ImageManifest, Vouched]:
    """The manifest of the image that a copy of this node's disk will be, and what is new in it.

    With the manifest of a `base`, what may run, listen, be mounted and vary is what that says;
    without one it is what is found, and `volatile`. The kernel's state is the base's, or as found.

    Raises AttestationRefused as `bake.make_manifest` does, and with ``kernel.unknown``.
    """
    kernel = evidence.kernel if base is None else base.kernel
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
        accept_changed=frozenset() if base is None else frozenset(f.path for f in base.entries),
        volatile=volatile if base is None else base.volatile,
        mounts=found.mounts,
        programs=found.programs,
        sockets=found.sockets,
        kernel=kernel,
    )
    image = replace(evidence, files=tuple(_image_files(evidence, node)))
    cache: HeaderCache = {}
    manifest = make_manifest(image, headers, keys, choices, cache=cache)
    installed = read_installed(evidence, headers, keys, cache)
    packaged = read_packages(installed.packages, node.accounts, manifest.entries).files
    return manifest, _vouched(manifest, base, found, packaged)


def _image_files(evidence: Evidence, node: LiveNode) -> Iterator[FileFact]:
    """The files of the node's disk, without our own and what was put there for this node."""
    scratch = tuple(
        f"{mount.point}/" for mount in evidence.mounts
        if mount.point != "/" and mount.type not in DISK_TYPES
    )  # fmt: skip
    ours = tuple(f"{path}/" for path in _OUR_DIRS)
    for fact in evidence.files:
        path = fact.path
        if not (path in node.own or path in _OUR_DIRS or path.startswith((*scratch, *ours))):
            yield fact


def _of(base: ImageManifest) -> Vouched:
    return Vouched(mounts=base.mounts, programs=base.programs, sockets=base.sockets)


def _found(evidence: Evidence, node: LiveNode) -> Vouched:
    """Rules that let run, listen and be mounted just what does now, besides sshd and us."""
    exes = {process.pid: process.exe for process in evidence.processes}
    known = {rule.point: rule for rule in default_mounts()}
    return Vouched(
        mounts=tuple(_mount_rule(one) for one in evidence.mounts if not _passes(one, known)),
        programs=tuple(dict.fromkeys(_programs(evidence, node))),
        sockets=tuple(
            dict.fromkeys(
                SocketRule(one.protocol.rstrip("6"), one.port, exes[one.pid] or "")
                for one in evidence.sockets
                if one.pid in exes
            )
        ),
    )


def _passes(mount: Mount, known: Mapping[str, MountRule]) -> bool:
    rule = known.get(mount.point)
    return rule is not None and mount.type in rule.types


def _mount_rule(mount: Mount) -> MountRule:
    return MountRule(mount.point, (mount.type,), may_bind=mount.root != "/")


def _programs(evidence: Evidence, node: LiveNode) -> Iterator[ProgramRule]:
    for process in evidence.processes:
        is_ours = find_role(process, node.toolkit) is not None
        is_sshd = is_sshd_invocation(process.cmdline, process.exe or "", node.user)
        if not (process.kernel or is_ours or is_sshd):
            yield _program_rule(process, evidence.init_namespaces)


def _program_rule(process: Process, init: Mapping[str, str]) -> ProgramRule:
    """Just this command line. AttestationRefused for what no rule can name."""
    try:
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
            hint="end it on the base image",
        ) from error


def _vouched(
    manifest: ImageManifest, base: ImageManifest | None, found: Vouched, packaged: Container[str]
) -> Vouched:
    """What `manifest` has that `base` has not. `packaged` are the paths of packages' files."""
    files = set(manifest.entries) - set(() if base is None else base.entries)
    packages = set(manifest.packages) - set(() if base is None else base.packages)
    new = Vouched(
        packages=tuple(sorted(nevra for nevra, _ in packages)),
        files=tuple(sorted(fact for fact in files if fact.path not in packaged)),
        changed=tuple(sorted(fact for fact in files if fact.path in packaged)),
    )
    if base is None:
        return replace(new, mounts=found.mounts, programs=found.programs, sockets=found.sockets)
    return new

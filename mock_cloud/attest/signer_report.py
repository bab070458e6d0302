# SPDX-License-Identifier: GPL-2.0-or-later
"""What a manifest's signer vouches for beyond signatures of others, told one fact a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from mock_cloud.attest.check_files import describe_file
from mock_cloud.attest.check_packages import read_installed
from mock_cloud.attest.evidence import Evidence
from mock_cloud.attest.files import CAPABILITY, FileFact
from mock_cloud.attest.kernel import KernelFacts, kernel_to_json
from mock_cloud.attest.knowngood import read_packages
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.packages import HeaderCache
from mock_cloud.attest.rules.expectations import MountRule, ProgramRule, SocketRule
from mock_cloud.attest.rules.volatile import VolatileRule
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.terminal_text import escape

_UNTOLD: Final = "modules_sysfs"
"""Repeats the modules, and names what every kernel of that build has in it."""


@dataclass(frozen=True, slots=True)
class SignerReport:
    """What a signature adds to what packages, or the base image's manifest, say.

    `changed` are packaged files that differ from their package (configuration, mostly);
    `files` belong to no package. `volatile` are rules, `kernel` the state as found.
    """

    packages: tuple[str, ...] = ()
    files: tuple[FileFact, ...] = ()
    changed: tuple[FileFact, ...] = ()
    mounts: tuple[MountRule, ...] = ()
    programs: tuple[ProgramRule, ...] = ()
    sockets: tuple[SocketRule, ...] = ()
    volatile: tuple[VolatileRule, ...] = ()
    kernel: KernelFacts | None = None

    def with_later(self, later: SignerReport, manifest: ImageManifest) -> SignerReport:
        """What `manifest`'s signer vouches for, where what this one lists was not signed either.

        `later` is what came after this one was made; what was taken out since stays out.
        """
        there = set(manifest.entries)
        packaged = {nevra for nevra, _ in manifest.packages}
        return replace(
            self,
            packages=tuple(sorted(packaged & {*self.packages, *later.packages})),
            files=tuple(sorted(there & {*self.files, *later.files})),
            changed=tuple(sorted(there & {*self.changed, *later.changed})),
            kernel=later.kernel or self.kernel,
        )

    def lines(self) -> Iterator[str]:
        """One a fact, for people; a node's texts are escaped. What packages sign comes last."""
        yield from self.unverified_lines()
        for nevra in self.packages:
            yield f"package: {escape(nevra)}"

    def unverified_lines(self) -> Iterator[str]:
        """Those which nobody's signature speaks for; what can do most comes first."""
        yield from _kernel_lines(self.kernel)
        for program in self.programs:
            yield f"program: {escape(_program(program))}"
        for socket in self.sockets:
            port = socket.port or "any port"
            yield f"socket: {escape(socket.protocol)} {port}: {escape(socket.exe)}"
        for mount in self.mounts:
            yield f"mount: {escape(mount.point)}: {escape(' '.join(mount.types))}"
        for title, facts in (("changed", self.changed), ("file", self.files)):
            for fact in sorted(facts, key=_harmlessness):
                yield f"{title}: {escape(fact.path)}: {escape(describe_file(fact))}"
        for rule in self.volatile:
            yield f"may vary: {escape(rule.path)} ({rule.kind.value})"


def read_signer_report(
    manifest: ImageManifest,
    base: ImageManifest | None,
    evidence: Evidence,
    headers: Mapping[str, bytes],
    keys: PackageKeys,
    cache: HeaderCache,
) -> SignerReport:
    """Files and packages of `manifest`, which was made of the rest, that `base` has not."""
    installed = read_installed(evidence, headers, keys, cache)
    packaged = read_packages(installed.packages, manifest.accounts, manifest.entries).files
    files = set(manifest.entries) - set(() if base is None else base.entries)
    packages = set(manifest.packages) - set(() if base is None else base.packages)
    return SignerReport(
        packages=tuple(sorted(nevra for nevra, _ in packages)),
        files=tuple(sorted(fact for fact in files if fact.path not in packaged)),
        changed=tuple(sorted(fact for fact in files if fact.path in packaged)),
    )


def _harmlessness(fact: FileFact) -> tuple[int, str]:
    """Files that give rights come first, then programs."""
    is_file = fact.type == "f"
    gives_rights = fact.mode & 0o6000 or any(name == CAPABILITY for name, _ in fact.xattrs)
    if is_file and gives_rights:
        return 0, fact.path
    return (1 if is_file and fact.mode & 0o111 else 2), fact.path


def _program(rule: ProgramRule) -> str:
    words = " ".join(rule.argv) or f"{rule.exe} ({rule.invocation.value})"
    if rule.argv and rule.argv[0] != rule.exe:
        words = f"{rule.exe} as {words}"
    notes = [
        note
        for has, note in (
            (rule.may_generate_code, "makes code while it runs"),
            (rule.own_namespaces, "in namespaces of its own"),
        )
        if has
    ]
    return f"{words} ({', '.join(notes)})" if notes else words


def _kernel_lines(facts: KernelFacts | None) -> Iterator[str]:
    if facts is None:
        return
    for name, value in kernel_to_json(facts).items():
        if name == _UNTOLD:
            continue
        for one in value if isinstance(value, list) else [value]:
            yield f"kernel: {name}: {'none' if one is None else escape(str(one))}"

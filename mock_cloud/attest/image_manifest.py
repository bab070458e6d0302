# SPDX-License-Identifier: GPL-2.0-or-later
"""Making an image manifest from evidence measured over an image that is not booted.

The signer of the manifest vouches for the image, so what can be checked is checked first: a
packaged program that differs from its package is not taken over silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from mock_cloud.attest.accounts import Accounts
from mock_cloud.attest.check_files import explain_unreadable
from mock_cloud.attest.check_packages import read_installed
from mock_cloud.attest.differences import check_differences
from mock_cloud.attest.evidence import Evidence
from mock_cloud.attest.files import FileFact
from mock_cloud.attest.kernel import KernelFacts
from mock_cloud.attest.knowngood import Signed, label_of, read_packages
from mock_cloud.attest.manifest import SAME_AS_CONTROLLER, ImageManifest
from mock_cloud.attest.packages import HeaderCache
from mock_cloud.attest.rules import runtime
from mock_cloud.attest.rules.expectations import (
    Invocation,
    MountRule,
    ProgramRule,
    SocketRule,
    default_mounts,
    is_on_disk,
)
from mock_cloud.attest.rules.volatile import (
    Volatile,
    VolatileKind,
    VolatileRule,
    fits,
    is_about_text,
    sshd_only_rules,
)
from mock_cloud.attest.verdict import REASONS_MAX
from mock_cloud.errors import AttestationRefused
from mock_cloud.model import SSH_PORT
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.wire.dataclass import dataclass

SSHD_PROGRAMS: Final = (
    "/usr/sbin/sshd",
    "/usr/bin/sshd",
    "/usr/libexec/openssh/sshd-session",
    "/usr/libexec/openssh/sshd-auth",
    "/usr/lib/openssh/sshd-session",
    "/usr/lib/openssh/sshd-auth",
)
"""Where Fedora, EL and Debian put OpenSSH's server and, since 9.8, its parts."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BakeChoices:
    """What an image's maker decides, besides what is found in it.

    `accepted` are packaged files that are meant to differ from their package, as they should be.
    `volatile`, `mounts`, `programs` and `sockets` add to those of a node that runs sshd and
    nothing else. `skip` are directories of the image whose contents nodes are not measured
    for (mock's own, our workspace). `booted`: the evidence is of the very machine that the
    manifest is for, as it runs, so what lies in its /run and the like belongs to it.
    """

    name: str
    created: str
    accounts: Accounts
    arch: str = ""
    accepted: tuple[FileFact, ...] = ()
    volatile: tuple[VolatileRule, ...] = ()
    mounts: tuple[MountRule, ...] = ()
    programs: tuple[ProgramRule, ...] = ()
    sockets: tuple[SocketRule, ...] = ()
    kernel: KernelFacts | str = SAME_AS_CONTROLLER
    booted: bool = False


def make_manifest(
    evidence: Evidence,
    headers: Mapping[str, bytes],
    keys: PackageKeys | Sequence[bytes],
    choices: BakeChoices,
    *,
    cache: HeaderCache | None = None,
) -> ImageManifest:
    """The manifest of the image that `evidence` was measured over.

    What lies where a booted node has a kernel file system or a tmpfs (/run, /tmp) is left out,
    unless it is `booted`.

    Raises AttestationRefused if a package is not signed by `keys` (``package.…``), if something
    could not be read (``file.unreadable``, ``file.changed``, ``file.linked``), or if a packaged
    file differs from its package in a way that nobody may vouch for: `differences`.
    """
    pinned = keys if isinstance(keys, PackageKeys) else PackageKeys.parse(keys)
    installed = read_installed(evidence, headers, pinned, cache)
    facts = tuple(evidence.files)
    links = (fact for fact in facts if fact.type == "l")
    signed = read_packages(installed.packages, choices.accounts, links)
    rules = _unique((*sshd_only_rules(), *choices.volatile))
    volatile = Volatile(rules)
    mounts = _unique((*default_mounts(), *choices.mounts))
    covered = tuple(f"{rule.point}/" for rule in mounts if not is_on_disk(rule.point, rule.types))
    if choices.booted:
        covered = ()
    files = sorted(
        fact
        for fact in facts
        if not fact.path.startswith(covered) or runtime.is_generated(fact.path)
    )
    entries = tuple(_entries(files, signed, volatile, evidence.texts, booted=choices.booted))
    reasons = [
        *installed.reasons,
        *explain_unreadable(evidence, volatile),
        *check_differences(entries, signed, frozenset(choices.accepted)),
    ]
    if reasons:
        raise AttestationRefused(
            f"no manifest for {choices.name}: {reasons[0].subject}: {reasons[0].code}",
            reasons=tuple(reasons[:REASONS_MAX]),
            hint="reinstall the package, or remove what no pinned key has signed",
        )
    paths = {fact.path for fact in facts}
    hidden = (*covered, *(f"{path}/" for path in evidence.skip))
    return ImageManifest(
        name=choices.name,
        arch=choices.arch or (evidence.uname[-1] if evidence.uname else ""),
        created=choices.created,
        packages=tuple(sorted((one.nevra, one.sha256) for one in installed.packages)),
        entries=entries,
        absent=tuple(
            path for path in sorted(signed.files.keys() - paths) if not path.startswith(hidden)
        ),
        volatile=rules,
        accounts=choices.accounts,
        mounts=mounts,
        programs=_unique((*_sshd_programs(paths), *choices.programs)),
        sockets=_unique((*_sshd_sockets(paths), *choices.sockets)),
        labels=tuple(_labels(files)),
        kernel=choices.kernel,
    )


def _unique(rules: Iterable[T]) -> tuple[T, ...]:
    """Once each: a manifest that is based on another one repeats its rules."""
    return tuple(dict.fromkeys(rules))


def _entries(
    files: Iterable[FileFact],
    signed: Signed,
    volatile: Volatile,
    texts: Mapping[str, bytes],
    *,
    booted: bool,
) -> Iterator[FileFact]:
    """Files that no package accounts for as they are. What may vary is not pinned.

    A packaged file is pinned even where a rule lets it vary by a directory above it; of a
    `booted` machine so is what lies where a rule allows only other things.
    """
    for labelled in files:
        fact = labelled.without_label()
        if signed.files.get(fact.path) == fact and fact.path not in signed.conflicts:
            continue
        rule = volatile.find(fact.path)
        if (
            rule is None
            or (fact.type == "d" and rule.kind is not VolatileKind.DIRECTORY)
            or ((booted or is_about_text(rule)) and not fits(rule, fact, texts))
        ):
            yield fact


def _labels(files: Iterable[FileFact]) -> Iterator[tuple[str, str]]:
    for fact in files:
        label = label_of(fact)
        if label is not None:
            yield fact.path, label


def _sshd_programs(paths: set[str]) -> Iterator[ProgramRule]:
    for exe in SSHD_PROGRAMS:
        if exe in paths:
            yield ProgramRule(exe, Invocation.SSHD)


def _sshd_sockets(paths: set[str]) -> Iterator[SocketRule]:
    for exe in SSHD_PROGRAMS[:2]:
        if exe in paths:
            yield SocketRule("tcp", SSH_PORT, exe)

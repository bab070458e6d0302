# SPDX-License-Identifier: GPL-2.0-or-later
"""The known-good set of one image: signed packages and manifest, compiled for look-up.

Packages name files by the paths of their build, which may lead through links
(``/bin/x`` where ``/bin`` is a link to ``usr/bin``). Paths are resolved through signed links
only, never through what a node shows.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import field

from mock_cloud.attest.accounts import Accounts
from mock_cloud.attest.files import SELINUX, FileFact
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.packages import FileFlag, Package, PackageFile, VerifyFlag
from mock_cloud.attest.policy import Absence
from mock_cloud.attest.rules.volatile import Volatile, VolatileRule
from mock_cloud.wire.dataclass import dataclass

_LINKS_MAX = 40  # as the kernel's own MAXSYMLINKS


@dataclass(slots=True)
class Signed:
    """What signed packages say of files, by resolved path.

    `flags` has a file's FileFlag where there are any, `languages` those with a %lang; `exempt` are
    files whose contents each package that has them leaves open;
    `conflicts` are paths on which packages disagree; `ghosts` have no contents; `unowned` maps
    a path to the owner's name that no account has.
    """

    files: dict[str, FileFact] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    languages: set[str] = field(default_factory=set)
    conflicts: set[str] = field(default_factory=set)
    ghosts: set[str] = field(default_factory=set)
    unowned: dict[str, str] = field(default_factory=dict)
    exempt: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class KnownFiles:
    """`exact` files: the manifest's entries, and for other paths what packages say.

    `pinned` are the paths of manifest entries; `labels` SELinux labels in hex by path.
    """

    signed: Signed
    exact: dict[str, FileFact]
    pinned: frozenset[str]
    absent: frozenset[str]
    labels: dict[str, str]
    volatile: Volatile

    def may_miss(self, path: str, allowed: frozenset[Absence]) -> bool:
        """Whether the manifest or the policy lets a file of this path be absent."""
        if path in self.absent or self.volatile.find(path) is not None:
            return True
        return path not in self.pinned and bool(allowed & set(self._absences(path)))

    def _absences(self, path: str) -> Iterator[Absence]:
        flags = self.signed.flags.get(path, 0)
        if flags & FileFlag.DOC:
            yield Absence.DOCUMENTATION
        if flags & FileFlag.LICENSE:
            yield Absence.LICENCE
        if flags & FileFlag.MISSING_OK:
            yield Absence.MISSING_OK
        if path in self.signed.languages:
            yield Absence.LANGUAGE


def compile_known_good(
    packages: Iterable[Package], manifest: ImageManifest, varying: Iterable[VolatileRule] = ()
) -> KnownFiles:
    """The known-good set of verified `packages` under `manifest`. `varying` adds to its rules."""
    entries = {fact.path: fact for fact in manifest.entries}
    signed = read_packages(packages, manifest.accounts, manifest.entries)
    return KnownFiles(
        signed=signed,
        exact=signed.files | entries,
        pinned=frozenset(entries),
        absent=frozenset(manifest.absent),
        labels=dict(manifest.labels),
        volatile=Volatile((*manifest.volatile, *varying)),
    )


def read_packages(
    packages: Iterable[Package], accounts: Accounts, others: Iterable[FileFact] = ()
) -> Signed:
    """What `packages` say of files. `others` may hold links that paths lead through."""
    packages = tuple(packages)
    links = {
        file.directory + file.name: file.value
        for package in packages
        for file in package.files
        if file.type == "l" and file.value is not None and not file.flags & FileFlag.GHOST
    }
    links |= {fact.path: fact.value for fact in others if fact.type == "l" and fact.value}
    resolver = Resolver(links)
    signed = Signed()
    users, groups = dict(accounts.users), dict(accounts.groups)
    users["root"] = groups["root"] = 0
    for package in packages:
        _read_package(signed, package, resolver, users, groups)
    return signed


def _read_package(
    signed: Signed,
    package: Package,
    resolver: Resolver,
    users: dict[str, int],
    groups: dict[str, int],
) -> None:
    files, resolve = signed.files, resolver.resolve
    for file in package.files:
        path = resolve(file.directory) + file.name
        if file.flags:
            if file.flags & FileFlag.GHOST:
                signed.ghosts.add(path)
                continue
            signed.flags[path] = signed.flags.get(path, file.flags) & file.flags
        if file.language:
            signed.languages.add(path)
        uid, gid = users.get(file.user), groups.get(file.group)
        if uid is None or gid is None:
            signed.unowned[path] = file.user if uid is None else file.group
            continue
        if file.verify_flags & VerifyFlag.DIGEST:
            signed.exempt.discard(path)
        elif path not in files:
            signed.exempt.add(path)
        fact = _fact(path, file, uid, gid)
        if files.setdefault(path, fact) != fact:
            signed.conflicts.add(path)


def _fact(path: str, file: PackageFile, uid: int, gid: int) -> FileFact:
    # Linux gives links no permissions of their own: lstat always says 0777.
    mode = 0o777 if file.type == "l" else file.mode
    return FileFact(path, file.type, mode, uid, gid, file.size_bytes, file.value, file.xattrs)


class Resolver:
    """Resolves directories through a set of known links (path → target)."""

    def __init__(self, links: dict[str, str]) -> None:
        self._links = links
        self._known: dict[str, str] = {}
        self._rename_links()

    def _rename_links(self) -> None:
        """Give the links themselves their resolved paths, until nothing changes.

        Each round resolves at least one more level of links to directories.
        """
        for _ in range(_LINKS_MAX):
            self._known = {}
            renamed = {
                self.resolve(posixpath.dirname(path).rstrip("/") + "/")
                + posixpath.basename(path): to
                for path, to in self._links.items()
            }
            if renamed == self._links:
                return
            self._links = renamed
            self._known = {}

    def resolve(self, directory: str) -> str:
        """The real path of `directory`; both end with a slash.

        A loop of links is left unresolved: no file of a node can stand there.
        """
        known = self._known.get(directory)
        if known is None:
            known = self._known[directory] = self._follow(directory)
        return known

    def _follow(self, directory: str) -> str:
        pending = directory.split("/")[::-1]
        real = ""
        links = 0
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                real = real.rpartition("/")[0]
                continue
            target = self._links.get(f"{real}/{name}")
            if target is None:
                real = f"{real}/{name}"
                continue
            links += 1
            if links > _LINKS_MAX:
                return directory
            if target.startswith("/"):
                real = ""
            pending += target.split("/")[::-1]
        return f"{real}/"


def label_of(fact: FileFact) -> str | None:
    """The SELinux label in hex, if there is one."""
    return next((value for name, value in fact.xattrs if name == SELINUX), None)

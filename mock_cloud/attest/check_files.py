# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 4 of the checklist: every file is known, and every known file is there."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from mock_cloud.attest.evidence import Evidence
from mock_cloud.attest.files import CAPABILITY, SELINUX, FileFact
from mock_cloud.attest.knowngood import KnownFiles, label_of
from mock_cloud.attest.policy import Policy
from mock_cloud.attest.rules.volatile import Volatile, VolatileKind, VolatileRule, fits
from mock_cloud.errors import Reason
from mock_cloud.model import Toolkit
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import WORKSPACE

_TOOLKITS: Final = f"{WORKSPACE}/toolkit"
_WORKSPACE_RULE: Final = VolatileRule("/var/lib/data", VolatileKind.TREE)
"""Only its kind counts: the workspace itself contains the toolkit, which no rule may reach."""
# Their contents are nobody's matter, and a daemon may add to them at any time.
_GROWING: Final = (VolatileKind.LOG, VolatileKind.TREE, VolatileKind.STATE)


@dataclass(frozen=True, slots=True)
class InjectedFile:
    """A file that the controller or provider itself put on the node.

    `type` is a letter as in evidence; `value` the sha256 in hex (f), target (l),
    MAJOR:MINOR (c, b) or None.
    """

    type: str
    mode: int
    uid: int
    gid: int
    size_bytes: int
    value: str | None

    def fact(self, path: str) -> FileFact:
        return FileFact(
            path, self.type, self.mode, self.uid, self.gid, self.size_bytes, self.value, ()
        )


def toolkit_facts(toolkit: Toolkit) -> dict[str, FileFact]:
    """Exactly the files that a pushed toolkit has on a node. Root owns them."""
    root = toolkit.node_dir
    return {
        f"{root}/{name}": FileFact(
            f"{root}/{name}", "f", file.mode & 0o7777, 0, 0, file.size_bytes, file.sha256, ()
        )
        for name, file in toolkit.files.items()
    }


class FileCheck:
    """Compares evidence with what may be there. `code` are files that may be run: exact ones."""

    def __init__(
        self,
        known: KnownFiles,
        policy: Policy,
        injected: Mapping[str, InjectedFile],
        toolkit: Toolkit,
        layers: Collection[str] = (),
    ) -> None:
        self._layers = frozenset(layers)
        self._known = known
        self._may_miss = policy.may_miss
        self._toolkit_root = toolkit.node_dir
        tools = toolkit_facts(toolkit)
        self._tool_dirs = _parents(tools, _TOOLKITS)
        given = {path: file.fact(path) for path, file in injected.items()}
        self.code = known.exact | given | tools
        self._ours = frozenset(given) | frozenset(tools)

    def reasons(self, evidence: Evidence) -> Iterator[Reason]:
        """Everything wrong with the files of `evidence`, in their order."""
        expected = self.code
        gone = set(expected)
        for fact in evidence.files:
            gone.discard(fact.path)
            # Tuples compare in C: nearly every file ends here.
            if expected.get(fact.path) != fact:
                yield from self._explain(fact, evidence)
        yield from self._conflicts()
        yield from self._missing(gone, evidence)
        yield from explain_unreadable(evidence, self._known.volatile, self._ours, self._layers)

    def _explain(self, fact: FileFact, evidence: Evidence) -> Iterator[Reason]:
        path = fact.path
        plain = fact.without_label()
        want = self.code.get(path)
        if want is not None and want.without_label() == plain:
            yield from self._label(fact)
            return
        rule = self._known.volatile.find(path)
        if rule is not None and path not in self._ours:
            if not fits(rule, fact, evidence.texts):
                yield Reason("file.volatile", path, rule.kind.value, describe_file(fact))
            return
        if want is not None:
            code = "toolkit" if path.startswith(f"{self._toolkit_root}/") else "file"
            yield from _differences(code, want, plain)
        elif not self._is_workspace(fact) and not (path in evidence.skip and _is_plain_dir(fact)):
            yield self._unknown(fact)

    def _label(self, fact: FileFact) -> Iterator[Reason]:
        """Labels are compared where the manifest has them (see `ImageManifest`)."""
        if self._known.labels and fact.path not in self._ours:
            want, found = self._known.labels.get(fact.path), label_of(fact)
            if want != found:
                yield Reason("file.label", fact.path, str(want), str(found))

    def _is_workspace(self, fact: FileFact) -> bool:
        """Our own directory on the node: data, apart from the toolkit itself."""
        path = fact.path
        if path == _TOOLKITS or path in self._tool_dirs:
            return _is_plain_dir(fact)
        if path.startswith(f"{_TOOLKITS}/"):
            return False
        if path != WORKSPACE and not path.startswith(f"{WORKSPACE}/"):
            return False
        return fits(_WORKSPACE_RULE, fact)

    def _unknown(self, fact: FileFact) -> Reason:
        if fact.path.startswith(f"{_TOOLKITS}/"):
            return Reason("toolkit.unknown", fact.path, "not there", describe_file(fact))
        if fact.path in self._known.signed.ghosts:
            return Reason(
                "file.ghost", fact.path, "in the manifest, or absent", describe_file(fact)
            )
        owner = self._known.signed.unowned.get(fact.path)
        if owner is not None:
            return Reason("file.account", fact.path, f"an account named {owner}", "none")
        return Reason("file.unknown", fact.path, "not there", describe_file(fact))

    def _conflicts(self) -> Iterator[Reason]:
        for path in sorted(self._known.signed.conflicts - self._known.pinned - self._ours):
            yield Reason("file.conflict", path, "packages agree, or the manifest decides")

    def _missing(self, gone: Collection[str], evidence: Evidence) -> Iterator[Reason]:
        if not gone:
            return
        # What an (expected) mount covers is not there, and nothing can use it.
        mounted = (mount.point for mount in evidence.mounts if mount.point != "/")
        unmeasured = tuple(f"{path}/" for path in (*evidence.skip, *evidence.trees, *mounted))
        silent = {path for path, what in evidence.unreadable if what != "linked"}
        for path in sorted(gone):
            if path in self._ours:
                code = "toolkit" if path.startswith(f"{_TOOLKITS}/") else "file"
                if path not in silent:
                    yield Reason(f"{code}.missing", path, describe_file(self.code[path]), "absent")
            elif not (
                path in silent
                or self._known.may_miss(path, self._may_miss)
                or path.startswith(unmeasured)
            ):
                yield Reason("file.missing", path, describe_file(self.code[path]), "absent")


def explain_unreadable(
    evidence: Evidence,
    volatile: Volatile,
    ours: Collection[str] = (),
    layers: Collection[str] = (),
) -> Iterator[Reason]:
    """A file that could not be measured is refused; a log may grow while it is read.

    A file that may vary has one name: what is written to it is written to no other.
    """
    for path, what in evidence.unreadable:
        rule = volatile.find(path)
        grows = rule is not None and rule.kind in _GROWING
        is_workspace = path.startswith(f"{WORKSPACE}/") and not path.startswith(f"{_TOOLKITS}/")
        if what == "linked":
            # Whoever writes to what may vary would write to the other file, too.
            if is_workspace or (rule is not None and path not in ours):
                yield Reason("file.linked", path, "a file of one name", "two or more names")
            continue
        if what == "changed" and (grows or is_workspace):
            continue
        if what == "ENOENT" and path in layers:
            continue  # a job that was cut off renames what it writes to; gone is not reused
        code = {"changed": "file.changed", "crossed": "mount.crossed"}.get(what)
        yield Reason(code or "file.unreadable", path, "readable", what)


def describe_file(fact: FileFact) -> str:
    """One file's facts in short: type, mode, owner, and what it holds."""
    value = f" {fact.value}" if fact.value else ""
    xattrs = "".join(f" {name}={data[:80]}" for name, data in fact.xattrs if name != SELINUX)
    return f"{fact.type} {fact.mode:04o} {fact.uid}:{fact.gid}{value[:200]}{xattrs}"


def _differences(code: str, want: FileFact, found: FileFact) -> Iterator[Reason]:
    path = want.path
    if found.type != want.type:
        yield Reason(f"{code}.type", path, want.type, found.type)
        return
    if found.value != want.value or found.size_bytes != want.size_bytes:
        what = {"f": "digest", "l": "target"}.get(want.type, "device")
        yield Reason(f"{code}.{what}", path, str(want.value), str(found.value))
    if found.mode != want.mode:
        yield Reason(f"{code}.mode", path, f"{want.mode:04o}", f"{found.mode:04o}")
    if (found.uid, found.gid) != (want.uid, want.gid):
        owners = (f"{fact.uid}:{fact.gid}" for fact in (want, found))
        yield Reason(f"{code}.owner", path, *owners)
    yield from _xattr_differences(code, want, found)


def _xattr_differences(code: str, want: FileFact, found: FileFact) -> Iterator[Reason]:
    expected, present = dict(want.xattrs), dict(found.xattrs)
    for name in sorted(expected.keys() | present.keys() - {SELINUX}):
        if name != SELINUX and expected.get(name) != present.get(name):
            what = "capabilities" if name == CAPABILITY else "xattr"
            texts = (f"{name}={pairs.get(name, '')[:200]}" for pairs in (expected, present))
            yield Reason(f"{code}.{what}", want.path, *texts)


def _parents(paths: Iterable[str], stop: str) -> frozenset[str]:
    found: set[str] = set()
    for path in paths:
        above = posixpath.dirname(path)
        while above not in found and above.startswith(f"{stop}/"):
            found.add(above)
            above = posixpath.dirname(above)
    return frozenset(found)


def _is_plain_dir(fact: FileFact) -> bool:
    return fact.type == "d" and fact.uid == 0 and not fact.mode & 0o4002

# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of a verdict that may differ: which there are, and why, in data.

`standard` is what a stock image can pass. `strict` is for builds that others rely on. A file of
the user's starts from one of them and changes rules, allows and forbids by name, each with a
reason. What a verdict checks at all is no rule: no policy leaves out one of the mandatory checks,
and what a policy allows stands in the verdict.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from enum import Enum
from typing import Annotated, Any, Final, get_args, get_type_hints

from mock_cloud.attest.files import Text
from mock_cloud.attest.rules.expectations import (
    Invocation,
    ProgramRule,
    SocketRule,
    is_interpreter,
)
from mock_cloud.attest.rules.remote_agents import AGENTS, RemoteAgent
from mock_cloud.attest.rules.volatile import VolatileKind, VolatileRule
from mock_cloud.errors import Reason
from mock_cloud.model import DAY_S
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Limits, Malformed, decode, encode, to_json
from mock_cloud.wire.layout import SKIPPED

TIER: Final = 1
"""What a verdict of this version proves: software-measured."""


class Check(Enum):
    """A step of the checklist in `verify`."""

    PACKAGES = "packages"
    FILES = "files"
    MOUNTS = "mounts"
    PROCESSES = "processes"
    SOCKETS = "sockets"
    KERNEL = "kernel"
    LAYERS = "layers"


MANDATORY: Final[Mapping[Check, str]] = {
    Check.PACKAGES: "every package is signed by a pinned key, and is one of the manifest's: an old"
    " or a foreign one may have a known hole",
    Check.FILES: "every file is known to the byte, or is harmless data where nothing runs it: an"
    " unknown one may be run later",
    Check.MOUNTS: "every mount is expected: one over a good file hides what is used",
    Check.PROCESSES: "every process is expected and runs known code alone, nobody else is logged"
    " in: what runs can change what was measured",
    Check.SOCKETS: "every listening socket is expected: it is a way in",
    Check.KERNEL: "the kernel's state is the reference's: what it starts by itself is root",
    Check.LAYERS: "a chroot that is used again is as it was left: the last build may have changed"
    " it",
}
"""What every policy checks, and why."""


class Absence(Enum):
    """Packaged files that may be missing, as dnf and rpm leave them out on request."""

    DOCUMENTATION = "documentation"
    """%doc: ``tsflags=nodocs``."""
    LICENCE = "licences"
    LANGUAGE = "languages"
    """%lang(xx): ``_install_langs``."""
    MISSING_OK = "optional"


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """What a rule says, why `standard` has its value, and what `strict` has and why."""

    text: str
    why: str
    strict: Any = None
    why_strict: str = ""
    least: float = 0
    most: float = 0

    def __call__(self, value: Any) -> Any:
        """`value`, if it is within the bounds. Malformed."""
        if self.most and not self.least <= value <= self.most:
            raise Malformed(f"{value:g} is not from {self.least:g} to {self.most:g}")
        return value


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """The rules that policies differ in. Defaults are `standard`'s; times in seconds."""

    documentation: Annotated[
        bool,
        PolicyRule(
            "packaged documentation may be missing",
            "images leave it out (tsflags=nodocs), and nothing runs it",
            False,
            "what is left out looks like what was taken away: a builder has packages whole",
        ),
    ] = True
    licences: Annotated[
        bool,
        PolicyRule(
            "packaged licences may be missing",
            "images leave them out with the documentation",
            False,
            "as with documentation",
        ),
    ] = True
    languages: Annotated[
        bool,
        PolicyRule(
            "packaged translations may be missing",
            "images keep some languages (_install_langs), and nothing runs them",
            False,
            "as with documentation; messages of tools get into what is built",
        ),
    ] = True
    optional: Annotated[
        bool,
        PolicyRule(
            "files may be missing that their package itself lets be missing",
            "rpm -V says nothing of them either (missingok)",
        ),
    ] = True
    unsigned_programs: Annotated[
        bool,
        PolicyRule(
            "programs and libraries may stand that the manifest has, and no signed package",
            "images have some, and the manifest's signer saw them in the report",
            False,
            "one signer's word is not enough for code that runs as root: it comes of packages that"
            " somebody else signed",
        ),
    ] = True
    labels: Annotated[
        bool,
        PolicyRule(
            "SELinux labels are compared: a manifest without them is refused",
            "a manifest that was made of a tree has none",
            True,
            "a label decides what a confined service may touch",
        ),
    ] = False
    lockdown: Annotated[
        bool,
        PolicyRule(
            "the kernel is locked down",
            "many clouds boot without Secure Boot, and kernels then have no lockdown",
            True,
            "else root can change the running kernel, by /dev/mem or kexec, and nothing shows it",
        ),
    ] = False
    module_signatures: Annotated[
        bool,
        PolicyRule(
            "the kernel loads signed modules only",
            "stock kernels enforce it under Secure Boot alone",
            True,
            "a module can hide itself and all else from the measurement",
        ),
    ] = False
    ptrace_scope: Annotated[
        bool,
        PolicyRule(
            "Yama lets no process trace one that is not its child",
            "Fedora and EL switch it off",
            True,
            "a service that was broken into cannot read or change another of the same user",
        ),
    ] = False
    kernel_warnings: Annotated[
        bool,
        PolicyRule(
            "a kernel that printed a warning passes, with a note",
            "memory pressure is enough for one",
            False,
            "an exploit that failed leaves a warning; another node costs a minute",
        ),
    ] = True
    containers: Annotated[
        bool,
        PolicyRule(
            "nodes may be containers, where the remote's unsafe_containers says so",
            "who sets it runs the hosts",
            False,
            "whoever runs the host of one changes all of it, and was not measured",
        ),
    ] = True
    second_look: Annotated[
        bool,
        PolicyRule(
            "the node is measured again after each build",
            "the remote's second_look decides: it takes as long as the first",
            True,
            "a build that broke out of its chroot has changed something: its own results are not"
            " published",
        ),
    ] = False
    tier: Annotated[
        int,
        PolicyRule(
            "the tier that a verdict has: this version proves 1, software-measured",
            "there is no other yet",
            least=1,
            most=TIER,
        ),
    ] = 1
    manifest_threshold: Annotated[
        int,
        PolicyRule(
            "at least so many keys must have signed the manifest",
            "the remote's manifest_threshold decides; one signer is the usual case",
            least=1,
            most=16,
        ),
    ] = 1
    manifest_max_age_s: Annotated[
        float,
        PolicyRule(
            "a manifest was signed at most so long ago",
            "its own expiry decides, and the remote's manifest_max_age",
            35.0 * DAY_S,
            "an image of last month lacks last month's fixes",
            3600,
            3660 * DAY_S,
        ),
    ] = 3660.0 * DAY_S
    verdict_max_age_s: Annotated[
        float,
        PolicyRule(
            "commands that build nothing rely on a verdict for at most so long",
            "the remote's verdict_max_age decides",
            0.0,
            "each command knows what it runs on",
            0,
            3600,
        ),
    ] = 3600.0


def declared() -> dict[str, PolicyRule]:
    """The rules by their fields' names, in order."""
    hints = get_type_hints(PolicyRules, include_extras=True)
    return {one.name: get_args(hints[one.name])[1] for one in fields(PolicyRules)}


_FILE_KINDS: Final = {
    kind.value: kind
    for kind in (
        VolatileKind.DATA, VolatileKind.LOG, VolatileKind.PIDFILE, VolatileKind.SOCKET,
        VolatileKind.DIRECTORY, VolatileKind.TREE, VolatileKind.STATE,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Allowances:
    """Something that a policy lets be there besides the manifest's. ValueError if it may not.

    One of: a `program` of known code, running with exactly `command` and listening on `ports`
    (``tcp 9100``); a `file` that may vary as `kind`, in no place that is read as code; a kernel
    `module`. Without a command a program is what the manifest lets it be, and is not forbidden.
    """

    name: str
    reason: str
    program: str = ""
    command: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    file: str = ""
    kind: str = ""
    module: str = ""

    def __post_init__(self) -> None:
        if [bool(self.program), bool(self.file), bool(self.module)].count(True) != 1:
            raise ValueError("one of program, file and module is wanted")
        if (self.command or self.ports) and not self.program:
            raise ValueError("command and ports go with a program")
        if bool(self.kind) != bool(self.file) or (self.kind and self.kind not in _FILE_KINDS):
            raise ValueError(f"a file goes with a kind: {', '.join(_FILE_KINDS)}")
        options = all(word.startswith("-") for word in self.command[1:])
        if self.command and options and is_interpreter(self.program):
            raise ValueError(f"{self.program} without a script runs what it is told")
        tuple(self.programs()), tuple(self.sockets()), tuple(self.files())

    def programs(self) -> Iterator[ProgramRule]:
        if self.command:
            yield ProgramRule(self.program, Invocation.EXACT, self.command)

    def sockets(self) -> Iterator[SocketRule]:
        for text in self.ports:
            protocol, _, port = text.partition(" ")
            if protocol not in ("tcp", "udp") or not re.fullmatch("[0-9]{1,5}", port):
                raise ValueError(f"a port is written as tcp 9100, not {text[:40]!a}")
            if not 0 < int(port) <= 65535:
                raise ValueError(f"there is no port {port}")
            yield SocketRule(protocol, int(port), self.program)

    def files(self) -> Iterator[VolatileRule]:
        if self.file:
            yield VolatileRule(self.file, _FILE_KINDS[self.kind])

    def what(self) -> str:
        """In a few words."""
        if self.program:
            listening = f", listening on {', '.join(self.ports)}" if self.ports else ""
            return f"program {' '.join(self.command) or self.program}{listening}"
        return f"{self.file} varies as {self.kind}" if self.file else f"kernel module {self.module}"


@dataclass(frozen=True, slots=True)
class Forbidden:
    """Something that may not be there, though the manifest has it: one of the three. ValueError.

    A `program` is a path, or a name in any directory; it may be installed, but not run.
    """

    name: str
    reason: str
    program: str = ""
    module: str = ""
    package: str = ""

    def __post_init__(self) -> None:
        if [bool(self.program), bool(self.module), bool(self.package)].count(True) != 1:
            raise ValueError("one of program, module and package is wanted")

    def is_program(self, exe: str) -> bool:
        return bool(self.program) and self.program in (exe, posixpath.basename(exe))

    def what(self) -> str:
        """In a few words."""
        kinds = {"program": self.program, "kernel module": self.module, "package": self.package}
        return next(f"{kind} {name}" for kind, name in kinds.items() if name)


MAY_SKIP: Final = ("/proc", "/sys", "/dev", *SKIPPED)
"""Directories whose contents may go unmeasured: inputs, caches and chroots. Nothing there is run by
the node itself before the verdict; the toolkit is never among them."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`name` stands in the verdict, and so does the digest of what it says.

    `changed` has the reasons of rules that differ from those of `base`, by their fields. `agents`
    for remote control may run, by their names; all others that are known may not.
    """

    name: str = ""
    checks: frozenset[Check] = frozenset()
    rules: PolicyRules = PolicyRules()
    allowed: tuple[Allowances, ...] = ()
    forbidden: tuple[Forbidden, ...] = ()
    base: str = ""
    changed: Mapping[str, str] = field(default_factory=dict)
    agents: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of what it says: the same rules have the same digest, whatever they are called."""
        said = {
            "rules": encode(self.rules),
            "allowed": sorted(map(_without_words, self.allowed)),
            "forbidden": sorted(map(_without_words, self.forbidden)),
        }
        if self.agents:
            said["agents"] = sorted(self.agents)
        return hashlib.sha256(to_json(said)).hexdigest()

    @property
    def may_miss(self) -> frozenset[Absence]:
        """Packaged files that may be missing."""
        return frozenset(one for one in Absence if getattr(self.rules, one.value))

    def reasons(self) -> Iterator[Reason]:
        """Why this policy can't be used: ``policy.empty`` or ``policy.incomplete``."""
        if not self.name or not self.checks:
            yield Reason("policy.empty", self.name or "policy", "checks", "none")
            return
        for check in sorted(MANDATORY.keys() - self.checks, key=lambda one: one.value):
            yield Reason("policy.incomplete", check.value, "checked", "not checked")

    def find_reason(self, rule: str) -> str:
        """Why the rule of this field has its value."""
        one = declared()[rule]
        return self.changed.get(rule) or (self.base == "strict" and one.why_strict) or one.why

    def allowed_agents(self) -> tuple[RemoteAgent, ...]:
        """Agents for remote control that may run: by name, or by the path of a program."""
        programs = [one.program for one in self.allowed if one.program]
        return tuple(
            agent
            for agent in AGENTS
            if agent.name in self.agents or any(map(agent.is_program, programs))
        )

    def forbids(self) -> tuple[Forbidden, ...]:
        """What is forbidden, and not allowed by name."""
        return tuple(
            one
            for one in self.forbidden
            if not any(
                (allowed.program and one.is_program(allowed.program))
                or (allowed.module and one.module == allowed.module)
                for allowed in self.allowed
            )
        )


def _without_words(one: Allowances | Forbidden) -> str:
    """What it says, without its name and reason."""
    said = {key: value for key, value in encode(one).items() if key not in ("name", "reason")}
    return to_json(said).decode()


def standard() -> Policy:
    """Every check that a stock image can pass; documentation and languages may be absent."""
    return Policy("standard", frozenset(MANDATORY), base="standard")


def strict() -> Policy:
    """For builds that others rely on: a hardened kernel, whole packages, nobody else's code."""
    values = {name: rule.strict for name, rule in declared().items() if rule.strict is not None}
    return Policy("strict", frozenset(MANDATORY), PolicyRules(**values), base="strict")


SHIPPED: Final = {"standard": standard, "strict": strict}
"""Policies that every installation has, by name."""


@dataclass(frozen=True, slots=True)
class _Said:
    """A policy as JSON has it; it has every check."""

    name: Text
    base: Text
    rules: PolicyRules
    allowed: tuple[Allowances, ...]
    forbidden: tuple[Forbidden, ...]
    changed: dict[Text, Text]
    agents: tuple[Text, ...]


def policy_to_json(policy: Policy) -> dict[str, Any]:
    """The object that `parse_policy` reads."""
    one = policy
    changed = dict(one.changed)
    said = _Said(one.name, one.base, one.rules, one.allowed, one.forbidden, changed, one.agents)
    found: dict[str, Any] = encode(said)
    return found


def parse_policy(value: object) -> Policy:
    """Malformed on anything else; nothing of it says which checks there are.

    One of before there were `agents` allows none of them.
    """
    if isinstance(value, dict):
        value = {"agents": [], **value}
    said = decode(_Said, value, "policy", limits=Limits(text=4096, items=1000))
    if not said.name:
        raise Malformed("a policy has a name")
    return Policy(
        said.name, frozenset(MANDATORY), said.rules, said.allowed, said.forbidden, said.base,
        said.changed, said.agents,
    )  # fmt: skip

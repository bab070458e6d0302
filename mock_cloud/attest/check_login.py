# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is logged in, and by what configuration sshd would let others in after the verdict.

A session that was there before is trusted by nobody: its owner is root whenever it pleases. Nor is
an sshd that may go by a configuration which the disk no longer has: before it measures, the
controller has the listening sshd read it anew and connects once more (`mock_cloud.agent.sshd`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum

from mock_cloud.attest.evidence import Connection, Evidence, Process
from mock_cloud.attest.rules.expectations import Invocation, ProgramRule, SocketRule
from mock_cloud.attest.sshd_titles import SshdRole, find_sshd_role
from mock_cloud.errors import Reason
from mock_cloud.model import SshdReload, Toolkit
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import DEADMAN, LAUNCH, SERVE, WORKSPACE


@dataclass(frozen=True, slots=True)
class LoginCheck:
    """The one session is ours, and each sshd goes by what was measured.

    `reload` is what the agent said when it was told to have sshd read its configuration anew;
    `programs` are those that may run, `sockets` those that may listen.
    """

    reload: SshdReload | None
    programs: tuple[ProgramRule, ...]
    sockets: tuple[SocketRule, ...]
    toolkit: Toolkit
    user: str

    def reasons(self, evidence: Evidence, *, shared_network: bool) -> Iterator[Reason]:
        """`shared_network`: sockets that no process of the node holds are its host's."""
        table = {one.pid: one for one in evidence.processes}
        roles = {one.pid: role for one in evidence.processes if (role := self._role(one))}
        others = self.reload.agents if self.reload else ()
        ours = _ancestry(table, evidence.self_pid)
        kept = {pid for agent in others for pid in _ancestry(table, agent)}
        yield from self._read_anew(table, roles, ours)
        for pid, role in roles.items():
            if role is SshdRole.LISTENER or pid in ours or pid in kept:
                continue
            if role is SshdRole.SESSION or not self._is_new(table[pid]):
                yield Reason(
                    "login.session", _shown(table[pid]), "nobody else logged in", "a login"
                )
        sessions = {pid for pid in (*ours, *kept) if roles.get(pid) in _SERVING}
        yield from self._agents(table, sessions | {evidence.self_pid, *others})
        yield from self._connections(evidence, table, roles, sessions, shared_network)

    def _role(self, process: Process) -> SshdRole | None:
        for rule in self.programs:
            if rule.invocation is Invocation.SSHD and rule.exe == process.exe:
                return find_sshd_role(process.cmdline, rule.exe, self.user)
        return None

    def _is_new(self, process: Process) -> bool:
        return self.reload is not None and process.started >= self.reload.since

    def _read_anew(
        self, table: Mapping[int, Process], roles: Mapping[int, SshdRole], ours: Collection[int]
    ) -> Iterator[Reason]:
        if self.reload is None:
            yield Reason("login.configuration", "sshd", "told to read it anew", "not told")
            return
        for pid, role in roles.items():
            who = _shown(table[pid])
            if role is SshdRole.LISTENER and pid != self.reload.listener:
                yield Reason("login.configuration", who, "read anew", "another listener")
            if role in _SERVING and pid in ours and not self._is_new(table[pid]):
                yield Reason("login.configuration", who, "started after sshd", "before")
        for exe, cmdline in self.reload.ran:
            if not self._may_have_run(exe, cmdline):
                who = f"{exe} {' '.join(cmdline)}"[:400]
                yield Reason("login.witness", who, "only known programs", "ran when sshd read it")

    def _may_have_run(self, exe: str, cmdline: tuple[str, ...]) -> bool:
        """While sshd read its configuration: what runs then can put it back before it is measured.

        Its code was not measured then; an executable under a known name that is another file's was
        left there, and is found.
        """
        if any(
            exe == argv[0] and cmdline == tuple(argv)
            for argv in (self.toolkit.argv(*role.value) for role in Role)
        ):
            return True
        return any(
            rule.exe == exe
            and (
                rule.invocation is Invocation.ANY
                or rule.has_words(cmdline)
                or (
                    rule.invocation is Invocation.SSHD
                    and find_sshd_role(cmdline, exe, self.user) is not None
                )
            )
            for rule in self.programs
        )

    def _agents(self, table: Mapping[int, Process], ours: Collection[int]) -> Iterator[Reason]:
        for process in table.values():
            if find_role(process, self.toolkit) not in (Role.AGENT, Role.LAUNCHER):
                continue
            if not set(_ancestry(table, process.pid)) & set(ours):
                yield Reason("login.agent", _shown(process), "of a connection of ours", "another's")

    def _connections(
        self,
        evidence: Evidence,
        table: Mapping[int, Process],
        roles: Mapping[int, SshdRole],
        sessions: Collection[int],
        shared_network: bool,
    ) -> Iterator[Reason]:
        """Those of sshd are of our sessions, or of logins that wait. Ours have no others."""
        sshd_exes = {rule.exe for rule in self.programs if rule.invocation is Invocation.SSHD}
        ports = {one.port for one in self.sockets if one.exe in sshd_exes}
        for connection in evidence.connections:
            process = table.get(connection.pid or 0)
            if process is None:
                if connection.pid is not None or not shared_network:
                    yield _refused("connection.unowned", connection, "held by a process", "by none")
                continue
            role = roles.get(process.pid)
            if role is not None:
                known = process.pid in sessions or role is not SshdRole.SESSION
                if not known or connection.local_port not in ports:
                    yield _refused("connection.unknown", connection, "ours", _shown(process))
            elif find_role(process, self.toolkit) is not None:
                yield _refused("connection.unknown", connection, "none of ours", _shown(process))


_SERVING = (SshdRole.SESSION, SshdRole.WAITING)


def _ancestry(table: Mapping[int, Process], pid: int) -> tuple[int, ...]:
    """`pid` and those it descends from, as far as they are known."""
    found: list[int] = []
    while pid in table and pid not in found:
        found.append(pid)
        pid = table[pid].ppid
    return tuple(found)


def _refused(code: str, connection: Connection, expected: str, found: str) -> Reason:
    ends = (
        f"{connection.address}:{connection.local_port} and"
        f" {connection.remote_address}:{connection.remote_port}"
    )
    return Reason(code, f"{connection.protocol} {ends}", expected, found)


def _shown(process: Process) -> str:
    words = " ".join(process.cmdline)[:200]
    return f"pid {process.pid} {process.exe or '?'} ({words})"


# Which processes of our own toolkit may run on a node, told by their exact command lines.
# That they run verified code, untouched, in the node's own namespaces, is checked of them as of
# every other process.
class Role(Enum):
    """What a process of the toolkit is, and the words that start it."""

    AGENT = (SERVE,)
    LAUNCHER = (LAUNCH, "--workspace", WORKSPACE)
    DEAD_MAN = (DEADMAN, "--workspace", WORKSPACE)


def find_role(process: Process, toolkit: Toolkit) -> Role | None:
    """What `process` is of this toolkit; None for anything else."""
    for role in Role:
        argv = toolkit.argv(*role.value)
        if process.exe == argv[0] and process.cmdline == tuple(argv):
            return role
    return None


def check_dead_man(processes: Iterable[Process], toolkit: Toolkit) -> Iterator[Reason]:
    """At most one, root's, and nobody's child: else it is not the one that an agent left behind."""
    found = [one for one in processes if find_role(one, toolkit) is Role.DEAD_MAN]
    for process in found:
        who = f"pid {process.pid} {process.exe}"
        if process.ppid != 1:
            yield Reason("process.parent", who, "a child of pid 1", f"of pid {process.ppid}")
        if (process.uid, process.gid) != (0, 0):
            yield Reason("process.owner", who, "0:0", f"{process.uid}:{process.gid}")
    for process in found[1:]:
        who = f"pid {process.pid} {process.exe}"
        yield Reason("process.duplicate", who, "one dead-man", "another")

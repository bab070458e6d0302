# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps 5 to 7 of the checklist: mounts, processes and sockets of the running node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from mock_cloud.attest.check_login import Role, check_dead_man, find_role
from mock_cloud.attest.evidence import Evidence, Process
from mock_cloud.attest.files import FileFact
from mock_cloud.attest.rules.expectations import (
    TOOLKIT_PROGRAM,
    Invocation,
    MountRule,
    ProgramRule,
    SocketRule,
)
from mock_cloud.attest.sshd_titles import find_sshd_role
from mock_cloud.errors import Reason
from mock_cloud.model import Toolkit
from mock_cloud.wire.dataclass import dataclass

_NEEDED_MOUNTS = ("/", "/proc")


def check_mounts(evidence: Evidence, rules: Iterable[MountRule]) -> Iterator[Reason]:
    """Every mount stands in `rules`; what /proc says came from the kernel's own proc."""
    by_point = {rule.point: rule for rule in rules}
    seen: dict[str, str] = {}
    for mount in evidence.mounts:
        point, rule = mount.point, by_point.get(mount.point)
        if rule is None:
            yield Reason("mount.unknown", point, "no mount", f"{mount.type} {mount.source}")
            continue
        if mount.type not in rule.types:
            yield Reason("mount.type", point, " ".join(rule.types), mount.type)
        if mount.root != "/" and not rule.may_bind:
            yield Reason("mount.bind", point, "/", mount.root)
        lacking = set(rule.required) - mount.options - mount.super_options
        if lacking:
            shown = ",".join(sorted(mount.options))
            yield Reason("mount.options", point, ",".join(sorted(lacking)), shown)
        below = seen.get(point)
        if below not in (None, "autofs"):  # over that lies what it waited for
            yield Reason("mount.stacked", point, "one mount", f"{mount.type} over {below}")
        seen[point] = mount.type
    for point in _NEEDED_MOUNTS:
        if not any(mount.point == point for mount in evidence.mounts):
            yield Reason("mount.missing", point, "mounted", "not in mountinfo")


@dataclass(frozen=True, slots=True)
class ProcessCheck:
    """Every process runs verified code, is one that may run, and is seen as it is.

    `code` are the exact files of the node (signed, pinned, injected, toolkit) by path;
    `user` is who the controller logs in as.
    """

    code: Mapping[str, FileFact]
    programs: tuple[ProgramRule, ...]
    toolkit: Toolkit
    user: str

    def reasons(self, evidence: Evidence) -> Iterator[Reason]:
        if not evidence.processes:
            yield Reason("process.none", "processes", "at least the agent", "none")
        for pid in evidence.hidden_pids:
            yield Reason("process.hidden", f"pid {pid}", "listed in /proc", "not listed")
        yield from self._agent(evidence)
        yield from check_dead_man(evidence.processes, self.toolkit)
        for process in evidence.processes:
            if process.kernel:
                yield from _kernel_thread(process)
            else:
                yield from self._process(process, evidence.init_namespaces)

    def _agent(self, evidence: Evidence) -> Iterator[Reason]:
        own, init = evidence.self_namespaces, evidence.init_namespaces
        if not {"mnt", "pid"} <= init.keys() or own != init:
            differing = [
                name for name in sorted(own.keys() | init) if own.get(name) != init.get(name)
            ]
            yield Reason("agent.namespace", " ".join(differing), "those of init", "others")
        agent = next((one for one in evidence.processes if one.pid == evidence.self_pid), None)
        if agent is None or find_role(agent, self.toolkit) is not Role.AGENT:
            found = "no such process" if agent is None else _shown(agent)
            yield Reason("agent.identity", f"pid {evidence.self_pid}", "our toolkit", found)

    def _process(self, process: Process, init: Mapping[str, int]) -> Iterator[Reason]:
        who = _shown(process)
        if process.deleted:
            yield Reason("process.deleted", who, "an executable on disk", "deleted")
        yield from self._executable(process, who)
        if process.tracer:
            yield Reason("process.traced", who, "no tracer", f"pid {process.tracer}")
        for name, value in sorted(process.environ.items()):
            yield Reason("process.environment", who, f"no {name}", value[:200])
        for path in process.patched:
            yield Reason("process.patched", who, f"text as in {path}", "differs")
        yield from self._maps(process, who)
        if process.root != "/":
            yield Reason("process.root", who, "/", str(process.root))
        yield from self._allowed(process, who, init)

    def _executable(self, process: Process, who: str) -> Iterator[Reason]:
        exe = process.exe
        if exe is None or exe.startswith("/memfd:") or not exe.startswith("/"):
            yield Reason("process.memfd", who, "an executable file", str(exe))
            return
        want = self.code.get(exe)
        if want is None or want.type != "f":
            yield Reason("process.executable", who, "a known file", exe)
        elif want.value != process.sha256 and not process.deleted:
            yield Reason("process.digest", who, str(want.value), str(process.sha256))

    def _maps(self, process: Process, who: str) -> Iterator[Reason]:
        for mapped in process.maps:
            want = self.code.get(mapped.path)
            if mapped.deleted:
                yield Reason("process.map-deleted", who, "a file on disk", mapped.path)
            elif want is None or want.type != "f":
                yield Reason("process.map", who, "a known file", mapped.path)
            elif want.value != mapped.sha256:
                yield Reason("process.map-digest", who, mapped.path, str(mapped.sha256))

    def _allowed(self, process: Process, who: str, init: Mapping[str, int]) -> Iterator[Reason]:
        ours = find_role(process, self.toolkit) is not None
        # Ours is known by more than its name; a rule can only say what it may do besides.
        rule = self._rule(process, TOOLKIT_PROGRAM if ours else process.exe)
        if rule is None and not ours:
            yield Reason("process.unknown", who, "a program that may run", _arguments(process))
        if process.anonymous_exec and not (rule and rule.may_generate_code):
            count = str(process.anonymous_exec)
            yield Reason("process.anonymous-code", who, "no code without a file", count)
        if process.namespaces != init and not (rule and rule.own_namespaces):
            yield Reason("process.namespace", who, "those of init", "others")

    def _rule(self, process: Process, exe: str | None) -> ProgramRule | None:
        for rule in self.programs:
            if rule.exe == exe and self._started_as(rule, process):
                return rule
        return None

    def _started_as(self, rule: ProgramRule, process: Process) -> bool:
        if rule.invocation is Invocation.SSHD:
            return find_sshd_role(process.cmdline, rule.exe, self.user) is not None
        return rule.invocation is Invocation.ANY or rule.has_words(process.cmdline)


def _kernel_thread(process: Process) -> Iterator[Reason]:
    """A process can claim to be a thread of the kernel's by its name; its parent it can't."""
    has_user_side = process.exe or process.maps or process.cmdline or process.sha256
    if has_user_side or 2 not in (process.pid, process.ppid):
        yield Reason("process.kernel-thread", _shown(process), "a child of kthreadd", "not one")


def _shown(process: Process) -> str:
    return f"pid {process.pid} {process.exe or '?'}"


def _arguments(process: Process) -> str:
    return " ".join(process.cmdline)[:400]


def check_sockets(
    evidence: Evidence, rules: Iterable[SocketRule], *, shared_network: bool
) -> Iterator[Reason]:
    """Only known programs listen, on their known ports.

    `shared_network`: the node sees sockets of its host, which no process of its own holds.
    """
    allowed = set(rules)
    exes = {process.pid: process.exe for process in evidence.processes}
    for socket in evidence.sockets:
        what = f"{socket.protocol} {socket.address}:{socket.port}"
        if socket.pid is None:
            if not shared_network:
                yield Reason("socket.unowned", what, "held by a process", "by none")
            continue
        exe = exes.get(socket.pid) or "?"
        family = socket.protocol.rstrip("6")
        if not {SocketRule(family, socket.port, exe), SocketRule(family, 0, exe)} & allowed:
            yield Reason("socket.unknown", what, "not listening", f"pid {socket.pid} {exe}")


# Whether the node is a machine: its first process is the kernel's own, and in no container.
# Root of whoever holds a container reads and changes all that is in it, and nothing of that holder
# is measured. The first namespaces of a kernel have inode numbers that are part of its ABI: enum
# init_ns_ino of include/uapi/linux/nsfs.h, before Linux 6.18 in include/linux/proc_ns.h. Those of
# mount and network have one only since 6.18, and are not asked for.
_FIRST: Final = {
    "cgroup": 4026531835,
    "ipc": 4026531839,
    "pid": 4026531836,
    "time": 4026531834,
    "user": 4026531837,
    "uts": 4026531838,
}
_KTHREADD: Final = 2


def check_machine(evidence: Evidence) -> Iterator[Reason]:
    """``node.container`` for each namespace of the first process that is not the kernel's first.

    A kernel without a kind of namespace (older, or built so) has none to be in, and names none.
    """
    for name, first in _FIRST.items():
        found = evidence.init_namespaces.get(name, first)
        if found != first:
            yield Reason(
                "node.container", f"{name} namespace", f"the kernel's, {first}", str(found)
            )
    if not any(one.pid == _KTHREADD and one.kernel for one in evidence.processes):
        yield Reason("node.container", "pid 2", "kthreadd, a thread of the kernel", "not there")

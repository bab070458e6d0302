# SPDX-License-Identifier: GPL-2.0-or-later
"""The node's sshd: which one serves us, whom else, and having it read its configuration anew.

What sshd goes by is what it read when it was started or told to, which the disk need not have
any more. On SIGHUP the listening sshd executes itself again, sshd(8); connections that it then
takes are served by what the disk has. That it did is told by the kernel: the memory that it had
is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from typing import Any, Final

from mock_cloud.agent.measure import procfs
from mock_cloud.agent.measure.sockets import measure_sockets
from mock_cloud.agent.serve_wire import Failure, own_command
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.frames import FrameHeader
from mock_cloud.wire.layout import SERVE

FAILED: Final = "sshd"
"""The failure's code when sshd does not start anew."""
_PATIENCE_S: Final = 15.0
_PAUSE_S: Final = 0.005
# Titles of processes that serve a connection nobody has authenticated on (sshd.c, sshd-session.c).
_WAITING: Final = ("[accepted]", "[net]", "[session-auth early]", "[session-auth]")
# Services that D-Bus starts when somebody asks them, as each boot does, and that end half a minute
# later (systemd's src/hostname/hostnamed.c and its like). SIGTERM has them end now; all that they
# know is in files.
_PASSING: Final = tuple(
    f"/usr/lib/systemd/systemd-{name}" for name in ("hostnamed", "localed", "timedated")
)
_ENDS_WITHIN_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class _Running:
    """A process that is not the kernel's."""

    pid: int
    ppid: int
    exe: str
    words: list[str]


def reload(keep: Collection[int]) -> FrameHeader:
    """Have sshd read its configuration anew; who listens, since when, and what ran before.

    Connections on which nobody is logged in are ended, and those that run an agent, unless it is
    ours or one of `keep` (pids): they are what is left of a controller that vanished. `listener` is
    None where systemd listens and each connection has an sshd of its own. `since` is in clock ticks
    since boot, as starttime in proc(5): an sshd that was started then or later has the new
    configuration. `ran`: executable and words of each process there was. Failure `FAILED`.
    """
    end_services(_PASSING)
    table = {one.pid: one for one in _processes()}
    listener = find_listener()
    _end_connections(table, listener, {os.getpid(), *keep})
    if listener is not None:
        _start_anew(listener)
    ran = sorted({(one.exe, tuple(one.words)) for one in table.values()})
    return {
        "listener": listener,
        "since": _next_tick(),
        "ran": [[exe, list(words)] for exe, words in ran],
    }


def end_services(programs: Collection[str]) -> None:
    """Have processes of these executables end; one that does not within `_ENDS_WITHIN_S` stays."""
    found = [pid for pid in procfs.list_pids() if _executable(pid) in programs]
    for pid in found:
        _kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _ENDS_WITHIN_S
    while any(_executable(pid) in programs for pid in found) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)


def _executable(pid: int) -> str:
    """Empty for one that has none, has ended, or is nobody's to look at."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/exe")
    return ""


def find_listener() -> int | None:
    """The sshd that listens, of those we descend from; None where systemd listens for it.

    Then every connection has an sshd of its own, which reads its configuration and keys anew. One
    that ended since is represented by the only other one, as where services start late in a boot.
    """
    listening = _listening()
    sshds = [one for one in listening if one is not None and _is_sshd(one)]
    pid = os.getppid()
    while pid:
        if pid in listening:
            return pid if pid in sshds else None
        pid = procfs.parse_status(procfs.read_bounded(f"/proc/{pid}/status")).ppid
    return sshds[0] if len(sshds) == 1 else None


def _is_sshd(pid: int) -> bool:
    return os.path.basename(_executable(pid)).startswith("sshd")


def _listening() -> set[int | None]:
    rows: list[list[Any]] = measure_sockets()
    return {row[3] for row in rows if row[0].startswith("tcp")}


def _processes() -> Iterator[_Running]:
    for pid in procfs.list_pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if procfs.is_kernel_thread(procfs.read_bounded(f"/proc/{pid}/stat")):
                continue
            status = procfs.parse_status(procfs.read_bounded(f"/proc/{pid}/status"))
            words = procfs.split_words(procfs.read_bounded(f"/proc/{pid}/cmdline"))
            yield _Running(pid, status.ppid, os.readlink(f"/proc/{pid}/exe"), words)


def _end_connections(
    table: dict[int, _Running], listener: int | None, agents: Collection[int]
) -> None:
    """Kill what serves connections that are nobody's or were an agent's; ours and `agents` stay."""
    ours = {pid for agent in agents for pid in _ancestry(table, agent)}
    for one in table.values():
        title = one.words[0] if one.words else ""
        if not os.path.basename(one.exe).startswith("sshd") or one.pid in ours:
            continue
        if title.startswith("sshd") and title.rstrip().endswith(_WAITING):
            _kill(one.pid)
    for agent in filter(_is_agent, table.values()):
        for pid in _ancestry(table, agent.pid):
            one = table[pid]
            if pid in ours or pid == listener:
                break
            if os.path.basename(one.exe).startswith("sshd"):
                _kill(pid)


def _ancestry(table: dict[int, _Running], pid: int) -> list[int]:
    """`pid` and those it descends from."""
    found: list[int] = []
    while pid in table and pid not in found:
        found.append(pid)
        pid = table[pid].ppid
    return found


def _is_agent(one: _Running) -> bool:
    """Whether it is started as we are, from a toolkit beside ours."""
    toolkits = os.path.dirname(os.path.dirname(own_command()[0]))
    return one.words[-1:] == [SERVE] and one.words[0].startswith(f"{toolkits}/")


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _start_anew(listener: int) -> None:
    """SIGHUP, until another program image listens. Failure."""
    _check_configuration(os.readlink(f"/proc/{listener}/exe"))
    address = int(procfs.read_bounded(f"/proc/{listener}/maps").partition(b"-")[0], 16)
    memory = os.open(f"/proc/{listener}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not os.pread(memory, 1, address):
            raise Failure(FAILED, f"sshd, pid {listener}, has no memory")
        os.kill(listener, signal.SIGHUP)
        # fs/proc/base.c, mem_rw: nothing is read once the last user of that memory has gone.
        _wait_until(lambda: not os.pread(memory, 1, address), listener)
    except ProcessLookupError as error:
        raise Failure(FAILED, f"sshd, pid {listener}, ended") from error
    finally:
        os.close(memory)
    _wait_until(lambda: listener in _listening(), listener)


def _check_configuration(program: str) -> None:
    """sshd would end if it could not read it, and nobody could log in any more. Failure."""
    argv = [program, "-t"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-400:]
        raise Failure(FAILED, f"sshd would not start with its configuration: {said}")


def _wait_until(condition: Any, listener: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() >= deadline:
            raise Failure(
                FAILED, f"sshd, pid {listener}, did not start anew within {_PATIENCE_S:g} s"
            )
        time.sleep(_PAUSE_S)


def _next_tick() -> int:
    """Now, in clock ticks since boot, once no process of before can have this number."""
    ticks_a_second = os.sysconf("SC_CLK_TCK")
    coming = int(time.clock_gettime(time.CLOCK_BOOTTIME) * ticks_a_second) + 1
    while int(time.clock_gettime(time.CLOCK_BOOTTIME) * ticks_a_second) < coming:
        time.sleep(_PAUSE_S)
    return coming

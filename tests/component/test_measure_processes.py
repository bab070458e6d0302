# SPDX-License-Identifier: GPL-2.0-or-later
"""Real processes in every state that evidence must show."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from measure_support import (
    eventually,
    exe,
    in_namespaces,
    measure_running,
    needs,
    needs_root,
    process,
    running,
    sleeper,
    wait_until_loaded,
)

from mock_cloud.agent.measure.text import Digests, TextChanged, measure_text, read_mappings

pytestmark = needs_root


def _mapping(pid: int, path: Path) -> tuple[int, int]:
    """Start and end of the executable mapping of `path`."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.split()[1].startswith("r-x") and line.endswith(str(path)):
            start, _, end = line.split()[0].partition("-")
            return int(start, 16), int(end, 16)
    raise AssertionError(f"{path} is not mapped")


def _measure_child(argv: list[str], ready: str, **options: Any) -> dict[str, Any]:
    with running(argv, **options) as child:
        eventually(lambda: ready in exe(child.pid), f"the start of {ready}")
        return process(measure_running(), child.pid)


def test_an_honest_process(tmp_path: Path) -> None:
    program = sleeper(tmp_path)
    with running([str(program), "60"], env={"HARMLESS": "1"}) as child:
        wait_until_loaded(child.pid, program)
        found = measure_running()
        one = process(found, child.pid)
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    assert (one["exe"], one["deleted"], one["sha256"]) == (str(program), False, digest)
    assert [str(program), False, digest] in one["maps"]
    assert one["cmdline"] == [str(program), "60"]
    assert (one["ppid"], one["uid"], one["kernel"], one["root"]) == (os.getpid(), 0, False, "/")
    assert 0 < one["started"] <= time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    assert (one["environ"], one["tracer"], one["patched"], one["anonymous_exec"]) == ({}, 0, [], 0)
    assert one["namespaces"]["mnt"] == found["namespaces"]["self"]["mnt"]
    assert found["hidden_pids"] == []
    assert found["self"] == os.getpid()
    threadd = Path("/proc/2/comm")  # in a pid namespace of its own there is no such thing
    if threadd.exists() and threadd.read_text() == "kthreadd\n":
        assert any(other["kernel"] and other["exe"] is None for other in found["processes"])


def test_a_deleted_executable(tmp_path: Path) -> None:
    program = sleeper(tmp_path)
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    with running([str(program), "60"]) as child:
        wait_until_loaded(child.pid, program)
        program.unlink()
        one = process(measure_running(), child.pid)
    assert (one["exe"], one["deleted"], one["sha256"]) == (str(program), True, digest)
    assert [str(program), True, digest] in one["maps"]


def test_a_memfd_executable() -> None:
    code = (
        "import os, sys\n"
        "fd = os.memfd_create('payload', 0)\n"
        "os.write(fd, open(sys.argv[1], 'rb').read())\n"
        "os.execv(f'/proc/self/fd/{fd}', ['innocent', '60'])\n"
    )
    program = shutil.which("sleep") or "/bin/sleep"
    one = _measure_child([sys.executable, "-c", code, program], "memfd:payload")
    assert (one["exe"], one["deleted"]) == ("/memfd:payload", True)
    assert one["sha256"] == hashlib.sha256(Path(program).read_bytes()).hexdigest()
    assert one["anonymous_exec"] >= 1


def test_patched_text(tmp_path: Path) -> None:
    program = sleeper(tmp_path)
    with running([str(program), "60"]) as child:
        wait_until_loaded(child.pid, program)
        assert process(measure_running(), child.pid)["patched"] == []
        start, _ = _mapping(child.pid, program)
        with Path(f"/proc/{child.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(start + 64)
            memory.write(b"\xcc")
        one = process(measure_running(), child.pid)
    assert one["patched"] == [str(program)]
    assert one["sha256"] == hashlib.sha256(program.read_bytes()).hexdigest()


def test_a_patched_library_is_told_apart_from_a_copied_page(tmp_path: Path) -> None:
    """Writing back the same bytes copies the page too, which alone is no difference."""
    program = sleeper(tmp_path)
    with running([str(program), "60"]) as child:
        wait_until_loaded(child.pid, program)
        start, _ = _mapping(child.pid, program)
        with Path(f"/proc/{child.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            same = memory.read(16)
            memory.seek(start)
            memory.write(same)
        assert process(measure_running(), child.pid)["patched"] == []


def test_a_process_that_starts_another_program_meanwhile(tmp_path: Path) -> None:
    program = sleeper(tmp_path)
    code = f"import os; input(); os.execv({str(program)!r}, ['sleeper', '60'])"
    with running([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        wait_until_loaded(child.pid, Path(sys.executable).resolve())
        before = read_mappings(child.pid)
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
        wait_until_loaded(child.pid, program)
        with pytest.raises(TextChanged):
            measure_text(child.pid, before, Digests(), [])


@pytest.mark.slow
def test_a_process_that_starts_programs_all_the_time_hides_nothing(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\nexec "$0"\n')
    script.chmod(0o755)
    with running([str(script)]) as child:
        for _ in range(5):
            found = measure_running()
            pids = {one["pid"] for one in found["processes"]}
            places = {path for path, _ in found["unreadable"]}
            assert child.pid in pids or f"/proc/{child.pid}" in places


@needs("strace")
def test_a_traced_process(tmp_path: Path) -> None:
    program = sleeper(tmp_path)
    with running(["strace", "-o", "/dev/null", str(program), "60"]) as tracer:

        def traced() -> int:
            children = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()
            return int(children[-1]) if children else 0

        eventually(lambda: exe(traced()) == str(program), "the start")
        pid = traced()
        wait_until_loaded(pid, program)
        try:
            one = process(measure_running(), pid)
        finally:
            os.kill(pid, signal.SIGKILL)
    assert one["tracer"] == tracer.pid


def test_variables_that_change_loading(tmp_path: Path) -> None:
    program = sleeper(tmp_path)
    environ = {"LD_PRELOAD": "/nonexistent.so", "BASH_ENV": "/x", "HOME": "/root", "PATH": "/bin"}
    one = _measure_child([str(program), "60"], "sleeper", env=environ, stderr=subprocess.DEVNULL)
    assert one["environ"] == {"LD_PRELOAD": "/nonexistent.so", "BASH_ENV": "/x"}


_ANONYMOUS = """
import mmap, sys, time
memory = mmap.mmap(-1, 4096, mmap.{flags}, mmap.PROT_READ | mmap.PROT_EXEC)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("flags", ["MAP_PRIVATE", "MAP_SHARED"])
def test_anonymous_executable_memory(flags: str) -> None:
    def count(code: str) -> int:
        with running([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            return int(process(measure_running(), child.pid)["anonymous_exec"])

    plain = count("import time; print('ready', flush=True); time.sleep(60)")
    assert count(_ANONYMOUS.format(flags=flags)) == plain + 1


def test_a_private_mapping_of_dev_zero_is_anonymous() -> None:
    code = (
        "import ctypes, os, time\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]\n"
        "libc.mmap.argtypes += [ctypes.c_int] * 3 + [ctypes.c_long]\n"
        "assert libc.mmap(None, 4096, 5, 2, os.open('/dev/zero', os.O_RDONLY), 0) != 2**64 - 1\n"
        "print('ready', flush=True); time.sleep(60)\n"
    )
    with running([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert process(measure_running(), child.pid)["anonymous_exec"] >= 1


def test_a_process_whose_first_thread_ended(tmp_path: Path) -> None:
    """It is a zombie by name, but another thread runs on: it must not drop out."""
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "print('ready', flush=True)\n"
        "ctypes.CDLL(None).syscall(ctypes.c_long(60), 0)\n"
    )
    if os.uname().machine != "x86_64":
        pytest.skip("needs x86_64 for the number of exit(2)")
    with running([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        state = Path(f"/proc/{child.pid}/status")
        eventually(lambda: "zombie" in state.read_text(), "the end of the first thread")
        one = process(measure_running(), child.pid)
    assert "python" in one["exe"]
    assert one["maps"]


@needs("unshare")
def test_listening_sockets_and_their_holder() -> None:
    script = """
import json, os, socket, sys
sys.path.insert(0, ".")
from mock_cloud.agent.measure import sockets
stream, six = socket.create_server(("127.0.0.2", 0)), socket.socket(socket.AF_INET6)
six.bind(("::1", 0)); six.listen()
datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagram.bind(("127.0.0.3", 0))
peer = socket.create_connection(stream.getsockname())
ports = [one.getsockname()[1] for one in (stream, six, datagram)]
own = list(peer.getsockname())
waiting = sockets.measure_connections()
accepted, _ = stream.accept()
print(json.dumps({"rows": sockets.measure_sockets(), "ports": ports, "peer": own,
    "waiting": waiting, "connected": sockets.measure_connections()}))
"""
    found = in_namespaces(script)
    stream, six, datagram = found["ports"]
    for row in (
        ["tcp", "127.0.0.2", stream, 1],
        ["tcp6", "::1", six, 1],
        ["udp", "127.0.0.3", datagram, 1],
    ):
        assert row in found["rows"]
    assert found["peer"][1] not in [row[2] for row in found["rows"]]
    # Nobody holds the other end before it is accepted.
    near = ["tcp", *found["peer"], "127.0.0.2", stream, 1]
    far = ["tcp", "127.0.0.2", stream, *found["peer"], 1]
    held = {name: [row for row in found[name] if row[-1]] for name in ("waiting", "connected")}
    assert held["waiting"] == [near]  # those of this machine have no holder among the script's
    assert sorted(held["connected"]) == sorted([near, far])


@needs("unshare")
def test_a_pid_that_proc_does_not_list() -> None:
    """/proc of another pid namespace lies over ours: it lists none of our processes."""
    script = """
import json, os, subprocess, sys, time
sys.path.insert(0, ".")
from mock_cloud.agent.measure import live
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
honest = live.find_hidden([])
mount = "mount -t proc proc /proc && echo mounted; exec sleep 60"
inner = subprocess.Popen(
    ["unshare", "-p", "-f", "--kill-child", "sh", "-c", mount], stdout=subprocess.PIPE)
inner.stdout.readline()
found = live.find_hidden([])
subprocess.run(["umount", "/proc"], check=True)
inner.kill(); inner.wait()
print(json.dumps({"honest": honest, "found": found, "unlisted": inner.pid}))
"""
    found = in_namespaces(script)
    assert found["honest"] == []
    assert found["unlisted"] in found["found"]


@needs("unshare")
def test_processes_that_come_and_go_leave_none_unseen() -> None:
    """One that forks and ends all the time is in no two listings, and need be in no first one."""
    script = """
import json, os, signal, sys, time
sys.path.insert(0, ".")
from mock_cloud.agent.measure import processes
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
quiet = []
processes.measure_processes(frozenset(), quiet)
if os.fork() == 0:
    while True:  # until this namespace ends
        if os.fork():
            os._exit(0)
        time.sleep(0.001)
unreadable = []
found = processes.measure_processes(frozenset(), unreadable)
print(json.dumps([quiet, unreadable, [one.pid for one in found if one.pid != os.getpid()]]))
"""
    quiet, unreadable, others = in_namespaces(script)
    assert quiet == []
    assert others or ["/proc", "EAGAIN"] in unreadable


_LINGERING = """
import os, signal, sys
from mock_cloud.wire import syscalls
syscalls.unshare(syscalls.CLONE_NEWPID)
children = []
for _ in range(2):
    children.append(os.fork())
    if not children[-1]:
        signal.pause()
os.kill(children[0], signal.SIGKILL)
print(children[0], flush=True)
sys.stdin.read()
"""


def test_a_process_whose_end_takes_long_runs_nothing_any_more() -> None:
    """The first one of a pid namespace ends after all others of it, one that nobody reaps too.

    Until then it has no memory and no program, and is no zombie, as any is for a moment of its end.
    """
    argv = [sys.executable, "-c", _LINGERING]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        eventually(lambda: not exe(pid), "the end of its program")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        found = measure_running()
        parent.stdin.close()
    assert state == "S"
    assert ["/proc", "EAGAIN"] not in found["unreadable"]
    assert pid not in {one["pid"] for one in found["processes"]}


@needs("unshare")
def test_a_pid_namespace_of_its_own_shows_in_the_namespaces(tmp_path: Path) -> None:
    program = sleeper(tmp_path)
    with running(["unshare", "-u", str(program), "60"]) as child:
        wait_until_loaded(child.pid, program)
        found = measure_running()
        one = process(found, child.pid)
    assert one["namespaces"]["uts"] != found["namespaces"]["self"]["uts"]
    assert one["namespaces"]["pid"] == found["namespaces"]["self"]["pid"]


@needs("unshare", "chroot")
def test_an_agent_in_a_chroot_sees_that_it_is_not_in_the_first_process_root() -> None:
    script = """
import json, os, subprocess, sys
sys.path.insert(0, ".")
from mock_cloud.agent.measure import live
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
honest = live.measure_live(frozenset()).unreadable
subprocess.run(["mount", "--bind", "/", "/mnt"], check=True)
subprocess.run(["mount", "-t", "proc", "proc", "/mnt/proc"], check=True)
read_fd, write_fd = os.pipe()
child = os.fork()
if child == 0:
    os.chroot("/mnt")
    os.write(write_fd, json.dumps(live.measure_live(frozenset()).unreadable).encode())
    os._exit(0)
os.waitpid(child, 0)
print(json.dumps({"honest": honest, "chrooted": json.loads(os.read(read_fd, 65536))}))
"""
    found = in_namespaces(script)
    assert found["honest"] == []
    assert ["/", "crossed"] in found["chrooted"]

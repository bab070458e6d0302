# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's one choke point for child processes, in the chroot or on the node.

argv lists only, standard input closed, an environment built anew, a session of its own. The
engine runs in a pid namespace, so whatever a command leaves behind is found and ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Final, NoReturn

from mock_cloud.agent.engine import jail
from mock_cloud.agent.engine.errors import BuildTimeout, EngineError, JailEnded, NotExecutable
from mock_cloud.wire import syscalls
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import NODE_PATH

_Sink = Callable[[bytes], None]

_UMASK: Final = 0o022
_CHUNK: Final = 1 << 16
_TERM_GRACE_S: Final = 1.0

NODE_ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": NODE_PATH,
    "LC_ALL": "C.UTF-8",
    "TERM": "vt100",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where and as whom a command runs.

    `root`: what its root directory is, of a chroot the path; empty for the node itself. With a
    root, it is in a jail (see `jail`); `may_mount`: it may have mounts of its own there.
    `network`: descriptor of the network namespace to enter, or None for the node's. `arch`: rpm's
    word, for personality(2).
    """

    root: str | jail.NodeTree = ""
    may_mount: bool = False
    uid: int = 0
    gid: int = 0
    cwd: str = "/"
    network: int | None = None
    arch: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: NODE_ENVIRONMENT)

    @contextlib.contextmanager
    def birth(self, program: str) -> Iterator[None]:
        """What a child has to be forked in that is to `enter`, and to execute `program`.

        EngineError if it cannot enter, NotExecutable if `program` is to blame.
        """
        reader, _Problem.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with jail.new_pid_namespace() if self.root else contextlib.nullcontext():
                yield
        except subprocess.SubprocessError as error:  # raised here, it does not say what failed
            raise EngineError(os.read(reader, _CHUNK).decode(errors="replace")) from error
        except OSError as error:
            if error.filename != program:
                raise
            raise NotExecutable(f"{program}: {error.strerror}") from error
        finally:
            os.close(reader)
            os.close(_Problem.writer)

    def enter(self) -> None:
        """Become this in a forked child, before exec. The order matters: namespace, root, ids.

        With a root it returns in a child of that child: see `jail.enter`. OSError.
        """
        try:
            self._enter()
        except OSError as error:
            os.write(_Problem.writer, f"the command cannot be started: {error}".encode())
            raise
        try:
            os.chdir(self.cwd)
        except OSError as error:
            where = f"{self.cwd} in the chroot" if self.root else self.cwd
            os.write(_Problem.writer, f"cannot go to {where}: {error.strerror}".encode())
            raise

    def _enter(self) -> None:
        os.umask(_UMASK)
        _reset_process()
        if self.network is not None:
            syscalls.enter_namespace(self.network, syscalls.CLONE_NEWNET)
        if self.arch:
            syscalls.set_personality(self.arch)
        if self.root:
            jail.enter(self.root, may_mount=self.may_mount)
        if self.uid or self.gid:
            os.setgroups([])
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)


class _Problem:
    """Where a child of `Place.birth` says what keeps it from becoming what it is to be."""

    writer = -1


def _reset_process() -> None:
    for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as stream:
        stream.write("0")


def pretty(argv: Sequence[str]) -> str:
    """The command as mock's messages show it: pasteable into a shell."""
    return shlex.join(argv)


def exit_status(code: int, argv: Sequence[str], place: Place) -> int:
    """mock's exit status for `code` as the subprocess module has it: 256 - N for signal N.

    JailEnded if not the program was signalled, but the first process of its jail, which nothing
    inside can do: its own end by a signal is told by that process's exit status.
    """
    if place.root and code < 0:
        name = os.path.basename(argv[0])
        raise JailEnded(f"{name} was ended from outside of its jail, by signal {-code}")
    return code % 256


def run_command(argv: Sequence[str], place: Place, sink: _Sink, *, timeout_s: float = 0.0) -> int:
    """Run `argv`, hand stdout and stderr (one stream) to `sink`, return its `exit_status`.

    What the command left running is killed. `timeout_s` 0 waits for ever; past it BuildTimeout is
    raised. NotExecutable names a program that cannot be executed.
    """
    with place.birth(argv[0]):
        child = subprocess.Popen(
            list(argv),
            env=dict(place.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=place.enter,  # noqa: PLW1509 (the engine has one thread)
            start_new_session=True,
            bufsize=0,
        )
    assert child.stdout is not None  # noqa: S101 (for mypy)
    try:
        finished = _pump(child, child.stdout.fileno(), sink, timeout_s)
        if not finished:
            raise BuildTimeout(f"Timeout({timeout_s:g}) expired for command:\n # {pretty(argv)}\n")
        code = child.wait()
        _drain(child.stdout.fileno(), sink)
    finally:
        _stop(child)
        kill_others()
        child.stdout.close()
    return exit_status(code, argv, place)


def capture(argv: Sequence[str], place: Place, *, timeout_s: float = 0.0) -> tuple[int, bytes]:
    """As `run_command`, but returns (exit status, output)."""
    parts: list[bytes] = []
    code = run_command(argv, place, parts.append, timeout_s=timeout_s)
    return code, b"".join(parts)


def _pump(child: subprocess.Popen[bytes], output: int, sink: _Sink, timeout_s: float) -> bool:
    """Pass output on until its end or the child's. False when `timeout_s` passed first."""
    deadline = time.monotonic() + timeout_s if timeout_s else float("inf")
    while True:
        ready, _, _ = select.select([output], [], [], 0.1)
        if time.monotonic() > deadline:
            return False
        if ready:
            data = os.read(output, _CHUNK)
            if data:
                sink(data)
                continue
            return _await_end(child, deadline)
        if child.poll() is not None:
            return True


def _await_end(child: subprocess.Popen[bytes], deadline: float) -> bool:
    """After the end of the output: a program may close it and go on."""
    try:
        child.wait(None if deadline == float("inf") else max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _drain(output: int, sink: _Sink) -> None:
    os.set_blocking(output, False)
    with contextlib.suppress(BlockingIOError):
        while data := os.read(output, _CHUNK):
            sink(data)


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(_TERM_GRACE_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


class _Namespace:
    """Whether this process may take kill(-1) to mean the job and nothing else."""

    own = False


def declare_own_pid_namespace() -> None:
    """Say that init (our parent) is a job's: only then does `kill_others` do anything."""
    if os.getppid() != 1:
        raise RuntimeError("not the child of a pid namespace's init")
    _Namespace.own = True


def kill_others() -> None:
    """End every process of the job's pid namespace but its init and the caller.

    Does nothing where no such namespace was declared: there it would end the whole machine.
    """
    if _Namespace.own and os.getppid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)


def call(place: Place, function: Callable[[], bytes]) -> bytes:
    """Run `function` in a forked child that entered `place`; its result comes back.

    So a file operation as the build user, inside the chroot, can reach nothing else, whatever
    links the build left. An OSError of the child is raised here with its errno and file name.
    """
    reader, writer = os.pipe()
    with place.birth(""):
        child = os.fork()
        if child == 0:
            _answer(writer, place, function)
    os.close(writer)
    with open(reader, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    kind, _, rest = answer.partition(b"\0")
    if kind == b"ok":
        return rest
    number, _, text = rest.partition(b"\0")
    if kind == b"os":
        raise OSError(int(number), os.strerror(int(number)), os.fsdecode(text))
    if kind == b"engine":
        raise EngineError(text.decode(errors="replace"), int(number))
    raise EngineError(f"a step in the chroot ended early: {answer!r}")


def _answer(writer: int, place: Place, function: Callable[[], bytes]) -> NoReturn:
    try:
        place.enter()
        answer = b"ok\0" + function()
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else ""
        answer = b"os\0%d\0%s" % (error.errno or errno.EIO, os.fsencode(name))
    except EngineError as error:
        answer = b"engine\0%d\0%s" % (error.exit_code, error.message.encode(errors="replace"))
    except Exception as error:  # the edge of a forked child
        answer = b"engine\0001\0" + repr(error).encode(errors="replace")
    try:
        with open(writer, "wb") as stream:
            stream.write(answer)
    finally:
        os._exit(0)

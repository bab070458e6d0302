# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of faults share: a result directory with a past, commands on a terminal,
and what a failure has to look like."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.local.files import NodeFacts, find_facts
from tests.fault_table import saw_end
from tests.integration.conftest import Ended, User
from tests.lab.layout import repository_root
from tests.lab.relay import Relay

_TRACEBACK = "Traceback (most recent call last)"
_ERROR = re.compile(r"^(?:ERROR|CRITICAL): (.*)$", re.MULTILINE)
_HINT = re.compile(r"^ {7}(\S.*)$", re.MULTILINE)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def check_failure(ended: Ended, code: int, *says: str, hint: str = "") -> str:
    """The failure's one line: it says all of `says`; the lines after it say `hint`.

    There is no traceback, the exit code is `code`, and there is one line of ERROR or CRITICAL.
    """
    text = ended.stderr
    assert _TRACEBACK not in text + ended.stdout, text
    ended.expect(code)
    errors = _ERROR.findall(text)
    assert len(errors) == 1, text
    for part in says:
        assert part in errors[0], f"{part!r} is not in {errors[0]!r}"
    hints = _HINT.findall(text)
    assert hints and hint in "\n".join(hints), f"hint {hint!r} is not in {text!r}"
    return str(errors[0])


class Earlier:
    """A result directory in which an earlier build left a package and logs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self._kept = {
            "old-1-1.noarch.rpm": os.urandom(5000),
            "toy-plain-1-1.lab1.noarch.rpm": b"an earlier build of the same package",
            "notes.txt": b"somebody's own\n",
        }
        self._logs = {"build.log": b"earlier build\n", "root.log": b"earlier root\n"}
        for name, data in {**self._kept, **self._logs}.items():
            (path / name).write_bytes(data)
        self._names = set(os.listdir(path))  # noqa: PTH208

    def check(self) -> None:
        """Nothing that was there is gone, no half of a new build is there."""
        for name, data in self._kept.items():
            assert (self.path / name).read_bytes() == data, name
        for name, data in self._logs.items():
            assert (self.path / name).read_bytes().startswith(data), name
        new = {place.name for place in self.path.iterdir()} - self._names
        assert not [name for name in new if name.startswith(".") or name.endswith(".rpm")], new

    def check_untouched(self) -> None:
        """Not even a log was begun."""
        self.check()
        assert {place.name for place in self.path.iterdir()} == self._names
        for name, data in self._logs.items():
            assert (self.path / name).read_bytes() == data, name

    def log(self, name: str) -> str:
        return (self.path / name).read_text(errors="replace")


class Command:
    """The launcher, started in a session of its own, with a terminal if wanted.

    What it prints is collected as it comes. Use it as a context manager: it is killed by its
    pid if it still runs at the end.
    """

    def __init__(
        self, user: User, *words: str | Path, terminal: bool = False, tmp: Path | None = None
    ) -> None:
        self._user = user
        self._text = bytearray()
        self._changed = threading.Condition()
        self._argv = user.argv(*map(str, words))
        env = {**user.environment, **({"TMPDIR": str(tmp)} if tmp else {})}
        if terminal:
            self.master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
            # setsid(1): the terminal becomes the controlling one, so that ^C is a signal.
            argv, ends = ["setsid", "--ctty", *self._argv], (slave, slave, slave)
            env["TERM"] = "xterm"
        else:
            self.master, slave = os.pipe()
            argv, ends = self._argv, (subprocess.DEVNULL, slave, slave)
        self.child = subprocess.Popen(
            argv,
            env=env,
            cwd=user.place,
            stdin=ends[0],
            stdout=ends[1],
            stderr=ends[2],
            start_new_session=not terminal,
        )
        os.close(slave)
        self._hung_up = threading.Event()
        self._thread = threading.Thread(target=self._collect, name="collector")
        self._thread.start()

    def _collect(self) -> None:
        while not self._hung_up.is_set():
            if not select.select([self.master], [], [], 0.05)[0]:
                continue
            try:
                data = os.read(self.master, 65536)
            except OSError:  # EIO: the last process let go of the terminal
                data = b""
            with self._changed:
                self._text += data
                self._changed.notify_all()
            if not data:
                return

    @property
    def text(self) -> str:
        with self._changed:
            return bytes(self._text).decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, words: str, timeout_s: float = 300.0) -> None:
        """Fails if `words` are not printed in time."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while words.encode() not in self._text:
                left_s = deadline - time.monotonic()
                ended = not self._thread.is_alive()
                assert left_s > 0 and not ended, f"{words!r} did not come: {self._text!r}"
                self._changed.wait(min(left_s, 0.2))

    def press(self, key: bytes) -> None:
        """Type on the terminal."""
        os.write(self.master, key)

    def hang_up(self) -> None:
        """Close our end of the terminal or pipe, as a closed window does."""
        self._hung_up.set()
        self._thread.join(10)
        os.close(self.master)
        self.master = -1

    def send(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def ended(self, timeout_s: float = 300.0) -> Ended:
        """Wait for the end. Both streams are in `stderr`, without what moves the cursor."""
        code = self.child.wait(timeout_s)
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "somebody still holds the command's output"
        text = "\n".join(
            line.rpartition("\r\x1b[K")[2] for line in self.text.replace("^C", "").split("\n")
        )
        text = _CONTROL.sub("", text)
        saw_end(code, text)
        return Ended(tuple(self._argv), code, "", text)

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        self._thread.join(10)
        if self.master >= 0:
            os.close(self.master)


class Clock:
    """The clock of a user's machine: of all that the product starts for him, and of nothing else.

    What passes since the boot goes on, as it does when somebody sets a clock.
    """

    _PATCH = """\
import pathlib, time
_real, _file = time.time, pathlib.Path(__file__).with_name("ahead")
time.time = lambda: _real() + float(_file.read_text())
"""

    def __init__(self, user: User, name: str = "clock") -> None:
        self._place = user.place / name
        self._place.mkdir()
        (self._place / "sitecustomize.py").write_text(self._PATCH)
        # The supervisor of a local node, too, has its modules from where the product was found.
        (self._place / "mock_cloud").symlink_to(repository_root() / "mock_cloud")
        self.set_ahead(0)
        self.user = replace(user, extra={**user.extra, "PYTHONPATH": str(self._place)})

    def set_ahead(self, by_s: float) -> None:
        """Set it by so much before or after the real one."""
        fresh = self._place / "new"
        fresh.write_text(str(by_s))
        fresh.rename(self._place / "ahead")


def eventually(condition: Callable[[], object], timeout_s: float = 300.0) -> None:
    """Fails if `condition` does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def wait_in(log: Path, words: str) -> None:
    """Fails if `words` do not come to stand in the file in time."""
    eventually(lambda: log.exists() and words in log.read_text(errors="replace"))


def node_directories(user: User) -> list[Path]:
    """One for each node that exists, whatever the journal says."""
    place = user.place / "state/mock-cloud/nodes"
    return sorted(place.iterdir()) if place.is_dir() else []


def node_facts(user: User) -> NodeFacts:
    """The processes of the user's only node."""
    (directory,) = node_directories(user)
    facts = find_facts(directory)
    assert facts is not None and facts.init is not None
    return facts


def processes() -> dict[int, tuple[int, str]]:
    """Pid → (parent, command line)."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry.name)] = (int(fields[1]), words.decode(errors="replace"))
    return found


def open_files(pid: int) -> set[Path]:
    """What the process has open now."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(entry.readlink())
    return found


def family(pid: int) -> dict[int, tuple[int, str]]:
    """The process, all that descend from it: pid → (parent, command line)."""
    seen = processes()
    found, grown = {pid}, True
    while grown:
        new = {pid for pid, (above, _) in seen.items() if above in found} - found
        found, grown = found | new, bool(new)
    return {pid: seen[pid] for pid in found if pid in seen}


def find_process(user: User, words: str, *, parent: int | None = None) -> int:
    """The node's process whose command line has `words`: the newest, or that child of `parent`."""
    init = node_facts(user).init
    assert init is not None
    seen = family(init.pid)
    found = [pid for pid in seen if words in seen[pid][1] and parent in (None, seen[pid][0])]
    assert found, f"no {words!r} among {list(seen.values())}"
    return max(found)


def check_gone(user: User) -> None:
    """No node, key, loop device or staging of this user is left, and the journal says so."""
    eventually(lambda: node_directories(user) == [])
    eventually(lambda: user.nodes() == [])  # a terminal does not wait for it
    keys = user.place / "state/mock-cloud/keys"
    assert not keys.is_dir() or list(keys.iterdir()) == []
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    assert str(user.place) not in loops


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A TMPDIR that must be empty again at the end."""
    path.mkdir()
    yield path
    assert list(path.iterdir()) == []


def write_remote(user: User, name: str, **changes: str) -> None:
    """A remote like the lab's own, with lines ``KEY = VALUE`` added to tables (or replaced).

    `changes` maps table__key to the TOML value.
    """
    lines = user.config.remote_file.read_text().splitlines()
    for where, value in changes.items():
        table, _, key = where.partition("__")
        lines = [line for line in lines if not line.startswith(f"{key} ")]
        if f"[{table}]" not in lines:
            lines += ["", f"[{table}]"]
        lines.insert(lines.index(f"[{table}]") + 1, f"{key} = {value}")
    user.config.remote_file.with_name(f"{name}.toml").write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def line_to_node(user: User, **settings: str) -> Iterator[Relay]:
    """The way to the user's node, which is warm; at its end the node is given back."""
    write_remote(user, "local", **settings)
    user.cloud("attest", "local", "--configdir", user.config.path).expect()
    journal = Journal(user.place / "state/mock-cloud")
    with journal.transaction() as books:
        (lease,) = books.leases()
        assert lease.address is not None
        first, second, *rest = lease.address.host.split(".")
        beside = ".".join((first, str((int(second) + 128) % 256), *rest))
        here = (beside, lease.address.port)
        relay = Relay((lease.address.host, lease.address.port), listen=here)
        books.write(replace(lease, address=replace(lease.address, host=here[0])))
    with relay:
        yield relay
        user.release()


def jobs(user: User, *words: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(user.cloud("jobs", "--json", *words).expect().stdout)
    return listed


def check_whole(results: Path, user: User, lease: str) -> None:
    """All of one build is there, once, and its node is as warm as before."""
    assert list(results.glob("*.src.rpm")) and len(list(results.glob("*.rpm"))) == 2
    assert not list(results.glob(".mock-cloud*"))
    (row,) = user.nodes()
    assert (row["lease"], row["state"]) == (lease, "ready")


def lease_of(user: User) -> str:
    (row,) = user.nodes()
    return str(row["lease"])

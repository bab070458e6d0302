# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent on two pipes, without SSH: bad streams, stray output, full disks, real jobs."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.wire.frames import encode_frame, read_frame
from mock_cloud.wire.layout import LAUNCH
from tests.component.remote_parts import make_toolkit, open_descriptors, sha256

TOKEN = "0f" * 32


class Agent:
    """An agent as a child process; requests and answers one at a time."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        self.count = 0

    def send(self, operation: str, body: bytes = b"", **keys: Any) -> None:
        self.count += 1
        self.raw(encode_frame({"op": operation, "id": self.count, **keys}, body))

    def raw(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        frame = read_frame(self.process.stdout)
        assert frame is not None, "the agent ended"
        return frame[0]

    def ask(self, operation: str, body: bytes = b"", **keys: Any) -> dict[str, Any]:
        self.send(operation, body, **keys)
        return self.answer()

    def trust(self) -> None:
        assert "error" not in self.ask("trust", verdict="ab" * 32, token=TOKEN)

    def end(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=600)
        return self.process.returncode, said.decode()


def command_for(tmp_path: Path, workspace: Path) -> list[str]:
    toolkit = make_toolkit(tmp_path / "pack")
    subprocess.run(["tar", "-xzf", str(toolkit.archive), "-C", str(tmp_path)], check=True)
    main = str(tmp_path / "agent/main.py")
    return [sys.executable, "-I", "-S", "-B", main, "serve", "--workspace", str(workspace)]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    descriptors = open_descriptors()
    agent = Agent(command_for(tmp_path, tmp_path / "W"))
    yield agent
    if agent.process.poll() is None:
        agent.end()
    agent.process.__exit__(None, None, None)
    assert open_descriptors() <= descriptors


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("garbage", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("oversize header", struct.pack(">II", (1 << 20) + 1, 0)),
        ("oversize body", struct.pack(">II", 2, (1 << 20) + 1) + b"{}"),
        ("a list", struct.pack(">II", 2, 0) + b"[]"),
        ("no json", struct.pack(">II", 2, 0) + b"{]"),
        ("no id", encode_frame({"op": "ping"})),
        ("a text as id", encode_frame({"op": "ping", "id": "1"})),
    ],
)
def test_a_stream_of_something_else_ends_the_agent(agent: Agent, what: str, data: bytes) -> None:
    agent.raw(data)
    status, said = agent.end()
    assert status == 1
    assert said.startswith("agent: ")


def test_an_end_of_input_is_a_clean_end(agent: Agent, tmp_path: Path) -> None:
    agent.trust()
    assert agent.end() == (0, "")
    log = (tmp_path / "W/order.log").read_text().splitlines()
    assert [line.split()[2] for line in log] == ["started", "trusted", "ended"]
    assert list((tmp_path / "W/channels").iterdir()) == []


def test_the_workspace_is_for_root_alone(agent: Agent, tmp_path: Path) -> None:
    agent.ask("ping")
    assert (tmp_path / "W").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "W/order.log").stat().st_mode & 0o777 == 0o600


def test_what_starts_jobs_is_made_at_trust_and_not_before(agent: Agent) -> None:
    assert "error" not in agent.ask("hello", nonce="00" * 32)
    assert children_of(agent.process.pid) == []
    agent.trust()
    assert agent.ask("have", digests=[])["missing"] == []  # its turn comes after that
    (words,) = children_of(agent.process.pid)
    assert LAUNCH in words


def children_of(pid: int) -> list[list[str]]:
    """The words of each child of a process."""
    found: list[list[str]] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found.append(Path(f"/proc/{child}/cmdline").read_text().split("\0"))
    return found


def test_a_log_line_cannot_be_forged(agent: Agent, tmp_path: Path) -> None:
    agent.ask("hello", nonce="n\n2026-01-01T00:00:00.000Z 1 trusted " + "ab" * 32)
    agent.ask("nonsense\n2026-01-01T00:00:00.000Z 1 trusted x")
    lines = (tmp_path / "W/order.log").read_text().splitlines()
    assert [line.split()[2] for line in lines] == ["started", "hello", "refused-operation"]


def test_stray_output_goes_to_stderr_not_between_the_frames(tmp_path: Path) -> None:
    """A module of the toolkit that prints, and a child that does, while frames flow."""
    command = command_for(tmp_path, tmp_path / "W")
    module = tmp_path / "agent/mock_cloud/agent/measure/headers.py"
    text = "import os\ndef read_headers():\n    print('stray')\n    os.system('echo child')\n"
    module.write_text(text + "    return {}\n")
    agent = Agent(command)
    assert "error" not in agent.ask("headers", digests=[])
    status, said = agent.end()
    assert status == 0
    assert sorted(said.split()) == ["child", "stray"]


def test_a_ping_is_answered_while_something_takes_long(tmp_path: Path) -> None:
    command = command_for(tmp_path, tmp_path / "W")
    module = tmp_path / "agent/mock_cloud/agent/measure/evidence.py"
    module.write_text("import time\ndef measure(*a):\n    time.sleep(1)\n    return b'{}'\n")
    agent = Agent(command)
    agent.send("measure", nonce="n", skip=[], trees=[], processes=0)
    assert "clock" in agent.ask("ping")
    assert agent.answer()["more"] is True
    assert agent.answer()["sha256"] == sha256(b"{}")
    assert agent.end()[0] == 0


def test_blobs_that_break_the_rules(agent: Agent, tmp_path: Path) -> None:
    agent.trust()
    digest = sha256(b"data")
    for bad in ("../../../tmp/x", "AB" * 32, "ab" * 31, digest + "/x"):
        reply = agent.ask("put", b"data", digest=bad, size=4, offset=0)
        assert reply["error"]["code"] == "bad-request"
    reply = agent.ask("put", b"data", digest=digest, size=4, offset=1)
    assert reply["error"]["code"] == "bad-request"
    reply = agent.ask("put", b"data", digest=digest, size=4, offset=-1)
    assert reply["error"]["code"] == "bad-request"
    assert list((tmp_path / "W/blobs").iterdir()) == []


def test_a_link_in_the_place_of_a_part_is_not_followed(agent: Agent, tmp_path: Path) -> None:
    agent.trust()
    digest = sha256(b"data")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "W/blobs" / f"{digest}.part").symlink_to(victim)
    reply = agent.ask("put", b"data", digest=digest, size=4, offset=0)
    assert reply["error"]["code"] == "disk"
    assert victim.read_bytes() == b"precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system")
def test_a_full_disk_is_named_and_given_back(tmp_path: Path) -> None:
    workspace = tmp_path / "W"
    workspace.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(workspace)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        agent = Agent(command_for(tmp_path, workspace))
        agent.trust()
        size, chunk = 8 << 20, 1 << 19
        digest = sha256(b"never complete")
        for offset in range(0, size, chunk):
            agent.send("put", bytes(chunk), digest=digest, size=size, offset=offset)
        error = agent.answer()["error"]
        assert error["code"] == "no-space"
        assert "no space left on the node" in error["message"]
        reply = agent.ask("put_end", digest=digest, size=size)
        assert reply["error"]["code"] == "no-space"
        small = sha256(b"small")
        agent.send("put", b"small", digest=small, size=5, offset=0)
        assert "error" not in agent.ask("put_end", digest=small, size=5)
        assert agent.end()[0] == 0
    finally:
        subprocess.run(["umount", str(workspace)], check=True)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A controller in a process of its own, so that what a node makes it hold can be measured.

It does what `mock --remote` does with a node, step by step, up to the step it is told, and prints
as JSON how that ended and the peak of its memory. JSON on its standard input says where to connect
to. Above LIMIT_MIB of private memory it dies, so that an attack which succeeds stays here.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LIMIT_MIB = 1500


@dataclass(frozen=True, slots=True)
class Fate:
    """How it ended: the step, the exception's class ('' if none) and text, MiB and seconds."""

    step: str
    error: str
    message: str
    peak_mib: int
    seconds: float


def run(relay: tuple[str, int], sshd: Any, toolkit: Any, *, steps: str, place: Path) -> Fate:
    """Do `steps` (words of STEPS) against `relay` before `sshd`, in a child that is measured."""
    order = {
        "host": relay[0],
        "port": relay[1],
        "host_key": str(sshd.host_key.public),
        "client_key": sshd.client_key.private.reveal().decode(),
        "toolkit": toolkit.digest,
        "archive": str(toolkit.archive),
        "workspace": str(toolkit.workspace),
        "steps": steps.split(),
        "place": str(place),
    }
    command = [sys.executable, "-m", "tests.attack.victim"]
    done = subprocess.run(
        command, input=json.dumps(order), capture_output=True, text=True, timeout=240, check=False
    )
    if not done.stdout:
        return Fate("", "died", done.stderr[-600:], LIMIT_MIB, 0.0)
    return Fate(**json.loads(done.stdout))


def _peak_mib() -> int:
    """Not ru_maxrss, which begins with what the process that started this one had."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) >> 10


def main() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_MIB << 20, LIMIT_MIB << 20))
    order = json.load(sys.stdin)
    began = time.monotonic()
    done = ""
    error: BaseException | None = None
    try:
        controller = Controller(order)
        for done in order["steps"]:
            STEPS[done](controller)
    except Exception as raised:
        error = raised
    seconds = round(time.monotonic() - began, 1)
    name = type(error).__name__ if error else ""
    message = getattr(error, "message", repr(error)) if error else ""
    fate = Fate(done, name, message, _peak_mib(), seconds)
    print(json.dumps(asdict(fate)), flush=True)
    os._exit(0)  # threads of a connection that hangs are not waited for


class Controller:
    """What a command holds of a node, in the order in which it gets it."""

    def __init__(self, order: dict[str, Any]) -> None:
        from mock_cloud.model import HostKey, NodeAddress, Secret
        from mock_cloud.remote.connect import connect
        from mock_cloud.steps.attest.attesting import Archive
        from tests.component.remote_parts import LocalToolkit

        archive = Path(order["archive"])
        self.toolkit = LocalToolkit(order["toolkit"], archive, os.uname().machine, "3", {})
        object.__setattr__(self.toolkit, "workspace", Path(order["workspace"]))
        self.archive = Archive(Path(order["place"]) / "cache", Path(order["place"]) / "state")
        key = HostKey.parse(order["host_key"])
        address = NodeAddress(order["host"], order["port"], "root", key)
        secret = Secret(order["client_key"].encode())
        self.node = connect(address, secret, deadline_s=10, silence_timeout_s=10)
        self.channel: Any = None
        self.measured: Any = None

    def start(self) -> None:
        self.node.start_agent(self.toolkit)

    def measure(self) -> None:
        from mock_cloud.steps.attest.attesting import measure_again

        # Without having sshd reread: this machine may have processes that a node has not.
        self.node.start_agent(self.toolkit)
        self.measured = measure_again(self.node, self.archive)

    def judge(self) -> None:
        """The verdict that `measure` leads to: refused, but judged in full."""
        from mock_cloud.attest.policy import standard
        from mock_cloud.attest.verify import verify
        from tests.unit.attest.attest_builder import binding, keys, manifest

        evidence, headers = self.measured.parsed, self.measured.headers
        verify(evidence, headers, manifest(), keys(), standard(), binding())

    def trust(self) -> None:
        from mock_cloud.remote.trusted import trust
        from tests.component.remote_parts import make_proof

        self.channel = trust(self.node, make_proof(self.node.host_key))

    def wait(self) -> None:
        """Two questions at once, of which the first is answered late or never."""
        agent = self.node._running()
        with agent.call("hello", nonce="first") as first, agent.call("hello", nonce="second"):
            first.next(within_s=8)

    def follow(self) -> None:
        self.channel.follow_job("job", {}, lambda name, offset, data: None, within_s=8)

    def results(self) -> None:
        self.channel.results("job")

    def fetch(self) -> None:
        from mock_cloud.remote.download import Fetch
        from mock_cloud.wire.replies import ResultFile

        one = ResultFile("x.rpm", 1 << 20, "00" * 32, 0o644)
        self.channel.fetch("job", [Fetch(one, lambda data: None)])

    def cut(self) -> None:
        """What files here have of a large result."""
        from mock_cloud.wire.replies import ResultFile

        one = ResultFile("x.rpm", 256 << 20, "00" * 32, 0o644)
        self.channel.find_here("job", one, [])

    def send(self) -> None:
        """Two inputs, of which the second is much like the first."""
        import hashlib

        from mock_cloud.model import Blob

        for data in (bytes(2 << 20), bytes(1 << 20) + b"x" * (1 << 20)):
            self.channel.send_blobs([Blob(hashlib.sha256(data).hexdigest(), len(data), data)])

    def lookaside(self) -> None:
        """An input that the node says it has fetched."""
        import hashlib

        from mock_cloud.model import Blob
        from mock_cloud.remote.reuse import Elsewhere

        data = b"lookaside" * (1 << 18)
        blob = Blob(hashlib.sha256(data).hexdigest(), len(data), data)
        file = Elsewhere("x", blob.digest, len(data), "http://127.0.0.1:1/x")
        if self.channel.fetch_elsewhere({blob.digest: [file]}, lambda name: None):
            raise ValueError("the node did not say so")
        self.channel.send_blobs([blob])

    def flood(self) -> None:
        """A large result over a line that seems long: all channels are opened."""
        from mock_cloud.remote.download import Fetch, fetch_results
        from mock_cloud.wire.replies import ResultFile

        one = ResultFile("x.rpm", 256 << 20, "00" * 32, 0o644)
        wanted = [Fetch(one, lambda data: None)]
        fetch_results(self.channel._agent, self.channel._bulk, "job", wanted, rtt_s=1.0)


STEPS: dict[str, Callable[[Controller], None]] = {
    name: getattr(Controller, name)
    for name in (
        "start",
        "measure",
        "judge",
        "trust",
        "wait",
        "follow",
        "results",
        "fetch",
        "cut",
        "send",
        "lookaside",
        "flood",
    )
}

if __name__ == "__main__":
    main()

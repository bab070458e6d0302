# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast files move, as ratios to scp over the same line in the same run.

    python -m tests.bench.bench_transfer [--mib 200] [--rtt-ms 0,100] [--rounds 3]

scp starts, connects and authenticates. Ours is told in two numbers: with connecting, starting
the agent on a node that has the toolkit, and trust; and the transfer alone, as in a build,
which has its connection anyway. The best round of each counts, and the two take turns.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from mock_cloud.model import Blob
from mock_cloud.remote.connect import connect
from mock_cloud.remote.download import Fetch
from mock_cloud.remote.trusted import TrustedChannel, trust
from tests.component.remote_parts import HandJob, LocalToolkit, make_proof, make_toolkit
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd, SshdOptions, find_missing

_SCP_TIMEOUT_S = 600
_SETTLE_S = 1.5  # the agent loads what a job needs: in a build that is over by then


class Bench:
    def __init__(self, directory: Path, sshd: Sshd, port: int, size_bytes: int) -> None:
        self.directory = directory
        self.sshd = sshd
        self.port = port
        self.toolkit: LocalToolkit = make_toolkit(directory / "node")
        self.source = directory / "source"
        with self.source.open("wb") as stream:
            for _ in range(size_bytes >> 20):
                stream.write(os.urandom(1 << 20))
        self.digest = hashlib.sha256(self.source.read_bytes()).hexdigest()
        self.size_bytes = size_bytes
        self.key = directory / "client_key"
        self.key.write_bytes(sshd.client_key.private.reveal())
        self.key.chmod(0o600)
        known = f"[127.0.0.1]:{port} {sshd.host_key.public}\n"
        (directory / "known_hosts").write_text(known)
        self.open().close()  # leaves the toolkit there

    def open(self) -> TrustedChannel:
        address = self.sshd.address_with(self.sshd.host_key.public, self.port)
        node = connect(address, self.sshd.client_key.private, deadline_s=30)
        node.start_agent(self.toolkit)
        node.hello("bench")
        return trust(node, make_proof(node.host_key))

    def upload(self) -> tuple[float, float]:
        shutil.rmtree(self.toolkit.workspace / "blobs")
        began = time.monotonic()
        channel = self.open()
        connecting_s = time.monotonic() - began
        time.sleep(_SETTLE_S)
        began = time.monotonic()
        channel.send_blobs([Blob(self.digest, self.size_bytes, self.source)])
        took_s = time.monotonic() - began
        channel.close()
        return connecting_s + took_s, took_s

    def download(self) -> tuple[float, float]:
        shutil.rmtree(self.toolkit.workspace / "jobs", ignore_errors=True)
        job = HandJob(self.toolkit.workspace, "bench")
        os.link(self.source, job.results / "result.rpm")
        target = self.directory / "fetched"
        began = time.monotonic()
        channel = self.open()
        connecting_s = time.monotonic() - began
        time.sleep(_SETTLE_S)
        began = time.monotonic()
        (file,) = (item for item in channel.results("bench") if item.name == "result.rpm")
        with target.open("wb") as stream:
            channel.fetch("bench", [Fetch(file, stream.write)])
        took_s = time.monotonic() - began
        channel.close()
        return connecting_s + took_s, took_s

    def scp(self, *, up: bool) -> tuple[float, float]:
        there = f"root@127.0.0.1:{self.directory / 'scp-copy'}"
        here = [str(self.source), there] if up else [there, str(self.directory / "fetched")]
        options = [
            f"UserKnownHostsFile={self.directory / 'known_hosts'}",
            "GlobalKnownHostsFile=/dev/null",
            f"IdentityFile={self.key}",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
        ]
        flags = [word for option in options for word in ("-o", option)]
        command = ["scp", "-q", "-F", "none", "-P", str(self.port), *flags, *here]
        began = time.monotonic()
        subprocess.run(command, check=True, timeout=_SCP_TIMEOUT_S)
        took = time.monotonic() - began
        return took, took


@contextmanager
def relay_process(target_port: int, rtt_s: float) -> Iterator[int]:
    """A relay in a process of its own, so that it takes no time of ours; yields its port."""
    command = [sys.executable, "-m", "tests.bench.bench_transfer", "relay"]
    command += [str(target_port), str(rtt_s)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        try:
            yield int(child.stdout.readline() if child.stdout else "")
        finally:
            child.communicate()  # it ends when its input does


def serve_relay(target_port: int, rtt_s: float) -> int:
    with Relay(("127.0.0.1", target_port), latency_s=rtt_s / 2) as relay:
        print(relay.address[1], flush=True)
        sys.stdin.read()
    return 0


Measure = Callable[[], tuple[float, float]]


def best_of(
    first: Measure, second: Measure, rounds: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The best round of each; they take turns, so that both meet the same load."""
    pairs = [(first(), second()) for _ in range(rounds)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def run(size_bytes: int, rtts_ms: list[float], rounds: int) -> None:
    print(f"{size_bytes >> 20} MiB, best of {rounds}; seconds with connecting (transfer alone)")
    for rtt_ms in rtts_ms:
        directory = Path(tempfile.mkdtemp(prefix="bench-transfer-"))
        try:
            with ExitStack() as stack:
                options = SshdOptions(extra="Subsystem sftp internal-sftp")
                sshd = stack.enter_context(Sshd(directory / "sshd", options))
                port = sshd.port
                if rtt_ms:
                    port = stack.enter_context(relay_process(port, rtt_ms / 1000))
                compare(Bench(directory, sshd, port, size_bytes), rtt_ms, rounds)
        finally:
            shutil.rmtree(directory)


def compare(bench: Bench, rtt_ms: float, rounds: int) -> None:
    for name, ours, up in (
        ("controller to node", bench.upload, True),
        ("node to controller", bench.download, False),
    ):
        (scp, _), (total, alone) = best_of(partial(bench.scp, up=up), ours, rounds)
        rate = bench.size_bytes / 1e6
        print(
            f"{rtt_ms:4.0f} ms  {name}: scp {scp:6.2f} s ({rate / scp:4.0f} MB/s)  "
            f"ours {total:5.2f} s ({alone:5.2f} s, {rate / alone:4.0f} MB/s)  "
            f"ratio {scp / total:5.2f} ({scp / alone:5.2f})",
            flush=True,
        )


def main() -> int:
    if sys.argv[1:2] == ["relay"]:
        return serve_relay(int(sys.argv[2]), float(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--rtt-ms", default="0,100")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    missing = find_missing() or (None if shutil.which("scp") else "scp (openssh-client)")
    if missing:
        print(f"skipped: needs {missing}")
        return 0
    rtts_ms = [float(word) for word in options.rtt_ms.split(",")]
    run(options.mib << 20, rtts_ms, options.rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast packages come through the tunnel, beside going straight to their server.

    python -m tests.bench.bench_tunnel [--mib 60] [--rtt-ms 0,100] [--rounds 3]

Three downloads side by side, as dnf makes them, by curl: from the server over a line, through
`ssh -R` over the same line, and through our tunnel over it. Connections stand before. The best
round of each counts, and they take turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mock_cloud.remote.connect import connect
from mock_cloud.remote.trusted import trust
from mock_cloud.repoproxy.allow import AllowedPlace, AllowList
from mock_cloud.repoproxy.proxy import RepoProxy
from tests.component.remote_parts import make_proof, make_toolkit
from tests.lab.http import FileServer
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd

_AT_ONCE = 3
_TIMEOUT_S = 600


def _fetch(url: str, proxy: str = "") -> float:
    """Seconds for all downloads."""
    argv = ["curl", "-sSf", "-o", "/dev/null", url, *(["-x", proxy] if proxy else [])]
    began = time.monotonic()
    running = [subprocess.Popen(argv) for _ in range(_AT_ONCE)]
    if any(one.wait(_TIMEOUT_S) for one in running):
        raise SystemExit("a download failed")
    return time.monotonic() - began


@contextmanager
def _openssh(sshd: Sshd, line: int, server: int, place: Path) -> Iterator[int]:
    """The port of `ssh -R` to the server."""
    key = place / "key"
    key.write_bytes(sshd.client_key.private.reveal())
    key.chmod(0o600)
    (place / "known").write_text(f"[127.0.0.1]:{line} {sshd.host_key.public}\n")
    argv = ["ssh", "-N", "-i", str(key), "-o", f"UserKnownHostsFile={place / 'known'}", "-p",
            str(line), "-R", f"127.0.0.1:0:127.0.0.1:{server}", "root@127.0.0.1"]  # fmt: skip
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = process.stderr.readline()  # Allocated port N for remote forward to …
        yield int(said.split()[2])
    finally:
        process.terminate()
        process.communicate()


def _measure(place: Path, sshd: Sshd, server: FileServer, rtt_ms: int, rounds: int) -> None:
    latency_s = rtt_ms / 2000
    with (
        Relay(("127.0.0.1", sshd.port), latency_s=latency_s) as line,
        Relay(("127.0.0.1", server.port), latency_s=latency_s) as straight,
        _openssh(sshd, line.address[1], server.port, place) as openssh,
    ):
        address = sshd.address_with(sshd.host_key.public, line.address[1])
        with closing(connect(address, sshd.client_key.private, deadline_s=30)) as node:
            node.start_agent(make_toolkit(place / "node"))
            channel = trust(node, make_proof(node.host_key))
            proxy = RepoProxy(AllowList((AllowedPlace("127.0.0.1", server.port, "/r/"),)), print)
            with closing(channel), closing(channel.forward(proxy.serve)) as ours:
                url = f"{server.url}/r/package"
                ways: dict[str, Callable[[], float]] = {
                    "direct": lambda: _fetch(f"http://127.0.0.1:{straight.address[1]}/r/package"),
                    "ssh -R": lambda: _fetch(f"http://127.0.0.1:{openssh}/r/package"),
                    "tunnel": lambda: _fetch(url, f"http://127.0.0.1:{ours.port}"),
                }
                best = {name: way() for name, way in ways.items()}
                for _ in range(rounds - 1):
                    best = {name: min(best[name], way()) for name, way in ways.items()}
    size_mb = _AT_ONCE * (place / "r/package").stat().st_size / 1e6
    print(f"{rtt_ms} ms: " + ", ".join(f"{n} {size_mb / s:.0f} MB/s" for n, s in best.items()))
    print(f"  tunnel / direct {best['direct'] / best['tunnel']:.2f},"
          f" tunnel / ssh -R {best['ssh -R'] / best['tunnel']:.2f}")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=60)
    parser.add_argument("--rtt-ms", default="0,100")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "r").mkdir()
        (place / "r/package").write_bytes(os.urandom(chosen.mib << 20))
        with Sshd(place / "sshd") as sshd, FileServer({"/r": place / "r"}) as server:
            for word in chosen.rtt_ms.split(","):
                _measure(place, sshd, server, int(word), chosen.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())

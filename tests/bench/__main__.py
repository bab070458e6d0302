# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.bench: all the ratios of docs/performance.md, one after the other."""

from __future__ import annotations

import subprocess
import sys

BENCHES = (
    ("tests.bench.bench_build",),
    ("tests.bench.bench_series",),
    ("tests.bench.bench_chain",),
    ("tests.bench.bench_review",),
    ("tests.bench.bench_launcher",),
    ("tests.bench.bench_attach",),
    ("tests.bench.bench_attest",),
    ("tests.bench.bench_cloud",),
    ("tests.bench.bench_ending",),
    ("tests.bench.bench_measure", "/usr"),
    ("tests.bench.bench_queue",),
    ("tests.bench.bench_transfer",),
    ("tests.bench.bench_tunnel",),
    ("tests.bench.bench_secrets",),
)


def main() -> int:
    """Each in a process of its own, so that none is measured with another's caches."""
    for module, *arguments in BENCHES:
        print(f"\n== python -m {module} {' '.join(arguments)}", flush=True)
        subprocess.run([sys.executable, "-m", module, *arguments], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

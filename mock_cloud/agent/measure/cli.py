# SPDX-License-Identifier: GPL-2.0-or-later
"""`main.py measure`: evidence on standard output or into a file, for manifests and tests."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mock_cloud.agent.measure import evidence


def main(argv: Sequence[str]) -> int:
    """Measure as `argv` says. 0, or 1 with a message on stderr when it could not be done."""
    parser = argparse.ArgumentParser(prog="measure", description="measure a system or a tree")
    parser.add_argument("--root", default="/", help="the system's root (default /)")
    parser.add_argument("--skip", action="append", default=[], help="do not descend into this")
    parser.add_argument("--tree", action="append", default=[], help="only a digest of this")
    parser.add_argument("--nonce", default="", help="echoed in the evidence")
    parser.add_argument("--processes", type=int, help="workers (default: one a core)")
    parser.add_argument("--out", help="write here instead of standard output")
    options = parser.parse_args(argv)
    try:
        data = evidence.measure(
            options.nonce, options.skip, options.tree, options.processes, options.root
        )
        if options.out is None:
            sys.stdout.buffer.write(data)
        else:
            with open(options.out, "wb") as out:
                out.write(data)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"measure: {error}", file=sys.stderr)
        return 1
    return 0

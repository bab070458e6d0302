# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the agent starts: nothing of the node is loaded before this has run.

In a toolkit this file lies at `agent/main.py`, beside the package. The interpreter runs it
with -I -S, so no directory of the node is on the module path; and what libraries would read
or load by default is turned off here, before anything imports them.
"""

from __future__ import annotations

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def main(argv: list[str]) -> int:
    """Run the agent: `measure …` on its own, or else what `serve` understands."""
    keep_to_toolkit()
    if argv[:1] == ["measure"]:
        return _measure(argv[1:])
    if argv[:1] == ["launch"]:  # a job may be waiting for it
        from mock_cloud.agent import serve_launch

        return serve_launch.main(argv[1:])
    from mock_cloud.agent import serve

    return int(serve.main(argv) or 0)


def _measure(argv: list[str]) -> int:
    """Write evidence to standard output or a file, for manifests and tests.

    0, or 1 with a message on stderr when it could not be done.
    """
    import argparse

    from mock_cloud.agent.measure import evidence

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


def keep_to_toolkit() -> None:
    """Keep the libraries of this process from files of the node.

    - OpenSSL would read the node's openssl.cnf, which can load modules into us. It reads it
      once, so the variables are set only until then and no child inherits them.
    - pwd and grp ask the C library, which loads the node's NSS modules.
    """
    if sys.getfilesystemencoding() != "utf-8":
        raise SystemExit("start the agent with LC_ALL=C: paths would be decoded wrongly")
    if os.path.isdir(os.path.join(_HERE, "mock_cloud")):
        sys.path.insert(0, _HERE)
    sys.modules["pwd"] = sys.modules["grp"] = None  # type: ignore[assignment]
    saved = {name: os.environ.get(name) for name in ("OPENSSL_CONF", "OPENSSL_MODULES")}
    os.environ["OPENSSL_CONF"] = os.devnull
    os.environ["OPENSSL_MODULES"] = os.path.join(_HERE, "no-modules")
    import hashlib

    hashlib.sha256(b"").hexdigest()
    for name, value in saved.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

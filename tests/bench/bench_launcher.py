# SPDX-License-Identifier: GPL-2.0-or-later
"""What the launcher adds to a mock that builds here: to its start, without a remote.

python -m tests.bench.bench_launcher [--rounds N]

Needs a real mock, see tests/integration/real_mock.py.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration import real_mock
from tests.lab import chroots
from tests.lab.layout import default_lab


def _took_s(argv: Sequence[str], env: dict[str, str]) -> float:
    began_s = time.monotonic()
    subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began_s


def run(rounds: int) -> None:
    """Print how long mock takes to say where its chroot is, alone and through the launcher."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "mock"
        place.parent.chmod(0o755)
        mock = real_mock.make(place)
        config = chroots.write(default_lab(), place / "etc", repository_url="http://lab.invalid")
        real_mock.configure(mock, config.path)
        words = ["--configdir", str(config.path), "-r", config.chroot(), "--print-root-path"]
        env = {**mock.environment, "PATH": f"{mock.script.parent}:{mock.environment['PATH']}"}
        says_remote = config.path / "says/site-defaults.cfg"
        says_remote.parent.mkdir()
        for file in config.path.glob("*"):
            if file != says_remote.parent:
                (says_remote.parent / file.name).symlink_to(file)
        text = says_remote.read_text()
        says_remote.unlink()
        says_remote.write_text(f"{text}config_opts['remote'] = None\n")
        looked = ["--configdir", str(says_remote.parent), *words[2:]]
        commands = {
            "mock": [str(mock.script.with_name("mock")), *words],
            "launcher, mock": [str(mock.place / "bin/launcher"), *words],
            "launcher that reads everything, mock": [str(mock.place / "bin/launcher"), *looked],
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, argv in commands.items():
                took[name].append(_took_s(argv, env))
    plain = statistics.median(took["mock"])
    print(f"mock --print-root-path, {rounds} rounds, seconds")
    for name, values in took.items():
        middle = statistics.median(values)
        share = f"{middle / plain:.2f} x"
        print(f"  {name:36} median {middle:.3f}   min {min(values):.3f}   {share}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    try:
        run(parser.parse_args(arguments).rounds)
    except pytest.skip.Exception as skipped:
        print(f"skipped: {skipped}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

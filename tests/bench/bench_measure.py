# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast files are measured, against openssl and against what the processor allows.

usage: python tests/bench/bench_measure.py [DIRECTORY] [--rounds N] [--profile]

Prints ratios; asserts nothing. All cores are used by everything that is compared, one after
the other in the same run, with the page cache warm. "limit" is the bytes divided by what all
cores together can hash out of their caches: no reading, no opening, no walking.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import os
import pstats
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mock_cloud.agent.measure import files, tree
from mock_cloud.agent.measure.walk import Root, Walker

CORES = len(os.sched_getaffinity(0))
_BLOCK = 256 << 10
_HASH_S = 1.0


def hash_rate_bytes_s() -> float:
    """What all cores together hash in a second, with OpenSSL through hashlib."""
    readers = []
    for _ in range(CORES):
        read_fd, write_fd = os.pipe()
        if os.fork() == 0:
            block, done, start = os.urandom(_BLOCK), 0, time.perf_counter()
            while (spent := time.perf_counter() - start) < _HASH_S:
                hashlib.sha256(block).digest()
                done += _BLOCK
            os.write(write_fd, f"{done / spent}".encode())
            os._exit(0)
        os.close(write_fd)
        readers.append(read_fd)
    total = 0.0
    for read_fd in readers:
        with os.fdopen(read_fd, "rb") as rate:
            total += float(rate.read())
        os.wait()
    return total


def openssl(directory: str) -> None:
    command = (
        f"find {directory} -xdev -type f -print0"
        f" | xargs -0 -P {CORES} -n 500 openssl dgst -sha256 > /dev/null"
    )
    subprocess.run(["sh", "-c", command], check=False)


@dataclass
class Timing:
    """The best of several runs: wall time, and processor time of all processes involved."""

    wall_s: float = float("inf")
    cpu_s: float = float("inf")

    def run(self, what: Callable[[], object]) -> None:
        start, before = time.perf_counter(), os.times()
        what()
        after = os.times()
        self.wall_s = min(self.wall_s, time.perf_counter() - start)
        self.cpu_s = min(self.cpu_s, sum(after[:4]) - sum(before[:4]))


def profile(directory: str) -> None:
    """One process's work, by function."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    root = Root(fd, "/", "/", "/")
    batches = list(Walker([root]).batches())
    meter = files.Meter([root])
    profiler = cProfile.Profile()
    profiler.enable()
    for batch in batches:
        for task in batch:
            meter.measure(task)
    profiler.disable()
    os.close(fd)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(14)


def walk(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    for _ in Walker([Root(fd, "/", "/", "/")]).batches():
        pass
    os.close(fd)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", nargs="?", default="/usr")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    directory = str(Path(options.directory).resolve())
    if options.profile:
        profile(directory)
        return
    facts = tree.digest_tree(directory)  # warms the cache
    rate, ours, names, theirs = 0.0, Timing(), Timing(), Timing()
    for _ in range(options.rounds):  # in turns, so that other load hits all of them
        rate = max(rate, hash_rate_bytes_s())
        ours.run(lambda: tree.measure_files(root=directory))
        names.run(lambda: walk(directory))
        theirs.run(lambda: openssl(directory))
    limit_s = facts.size_bytes / rate
    limit_cpu_s = limit_s * CORES
    print(f"{directory}: {facts.files} files, {facts.size_bytes / 1e9:.2f} GB, {CORES} cores")
    print(f"hashing alone, all cores: {rate / 1e9:.2f} GB/s")
    print("                              wall s   cpu s")
    print(f"limit (bytes / that)        {limit_s:8.2f}{limit_cpu_s:8.2f}")
    print(f"names alone, one process    {names.wall_s:8.2f}{names.cpu_s:8.2f}")
    print(f"measured                    {ours.wall_s:8.2f}{ours.cpu_s:8.2f}")
    print(f"openssl dgst, all cores     {theirs.wall_s:8.2f}{theirs.cpu_s:8.2f}")
    print(f"share of the limit reached: {limit_s / ours.wall_s:.0%} (wall),", end=" ")
    print(f"{limit_cpu_s / ours.cpu_s:.0%} (cpu)")
    print(f"times as fast as openssl:   {theirs.wall_s / ours.wall_s:.1f} (wall),", end=" ")
    print(f"{theirs.cpu_s / ours.cpu_s:.1f} (cpu)")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Installs what the lab needs on this machine, and nothing if all of it is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap
from pathlib import Path

from mock_cloud.process import run
from tests.lab import seeds
from tests.lab.layout import LabError
from tests.lab.steps import run_logged, say, step

_WAIT = ("-o", "DPkg::Lock::Timeout=300")  # another apt may be at work


def is_debian() -> bool:
    return Path("/var/lib/dpkg/status").is_file() and shutil.which("apt-get") is not None


TEST_TOOLS = ("e2fsprogs", "python3-setuptools", "strace", "sudo")


def wanted() -> tuple[str, ...]:
    """Every Debian package that the lab and the tests need installed."""
    return tuple(sorted({*seeds.TOOLS, *seeds.SEEDS, *TEST_TOOLS} - {*seeds.FETCHED}))


def missing() -> tuple[str, ...]:
    """Those of `wanted()` that are not installed here; provided names count."""
    if not is_debian():
        from tests.lab import fedora  # another family of machines, another set of names

        return fedora.missing()
    installed: set[str] = set()
    fields = "${db:Status-Status}\t${Package}\t${Provides}\n"
    for line in run(["dpkg-query", "-W", "-f", fields], timeout_s=60).decode().splitlines():
        status, name, provides = line.split("\t")
        if status == "installed":
            installed.add(name)
            installed.update(item.split()[0] for item in provides.split(",") if item.strip())
    return tuple(name for name in wanted() if name not in installed)


def prepare(log: Path) -> None:
    """Install what is missing, having said what; needs root only if it has work.

    What the package manager prints goes to `log`.
    """
    names = missing()
    if not names:
        return
    if os.geteuid() != 0:
        raise LabError(
            "not installed: " + " ".join(names), hint="as root: python3 -m tests.lab prepare"
        )
    program = "apt" if is_debian() else "dnf"
    listed = textwrap.fill(" ".join(names), 96, initial_indent="  ", subsequent_indent="  ")
    say(f"{program} installs on this machine, with what they need:\n{listed}")
    with step(f"packages of this machine ({log})"):
        if is_debian():
            install_debs(names, log)
        else:
            run_logged(["dnf", "-y", "install", *names], log)


def install_debs(names: tuple[str, ...], log: Path) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "-y", "--no-install-recommends", *_WAIT, "install", *names]
    # Old or absent lists of packages are the rule, and apt's words about them would only confuse.
    if subprocess.run(
        [*install, "--print-uris"], env=env, capture_output=True, check=False
    ).returncode:
        run_logged(["apt-get", "update"], log, env=env)
    try:
        run_logged(install, log, env=env)
    except LabError:  # lists that are there, and older than the archive
        run_logged(["apt-get", "update"], log, env=env)
        run_logged(install, log, env=env)

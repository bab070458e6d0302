# SPDX-License-Identifier: GPL-2.0-or-later
"""Installs what the lab needs on this machine, and nothing if all of it is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mock_cloud.process import CommandFailed, run
from tests.lab import seeds
from tests.lab.layout import LabError

_APT_TIMEOUT_S = 900.0
_WAIT = ("-o", "DPkg::Lock::Timeout=300")  # another apt may be at work


def is_debian() -> bool:
    return Path("/var/lib/dpkg/status").is_file() and shutil.which("apt-get") is not None


_TEST_TOOLS = ("python3-setuptools", "strace")


def wanted() -> tuple[str, ...]:
    """Every Debian package that the lab and the tests need installed."""
    return tuple(sorted({*seeds.TOOLS, *seeds.SEEDS, *_TEST_TOOLS} - {*seeds.FETCHED}))


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


def prepare() -> tuple[str, ...]:
    """Install what is missing; returns what was installed. Needs root only if it has work."""
    names = missing()
    if not names:
        return ()
    if os.geteuid() != 0:
        raise LabError(
            "not installed: " + " ".join(names), hint="as root: python3 -m tests.lab prepare"
        )
    if not is_debian():
        run(["dnf", "-q", "-y", "install", *names], timeout_s=_APT_TIMEOUT_S)
        return names
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "-qq", "-y", "--no-install-recommends", *_WAIT, "install", *names]
    try:
        try:
            run(install, timeout_s=_APT_TIMEOUT_S, extra_env=quiet)
        except CommandFailed:  # mostly old or absent package lists
            run(["apt-get", "-qq", "update"], timeout_s=_APT_TIMEOUT_S, extra_env=quiet)
            run(install, timeout_s=_APT_TIMEOUT_S, extra_env=quiet)
    except CommandFailed as error:
        raise LabError(
            f"cannot install {' '.join(names)}: {error}", hint="see apt-get's message above"
        ) from error
    return names

# SPDX-License-Identifier: GPL-2.0-or-later
"""A package whose code tries every way out of its build, and its unsigned repository."""

from __future__ import annotations

import errno
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mock_cloud.process import run
from tests.component.engine_node import EngineNode
from tests.lab import dist
from tests.lab.rpmspec import Entry, Kind, Package

NAME = "evil"
NODE_FILES = {
    "/etc/ssh/ssh_host_ed25519_key": "the node's key",
    "/etc/shadow-of-the-node": "a file that no program of it needs",
    "/root/secret": "root's",
}
"""What a node must have for the probe to find."""

_SOURCE = Path(__file__).with_name("probe.c")
_SOCKET = "\0mock-cloud-attack"
_REPOSITORY = """
[evil]
name=Evil
baseurl={url}
gpgcheck=0
skip_if_unavailable=False
"""


def why_no_probe() -> str:
    """What the machine lacks for it; empty if nothing."""
    missing = [name for name in ("gcc", "rpmbuild", "createrepo_c") if not shutil.which(name)]
    if missing:
        return f"needs {', '.join(missing)}"
    found = subprocess.run(
        ["gcc", "-print-file-name=libc.a"], capture_output=True, text=True, check=True
    )
    return "" if Path(found.stdout.strip()).is_absolute() else "needs a static C library"


def make_repository(directory: Path) -> Path:
    """A repository with the package `NAME`; the package's path.

    Its %post runs the probe as root, and the probe is set-uid root for a build that requires it.
    A ccache that caches nothing is there too, for mock's plugin of that name.
    """
    directory.mkdir(parents=True)
    program = directory.with_name("probe")
    run(["gcc", "-static", "-O1", "-o", str(program), str(_SOURCE)], timeout_s=600)
    entry = Entry("/usr/bin/probe", Kind.FILE, 0o4755, source=program)
    package = Package(
        NAME, "1", "1", "x86_64", "Tries to leave", (entry,), scriptlets="%post\n/usr/bin/probe\n"
    )
    path = dist.build_rpm(package, directory.with_name("work"), directory, "x86_64")
    entry = Entry("/usr/bin/ccache", Kind.FILE, 0o755, content=b"#!/bin/sh\n")
    package = Package("ccache", "1", "1", "x86_64", "Caches nothing", (entry,))
    dist.build_rpm(package, directory.with_name("work-ccache"), directory, "x86_64")
    run(["createrepo_c", "--quiet", str(directory)], timeout_s=600)
    return path


def plant_job(node: EngineNode) -> None:
    """A job of somebody else's, which no build may see."""
    (node.workspace / "jobs/of-another").mkdir(parents=True)


def repository_text(url: str) -> str:
    """The section of dnf.conf for the repository at `url`."""
    return _REPOSITORY.format(url=url)


def ways_out(log: str) -> set[str]:
    """What the probe got, by the log that has its output. AssertionError if it did not run."""
    assert re.search(r"probe: uid 0$", log, re.MULTILINE), log[-4000:]
    assert "probe: done" in log, log[-4000:]
    return set(re.findall(r"got: (.*?)\s*$", log, re.MULTILINE))


def planted(node: EngineNode) -> list[str]:
    """What the probe left on the node outside of chroots."""
    found = [str(path.relative_to(node.directory)) for path in node.directory.rglob("planted")]
    return [path for path in found if "/overlay/upper" not in path]


def kept_namespaces(node: EngineNode) -> list[str]:
    """Namespaces that a mount of the node keeps where no process is in them."""
    mounts = Path(f"/proc/{node._process.pid}/mountinfo").read_text().splitlines()
    return [line for line in mounts if " - nsfs " in line]


def traces(log: str) -> set[str]:
    """What the probe found of an earlier run."""
    assert "probe: done" in log, log[-4000:]
    return set(re.findall(r"found: (.*?)\s*$", log, re.MULTILINE))


@contextmanager
def service_of_the_node() -> Iterator[None]:
    """A daemon that listens on an abstract socket of the node's network."""
    with socket.socket(socket.AF_UNIX) as listener:
        while True:
            try:
                listener.bind(_SOCKET)
                break
            except OSError as error:  # another system's suite, in the same network
                if error.errno != errno.EADDRINUSE:
                    raise
                time.sleep(0.2)
        listener.listen()
        yield

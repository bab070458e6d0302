# SPDX-License-Identifier: GPL-2.0-or-later
"""A toolkit for this machine: the real agent, run by the python that runs the tests.

What packs a whole toolkit has tests of its own; here the loader and libraries don't matter.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import mock_cloud
from mock_cloud import model
from mock_cloud.model import Blob, HostKey, Toolkit, TrustedNode
from mock_cloud.toolkit.probe import list_sources
from mock_cloud.wire.replies import Status, write_status

MIB = 1 << 20


class LocalToolkit(Toolkit):
    """A toolkit whose place is below `workspace`, run by this python."""

    __slots__ = ("workspace",)
    workspace: Path

    @property
    def node_dir(self) -> str:
        return f"{self.workspace}/toolkit/{self.digest}"

    def argv(self, *words: str) -> list[str]:
        main = f"{self.node_dir}/agent/main.py"
        return [
            *(sys.executable, "-I", "-S", "-B", main),
            *words,
            *("--workspace", str(self.workspace)),
        ]


def make_toolkit(directory: Path, *, main: str | None = None) -> LocalToolkit:
    """Pack the agent. `main` replaces the text of agent/main.py."""
    directory.mkdir(parents=True, exist_ok=True)
    source = Path(mock_cloud.__file__).parent
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        _add(tar, "agent/mock_cloud/__init__.py", b"")
        for path in list_sources(source):
            _add(tar, f"agent/{path.relative_to(source.parent)}", path.read_bytes())
        text = main.encode() if main else (source / "agent/main.py").read_bytes()
        _add(tar, "agent/main.py", text)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    archive = directory / "toolkit.tar.gz"
    archive.write_bytes(buffer.getvalue())
    toolkit = LocalToolkit(digest, archive, os.uname().machine, sys.version.split()[0], {})
    object.__setattr__(toolkit, "workspace", directory / "W")
    return toolkit


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))


def make_proof(host_key: HostKey) -> TrustedNode:
    """A proof as `attest.verify` makes it; here only its host key matters."""
    return TrustedNode(host_key, "ab" * 32, 1, {}, model._SEAL)


class HandJob:
    """A job's directory as the runner keeps it, written by hand; this process is its init."""

    def __init__(self, workspace: Path, name: str, *, pid: int | None = None) -> None:
        self.name = name
        self.directory = workspace / "jobs" / name
        self.results = self.directory / "results"
        self.results.mkdir(parents=True)
        self.append("terminal", b"")
        write_status(str(self.directory), Status("build"))
        pid = pid or os.getpid()
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        (self.directory / "pid").write_text(f"{pid} {started}\n")

    def append(self, name: str, data: bytes) -> None:
        path = self.directory / name if name == "terminal" else self.results / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            stream.write(data)

    def end(self, code: int) -> None:
        write_status(str(self.directory), Status("done", code, "as it was"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def own_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.is_alive()}


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def agent_pids(workspace: Path) -> list[int]:
    """Agents of this workspace that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and str(workspace).encode() in words:
            found.append(int(path.parent.name))
    return found


def listing(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


_SPEC = """\
Name: big
Version: 1.0
Release: 1
Summary: {summary}
License: MIT
Source0: big-1.0.tar.xz
BuildArch: noarch
%description
%files
"""


def random_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311


def blob_of(path: Path, data: bytes) -> Blob:
    path.write_bytes(data)
    return Blob(sha256(data), len(data), path)


def source_package(place: Path, summary: str, payload: str) -> Blob:
    """Of 100 MB that no compression makes less, as a tarball of today is."""
    place.mkdir(exist_ok=True)
    tarball = place / "big-1.0.tar.xz"
    if not tarball.exists():
        tarball.write_bytes(random_bytes(1, 100_000_000))
        os.utime(tarball, (1_700_000_000, 1_700_000_000))
    spec = place / "big.spec"
    spec.write_text(_SPEC.format(summary=summary))
    words = ["rpmbuild", "-bs", "--quiet"]
    for name, value in (
        ("_topdir", place),
        ("_sourcedir", place),
        ("_srcrpmdir", place / summary),
        ("_source_payload", payload),
    ):
        words += ["--define", f"{name} {value}"]
    subprocess.run([*words, spec], check=True, capture_output=True)
    path = place / summary / "big-1.0-1.src.rpm"
    return Blob(sha256(path.read_bytes()), path.stat().st_size, path)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab node without SSH: the image tree in namespaces of its own, and the runner in it.

The node's own python3 runs the code under test, bound in read-only. Its work directories are
directories of this machine, so that a test sees every file of a job.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.wire.decode import to_json
from mock_cloud.wire.job_request import EngineConfig, Input, JobRequest
from mock_cloud.wire.terminal_log import STDERR, TerminalDecoder
from tests.lab import chroots
from tests.lab.http import FileServer
from tests.lab.layout import Lab, default_lab, repository_root

WORKSPACE = "/var/lib/mock-cloud"
_CODE = "/opt/mock-cloud-code"

_BOOT = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$TREE,upperdir=$STATE/upper,workdir=$STATE/work" "$STATE/root"
cd "$STATE/root"
mkdir -p var/lib/mock-cloud var/lib/mock opt/mock-cloud-code old
mount --bind "$STATE/mock-cloud" var/lib/mock-cloud
if [ "$MOCK_MIB" = 0 ]; then
    mount --bind "$STATE/mock" var/lib/mock
else
    mount -t tmpfs -o "size=${MOCK_MIB}m" tmpfs var/lib/mock
fi
mount --bind "$CODE" opt/mock-cloud-code
mount -o remount,bind,ro opt/mock-cloud-code
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs dev
mkdir dev/pts dev/shm
for name in null zero full random urandom tty; do cp -a "/dev/$name" dev/; done
mknod -m 600 dev/console c 5 1
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
/usr/bin/python3 -I -S -B -c "$PIVOT"
umount -l /old
/usr/bin/python3 -I -S -B -c "$DRIVER"
exit  # not exec: a shell as the first process reaps, as any node's init does
"""

# Debian testing has no pivot_root(8) in util-linux.
_PIVOT = f"""
import sys
sys.path.insert(0, {_CODE.lstrip("/")!r})
from mock_cloud.wire import syscalls
syscalls.pivot_root(".", "old")
"""

_DRIVER = f"""
import io, json, os, sys
sys.path.insert(0, {_CODE!r})
from mock_cloud.wire.frames import encode_frame, read_frame
from mock_cloud.agent.job import runner, running
from mock_cloud.agent.serve_launch import serve_launches

def launch(job, request):
    reader, writer = os.pipe()
    frame = encode_frame({{"job": job, "sweep": True}}, request)
    serve_launches(io.BytesIO(frame), writer, {WORKSPACE!r})
    os.close(writer)
    with open(reader, "rb") as stream:
        header, _ = read_frame(stream)
    return header.get("message", "ok")

for line in sys.stdin:
    op, *words = json.loads(line)
    try:
        if op == "start":
            runner.start({WORKSPACE!r}, words[0], words[1].encode())
            answer = "ok"
        elif op == "launch":
            answer = launch(words[0], words[1].encode())
        elif op == "input":
            running.write_input({WORKSPACE!r}, words[0], words[1].encode(), eof=words[2])
            answer = "ok"
        elif op == "ping":
            answer = "ready"
        elif op == "state":
            answer = running.state({WORKSPACE!r}, words[0]).value
        else:
            answer = getattr(running, op)({WORKSPACE!r}, *words)
    except Exception as error:
        answer = "error " + repr(error)
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """A job that ended: its directory, status, and what the user would have seen."""

    directory: Path
    status: dict[str, Any]
    stderr: str
    stdout: bytes
    took_s: float

    @property
    def exit(self) -> int:
        return int(self.status["exit"])

    def log(self, name: str) -> str:
        return (self.directory / "results" / name).read_text(errors="replace")

    def results(self) -> list[str]:
        top = self.directory / "results"
        return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())


class EngineNode:
    """One node; a context manager. `layers` is what a controller would vouch for by now.

    `mock_mib` > 0 gives /var/lib/mock a file system of that size of its own. `files` are put on
    it before it boots.
    """

    def __init__(
        self,
        lab: Lab,
        directory: Path,
        *,
        mock_mib: int = 0,
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.workspace = directory / "mock-cloud"
        self.mock = directory / "mock"
        self.layers: dict[str, str] = {}
        self._count = 0
        for name in ("upper", "work", "root", "mock-cloud/blobs", "mock"):
            (directory / name).mkdir(parents=True)
        for path, text in (files or {}).items():
            place = directory / "upper" / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        self._process = subprocess.Popen(
            ["unshare", "-m", "-p", "-i", "-u", "--fork", "--kill-child", "sh", "-c", _BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                "PATH": os.environ["PATH"],
                "TREE": str(lab.tree),
                "STATE": str(directory),
                "CODE": str(repository_root()),
                "DRIVER": _DRIVER,
                "PIVOT": _PIVOT,
                "MOCK_MIB": str(mock_mib),
            },
        )

    def __enter__(self) -> EngineNode:
        assert self.ask("ping") == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def ask(self, *words: object) -> Any:
        """Call the runner in the node; an exception there comes back as ``error …``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def processes(self) -> list[int]:
        """Processes of jobs, as this machine numbers them: all of the node but its two own."""
        found, pending = [], [self._process.pid]
        while pending:
            pid = pending.pop(0)
            found.append(pid)
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            except OSError:
                continue
            pending += [int(word) for word in children.split()]
        return found[3:]  # unshare, the shell, the runner's process

    def mounts(self) -> str:
        """What is mounted in the node itself, outside its jobs."""
        pid = self._process.pid
        shell, *_ = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return Path(f"/proc/{shell}/mounts").read_text()

    def wait_for_phase(self, job: str, phase: str, timeout_s: float = 300.0) -> None:
        """Until the job's phase starts with `phase`."""
        deadline = time.monotonic() + timeout_s
        while not self.status(job)["phase"].startswith(phase):
            assert time.monotonic() < deadline, self.status(job)
            time.sleep(0.02)

    def put(self, path: Path, role: str, name: str = "") -> Input:
        """Make a file a blob of the node."""
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        (self.workspace / "blobs" / digest).write_bytes(data)
        return Input(name or path.name, role, digest, len(data))

    def start(self, request: JobRequest) -> str:
        job, answer = self._ask_for_job("start", request)
        assert answer == "ok", answer
        return job

    def launch(self, request: JobRequest) -> tuple[str, str]:
        """Start the first job of a command, as an agent does; its id and ``ok`` or what failed."""
        return self._ask_for_job("launch", request)

    def _ask_for_job(self, how: str, request: JobRequest) -> tuple[str, str]:
        self._count += 1
        job = f"job-{self._count}"
        layers = {} if request.beside else self.layers
        text = to_json(replace(request, layers=layers)).decode()
        return job, str(self.ask(how, job, text))

    def status(self, job: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.job_dir(job) / "status.json").read_text())
        return loaded

    def job_dir(self, job: str) -> Path:
        return self.workspace / "jobs" / job

    def wait(self, job: str, timeout_s: float = 300.0) -> Ended:
        """The job's end; what it made is vouched for from then on, as a controller would."""
        start = time.monotonic()
        while self.ask("state", job) == "running":
            assert time.monotonic() < start + timeout_s, self.status(job)
            time.sleep(0.01)
        took_s = time.monotonic() - start
        status = self.status(job)
        if status["exit"] is not None and status["layers"]:
            request = json.loads((self.job_dir(job) / "request.json").read_text())
            self.layers = {**(self.layers if request["beside"] else {}), **status["layers"]}
        stderr, stdout = io.BytesIO(), io.BytesIO()
        records = TerminalDecoder().feed((self.job_dir(job) / "terminal").read_bytes())
        for stream, data in records:
            (stderr if stream == STDERR else stdout).write(data)
        text = stderr.getvalue().decode(errors="replace")
        return Ended(self.job_dir(job), status, text, stdout.getvalue(), took_s)

    def run(self, request: JobRequest, timeout_s: float = 300.0) -> Ended:
        return self.wait(self.start(request), timeout_s)


def engine_config(url: str, **changes: Any) -> EngineConfig:
    """The lab's chroot configuration for release 1, served at `url`, as rendered for a node."""
    config = EngineConfig(
        root="lab-1-x86_64",
        chroot_name="lab-1-x86_64",
        target_arch="x86_64",
        rpmbuild_arch="x86_64",
        package_manager="dnf4",
        dnf_conf=textwrap.dedent(f"""\
            [main]
            reposdir=/dev/null
            assumeyes=1
            best=1
            gpgcheck=1
            install_weak_deps=0
            keepcache=1
            metadata_expire=0
            protected_packages=

            [lab]
            name=Lab Linux $releasever
            baseurl={url}/$releasever
            gpgkey=file://@GPGKEYS@/lab.asc
            skip_if_unavailable=False
            """),
        chroot_setup_cmd=["install", *chroots.buildroot_words(default_lab())],
        releasever="1",
        dnf_common_opts=[
            "--setopt=deltarpm=False",
            "--setopt=allow_vendor_change=yes",
            "--allowerasing",
        ],
        dnf_disable_plugins=["local", "spacewalk", "versionlock"],
        macros={
            "%_topdir": "/builddir/build",
            "%_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
            "%_dbpath": "/var/lib/rpm",
        },
        environment={
            "TERM": "vt100",
            "SHELL": "/bin/bash",
            "HOME": "/builddir",
            "HOSTNAME": "mock",
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
        },
    )
    return replace(config, **changes)


SPEC = """\
Name: {name}
Version: 1.0
Release: 1%{{?dist}}
Summary: A package for a test
License: MIT
BuildArch: noarch
{head}

%description
A package for a test.

{requires}

%prep
{prep}

%build
{build}

%install
mkdir -p %{{buildroot}}/usr/share/{name}
echo {name} > %{{buildroot}}/usr/share/{name}/name
{install}

%check
{check}

%files
/usr/share/{name}
"""


def make_source(
    directory: Path, name: str, *, head: str = "", requires: str = "", prep: str = "",
    build: str = "", install: str = "", check: str = "",
) -> Path:  # fmt: skip
    """A source package made by the machine's rpmbuild from `SPEC`."""
    directory.mkdir(parents=True, exist_ok=True)
    spec = directory / f"{name}.spec"
    spec.write_text(
        SPEC.format(
            name=name,
            head=head,
            requires=requires,
            prep=prep,
            build=build,
            install=install,
            check=check,
        )
    )
    defines = [f"_sourcedir {directory}", f"_srcrpmdir {directory}", "dist .lab1"]
    argv = ["rpmbuild", "-bs", "--quiet", "--nodeps"]
    for define in defines:
        argv += ["--define", define]
    subprocess.run([*argv, str(spec)], check=True, capture_output=True)
    return directory / f"{name}-1.0-1.lab1.src.rpm"


def why_no_lab(lab: Lab) -> str:
    """What the machine lacks for these tests; empty if nothing."""
    if os.geteuid() != 0:
        return "needs root"
    if not (lab.tree / "usr/bin/dnf").exists():
        return f"no node tree at {lab.tree}: python3 -m tests.lab build"
    return ""


class EngineSite:
    """A node of the lab, the distribution that it installs from, and requests with its key."""

    def __init__(self, node: EngineNode, server: FileServer, sources: Path) -> None:
        self.node = node
        self.server = server
        self.sources = sources
        self.config = engine_config(f"{server.url}/dist")
        self.key = node.put(LAB.package_key, "gpgkey", "lab.asc")

    def request(self, mode: str, *words: str | Path, **changes: Any) -> JobRequest:
        """A path among the words is a source package that goes along."""
        inputs = [self.key, *changes.pop("inputs", ())]
        inputs += [self.node.put(word, "srpm") for word in words if isinstance(word, Path)]
        args = [word.name if isinstance(word, Path) else word for word in words]
        return replace(JobRequest(mode, self.config, args=args, inputs=inputs), **changes)

    def run(self, mode: str, *words: str | Path, **changes: Any) -> Ended:
        return self.node.run(self.request(mode, *words, **changes))

    def chroot(self, command: str, **changes: Any) -> Ended:
        return self.run("chroot", command, **changes)

    def rebuild(self, *srpms: Path, **changes: Any) -> Ended:
        return self.run("rebuild", *srpms, **changes)

    def source(self, name: str, **parts: str) -> Path:
        return make_source(self.sources / name, name, **parts)


@contextmanager
def engine_site(directory: Path) -> Iterator[EngineSite]:
    """One in `directory`, which is removed afterwards."""
    with FileServer({"/dist": LAB.dist}) as server, EngineNode(LAB, directory / "node") as node:
        yield EngineSite(node, server, directory / "sources")
    shutil.rmtree(directory)


LAB = default_lab()
NEEDS_LAB = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(why_no_lab(LAB)), reason=why_no_lab(LAB) or "-"),
]

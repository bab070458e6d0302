# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns an invocation into what travels: the job's request and the blobs it needs."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mock_cloud.agent.job.request import EngineConfig, Input, JobRequest, ShadowOrder
from mock_cloud.config import (
    ConfigOpts,
    Paths,
    chain_results,
    engine_config,
    locate_paths,
    shell_is_unprivileged,
)
from mock_cloud.errors import InputError
from mock_cloud.invocation import CommandLine, HostFile, host_inputs
from mock_cloud.invocation.hostfiles import node_args
from mock_cloud.remote.upload import Blob
from mock_cloud.session.keyboard import find_terminal
from mock_cloud.session.repo_tunnel import Tunnel

COPYIN_NAME = "copyin.tar"


@dataclass(frozen=True, slots=True)
class Work:
    """One invocation, checked on this machine and ready to send.

    `copyout` is where --copyout puts what it fetched. `inputs` and `blobs` go together.
    """

    line: CommandLine
    paths: Paths
    config: EngineConfig
    args: tuple[str, ...]
    inputs: tuple[Input, ...]
    blobs: tuple[Blob, ...]
    spec: str
    unpriv: bool
    pty: tuple[int, int, str] | None
    copyout: Path | None
    shadow: ShadowOrder | None = None

    def request(self, layers: dict[str, str], resultdir: Path, tunnel: Tunnel) -> JobRequest:
        """The request, with the `layers` that a verdict lets the engine reuse.

        `resultdir` is for messages only.
        """
        return JobRequest(
            mode="scrub" if self.line.scrub else self.line.mode,
            config=replace(
                self.config,
                dnf_conf=tunnel.repositories.text,
                environment=dict(tunnel.repositories.environment),
            ),
            args=list(self.args),
            inputs=list(self.inputs),
            spec=self.spec,
            unpriv=self.unpriv,
            cwd=self.line.cwd or "",
            chain_continue=self.line.cont,
            chain_recurse=self.line.recurse,
            pty=list(self.pty) if self.pty else [],
            layers=layers,
            verbose=self.line.verbose,
            resultdir=str(resultdir),
            tunnel_port=tunnel.port,
            shadow=self.shadow,
        )


@contextlib.contextmanager
def prepare(line: CommandLine, opts: ConfigOpts) -> Iterator[Work]:
    """Check and hash everything that `line` names, before anything is leased.

    A temporary archive (--copyin) lives as long as the block. Raises what
    `invocation.host_inputs` and `config.engine_config` raise.
    """
    config, keys = engine_config(opts, line)
    files = host_inputs(line)
    sent = [file for file in files if file.role in ("srpm", "spec", "source", "package")]
    with contextlib.ExitStack() as stack:
        pairs = [blob_of(file) for file in (*sent, *keys)]
        if line.mode == "copyin":
            sources = [file for file in files if file.role == "copyin"]
            pairs.append(blob_of(stack.enter_context(_archive(sources))))
        if line.mode == "chain" and line.localrepo:
            pairs += _earlier(chain_results(Path(line.localrepo), opts))
        destination = next((file.path for file in files if file.role == "copyout"), None)
        interactive = line.mode in ("shell", "chroot") or line.verbose > 0
        yield Work(
            line=line,
            paths=locate_paths(opts),
            config=config,
            args=tuple(node_args(line)),
            inputs=tuple(pair[0] for pair in pairs),
            blobs=tuple({pair[1].digest: pair[1] for pair in pairs}.values()),
            spec=next((file.name for file in sent if file.role == "spec"), "") if line.spec else "",
            unpriv=shell_is_unprivileged(opts, line),
            pty=find_terminal() if interactive else None,
            copyout=destination,
        )


def _earlier(results: Path) -> Iterator[tuple[Input, Blob]]:
    """What earlier chains left in their local repository: packages, and marks of success."""
    for path in sorted(results.glob("*/*")):
        package = path.name.endswith(".rpm") and not path.name.endswith((".src.rpm", ".nosrc.rpm"))
        if (package or path.name == "success") and path.is_file():
            item, blob = blob_of(HostFile(path.name, "built", path))
            yield replace(item, directory=path.parent.name), blob


def blob_of(file: HostFile) -> tuple[Input, Blob]:
    """The file as an input of a job and as what is sent for it. InputError."""
    digest = hashlib.sha256()
    size = 0
    try:
        with file.path.open("rb") as stream:
            while data := stream.read(1 << 20):
                digest.update(data)
                size += len(data)
    except OSError as error:
        raise InputError(f"cannot read {file.path}: {error.strerror}") from error
    name = digest.hexdigest()
    return Input(file.name, file.role, name, size), Blob(name, size, file.path)


@contextlib.contextmanager
def _archive(files: Sequence[HostFile]) -> Iterator[HostFile]:
    """The --copyin sources as one tar. Links are followed, as mock's copying does."""
    with tempfile.NamedTemporaryFile(prefix="mock-cloud-", suffix=".tar") as stream:
        with tarfile.open(
            fileobj=stream, mode="w", dereference=True, format=tarfile.PAX_FORMAT
        ) as archive:
            for file in files:
                try:
                    archive.add(file.path, arcname=file.name)
                except OSError as error:
                    raise InputError(f"cannot copy {file.path} in: {error}") from error
        stream.flush()
        yield HostFile(COPYIN_NAME, "copyin", Path(stream.name))


def fresh(work: Work) -> bool:
    """Whether the job makes its chroot anew, so that any node will do."""
    return work.config.clean and work.line.mode in ("rebuild", "buildsrpm", "init")

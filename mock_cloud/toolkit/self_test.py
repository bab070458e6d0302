# SPDX-License-Identifier: GPL-2.0-or-later
"""A toolkit's self-test: imports every module of the agent, and asks an agent for its operations.

usage: self_test.py WORKSPACE [RECORD]

It lies beside the agent's main.py while a toolkit is packed, runs under the toolkit's own loader
and python, and is not part of the toolkit. It prints one JSON object: `failed` says what does not
work, or nothing; `asked` lists the operations. Where a root directory was made for it
(`empty_root.py`) it asks for all of them but `seal`, which would write all of this machine's disks;
elsewhere only for those that leave the machine as it is.

With RECORD, the names of all modules that python looked for, in this process and in each one of the
agent's, are added to that file, one a line.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

MARK = "/mock-cloud-self-test"
"""Exists in a root directory that was made for this."""

RECORD = "loaded-modules"
"""Beside this file, where `main.py` is the one that records."""

_TOKEN = "ab" * 32
_BLOB = b"mock-cloud"
_PRIVATE = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
_LEASE: dict[str, Any] = {"lease": "self-test", "life_s": 3600, "grace_s": 3600, "ending": "wipe"}

# These may be refused or end badly, since there is no system around the toolkit.
_MAY_FAIL = (
    "fetch", "headers", "install", "job_input", "job_resize", "close_metadata", "owner_sign",
    "reboot",
)  # fmt: skip
_NOT_IMPORTED = ("ImportError", "ModuleNotFoundError", "unknown encoding")


class Failed(Exception):
    """Something does not work; the message says what."""


class _Recorder:
    """Asked first for each module that is not loaded yet; finds none."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        self.write([name])

    def write(self, names: list[str]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            file = os.open(self._path, flags, 0o600)
        except OSError:
            return  # in a job's chroot there is neither the file nor a library
        os.write(file, "".join(f"{name}\n" for name in names).encode())
        os.close(file)


def record(path: str) -> None:
    """Add what is loaded, and the names of all that is looked for from now on, to `path`."""
    recorder = _Recorder(path)
    recorder.write(sorted(sys.modules))
    sys.meta_path.insert(0, recorder)


def import_agent(package: str) -> None:
    """Import each module below the directory `package`. Failed names the one that can't be."""
    top = os.path.dirname(package)
    for where, directories, files in os.walk(package):
        directories.sort()
        for file in sorted(files):
            name = os.path.relpath(os.path.join(where, file), top)
            if not name.endswith(".py") or file == "__main__.py":
                continue
            name = name[: -len(".py")].replace(os.sep, ".").removesuffix(".__init__")
            try:
                importlib.import_module(name)
            except Exception as error:  # whatever it is, the toolkit is of no use
                raise Failed(f"{name} cannot be imported: {error}") from error


class Agent:
    """An agent as a process, and the frames to and from it. `asked`: operations, added to."""

    def __init__(self, workspace: str, asked: set[str]) -> None:
        from mock_cloud.agent.serve_wire import own_command

        command = own_command()
        command[-1] = os.path.join(os.path.dirname(command[-1]), "main.py")
        self._child = subprocess.Popen(
            [*command, "serve", "--workspace", workspace],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._ops: dict[int, str] = {}
        self.asked = asked
        self.workspace = workspace

    def send(self, op: str, body: bytes = b"", **header: Any) -> int:
        """Ask for an operation; the request's number."""
        from mock_cloud.wire.frames import encode_frame

        number = len(self._ops) + 1
        self._ops[number] = op
        self.asked.add(op)
        assert self._child.stdin is not None  # noqa: S101 (for mypy)
        try:
            self._child.stdin.write(encode_frame({"op": op, "id": number, **header}, body))
            self._child.stdin.flush()
        except OSError as error:
            raise Failed(f"the agent ended before {op}: {self.end()}") from error
        return number

    def ask(self, op: str, body: bytes = b"", **header: Any) -> tuple[dict[str, Any], bytes]:
        """Ask and wait: the last answer's header, the bodies of all of them. Failed."""
        number = self.send(op, body, **header)
        data = bytearray()
        for answer, part in self._answers(op):
            data += part if answer["id"] == number else b""
            error = answer.get("error")
            asked = self._ops[answer["id"]]
            if error and (error["code"] in ("internal", "toolkit") or asked not in _MAY_FAIL):
                raise Failed(f"{asked}: {error['message']}")
            if answer["id"] == number and not answer.get("more"):
                return answer, bytes(data)
        raise Failed(f"the agent ended during {op}: {self.end()}")

    def _answers(self, op: str) -> Iterator[tuple[dict[str, Any], bytes]]:
        from mock_cloud.wire.frames import read_frame

        assert self._child.stdout is not None  # noqa: S101 (for mypy)
        try:
            while (frame := read_frame(self._child.stdout)) is not None:
                yield frame
        except ValueError as error:
            raise Failed(f"{op}: {error}") from error

    def end(self) -> str:
        """End it; the last line that it printed beside the frames."""
        _, said = self._child.communicate()
        return (said.decode(errors="replace").strip().splitlines() or ["no message"])[-1]


def ask_before_trust(agent: Agent, *, alone: bool) -> None:
    """A small measurement, and what else may be asked of an agent that is not trusted yet."""
    agent.ask("hello", nonce="self-test")
    tops = [] if alone else [f"/{name}" for name in os.listdir("/")]
    _, evidence = agent.ask("measure", nonce="self-test", skip=tops, trees=[], processes=2)
    if not evidence:
        raise Failed("measure: the agent sent no evidence")
    agent.ask("headers", digests=[])
    agent.ask("accounts")
    agent.ask("ping")


def ask_harmless(agent: Agent) -> None:
    """Files are sent, a second channel joins, the order log is read."""
    from mock_cloud.wire.chunks import Chunk, pack_chunks

    agent.ask("trust", verdict=_TOKEN, token=_TOKEN)
    digest = hashlib.sha256(_BLOB).hexdigest()
    agent.ask("have", digests=[digest])
    agent.send("put", _BLOB, digest=digest, size=len(_BLOB), offset=0)
    agent.ask("put_end", digest=digest, size=len(_BLOB))
    whole = pack_chunks([Chunk(0, len(_BLOB), bytes(16))])
    agent.ask("reuse", whole, digest=_TOKEN, size=len(_BLOB), fine=True)
    agent.ask("fetch", digest=_TOKEN, size=1, url="https://localhost:1/", within_ms=100)
    agent.ask("reach", ends=[["127.0.0.1", 1], ["localhost", 1]], within_ms=100)
    second = Agent(agent.workspace, agent.asked)
    second.ask("join", token=_TOKEN)
    second.end()
    _, log = agent.ask("order")
    if b"trusted" not in log:
        raise Failed("order: the log lacks what happened")


def ask_on_own_node(agent: Agent) -> None:
    """What changes a node: jobs, the dead-man timer, the host key, packages."""
    from mock_cloud.wire.decode import to_json
    from mock_cloud.wire.orders import InstallOrder

    agent.ask("reload", keep=[])
    agent.ask("host_key", _PRIVATE, public="ssh-ed25519 AAAA self-test\n")
    agent.ask("close_metadata")
    agent.ask("lease", **_LEASE)
    agent.ask("install", to_json(InstallOrder(["self-test"], "")))
    for name, request in _jobs().items():
        _perform_job(agent, name, request)
    agent.ask("cleanse")
    agent.ask("reboot")


def _jobs() -> dict[str, bytes]:
    """Jobs by name. The first one must succeed; there is nothing here to install or to build."""
    from dataclasses import replace

    from mock_cloud.wire.decode import to_json
    from mock_cloud.wire.job_request import (
        EngineConfig,
        JobRequest,
        MockRun,
        ShadowOrder,
    )

    plain = EngineConfig(
        root="self-test",
        chroot_name="self-test",
        target_arch=os.uname().machine,
        rpmbuild_arch=os.uname().machine,
        package_manager="dnf4",
        dnf_conf="[main]\n",
        chroot_setup_cmd=["install", "bash"],
    )
    remote = replace(plain, dnf_conf="[x]\nname=x\nbaseurl=http://127.0.0.1:1/\n")
    shadow = ShadowOrder("/tmp", rpmdb=True)  # noqa: S108
    mock = MockRun(root="self-test", chroot_name="self-test", argv=["--clean"], config="{}")
    return {
        "clean": to_json(JobRequest("clean", plain)),
        "init": to_json(JobRequest("init", plain, pty=[24, 80, "dumb"], shadow=shadow)),
        "fetch": to_json(JobRequest("init", remote)),
        "mock": to_json(JobRequest("clean", mock=mock)),
    }


def _perform_job(agent: Agent, name: str, request: bytes) -> None:
    agent.ask("job_start", request, job=name)
    agent.send("job_resize", job=name, rows=24, columns=80)
    agent.send("job_input", b"", job=name, eof=True)
    end, output = agent.ask("job_follow", job=name, offsets={})
    lines = [end["status"].get("message", ""), *output.decode(errors="replace").splitlines()]
    broken = [line for line in lines if any(word in line for word in _NOT_IMPORTED)]
    if broken or (name == "clean" and end["exit"] != 0):
        raise Failed(f"a job ({name}) ended with status {end['exit']}: {[*broken, *lines][0]}")
    agent.ask("owner_sign", job=name, nonce=_TOKEN)
    results, _ = agent.ask("results", job=name)
    for found in results["files"]:
        agent.ask("get", job=name, name=found["name"], offset=0, length=found["size"])
        for ranges in ([], [[0, found["size"]]]):
            agent.ask("chunks", job=name, name=found["name"], ranges=ranges)
    agent.ask("job_cancel", job=name)
    agent.ask("forget", job=name)


def main(workspace: str, recorded: str = "") -> dict[str, Any]:
    """The whole self-test. Keys as in the usage."""
    here = os.path.dirname(os.path.abspath(__file__))
    if recorded:
        record(recorded)
        sys.dont_write_bytecode = False  # a toolkit to record has none of the agent yet
    sys.path.insert(0, here)
    alone = os.path.exists(MARK)
    asked: set[str] = set()
    failed = ""
    try:
        import_agent(os.path.join(here, "mock_cloud"))
        agent = Agent(workspace, asked)
        ask_before_trust(agent, alone=alone)
        ask_harmless(agent)
        if alone:
            ask_on_own_node(agent)
        agent.end()
    except Failed as error:
        failed = str(error)
    return {"failed": failed, "asked": sorted(asked)}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))

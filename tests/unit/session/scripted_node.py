# SPDX-License-Identifier: GPL-2.0-or-later
"""A node in this process: a real SSH server on loopback, and an agent that says what a test wants.

Its evidence is that of `attest_builder`: real signed headers, which the real verdict judges. It
measures nothing, makes nothing and runs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import paramiko

from mock_cloud.cloud.provider import (
    Bootstrap,
    CreatedNode,
    InjectedFile,
    InjectedType,
    NodeOrder,
)
from mock_cloud.errors import CloudError
from mock_cloud.model import KeyPair, NodeAddress
from mock_cloud.wire.frames import PROTOCOL_VERSION, encode_frame, read_frame
from mock_cloud.wire.records import encode_records, pack
from tests.unit.attest import attest_builder
from tests.unit.attest.attest_builder import AGENT_PID, INIT_PID, INJECTED, LISTENING, RELOADED
from tests.unit.cloud.cloud_in_memory import CloudInMemory

Frame = tuple[dict[str, Any], bytes]


@dataclass
class Script:
    """What becomes of the job: its logs and results, and how it ends. None: it vanishes."""

    exit: int | None = 0
    message: str = ""
    logs: dict[str, bytes] = field(default_factory=lambda: {"build.log": b"+ make\n+ done\n"})
    results: dict[str, bytes] = field(default_factory=dict)
    damaged: bool = False
    """Results are listed with another digest than they have."""
    spoil: Callable[[attest_builder.Node, int], None] = lambda evidence, number: None
    """Changes the evidence of the measurement with this number, from 1."""
    while_followed: Callable[[ScriptedNode], None] = lambda node: None
    """Called before the job's end is told, in a thread of the node's."""
    owner: Callable[[str, str], dict[str, Any]] = lambda job, nonce: {
        "error": {"code": "no-owner-key", "message": "there is no key"}
    }
    """What the owner says of a job, with a nonce."""
    cuts: int = 0
    """So many connections are cut in the middle of the logs."""


class _Access(paramiko.ServerInterface):
    def __init__(self) -> None:
        self.started = threading.Event()

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.started.set()
        return True


class _Reader:
    """Blocks until it has all bytes, or the stream has ended."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def read(self, size: int, /) -> bytes:
        found = b""
        while len(found) < size:
            data = self._channel.recv(size - len(found))
            if not data:
                break
            found += data
        return found


class ScriptedNode:
    """Serves until `close`. `asked` are the operations that arrived, in their order."""

    def __init__(self, host_key: KeyPair, script: Script) -> None:
        self.asked: list[str] = []
        self.blobs: dict[str, bytes] = {}
        self.requests: list[bytes] = []
        """Of jobs, as they came."""
        self.graces_s: list[int] = []
        """After how long without a controller the node was told to end."""
        self.script = script
        self.is_deaf = False
        """Whether nothing is answered any more, as over a line that is cut somewhere far away."""
        self._key = paramiko.Ed25519Key.from_private_key(
            io.StringIO(host_key.private.reveal().decode())
        )
        self._measured = self._cut = 0
        self._sending = threading.Lock()
        self._transports: list[paramiko.Transport] = []
        self._threads: list[threading.Thread] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._begin(self._accept)

    def vanish(self) -> None:
        """End all connections, and take no new ones."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for transport in self._transports:
            transport.close()

    def close(self) -> None:
        self.vanish()
        for thread in self._threads:
            thread.join()
        for transport in self._transports:
            transport.join()

    def _begin(self, act: Callable[..., None], *words: object) -> None:
        thread = threading.Thread(target=act, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self._key)
            self._transports.append(transport)
            self._begin(self._serve, transport)

    def _serve(self, transport: paramiko.Transport) -> None:
        access = _Access()
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            transport.start_server(server=access)
            while transport.is_active():
                channel = transport.accept(0.2)
                if channel is not None:
                    access.started.wait(10)
                    self._begin(self._speak, channel, transport)

    def _speak(self, channel: paramiko.Channel, transport: paramiko.Transport) -> None:
        stream = _Reader(channel)
        with contextlib.suppress(OSError, EOFError, ValueError):
            while (frame := read_frame(stream)) is not None:
                header, body = frame
                operation, number = header.pop("op"), header.pop("id")
                if self.is_deaf:
                    continue
                if operation != "ping":
                    self.asked.append(operation)
                answers = self._answer(operation, header, body)
                if operation == "job_follow":  # others are answered meanwhile
                    self._begin(self._send, channel, transport, number, answers)
                else:
                    self._send(channel, transport, number, answers)
            channel.close()

    def _send(
        self,
        channel: paramiko.Channel,
        transport: paramiko.Transport,
        number: int,
        answers: Iterator[Frame],
    ) -> None:
        with contextlib.suppress(OSError, EOFError):
            for answer, data in answers:
                frame = encode_frame({"id": number, **answer}, data)
                with self._sending:
                    channel.sendall(frame)
                if answer.get("cut"):
                    transport.close()
                    return

    def _answer(self, operation: str, given: dict[str, Any], body: bytes) -> Iterator[Frame]:
        answer = getattr(self, f"_on_{operation}", None)
        if answer is not None:
            yield from answer(given)
        elif operation == "put":
            self.blobs[given["digest"]] = self.blobs.get(given["digest"], b"") + body
        elif operation == "job_start":
            self.requests.append(body)
            yield {}, b""
        elif operation == "lease":
            self.graces_s.append(given["grace_s"])
            yield {}, b""
        elif operation not in ("job_input", "job_resize"):
            yield {}, b""

    def _on_hello(self, _given: dict[str, Any]) -> Iterator[Frame]:
        yield {
            "version": PROTOCOL_VERSION, "toolkit": "ee" * 32, "pid": AGENT_PID, "python": "3",
            "uname": ["Linux"], "cpus": 1, "clock": 1.0, "boot_id": "one",
        }, b""  # fmt: skip

    def _on_reload(self, _given: dict[str, Any]) -> Iterator[Frame]:
        ran = [["/usr/sbin/sshd", [LISTENING]]]
        yield {"listener": INIT_PID, "since": RELOADED, "ran": ran}, b""

    def _on_measure(self, given: dict[str, Any]) -> Iterator[Frame]:
        text = self._measure(given)
        for piece in pack(text):
            yield {"more": True}, piece
        yield {"sha256": hashlib.sha256(text).hexdigest()}, b""

    def _on_headers(self, given: dict[str, Any]) -> Iterator[Frame]:
        blobs = attest_builder.Node().blobs
        for digest in given["digests"]:
            yield {"more": True, "digest": digest, "size": len(blobs[digest])}, blobs[digest]
        yield {}, b""

    def _on_reach(self, given: dict[str, Any]) -> Iterator[Frame]:
        yield {"reached": [True for _ in given["ends"]]}, b""

    def _on_have(self, given: dict[str, Any]) -> Iterator[Frame]:
        missing = [one for one in given["digests"] if one not in self.blobs]
        yield {"missing": missing, "partial": {}, "kept": 0}, b""

    def _on_job_follow(self, given: dict[str, Any]) -> Iterator[Frame]:
        yield from self._follow(given["offsets"])

    def _on_job_cancel(self, _given: dict[str, Any]) -> Iterator[Frame]:
        yield {"clean": True}, b""

    def _on_results(self, _given: dict[str, Any]) -> Iterator[Frame]:
        yield {"files": [self._describe(*one) for one in self.script.results.items()]}, b""

    def _on_owner_sign(self, given: dict[str, Any]) -> Iterator[Frame]:
        yield self.script.owner(given["job"], given["nonce"]), b""

    def _on_get(self, given: dict[str, Any]) -> Iterator[Frame]:
        start = given["offset"]
        data = self.script.results[given["name"]][start : start + given["length"]]
        yield {"more": True}, data
        yield {}, b""

    def _on_order(self, _given: dict[str, Any]) -> Iterator[Frame]:
        yield {}, b"the agent's own word\n"

    def _follow(self, offsets: dict[str, int]) -> Iterator[Frame]:
        script = self.script
        for name, data in script.logs.items():
            at, end = offsets.get(name, 0), len(data)
            is_cut = self._cut < script.cuts
            if is_cut:
                self._cut += 1
                end = at + (len(data) - at) // 2
            if at < end:
                head = {"more": True, "log": name, "offset": at}
                yield ({**head, "cut": True} if is_cut else head), data[at:end]
        script.while_followed(self)
        if script.exit is None:
            yield {"exit": None, "status": {}}, b""
            return
        status = {
            "phase": "done", "exit": script.exit, "message": script.message, "layers": {},
            "chroots": ["small"],
        }  # fmt: skip
        yield {"exit": script.exit, "status": status}, b""

    def _describe(self, name: str, data: bytes) -> dict[str, Any]:
        digest = "0" * 64 if self.script.damaged else hashlib.sha256(data).hexdigest()
        return {"name": name, "size": len(data), "sha256": digest, "mode": 0o644}

    def _measure(self, given: dict[str, Any]) -> bytes:
        self._measured += 1
        evidence = attest_builder.Node().boot()
        evidence.top |= {
            "nonce": given["nonce"], "skip": given["skip"], "trees": {},
            "sockets": [["tcp", "127.0.0.1", self.port, INIT_PID]], "connections": [],
        }  # fmt: skip
        self.script.spoil(evidence, self._measured)
        return b"".join(encode_records(evidence.sections))


@dataclass
class ScriptedCloud(CloudInMemory):
    """Makes a `ScriptedNode` for each order, with the next of `scripts`; the last one again."""

    scripts: list[Script] = field(default_factory=lambda: [Script()])
    made: list[ScriptedNode] = field(default_factory=list)
    has_none: CloudError | None = None
    handle: str = ""

    def create(self, order: NodeOrder, bootstrap: Bootstrap, **more: object) -> CreatedNode:
        if self.has_none is not None:
            raise self.has_none
        created = super().create(order, bootstrap, **more)
        script = self.scripts[min(len(self.made), len(self.scripts) - 1)]
        node = ScriptedNode(bootstrap.host_key, script)
        self.made.append(node)
        address = NodeAddress("127.0.0.1", node.port, "root", bootstrap.host_key.public)
        return CreatedNode(
            address, self.handle or created.handle, _injected(), price_per_hour=self.price
        )

    def close(self) -> None:
        for node in self.made:
            node.close()


def _injected() -> dict[str, InjectedFile]:
    found = {}
    for path, file in INJECTED.items():
        kind = InjectedType(file.type)
        content = (file.value or "").encode() if kind is not InjectedType.FILE else b""
        digest = (file.value or "") if kind is InjectedType.FILE else ""
        found[path] = InjectedFile(
            kind, file.mode, file.uid, file.gid, content, digest, file.size_bytes
        )
    return found

# SPDX-License-Identifier: GPL-2.0-or-later
"""A hostile node: a relay that holds the node's host key, and changes what the agent says.

The controller's SSH connection ends here; what it runs is run on the real node, over a
connection of the relay's own. Frames on the channels of agents pass through a `Mode`, which may
keep, change or add any, in both directions, before and after the verdict. So the verdict is the
real node's.
As a program it relays until it is killed:

python -m tests.attack.hostile_node MODE --target HOST:PORT --host-key FILE --client-key FILE
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import socket
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import paramiko

from mock_cloud.attest import evidence
from mock_cloud.wire.chunks import Chunk, pack_chunks
from mock_cloud.wire.frames import FrameHeader, encode_frame, read_frame
from mock_cloud.wire.records import encode_records

_CHUNK_BYTES = 1 << 18
_OPEN_S = 30.0
_JOIN_S = 10.0


def raw_frame(header: bytes, body: bytes = b"") -> bytes:
    """A frame with any bytes for a header, however long."""
    return struct.pack(">II", len(header), len(body)) + header + body


def text_frame(request: FrameHeader, more: str, body: bytes = b"") -> bytes:
    """An answer to `request`; `more` is JSON text of further members, as in ``"exit":0``."""
    return raw_frame(f'{{"id":{request["id"]},{more}}}'.encode(), body)


class Wire:
    """One agent's channel through the relay. What is sent is whole frames, from any thread."""

    def __init__(self, near: paramiko.Channel, far: paramiko.Channel) -> None:
        self.near = near
        self.far = far
        self.operations: dict[int, str] = {}
        """Of requests that passed, by id."""
        self.trusted = False
        self._lock = threading.Lock()

    def to_controller(self, data: bytes) -> None:
        """OSError once the controller has gone."""
        with self._lock:
            self.near.sendall(data)

    def to_node(self, data: bytes) -> None:
        self.far.sendall(data)


class Mode:
    """What a hostile node does. This one does nothing; `requests` are what it saw."""

    def __init__(self) -> None:
        self.requests: list[FrameHeader] = []

    def request(self, wire: Wire, header: FrameHeader, body: bytes) -> Iterable[bytes] | None:
        """None: the request goes to the agent. Else what is sent to the controller instead."""
        return None

    def answer(self, wire: Wire, header: FrameHeader, body: bytes) -> Iterable[bytes]:
        """What is sent to the controller for one frame of the agent's."""
        yield encode_frame(header, body)

    def command(self, channel: paramiko.Channel, command: bytes) -> bool:
        """Whether the mode serves this command itself; agents are commands too."""
        return False


class Instead(Mode):
    """Answers requests for `operation` by what `answers` makes of them; no agent sees them."""

    def __init__(self, operation: str, answers: Callable[[FrameHeader], Iterable[bytes]]) -> None:
        super().__init__()
        self._operation = operation
        self.answers = answers

    def request(self, wire: Wire, header: FrameHeader, body: bytes) -> Iterable[bytes] | None:
        return self.answers(header) if header["op"] == self._operation else None


class Rewriting(Mode):
    """Passes the agent's answers to `operation` through `rewrite`: header and body."""

    def __init__(
        self, operation: str, rewrite: Callable[[FrameHeader, bytes], tuple[FrameHeader, bytes]]
    ) -> None:
        super().__init__()
        self._operation = operation
        self._rewrite = rewrite

    def answer(self, wire: Wire, header: FrameHeader, body: bytes) -> Iterable[bytes]:
        if wire.operations.get(header.get("id", -1)) == self._operation:
            header, body = self._rewrite(header, body)
        yield encode_frame(header, body)


class HostileNode:
    """Listens, and relays to the sshd at `target`; a context manager.

    `host_key` and `client_key` are OpenSSH private keys: the node's own, and one that its sshd
    takes for `user`. Only that key's owner is let in. Leaving the block ends all connections and
    threads.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        host_key: bytes,
        client_key: bytes,
        mode: Mode,
        user: str = "root",
        listen: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.mode = mode
        self.target = target
        self.user = user
        self.host_key = paramiko.Ed25519Key.from_private_key(io.StringIO(host_key.decode()))
        self.client_key = paramiko.Ed25519Key.from_private_key(io.StringIO(client_key.decode()))
        self._listener = socket.create_server(listen)
        self._transports: list[paramiko.Transport] = []
        self._threads: list[threading.Thread] = []
        self._closing = False

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def __enter__(self) -> HostileNode:
        self.start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while self._threads:
            for transport in self._transports:
                transport.close()
            self._threads.pop().join(_JOIN_S)
        for transport in self._transports:
            transport.join(_JOIN_S)

    def start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, name="hostile", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
                self._serve(connection)
            except (OSError, EOFError, paramiko.SSHException):
                continue

    def _serve(self, connection: socket.socket) -> None:
        far = paramiko.Transport(socket.create_connection(self.target, _OPEN_S))
        self._transports.append(far)
        far.start_client(timeout=_OPEN_S)
        far.auth_publickey(self.user, self.client_key)
        near = paramiko.Transport(connection)
        self._transports.append(near)
        near.add_server_key(self.host_key)
        near.start_server(event=threading.Event(), server=_Door(self, far))
        self.start(_hang_up_after, near, far)


def _hang_up_after(near: paramiko.Transport, far: paramiko.Transport) -> None:
    """End the relay's own connection with the controller's: one that stays refuses the node."""
    near.join()
    far.close()


class _Door(paramiko.ServerInterface):
    """One connection of the controller's, and the relay's own to the node."""

    def __init__(self, node: HostileNode, far: paramiko.Transport) -> None:
        self._node = node
        self._far = far

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = username == self._node.user and key == self._node.client_key
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._node.start(self._run, channel, command)
        return True

    def _run(self, near: paramiko.Channel, command: bytes) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            if self._node.mode.command(near, command):
                return
            far = self._far.open_session(timeout=_OPEN_S)
            far.exec_command(command.decode())
            wire = Wire(near, far) if b"main.py serve" in command else None
            self._node.start(_quietly, _up, self._node.mode, near, far, wire)
            self._node.start(_quietly, _errors, far, near)
            _quietly(_down, self._node.mode, far, near, wire)
            if (status := far.recv_exit_status()) >= 0:
                near.send_exit_status(status)
            near.close()


def _quietly(work: Callable[..., None], *arguments: Any) -> None:
    with contextlib.suppress(OSError, EOFError, ValueError, paramiko.SSHException):
        work(*arguments)


def _up(mode: Mode, near: paramiko.Channel, far: paramiko.Channel, wire: Wire | None) -> None:
    if wire is None:
        while data := near.recv(_CHUNK_BYTES):
            far.sendall(data)
    else:
        stream = near.makefile("rb", _CHUNK_BYTES)
        while (frame := read_frame(stream)) is not None:
            header, body = frame
            mode.requests.append(header)
            wire.operations[header["id"]] = header["op"]
            wire.trusted = wire.trusted or header["op"] in ("trust", "join")
            instead = mode.request(wire, header, body)
            if instead is None:
                wire.to_node(encode_frame(header, body))
                continue
            for data in instead:
                wire.to_controller(data)
    far.shutdown_write()


def _down(mode: Mode, far: paramiko.Channel, near: paramiko.Channel, wire: Wire | None) -> None:
    if wire is None:
        while data := far.recv(_CHUNK_BYTES):
            near.sendall(data)
    else:
        stream = far.makefile("rb", _CHUNK_BYTES)
        while (frame := read_frame(stream)) is not None:
            for data in mode.answer(wire, *frame):
                wire.to_controller(data)
    near.shutdown_write()


def _errors(far: paramiko.Channel, near: paramiko.Channel) -> None:
    while data := far.recv_stderr(_CHUNK_BYTES):
        near.sendall_stderr(data)


def _endless(request: FrameHeader) -> Iterable[bytes]:
    """Answers without a body and without an end."""
    while True:
        yield text_frame(request, '"more":true')


def _padded(request: FrameHeader) -> Iterable[bytes]:
    """Answers that are as long as may be, of what takes the most memory."""
    lists = "[]," * 349_000
    while True:
        yield text_frame(request, f'"more":true,"x":[{lists}0]', b"x")


def _evidence(*lines: bytes, times: int = 1) -> Callable[[FrameHeader], Iterable[bytes]]:
    """Evidence of these records, the last of them so many times."""

    def answers(request: FrameHeader) -> Iterable[bytes]:
        squeeze, digest = zlib.compressobj(1, wbits=31), hashlib.sha256()
        for line in (*lines, *lines[-1:] * (times - 1)):
            digest.update(line)
            if piece := squeeze.compress(line):
                yield text_frame(request, '"more":true', piece)
        yield text_frame(request, f'"sha256":"{digest.hexdigest()}"', squeeze.flush())

    return answers


def _sections(**changes: Any) -> tuple[bytes, ...]:
    """Records of evidence with every section, all of them empty but `changes`."""
    empty: dict[str, Any] = {
        **{name: [] for name in evidence._PARTS},
        **dict.fromkeys(evidence._SINGLE),
        "schema": evidence.SCHEMA, "nonce": "n", "trees": {},
        "namespaces": {"init": {}, "self": {}}, "self": 1,
    }  # fmt: skip
    return tuple(encode_records({**empty, "files": [], **changes}))


def _files(request: FrameHeader) -> Iterable[bytes]:
    """More files than a node has, each as short as may be."""
    rows = (
        '["files",['
        + ",".join(f'["/{at + one}","d",0,70000,70001,0,null,null]' for one in range(4000))
        + "]]\n"
        for at in range(0, 1_000_000, 4000)
    )
    squeeze, digest = zlib.compressobj(1, wbits=31), hashlib.sha256()
    for text in (*_sections(), *(row.encode() for row in rows)):
        digest.update(text)
        if piece := squeeze.compress(text):
            yield text_frame(request, '"more":true', piece)
    yield text_frame(request, f'"sha256":"{digest.hexdigest()}"', squeeze.flush())


class Twice(Mode):
    """Gives each answer twice."""

    def answer(self, wire: Wire, header: FrameHeader, body: bytes) -> Iterable[bytes]:
        yield encode_frame(header, body)
        yield encode_frame(header, body)


class Unasked(Mode):
    """Before each answer, one to a request that nobody made."""

    def answer(self, wire: Wire, header: FrameHeader, body: bytes) -> Iterable[bytes]:
        yield text_frame({"id": 999}, '"error":{"code":"\\ud800","message":"\\ud800"}')
        yield encode_frame(header, body)


class Flood(Mode):
    """Answers nothing, but fills the other of two calls, or standard error, or the window."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def request(self, wire: Wire, header: FrameHeader, body: bytes) -> Iterable[bytes] | None:
        if header["op"] != "hello":
            return None
        if header["nonce"] == "first":
            return ()
        return self._flood(wire, header)

    def _flood(self, wire: Wire, header: FrameHeader) -> Iterable[bytes]:
        while self._where == "stderr":
            wire.near.sendall_stderr(b"\x1b[2J" * 8000)
        if self._where == "window":
            wire.near.out_window_size = 1 << 40
        yield from _padded(header)


def _longer(request: FrameHeader) -> Iterable[bytes]:
    """More of a result than there was said to be."""
    while True:
        yield text_frame(request, '"more":true', bytes(1 << 20))


class FloodFetch(Mode):
    """Answers the first request for a result never, and all others at once and without an end."""

    def request(self, wire: Wire, header: FrameHeader, body: bytes) -> Iterable[bytes] | None:
        if header["op"] != "get":
            return None
        return () if header["offset"] == 0 else self._flood(header)

    def _flood(self, header: FrameHeader) -> Iterable[bytes]:
        lists = "[]," * 21_000
        while True:
            yield text_frame(header, f'"more":true,"x":[{lists}0]', bytes(1 << 20))


def _results(request: FrameHeader) -> Iterable[bytes]:
    """As many results as fit into an answer."""
    files = ",".join(f'{{"name":"{one}"}}' for one in range(58_000))
    yield text_frame(request, f'"files":[{files}]')


def _more_results(request: FrameHeader) -> Iterable[bytes]:
    """New ones for ever, each as it should be."""
    for first in itertools.count(0, 4000):
        files = ",".join(
            f'{{"name":"{one}","size":0,"sha256":"{"0" * 64}","mode":420}}'
            for one in range(first, first + 4000)
        )
        yield text_frame(request, f'"more":true,"files":[{files}]')


def _no_results(request: FrameHeader) -> Iterable[bytes]:
    """Pieces without one, for ever."""
    while True:
        yield text_frame(request, '"more":true,"files":[]')


def _chunks(start: int) -> Callable[[FrameHeader], Iterable[bytes]]:
    """How a result is cut, in the same pieces for ever."""

    def answers(request: FrameHeader) -> Iterable[bytes]:
        cut = [Chunk(at, at + 512, bytes(16)) for at in range(start, start + 512 * 4096, 512)]
        while True:
            yield text_frame(request, '"more":true', pack_chunks(cut))

    return answers


def _no_chunks(request: FrameHeader) -> Iterable[bytes]:
    """Pieces without one, for ever."""
    while True:
        yield text_frame(request, '"more":true')


def _lists(count: int) -> bytes:
    return b'["processes",[' + b"[]," * count + b"0]]\n"


def _texts() -> bytes:
    return b'["uname",[' + b",".join(b'"%03x"' % one for one in range(4096)) + b"]]\n"


MODES: dict[str, Callable[[], Mode]] = {
    "honest": Mode,
    "nested": lambda: Instead("hello", lambda r: [text_frame(r, f'"x":{"[" * 200_000}')]),
    "surrogate": lambda: Instead("hello", lambda r: [text_frame(r, r'"version":"\ud800"')]),
    "surrogate-error": lambda: Instead(
        "hello", lambda r: [text_frame(r, r'"error":{"code":"\ud800","message":"\ud800"}')]
    ),
    "clock": lambda: Instead("hello", lambda r: [text_frame(r, f'{_HELLO},"clock":1{"0" * 400}')]),
    "unasked": Unasked,
    "twice": Twice,
    "endless": lambda: Instead("measure", _endless),
    "padded": lambda: Instead("measure", _padded),
    "flood-call": lambda: Flood("call"),
    "flood-stderr": lambda: Flood("stderr"),
    "flood-window": lambda: Flood("window"),
    "evidence-lists": lambda: Instead("measure", _evidence(_lists(340_000), times=200)),
    "evidence-one-document": lambda: Instead(
        "measure", _evidence(b"[" + b"[]," * 300_000, b"[]," * 300_000, times=200)
    ),
    "evidence-bomb": lambda: Instead("measure", _evidence(bytes(1 << 20), times=600)),
    "evidence-texts": lambda: Instead("measure", _evidence(*_sections(), _texts(), times=8000)),
    "evidence-files": lambda: Instead("measure", _files),
    "follow-endless": lambda: Instead("job_follow", _endless),
    "follow-padded": lambda: Instead("job_follow", _padded),
    "results": lambda: Instead("results", _results),
    "results-endless": lambda: Instead("results", _more_results),
    "results-empty": lambda: Instead("results", _no_results),
    "reuse-liar": lambda: Instead("reuse", lambda r: [text_frame(r, '"held":[[0,2097152]]')]),
    "fetch-liar": lambda: Instead("fetch", lambda r: [text_frame(r, '"fetched":true')]),
    "chunks-beyond": lambda: Instead("chunks", _chunks(1 << 40)),
    "chunks-endless": lambda: Instead("chunks", _chunks(0)),
    "chunks-empty": lambda: Instead("chunks", _no_chunks),
    "fetch-flood": FloodFetch,
    "fetch-more": lambda: Instead("get", _longer),
}
"""What the relay does by name; each makes a Mode of its own."""

_HELLO = (
    '"version":"2","toolkit":"t","pid":1,"python":"3","uname":[],"cpus":1,"boot_id":"b"'
)  # fmt: skip


def _end(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the relay's address as JSON, and relay until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=sorted(MODES))
    parser.add_argument("--target", type=_end, required=True, metavar="HOST:PORT")
    parser.add_argument("--host-key", type=Path, required=True, metavar="FILE")
    parser.add_argument("--client-key", type=Path, required=True, metavar="FILE")
    parser.add_argument("--listen", type=_end, default=("127.0.0.1", 0), metavar="HOST:PORT")
    options = parser.parse_args(arguments)
    with HostileNode(
        options.target,
        host_key=options.host_key.read_bytes(),
        client_key=options.client_key.read_bytes(),
        mode=MODES[options.mode](),
        listen=options.listen,
    ) as node:
        print(json.dumps(node.address), flush=True)
        sys.stdin.buffer.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())

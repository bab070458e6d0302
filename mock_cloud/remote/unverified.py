# SPDX-License-Identifier: GPL-2.0-or-later
"""A node before its verdict: it can be given the toolkit and asked for evidence. No more."""

from __future__ import annotations

import hashlib
import posixpath
import shlex
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from mock_cloud.errors import (
    AttestationRefused,
    ConnectionLost,
    InputError,
    Reason,
    RemoteCommandError,
    TransportError,
)
from mock_cloud.model import HostKey, NodeAddress, SshdReload, Toolkit
from mock_cloud.remote.channel import AgentChannel, AgentEnded, Call
from mock_cloud.remote.follow import read_order_log
from mock_cloud.remote.imaging import read_accounts
from mock_cloud.remote.link import Link
from mock_cloud.remote.upload import Progress
from mock_cloud.wire.decode import Malformed, Sha256, decode
from mock_cloud.wire.frames import PROTOCOL_VERSION, FrameHeader
from mock_cloud.wire.layout import SERVE
from mock_cloud.wire.records import RecordError, unpack
from mock_cloud.wire.replies import Hello, parse_hello, parse_reload
from mock_cloud.wire.rpmheader import BLOB_MAX
from mock_cloud.wire.terminal_text import clean

"""Called with the number of bytes that moved since the last call."""

_HEADERS_MAX_BYTES: Final = 256 << 20
"""Of all headers that the cache lacks: 4000 packages of 64 KiB each."""
_HEADERS_A_REQUEST: Final = 4096
_ANSWER_S: Final = 30.0
_RELOAD_S: Final = 60.0
_MEASURE_S: Final = 900.0
_PUSH_S: Final = 1800.0
_UNPACK_S: Final = 120.0
_PIECE_BYTES: Final = 32704


class UnverifiedNode:
    """An authenticated connection to a node that nothing is known about.

    `close` is idempotent, ends the connection and every thread, also after `trust` made a
    TrustedChannel of it.
    """

    def __init__(self, link: Link, silence_timeout_s: float, reconnect: Callable[[], Link]) -> None:
        self._link = link
        self._reconnect = reconnect
        self._silence_timeout_s = silence_timeout_s
        self.agent_pid = 0
        """Of the agent that last said hello, in its own words."""
        self.reload: SshdReload | None = None
        """What `reload_sshd` came to."""
        self._agent: AgentChannel | None = None
        self._toolkit: Toolkit | None = None

    @property
    def address(self) -> NodeAddress:
        return self._link.address

    @property
    def host_key(self) -> HostKey:
        """The key that the live connection's key exchange was signed with."""
        return self._link.host_key

    def start_agent(self, toolkit: Toolkit, progress: Progress | None = None) -> None:
        """Start the toolkit's agent, after pushing the toolkit if the node lacks it.

        One that is there but whose agent does not run is pushed again, once. That the one
        which runs is ours is for the evidence to show. A node that falls silent meanwhile is
        reached once more, by small packets. AttestationRefused: the node is of
        another architecture than the toolkit.
        """
        self._toolkit = toolkit
        try:
            self._start_or_push(toolkit, progress)
        except ConnectionLost:
            if not self._link.may_be_narrow:
                raise
            old, self._agent = self._link, None
            old.close()
            self._link = self._reconnect()
            self._start_or_push(toolkit, progress)

    def _start_or_push(self, toolkit: Toolkit, progress: Progress | None) -> None:
        try:
            self._start(toolkit)
        except AgentEnded:
            self.push_toolkit(toolkit, progress)
            self._start(toolkit)

    def _start(self, toolkit: Toolkit) -> None:
        self._drop_agent()
        command = start_command(toolkit, SERVE)
        agent = AgentChannel(self._link, command, watch_s=self._silence_timeout_s)
        self._agent = agent
        try:
            agent.ask("ping", within_s=_ANSWER_S)
        except AgentEnded as error:
            if error.status == EXIT_NO_TOOLKIT:
                raise AgentEnded("the node has no toolkit", status=error.status) from error
            if error.status == EXIT_OTHER_ARCH:
                raise AttestationRefused(
                    f"{self.address}: the node is not of {toolkit.arch}",
                    reasons=(Reason("kernel.arch", "uname", toolkit.arch, "another"),),
                    hint="correct the architecture in the remote's file, or the image's",
                ) from error
            raise

    def push_toolkit(self, toolkit: Toolkit, progress: Progress | None = None) -> None:
        """Unpack the toolkit on the node, in place of one that is there.

        TransportError with what the node's tools said if they fail.
        """
        self._drop_agent()  # an sshd with MaxSessions 1 has no room for both
        channel = self._link.run(push_command(toolkit))
        channel.settimeout(self._silence_timeout_s)
        try:
            with self._link.watching(self._silence_timeout_s, _PUSH_S), self._link.translating():
                digest = hashlib.sha256()
                with toolkit.archive.open("rb") as archive:
                    while piece := archive.read(_PIECE_BYTES):
                        channel.sendall(piece)
                        digest.update(piece)
                        if progress:
                            progress(len(piece))
                channel.shutdown_write()
            if not channel.status_event.wait(_UNPACK_S):
                raise TransportError(f"{self.address}: unpacking took over {_UNPACK_S:g} s")
            status = channel.exit_status
            said = clean(channel.recv_stderr(4096)) if channel.recv_stderr_ready() else ""
        finally:
            self._link.release(channel)
        if status != 0:
            if not self._link.is_up:
                raise self._link.lost()
            raise TransportError(
                f"{self.address}: the toolkit could not be unpacked (status {status}): {said}",
                hint="The node needs sh, tar, gzip and mv, and room below /var/lib.",
            )
        if digest.hexdigest() != toolkit.digest:
            raise InputError(
                f"{toolkit.archive}: changed since it was packed", hint="Pack the toolkit again."
            )

    def hello(self, nonce: str) -> Hello:
        """Who answers. TransportError when it speaks another version of the protocol."""
        agent = self._running()
        try:
            hello = parse_hello(agent.ask("hello", within_s=_ANSWER_S, nonce=nonce))
        except Malformed as error:
            raise agent.protocol_error(f"hello: {error}") from error
        if hello.version != PROTOCOL_VERSION:
            raise agent.protocol_error(f"the agent speaks protocol {hello.version!r}")
        self.agent_pid = hello.pid
        return hello

    def reload_sshd(self, keep: Sequence[int] = ()) -> None:
        """Have the node's sshd read its configuration anew, and go on over a new connection.

        What `measure` then sees of sshd is what serves this connection. Other connections that run
        an agent of ours are ended, but those of the agents `keep` (pids). `agent_pid` holds again
        after `hello`. AttestationRefused if sshd does not do so, TransportError.
        """
        agent, toolkit = self._running(), self._toolkit
        if toolkit is None:
            raise TransportError(f"{self.address}: no agent was started")
        try:
            answer = agent.ask("reload", within_s=_RELOAD_S, keep=list(keep))
            told = parse_reload(answer)
            self.reload = SshdReload(told.listener, told.since, told.ran, tuple(keep))
        except Malformed as error:
            raise agent.protocol_error(f"reload: {error}") from error
        except RemoteCommandError as error:
            raise AttestationRefused(
                f"{self.address}: {error.message}",
                reasons=(Reason("login.configuration", "sshd", "read anew", error.message),),
                hint="only an sshd whose configuration is known lets nobody else in",
            ) from error
        old, self._agent, self._link = self._link, None, self._reconnect()
        try:
            self._start(toolkit)
        finally:
            old.close()

    def measure(
        self,
        nonce: str,
        *,
        skip: Sequence[str] = (),
        trees: Sequence[str] = (),
        processes: int = 0,
        within_s: float = _MEASURE_S,
    ) -> bytes:
        """The evidence, packed (`records`) within its bounds; its content is not looked at."""
        agent = self._running()
        call = agent.call(
            "measure", nonce=nonce, skip=list(skip), trees=list(trees), processes=processes
        )
        with call:
            return _receive_evidence(agent, call, within_s)

    def fetch_headers(self, digests: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """RPM header blobs with their sha256 (hex), each checked against it, one at a time."""
        agent = self._running()
        wanted = sorted(set(digests))
        budget = _HEADERS_MAX_BYTES
        for start in range(0, len(wanted), _HEADERS_A_REQUEST):
            part = wanted[start : start + _HEADERS_A_REQUEST]
            left = deque(part)
            with agent.call("headers", digests=part) as call:
                for digest, blob in _header_blobs(agent, call, budget):
                    if not left or left.popleft() != digest:
                        raise agent.protocol_error("headers: not those that were asked for")
                    budget -= len(blob)
                    yield digest, blob
            if left:
                raise agent.protocol_error("headers: not those that were asked for")

    def accounts(self) -> dict[str, bytes]:
        """/etc/passwd and /etc/group by path. See `imaging.read_accounts`."""
        return read_accounts(self._running())

    def _hand_over(self) -> tuple[Link, AgentChannel, Toolkit]:
        """For `trusted.trust` only: the parts that a TrustedChannel is made of."""
        if self._toolkit is None:
            raise TransportError(f"{self.address}: no agent was started")
        return self._link, self._running(), self._toolkit

    def order_log(self) -> bytes:
        """What the agent noted of this connection so far; as unverified as the node is."""
        return read_order_log(self._running())

    def close(self) -> None:
        self._link.close()

    def _drop_agent(self) -> None:
        agent, self._agent = self._agent, None
        if agent is not None:
            agent.close()

    def _running(self) -> AgentChannel:
        if self._agent is None:
            raise TransportError(f"{self.address}: no agent was started")
        return self._agent


def _receive_evidence(agent: AgentChannel, call: Call, within_s: float) -> bytes:
    packed = bytearray()
    last: FrameHeader = {}

    def pieces() -> Iterator[bytes]:
        more = True
        while more:
            header, body = call.next(within_s=within_s)
            more = header.pop("more", False) is True
            if more and not body:
                raise RecordError("sent in empty pieces")
            packed.extend(body)
            last.update(header)
            yield body

    digest = hashlib.sha256()
    try:
        for chunk in unpack(pieces()):
            digest.update(chunk)
    except RecordError as error:
        raise agent.protocol_error(f"the evidence is {error}") from error
    if last != {"sha256": digest.hexdigest()}:
        raise agent.protocol_error("the evidence does not have the digest it came with")
    return bytes(packed)


def _header_blobs(agent: AgentChannel, call: Call, budget: int) -> Iterable[tuple[str, bytes]]:
    blob, digest, size = bytearray(), "", 0
    while True:
        header, body = call.next(within_s=_MEASURE_S)
        if not header.get("more"):
            break
        if "size" in header:
            try:
                digest = decode(Sha256, header.get("digest"))
            except Malformed as error:
                raise agent.protocol_error(f"headers: {error}") from error
            blob, size = bytearray(), header["size"]
            if type(size) is not int or not 0 <= size <= min(budget, BLOB_MAX):
                raise agent.protocol_error("headers: too large")
            budget -= size
        blob += body
        if len(blob) > size or header.get("digest") != digest:
            raise agent.protocol_error("headers: not the announced size")
        if len(blob) == size:
            if hashlib.sha256(blob).hexdigest() != digest:
                raise agent.protocol_error(f"headers: {digest} does not match its digest")
            yield digest, bytes(blob)


EXIT_NO_TOOLKIT: Final = 96
EXIT_OTHER_ARCH: Final = 94
EXIT_CANNOT_UNPACK: Final = 95

_UNSET: Final = (
    # ld.so(8) and glibc's list of variables that a secure execution ignores
    "LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT LD_DEBUG LD_DEBUG_OUTPUT LD_BIND_NOW LD_BIND_NOT "
    "LD_DYNAMIC_WEAK LD_ORIGIN_PATH LD_PROFILE LD_PROFILE_OUTPUT LD_SHOW_AUXV LD_HWCAP_MASK "
    "LD_TRACE_LOADED_OBJECTS LD_USE_LOAD_BIAS LD_VERBOSE LD_WARN GLIBC_TUNABLES GCONV_PATH "
    "LOCPATH MALLOC_TRACE ENV BASH_ENV PYTHONPATH PYTHONHOME PYTHONSTARTUP"
)
# Then env -i: no variable of the node's survives, named above or not. LC_ALL=C makes the C
# library read no locale files; python takes it as UTF-8 (PEP 540).
_ENVIRONMENT: Final = (
    "/usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "
    "HOME=/root LC_ALL=C"
)


def start_command(toolkit: Toolkit, *words: str) -> str:
    """Become the agent; status `EXIT_NO_TOOLKIT` if the toolkit is not there.

    `EXIT_OTHER_ARCH` if the node says that it is of another architecture: its kernel would refuse
    our loader, and a shell would then read it as a script.
    """
    agent = shlex.join(toolkit.argv(*words))
    return _in_sh(
        f"[ $(uname -m) = {shlex.quote(toolkit.arch)} ] || exit {EXIT_OTHER_ARCH}; "
        f"cd / && [ -d {shlex.quote(toolkit.node_dir)} ] || exit {EXIT_NO_TOOLKIT}; "
        f"unset {_UNSET}; exec {_ENVIRONMENT} {agent}"
    )


def push_command(toolkit: Toolkit) -> str:
    """Unpack the archive on stdin beside the toolkit's place, then move it there.

    A toolkit that stands there is replaced, since one is pushed over another only when that
    is damaged. What an interrupted push left is removed.
    """
    final = shlex.quote(toolkit.node_dir)
    parent = shlex.quote(posixpath.dirname(toolkit.node_dir))
    return _in_sh(
        f"umask 077; unset {_UNSET}; mkdir -p {parent} && cd {parent} || exit 1; "
        "rm -rf ./*.tmp.* ./*.old.*; "
        f"T={final}.tmp.$$; O={final}.old.$$; mkdir $T || exit 1; "
        f"if ! tar -xzpof - -C $T; then rm -rf $T; exit {EXIT_CANNOT_UNPACK}; fi; "
        f"if [ -d {final} ]; then mv -T {final} $O; fi; "
        f"mv -T $T {final} || exit 1; rm -rf $O; exit 0"
    )


def _in_sh(script: str) -> str:
    if "'" in script:
        raise ValueError("a path with a quote has no place on a node")
    return f"exec /bin/sh -c '{script}'"

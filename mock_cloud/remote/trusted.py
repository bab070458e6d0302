# SPDX-License-Identifier: GPL-2.0-or-later
"""A node after its verdict: the only channel over which sources can be sent."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from mock_cloud.errors import HostKeyMismatch, MockCloudError, TransportError
from mock_cloud.model import Blob, HostKey, NodeAddress, Toolkit, TrustedNode
from mock_cloud.remote import imaging
from mock_cloud.remote.bulk import HEADER_MAX_BYTES, BulkChannels
from mock_cloud.remote.channel import AgentChannel, Call
from mock_cloud.remote.download import Fetch, fetch_results
from mock_cloud.remote.follow import OnData, follow_job, read_order_log
from mock_cloud.remote.forward import Forward, ForwardedStream
from mock_cloud.remote.hardening_requests import Request, ask_all
from mock_cloud.remote.link import Link
from mock_cloud.remote.reuse import Elsewhere, Here, fetch_on_node, find_here
from mock_cloud.remote.unverified import UnverifiedNode, start_command
from mock_cloud.remote.upload import Progress, send_blobs
from mock_cloud.wire.decode import Malformed
from mock_cloud.wire.frames import HEADER_MAX, FrameHeader
from mock_cloud.wire.layout import SERVE
from mock_cloud.wire.reach import ENDS_MAX
from mock_cloud.wire.replies import (
    JobEnd,
    ResultFile,
    parse_reached,
    parse_results,
)

_ANSWER_S: Final = 30.0
_START_S: Final = 60.0
_CANCEL_S: Final = 60.0
_HASHING_S: Final = 600.0


def trust(node: UnverifiedNode, proof: TrustedNode) -> TrustedChannel:
    """Open the gate of the agent on `node`, whose evidence gave `proof`.

    HostKeyMismatch if the proof was made for another host key than this connection's.
    """
    if not isinstance(proof, TrustedNode):
        raise TypeError("trust needs the proof that attest.verify returns")
    if proof.host_key != node.host_key:
        raise HostKeyMismatch(
            f"{node.address}: the verdict is for host key {proof.host_key.fingerprint}, "
            f"the connection shows {node.host_key.fingerprint}",
            hint="Nothing was sent. Attest this node itself.",
        )
    return _open_gate(node, proof.verdict_sha256)


def trust_held(node: UnverifiedNode, host_key: HostKey, verdict_sha256: str) -> TrustedChannel:
    """The same on a node that another command of this user attested: docs/decisions/0070 and 0094.

    That one works there now, or was the last one, not long ago. `host_key` is the lease's, which
    none but this user's commands and the node have had. HostKeyMismatch.
    """
    if host_key != node.host_key or not verdict_sha256:
        raise HostKeyMismatch(f"{node.address}: the connection is not to the node of that verdict")
    return _open_gate(node, verdict_sha256)


def _open_gate(node: UnverifiedNode, verdict_sha256: str) -> TrustedChannel:
    link, agent, toolkit = node._hand_over()
    token = secrets.token_hex(32)
    began = time.monotonic()
    agent.ask("trust", within_s=_ANSWER_S, verdict=verdict_sha256, token=token)
    return TrustedChannel(link, agent, toolkit, token, time.monotonic() - began)


class TrustedChannel:
    """Sends inputs, runs jobs, fetches results. Made by `trust` and `trust_held` only.

    One thread uses it at a time, but for `job_input`, `resize` and `cancel_job`, which may be
    called while another follows the job. `close` is idempotent; jobs go on without us.
    """

    def __init__(
        self, link: Link, agent: AgentChannel, toolkit: Toolkit, token: str, rtt_s: float
    ) -> None:
        self._link = link
        self._agent = agent
        self._toolkit = toolkit
        self._token = token
        self._rtt_s = rtt_s
        self._bulk = BulkChannels(self._open_bulk)

    @property
    def address(self) -> NodeAddress:
        return self._link.address

    def harden(self, *requests: Request) -> list[MockCloudError]:
        """Have the node do all of `requests`, in their order, in one round trip.

        See `hardening_requests.ask_all`.
        """
        return ask_all(self._agent, requests)

    def find_reached(self, ends: Sequence[tuple[str, int]], within_s: float) -> list[bool]:
        """For each host and port whether the node reaches it, within so many seconds."""
        found: list[bool] = []
        for start in range(0, len(ends), ENDS_MAX):
            part = [list(end) for end in ends[start : start + ENDS_MAX]]
            ms = int(within_s * 1000)
            answer = self._agent.ask("reach", within_s=_ANSWER_S, ends=part, within_ms=ms)
            try:
                found += parse_reached(answer, len(part))
            except Malformed as error:
                raise self._agent.protocol_error(f"reach: {error}") from error
        return found

    def forward(self, serve: Callable[[ForwardedStream], None], port: int = 0) -> Forward:
        """A port of the node's loopback whose connections `serve` gets. See `forward.Forward`."""
        return Forward(self._link, serve, port)

    def send_blobs(self, blobs: Sequence[Blob], progress: Progress | None = None) -> int:
        """Send those that the node lacks; the number of bytes sent. See `upload.send_blobs`."""
        return send_blobs(self._agent, self._bulk, blobs, rtt_s=self._rtt_s, progress=progress)

    def fetch_elsewhere(
        self, files: Mapping[str, Sequence[Elsewhere]], tell: Callable[[str], None]
    ) -> list[str]:
        """Have the node fetch parts of inputs from web servers. See `reuse.fetch_on_node`."""
        return fetch_on_node(self._agent, files, tell)

    def start_job(self, job: str, request: bytes) -> None:
        """Start a job on the node from its JSON request. RemoteCommandError."""
        self._agent.ask("job_start", request, within_s=_START_S, job=job)

    def follow_job(
        self,
        job: str,
        offsets: Mapping[str, int],
        on_data: OnData,
        *,
        within_s: float,
        idle_s: float | None = None,
    ) -> JobEnd:
        """Pass on what the job's logs gain until it ends. See `follow.follow_job`."""
        return follow_job(self._agent, job, offsets, on_data, within_s=within_s, idle_s=idle_s)

    def job_input(self, job: str, data: bytes, *, eof: bool = False) -> None:
        """Bytes for the job's terminal or standard input. Not answered."""
        self._agent.post("job_input", data, job=job, eof=eof)

    def resize(self, job: str, rows: int, columns: int) -> None:
        """The user's terminal has a new size. Not answered."""
        self._agent.post("job_resize", job=job, rows=rows, columns=columns)

    def cancel_job(self, job: str, *, keep_chroot: bool = False) -> bool:
        """Stop the job; whether all its processes and mounts are gone. Idempotent.

        `keep_chroot`: the chroot stays as it is, whatever is to be cleaned up after a failure.
        """
        reply = self._agent.ask("job_cancel", within_s=_CANCEL_S, job=job, keep=keep_chroot)
        return reply.get("clean") is True

    def results(self, job: str) -> tuple[ResultFile, ...]:
        """What the job left, hashed by the node now."""
        return _list_results(self._agent, job)

    def sign_by_owner(self, job: str, nonce: str) -> tuple[str, str]:
        """The owner's statement about the job's packages, and the signature. RemoteCommandError.

        Nothing of it is verified: see `provenance.owner`.
        """
        answer = self._agent.ask("owner_sign", within_s=_HASHING_S, job=job, nonce=nonce)
        found = answer.get("statement"), answer.get("signature")
        if not all(isinstance(one, str) for one in found):
            raise self._agent.protocol_error("owner_sign: no statement, or no signature")
        return str(found[0]), str(found[1])

    @contextmanager
    def beside(self) -> Iterator[ResultsBeside]:
        """A channel of its own for results of a job that is followed, and goes on meanwhile.

        The one that follows it would wait for its reader, who waits for results.
        """
        with closing(self._open_further(HEADER_MAX)) as agent:
            yield ResultsBeside(agent)

    def fetch(self, job: str, wanted: Sequence[Fetch], progress: Progress | None = None) -> None:
        """Fetch results, checked against their listing. See `download.fetch_results`."""
        fetch_results(self._agent, self._bulk, job, wanted, rtt_s=self._rtt_s, progress=progress)

    def find_here(self, job: str, file: ResultFile, paths: Sequence[Path]) -> tuple[Here, ...]:
        """What `paths` have of a result already. See `reuse.find_here`."""
        return find_here(self._agent, job, file, paths)

    def install(self, order: bytes, on_output: imaging.OnOutput) -> tuple[int, bool]:
        """Install packages in the node's own system. See `imaging.install`."""
        return imaging.install(self._agent, order, on_output)

    def reboot(self) -> None:
        """Start the node anew; the connection is of no use then. See `imaging.reboot`."""
        imaging.reboot(self._agent)

    def cleanse(self) -> tuple[str, ...]:
        """Take out what is this node's own, its keys among it; the paths that are gone.

        The connection goes on; another one can't be made any more.
        """
        return imaging.cleanse(self._agent)

    def seal(self) -> None:
        """Remove all that mock-cloud put on the node but chroot layers. The last thing to ask."""
        imaging.seal(self._agent)

    def order_log(self) -> bytes:
        """What the agent noted of this connection so far. See `follow.read_order_log`."""
        return read_order_log(self._agent)

    def forget(self, job: str) -> None:
        """Remove the job's directory from the node."""
        self._agent.ask("forget", within_s=_ANSWER_S, job=job)

    def ping(self) -> float:
        """Round trip to the agent, in seconds."""
        began = time.monotonic()
        self._agent.ask("ping", within_s=_ANSWER_S)
        self._rtt_s = time.monotonic() - began
        return self._rtt_s

    def prove_alive(self, within_s: float) -> None:
        """Give the connection up unless the agent answers so soon. ConnectionLost."""
        try:
            self._agent.ask("ping", within_s=within_s)
        except TransportError as error:
            self._link.fail_silent(f"the node did not answer within {within_s:g} s")
            raise self._link.lost() from error

    def close(self) -> None:
        self._link.close()
        self._bulk.close()

    def _open_bulk(self) -> AgentChannel:
        return self._open_further(HEADER_MAX_BYTES)

    def _open_further(self, header_max: int) -> AgentChannel:
        command = start_command(self._toolkit, SERVE)
        channel = AgentChannel(self._link, command, space=self._agent.space, header_max=header_max)
        # Not waited for: if it fails, what follows is refused as untrusted.
        channel.post("join", token=self._token)
        return channel


class ResultsBeside:
    """Lists and fetches results over a channel that does nothing else."""

    def __init__(self, agent: AgentChannel) -> None:
        self._agent = agent

    def results(self, job: str) -> tuple[ResultFile, ...]:
        """See `TrustedChannel.results`."""
        return _list_results(self._agent, job)

    def fetch(self, job: str, wanted: Sequence[Fetch], progress: Progress | None = None) -> None:
        """See `TrustedChannel.fetch`; over this one channel."""
        none = BulkChannels(lambda: self._agent)
        fetch_results(self._agent, none, job, wanted, rtt_s=0.0, progress=progress)


def _list_results(agent: AgentChannel, job: str) -> tuple[ResultFile, ...]:
    with agent.call("results", job=job) as call:
        try:
            return parse_results(_answers(call))
        except Malformed as error:
            raise agent.protocol_error(f"results: {error}") from error


def _answers(call: Call) -> Iterator[FrameHeader]:
    """Those to one request, without bodies; all but the last hold something. Malformed."""
    more = True
    while more:
        header, body = call.next(within_s=_HASHING_S)
        more = header.pop("more", False) is True
        if body or (more and not any(header.values())):
            raise Malformed("an empty piece, or bytes that nobody asked for")
        yield header

# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's frames loop: one process a channel, requests in, answers out.

Three places run operations. The loop itself does what is short, or must keep its place
among the frames (`put`). One worker does the longer ones, in order. Measuring, following
and cancelling each have a thread of their own. So a ping is always answered.
"""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, BinaryIO, Final

from mock_cloud.agent import serve_facts
from mock_cloud.agent.blobs import Blobs
from mock_cloud.agent.serve_hardening import HOST_KEY_KINDS, LEASE_KINDS, NodeHardening
from mock_cloud.agent.serve_launch import Launcher
from mock_cloud.agent.serve_trust import Gate
from mock_cloud.agent.serve_wire import (
    Answers,
    Failure,
    check_keys,
    hex_digest,
    job_id,
    private_streams,
    result_name,
    size_of,
    texts,
)
from mock_cloud.wire.chunks import unpack_chunks
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.frames import BODY_MAX, PROTOCOL_VERSION, FrameError, FrameHeader, read_frame
from mock_cloud.wire.layout import DEADMAN, SERVE, WORKSPACE
from mock_cloud.wire.orderlog import OrderLog

# What deals with jobs is imported where it is used: bulk agents never need it, and a transfer
# waits for them to start.
if TYPE_CHECKING:
    from mock_cloud.agent.serve_jobs import JobFiles, Send

_TEXT_SHOWN: Final = 200
_WAITING_MAX: Final = 1024
"""Requests that wait for the worker; a controller asks for 256 pieces ahead."""
_THREADS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class _Request:
    id: int
    header: FrameHeader
    body: bytes


@dataclass(frozen=True, slots=True)
class _Operation:
    """How one op is checked and run. `place`: ``loop``, ``worker`` or ``thread``."""

    run: Callable[[_Request], FrameHeader | None]
    kinds: Mapping[str, type] = field(default_factory=dict)
    place: str = "loop"
    body: bool = False
    optional: frozenset[str] = frozenset()


class Server:
    """Serves one channel until its end."""

    def __init__(self, workspace: str, answers: Answers) -> None:
        self._workspace = workspace
        self._answers = answers
        os.makedirs(workspace, mode=0o700, exist_ok=True)
        self._log = OrderLog(workspace)
        self._gate = Gate(workspace)
        self._blobs = Blobs(workspace)
        self._launcher = Launcher(workspace)
        self._care = NodeHardening(workspace, self._log)
        self._given_up: dict[str, Failure] = {}
        self._work: queue.Queue[Callable[[], None]] = queue.Queue(_WAITING_MAX)
        self._operations = self._table()

    def serve(self, stream: BinaryIO) -> int:
        """Answer frames until the stream ends. 0, or 1 when it held something else."""
        self._log.write("started", f"protocol {PROTOCOL_VERSION}")
        threading.Thread(target=self._run_worker, name="worker", daemon=True).start()
        try:
            while (frame := read_frame(stream)) is not None:
                self._care.heard()
                self._take(*frame)
        except (FrameError, OSError) as error:
            self._log.write("broken", str(error))
            print(f"agent: {error}", file=sys.stderr)
            return 1
        finally:
            self._answers.gone.set()
            self._gate.close()
            self._launcher.close()
            self._care.close()
            self._log.write("ended")
        return 0

    def _run_worker(self) -> None:
        while True:
            self._work.get()()

    def _take(self, header: FrameHeader, body: bytes) -> None:
        request_id = header.get("id")
        if type(request_id) is not int:
            raise FrameError("a request has no id")
        request = _Request(request_id, header, body)
        name = header.get("op")
        name = name if isinstance(name, str) else type(name).__name__  # not a list of lists as text
        try:
            operation = self._checked(name, request)
        except Failure as failure:
            self._log.write("refused-operation", f"{failure.code} {name[:_TEXT_SHOWN]}")
            self._answers.fail(request_id, failure)
            return
        if operation.place == "loop":
            self._perform(operation, request)
        elif operation.place == "worker":
            self._work.put(lambda: self._perform(operation, request))  # blocks past _WAITING_MAX
        elif threading.active_count() > _THREADS_MAX:
            self._answers.fail(request_id, Failure("busy", "too many requests at once"))
        else:
            arguments = (operation, request)
            threading.Thread(target=self._perform, args=arguments, daemon=True).start()

    def _checked(self, name: str, request: _Request) -> _Operation:
        operation = self._operations.get(name)
        if operation is None:
            raise Failure("unknown-op", f"unknown operation {name[:_TEXT_SHOWN]!r}")
        self._gate.check(name)
        check_keys(request.header, operation.kinds, operation.optional)
        if request.body and not operation.body:
            raise Failure("bad-request", f"{name} has no body")
        return operation

    def _perform(self, operation: _Operation, request: _Request) -> None:
        try:
            self._answer(operation, request)
        except OSError:
            if not self._answers.gone.is_set():
                raise

    def _answer(self, operation: _Operation, request: _Request) -> None:
        try:
            answer = operation.run(request)
        except Failure as failure:
            self._answers.fail(request.id, failure)
        except OSError as error:
            if self._answers.gone.is_set():
                return
            what = str(request.header["op"])
            self._answers.fail(request.id, Failure.from_os_error(error, what))
        except ImportError as error:  # no fault of this node's
            self._answers.fail(request.id, Failure("toolkit", str(error)))
        except Exception as error:  # the edge: without an answer the controller would wait
            print(f"agent: {request.header['op']}: {error!r}", file=sys.stderr)
            self._answers.fail(request.id, Failure("internal", f"{error!r}"))
        else:
            if answer is not None:
                self._send_last(request, answer)

    def _send_last(self, request: _Request, answer: FrameHeader) -> None:
        try:
            self._answers.send({"id": request.id, **answer})
        except FrameError as error:  # nothing was sent; without an answer the controller would wait
            self._answers.fail(request.id, Failure("internal", f"the answer is a {error}"))

    def _sender(self, request: _Request) -> Send:
        return lambda header, body: self._answers.send({"id": request.id, **header}, body)

    # Before trust

    def _hello(self, request: _Request) -> FrameHeader:
        self._log.write("hello", request.header["nonce"][:_TEXT_SHOWN])
        return serve_facts.hello()

    def _reload(self, request: _Request) -> FrameHeader:
        from mock_cloud.agent import sshd

        keep = request.header["keep"]
        if any(type(pid) is not int for pid in keep):
            raise Failure("bad-request", "a pid is not int")
        answer = sshd.reload(keep)
        self._log.write("reloaded", f"sshd {answer['listener']}")
        return answer

    def _measure(self, request: _Request) -> FrameHeader:
        asked = request.header
        digest, pieces = serve_facts.evidence(
            asked["nonce"],
            texts(asked["skip"], "skip"),
            texts(asked["trees"], "trees"),
            asked["processes"],
        )
        send = self._sender(request)
        for piece in pieces:
            send({"more": True}, piece)
        self._log.write("measured", digest)
        # Both are ready by the time of the verdict, and do nothing before it.
        self._launcher.prepare()
        self._work.put(_load_job_modules)
        return {"sha256": digest}

    def _headers(self, request: _Request) -> FrameHeader:
        send = self._sender(request)
        digests = [hex_digest(item) for item in request.header["digests"]]
        for header, body in serve_facts.headers(digests):
            send({**header, "more": True}, body)
        return {}

    def _order(self, request: _Request) -> FrameHeader:
        text = self._log.since_start()
        send = self._sender(request)
        for start in range(0, len(text), BODY_MAX):
            send({"more": True}, text[start : start + BODY_MAX])
        return {}

    def _ping(self, request: _Request) -> FrameHeader:
        return {"clock": time.time()}

    def _trust(self, request: _Request) -> FrameHeader:
        verdict = hex_digest(request.header["verdict"])
        self._gate.trust(request.header["token"])
        self._log.write("trusted", verdict)
        # Where an earlier verdict holds nothing was measured: they are made while inputs come.
        self._work.put(self._launcher.prepare)
        self._work.put(_load_job_modules)
        return {}

    def _join(self, request: _Request) -> FrameHeader:
        self._gate.join(request.header["token"])
        self._log.write("joined")
        return {}

    def _host_key(self, request: _Request) -> FrameHeader:
        return self._care.host_key(request.header, request.body)

    def _reach(self, request: _Request) -> FrameHeader:
        from mock_cloud.wire.reach import find_reached, parse_ends

        within_ms = request.header["within_ms"]
        try:
            ends = parse_ends(request.header["ends"], within_ms)
        except ValueError as error:
            raise Failure("bad-request", str(error)) from error
        return {"reached": find_reached(ends, within_ms / 1000)}

    # Blobs

    def _have(self, request: _Request) -> FrameHeader:
        missing, partial = self._blobs.missing([hex_digest(d) for d in request.header["digests"]])
        kept = self._blobs.kept_bytes() if missing else 0
        return {"missing": missing, "partial": partial, "kept": kept}

    def _reuse(self, request: _Request) -> FrameHeader:
        digest = hex_digest(request.header["digest"])
        size = size_of(request.header["size"], "size")
        try:
            chunks = unpack_chunks(request.body, size)
        except ValueError as error:
            raise Failure("bad-request", str(error)) from error
        return {"held": self._blobs.reuse(digest, size, chunks, fine=request.header["fine"])}

    def _fetch(self, request: _Request) -> FrameHeader:
        from mock_cloud.agent.fetch import fetch_blob

        asked = request.header
        digest, size = hex_digest(asked["digest"]), size_of(asked["size"], "size")
        fetch_blob(
            self._blobs, digest, size, asked["url"], size_of(asked["within_ms"], "ms") / 1000
        )
        self._log.write("fetched", digest)
        return {}

    def _put(self, request: _Request) -> None:
        digest = hex_digest(request.header["digest"])
        if digest in self._given_up:
            return  # said once; the controller learns it before it sends put_end
        size = size_of(request.header["size"], "size")
        offset = size_of(request.header["offset"], "offset")
        try:
            self._blobs.put(digest, size, offset, request.body)
        except Failure as failure:
            if failure.code != "bad-request":
                self._given_up[digest] = failure
            raise

    def _put_end(self, request: _Request) -> FrameHeader:
        digest = hex_digest(request.header["digest"])
        failure = self._given_up.pop(digest, None)
        if failure is not None:
            raise failure
        self._blobs.finish(digest, size_of(request.header["size"], "size"))
        self._log.write("blob", digest)
        return {}

    # Images

    def _accounts(self, request: _Request) -> FrameHeader:
        send = self._sender(request)
        for path, data in serve_facts.accounts():
            send({"path": path, "more": True}, data)
        return {}

    def _image(self, request: _Request) -> FrameHeader:
        from mock_cloud.agent import serve_images

        name = request.header["op"]
        self._log.write(name, hashlib.sha256(request.body).hexdigest() if request.body else "")
        send = self._sender(request)
        if name == "install":
            return serve_images.answer_install(
                self._workspace, request.body, send, self._answers.gone
            )
        return serve_images.answer_step(self._workspace, name)

    # Jobs

    def _job(self, request: _Request) -> JobFiles:
        from mock_cloud.agent.serve_jobs import JobFiles

        return JobFiles(self._workspace, job_id(request.header["job"]))

    def _job_start(self, request: _Request) -> FrameHeader:
        from mock_cloud.agent.serve_jobs import has_started

        job = job_id(request.header["job"])
        if not has_started(self._workspace, job, request.body):
            self._care.before_job()
            self._log.write("job-start", job)
            self._launcher.start(job, request.body)
        return {}

    def _job_follow(self, request: _Request) -> FrameHeader | None:
        from mock_cloud.agent.serve_jobs import follow

        raw = request.header["offsets"]
        offsets = {}
        for name, offset in raw.items():
            if type(offset) is not int:
                raise Failure("bad-request", "an offset is not int")
            offsets[result_name(name)] = size_of(offset, "offset")
        job = self._job(request)
        return follow(job, offsets, self._sender(request), self._answers.gone)

    def _job_input(self, request: _Request) -> None:
        from mock_cloud.agent.job import running

        job = job_id(request.header["job"])
        eof = request.header.get("eof", False)
        running.write_input(self._workspace, job, request.body, eof=eof)

    def _job_resize(self, request: _Request) -> None:
        from mock_cloud.agent.job import running

        rows = size_of(request.header["rows"], "rows") & 0xFFFF
        columns = size_of(request.header["columns"], "columns") & 0xFFFF
        running.resize(self._workspace, job_id(request.header["job"]), rows, columns)

    def _job_cancel(self, request: _Request) -> FrameHeader:
        from mock_cloud.agent.job import running

        job = job_id(request.header["job"])
        keep = bool(request.header.get("keep"))
        clean = running.cancel(self._workspace, job, keep_chroot=keep)
        self._log.write("job-cancel", f"{job} {'clean' if clean else 'not clean'}")
        return {"clean": clean}

    def _results(self, request: _Request) -> FrameHeader:
        from mock_cloud.agent.serve_jobs import list_results

        job = self._job(request)
        self._log.write("results", job.name)
        return {"files": list_results(job, self._sender(request))}

    def _owner_sign(self, request: _Request) -> FrameHeader:
        from mock_cloud.agent.serve_jobs import sign_by_owner

        job = self._job(request)
        self._log.write("owner-sign", job.name)
        return sign_by_owner(job, request.header["nonce"])

    def _get(self, request: _Request) -> FrameHeader:
        from mock_cloud.agent.serve_jobs import send_result

        asked = request.header
        name = result_name(asked["name"])
        offset, length = size_of(asked["offset"], "offset"), size_of(asked["length"], "length")
        job = self._job(request)
        send_result(job, name, offset, length, self._sender(request))
        return {}

    def _chunks(self, request: _Request) -> FrameHeader:
        from mock_cloud.agent.serve_jobs import send_chunks

        asked = request.header
        ranges = [(size_of(start, "start"), size_of(end, "end")) for start, end in asked["ranges"]]
        send_chunks(self._job(request), result_name(asked["name"]), ranges, self._sender(request))
        return {}

    def _forget(self, request: _Request) -> FrameHeader:
        from mock_cloud.agent.serve_jobs import forget

        forget(self._job(request))
        return {}

    def _table(self) -> dict[str, _Operation]:
        job = {"job": str}
        blob = {"digest": str, "size": int}
        measure = {"nonce": str, "skip": list, "trees": list, "processes": int}
        resize = {"job": str, "rows": int, "columns": int}
        fetch = {"job": str, "name": str, "offset": int, "length": int}
        eof = frozenset({"eof"})
        return {
            "hello": _Operation(self._hello, {"nonce": str}),
            "reload": _Operation(self._reload, {"keep": list}, "worker"),
            "measure": _Operation(self._measure, measure, "thread"),
            "headers": _Operation(self._headers, {"digests": list}, "worker"),
            "order": _Operation(self._order),
            "ping": _Operation(self._ping),
            "trust": _Operation(self._trust, {"verdict": str, "token": str}),
            "join": _Operation(self._join, {"token": str}),
            "lease": _Operation(lambda one: self._care.lease(one.header), LEASE_KINDS, "worker"),
            "host_key": _Operation(self._host_key, HOST_KEY_KINDS, "worker", body=True),
            "close_metadata": _Operation(lambda _: self._care.close_metadata(), place="worker"),
            "reach": _Operation(self._reach, {"ends": list, "within_ms": int}, "thread"),
            "have": _Operation(self._have, {"digests": list}, "worker"),
            "reuse": _Operation(self._reuse, {**blob, "fine": bool}, "worker", body=True),
            "fetch": _Operation(self._fetch, {**blob, "url": str, "within_ms": int}, "thread"),
            "put": _Operation(self._put, {**blob, "offset": int}, body=True),
            "put_end": _Operation(self._put_end, blob, "worker"),
            "job_start": _Operation(self._job_start, job, "worker", body=True),
            "job_follow": _Operation(self._job_follow, {**job, "offsets": dict}, "thread"),
            "job_input": _Operation(self._job_input, {**job, "eof": bool}, body=True, optional=eof),
            "job_resize": _Operation(self._job_resize, resize),
            "job_cancel": _Operation(
                self._job_cancel, {**job, "keep": bool}, "thread", optional=frozenset({"keep"})
            ),
            "results": _Operation(self._results, job, "worker"),
            "owner_sign": _Operation(self._owner_sign, {**job, "nonce": str}, "worker"),
            "get": _Operation(self._get, fetch, "worker"),
            "chunks": _Operation(self._chunks, {**job, "name": str, "ranges": list}, "worker"),
            "forget": _Operation(self._forget, job, "worker"),
            "accounts": _Operation(self._accounts),
            "install": _Operation(self._image, place="thread", body=True),
            "reboot": _Operation(self._image, place="worker"),
            "cleanse": _Operation(self._image, place="worker"),
            "seal": _Operation(self._image, place="worker"),
        }


def _load_job_modules() -> None:
    """While the evidence is judged: what is loaded by then, nobody waits for later."""
    import mock_cloud.agent.job.running
    import mock_cloud.agent.serve_jobs  # noqa: F401


def main(argv: list[str]) -> int:
    """``serve [--workspace W]``: serve frames on stdin and stdout. 2 on a wrong command.

    ``deadman`` is how the agent starts the timer.
    """
    workspace = WORKSPACE
    if argv[1:2] == ["--workspace"] and len(argv) == 3:
        workspace = argv[2]
    elif len(argv) != 1:
        argv = []
    os.umask(0o022)
    if argv[:1] not in ([SERVE], [DEADMAN]):
        print("usage: serve [--workspace DIRECTORY]", file=sys.stderr)
        return 2
    if argv[0] == DEADMAN:
        from mock_cloud.agent.deadman import process

        return process.main(workspace)
    with private_streams() as (stream, sink):
        return Server(workspace, Answers(sink)).serve(stream)

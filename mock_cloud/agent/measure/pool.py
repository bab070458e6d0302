# SPDX-License-Identifier: GPL-2.0-or-later
"""Worker processes that measure batches of tasks.

Processes, since threads of one interpreter wait for each other. Batches lie one after the
other in an anonymous file; a ticket on a pipe (offset, length) says where, and each worker
takes the next ticket when it is free. What a worker found comes back in an anonymous file of
its own. marshal, as both ends are the same interpreter and nobody else has the files.
"""

from __future__ import annotations

import marshal
import os
import struct
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Final

from mock_cloud.agent.measure.files import Deferred, Meter, Seen
from mock_cloud.agent.measure.walk import Root, Task, Unreadable
from mock_cloud.wire.dataclass import dataclass

_TICKET: Final = struct.Struct("<QQ")  # divides a pipe's pages, so no read is cut

SEPARATOR: Final = ",\n"  # never inside an entry: its JSON has no raw newline


class WorkerFailed(RuntimeError):
    """A worker process ended without handing in what it measured."""


@dataclass(slots=True)
class Output:
    """What all workers found. `rows` by sink: entries as JSON text, joined by `SEPARATOR`.

    `totals` by sink: regular files and their bytes. `seen`: see `Meter`.
    """

    rows: dict[int, list[str]] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)
    deferred: list[Deferred] = field(default_factory=list)
    totals: dict[int, tuple[int, int]] = field(default_factory=dict)
    seen: Seen = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Worker:
    pid: int
    result_fd: int


def run_workers(
    roots: list[Root],
    batches: Iterable[list[Task]],
    *,
    processes: int,
    defer: bool,
    known: Seen | None = None,
    meanwhile: Callable[[frozenset[int]], None] | None = None,
    output: Output,
) -> None:
    """Measure all `batches` with `processes` workers and add what they found to `output`.

    `known`: see `Meter`. `meanwhile` is called with the pids once all batches are handed out. Every
    worker is reaped before this returns or raises. Raises WorkerFailed.
    """
    tasks_fd = os.memfd_create("tasks")
    read_fd, write_fd = os.pipe()
    workers: list[_Worker] = []
    try:
        for _ in range(processes):
            meter = Meter(roots, known)
            workers.append(_start(meter, tasks_fd, read_fd, write_fd, defer))
        os.close(read_fd)
        read_fd = -1
        _hand_out(batches, tasks_fd, write_fd)
        os.close(write_fd)
        write_fd = -1
        if meanwhile is not None:
            meanwhile(frozenset(worker.pid for worker in workers))
    finally:
        for fd in (read_fd, write_fd, tasks_fd):
            if fd >= 0:
                os.close(fd)
        results = [_finish(worker) for worker in workers]
    for result in results:
        _add(output, result)


def _start(meter: Meter, tasks_fd: int, read_fd: int, write_fd: int, defer: bool) -> _Worker:
    result_fd = os.memfd_create("result")
    pid = os.fork()
    if pid:
        return _Worker(pid, result_fd)
    status = 1
    try:
        os.close(write_fd)
        _work(meter, tasks_fd, read_fd, result_fd, defer)
        status = 0
    except BaseException:  # the child must not return into its parent's code
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(status)


def _work(meter: Meter, tasks_fd: int, read_fd: int, result_fd: int, defer: bool) -> None:
    while ticket := os.read(read_fd, _TICKET.size):
        offset, length = _TICKET.unpack(ticket)
        for task in marshal.loads(os.pread(tasks_fd, length, offset)):  # noqa: S302
            meter.measure(task, defer=defer)
    rows = {sink: SEPARATOR.join(lines) for sink, lines in meter.rows.items() if lines}
    found = (rows, meter.unreadable, meter.deferred, meter.totals, meter.seen)
    with open(result_fd, "wb") as result:
        marshal.dump(found, result)


def _hand_out(batches: Iterable[list[Task]], tasks_fd: int, write_fd: int) -> None:
    offset = 0
    for batch in batches:
        text = marshal.dumps(batch)
        os.pwrite(tasks_fd, text, offset)
        try:
            os.write(write_fd, _TICKET.pack(offset, len(text)))
        except BrokenPipeError:
            return  # no worker is left: told when they are reaped
        offset += len(text)


def _finish(worker: _Worker) -> bytes | None:
    _, status = os.waitpid(worker.pid, 0)
    with open(worker.result_fd, "rb") as result:
        result.seek(0)
        return result.read() if status == 0 else None


def _add(output: Output, result: bytes | None) -> None:
    if result is None:
        raise WorkerFailed("a measuring process failed; its error is on the agent's stderr")
    rows, unreadable, deferred, totals, seen = marshal.loads(result)  # noqa: S302
    for sink, text in rows.items():
        output.rows.setdefault(sink, []).append(text)
    for sink, (files, size_bytes) in totals.items():
        before = output.totals.get(sink, (0, 0))
        output.totals[sink] = (before[0] + files, before[1] + size_bytes)
    output.unreadable += unreadable
    output.deferred += deferred
    output.seen.update(seen)

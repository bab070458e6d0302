# SPDX-License-Identifier: GPL-2.0-or-later
"""What a hostile node says on the agent's channel: an error in time, and little memory."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack import victim
from tests.attack.conftest import Between
from tests.attack.hostile_node import MODES, Instead
from tests.component.remote_parts import LocalToolkit
from tests.integration.conftest import User
from tests.integration.faults import Earlier, check_failure
from tests.lab.sshd import Sshd

PEAK_MIB = 300
"""What a controller may take, whatever a node sends."""

# A minute of silence, and what another case shows as well.
SLOW = (
    "fetch-flood",
    "evidence-files",
    "evidence-texts",
    "evidence-lists",
    "padded",
    "flood-stderr",
    "flood-window",
    "follow-padded",
    "surrogate-error",
    "results-endless",
)
BEFORE = "start measure judge"
AFTER = "start trust"

# Mode, steps of the controller, the one that ends it, what it ends with, part of the message.
FATES = [
    ("nested", BEFORE, "measure", "TransportError", "header is not JSON"),
    ("surrogate", BEFORE, "measure", "TransportError", "hello: "),
    ("surrogate-error", BEFORE, "measure", "RemoteCommandError", r"\ud800"),
    ("clock", BEFORE, "measure", "TransportError", "clock: not a number in bounds"),
    ("unasked", BEFORE, "start", "TransportError", "an answer to no request"),
    ("twice", "start trust wait", "trust", "TransportError", "an answer to no request"),
    ("endless", BEFORE, "measure", "TransportError", "empty pieces"),
    ("padded", BEFORE, "measure", "TransportError", "not gzip data"),
    ("flood-call", "start wait", "wait", "TransportError", "no answer to hello within 8 s"),
    ("flood-stderr", "start wait", "wait", "TransportError", "no answer to hello within 8 s"),
    ("flood-window", "start wait", "wait", "ConnectionLost", "more than its window"),
    ("evidence-lists", BEFORE, "measure", "EvidenceError", "malformed"),
    ("evidence-one-document", BEFORE, "measure", "EvidenceError", "a record of more than"),
    ("evidence-bomb", BEFORE, "measure", "TransportError", "too large"),
    ("evidence-texts", BEFORE, "measure", "EvidenceError", "more is said"),
    ("evidence-files", BEFORE, "judge", "NodeRefused", ""),
    ("follow-endless", f"{AFTER} follow", "follow", "TransportError", "job_follow"),
    ("follow-padded", f"{AFTER} follow", "follow", "TransportError", "job_follow"),
    ("results", f"{AFTER} results", "results", "TransportError", "results: "),
    ("results-endless", f"{AFTER} results", "results", "TransportError", "more than 100000"),
    ("results-empty", f"{AFTER} results", "results", "TransportError", "an empty piece"),
    ("fetch-flood", f"{AFTER} flood", "flood", "TransportError", "no answer to get within"),
    ("chunks-beyond", f"{AFTER} cut", "cut", "TransportError", "beyond the file"),
    ("chunks-endless", f"{AFTER} cut", "cut", "TransportError", "more than the file can have"),
    ("chunks-empty", f"{AFTER} cut", "cut", "TransportError", "an empty piece"),
    ("fetch-more", f"{AFTER} fetch", "fetch", "ResultError", "more bytes than announced"),
]


@pytest.mark.attack(
    "node, before and after the verdict",
    "frames that kill the reader, never end, or cost a thousand times their size",
    "an error that names the node, in time; the controller stays below 300 MiB",
)
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(fate, id=fate[0], marks=[pytest.mark.slow] * (fate[0] in SLOW))
        for fate in FATES
    ],
)
def test_frames(
    shared_sshd: Sshd,
    toolkit: LocalToolkit,
    between: Between,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    case: tuple[str, str, str, str, str],
) -> None:
    mode, steps, step, error, says = case
    relay = between(shared_sshd, MODES[mode]())
    fate = victim.run(relay.address, shared_sshd, toolkit, steps=steps, place=tmp_path)
    record_property("cost", (mode, fate))
    assert (fate.step, fate.error) == (step, error), fate
    assert says in fate.message
    assert fate.peak_mib < PEAK_MIB, fate


@pytest.mark.attack(
    "node, after the verdict",
    "it says that it has an input of which it has half, so that a job works with what it chose",
    "the whole has not its digest, and is sent in full",
)
def test_a_node_that_has_less_than_it_says(
    shared_sshd: Sshd, toolkit: LocalToolkit, between: Between, tmp_path: Path
) -> None:
    relay = between(shared_sshd, MODES["reuse-liar"]())
    fate = victim.run(relay.address, shared_sshd, toolkit, steps=f"{AFTER} send", place=tmp_path)
    assert fate.error == "", fate
    sent = bytes(1 << 20) + b"x" * (1 << 20)
    stored = toolkit.workspace / "blobs" / hashlib.sha256(sent).hexdigest()
    assert stored.read_bytes() == sent


@pytest.mark.attack(
    "network, before the host key",
    "an SSH packet of 2 GiB",
    "the connection is given up; nothing is buffered",
)
def test_a_packet_without_end(
    shared_sshd: Sshd,
    toolkit: LocalToolkit,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve_packet, args=(listener,))
        thread.start()
        address = listener.getsockname()
        fate = victim.run(address, shared_sshd, toolkit, steps="start", place=tmp_path)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    record_property("cost", ("packet", fate))
    assert fate.error == "TransportError", fate
    assert fate.peak_mib < PEAK_MIB, fate


def _serve_packet(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            try:
                connection.sendall(b"SSH-2.0-hostile\r\n" + struct.pack(">I", (1 << 31) - 16))
                for _ in range(800):
                    connection.sendall(bytes(1 << 20))
            except OSError:
                continue


@pytest.mark.attack(
    "node, before and after the verdict",
    "`mock --remote` is sent a header nested too deep, or no answer's answer",
    "exit status 75 and one line that names the node; no traceback, nothing left",
)
@pytest.mark.parametrize(
    ("operation", "says"),
    [
        ("hello", "header is not JSON"),
        pytest.param("job_follow", "header is not JSON", marks=pytest.mark.slow),
    ],
)
def test_a_whole_command(
    lone_mock: User,
    plain_srpm: Path,
    between: Between,
    tmp_path: Path,
    operation: str,
    says: str,
) -> None:
    answers = MODES["nested"]()
    assert isinstance(answers, Instead)
    between(lone_mock, Instead(operation, answers.answers))
    earlier = Earlier(tmp_path / "results")
    ended = lone_mock.mock("--resultdir", earlier.path, plain_srpm)
    check_failure(ended, 75, says, "root@127.")
    earlier.check()

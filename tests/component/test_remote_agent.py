# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent over a real SSH connection: toolkit, gate, silence, death, garbage."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.errors import (
    AttestationRefused,
    ConnectionLost,
    HostKeyMismatch,
    RemoteCommandError,
    TransportError,
)
from mock_cloud.remote import channel
from mock_cloud.remote.channel import AgentEnded
from mock_cloud.remote.trusted import trust
from mock_cloud.remote.unverified import UnverifiedNode
from mock_cloud.sshkeys import make_key_pair
from tests.component.conftest import Connect
from tests.component.remote_parts import (
    LocalToolkit,
    agent_pids,
    listing,
    make_proof,
    make_toolkit,
)
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd, SshdOptions
from tests.waiting import wait_for

_SILENCE_S = 8.0  # more than a busy machine lets an agent wait


def order_log(toolkit: LocalToolkit) -> list[str]:
    lines = (toolkit.workspace / "order.log").read_text().splitlines()
    return [line.split(" ", 2)[2] for line in lines]


@pytest.mark.fault(34)
def test_a_toolkit_is_pushed_once(connecting: Connect, toolkit: LocalToolkit) -> None:
    moved: list[int] = []
    node = connecting()
    node.start_agent(toolkit, moved.append)
    assert sum(moved) == toolkit.archive.stat().st_size
    assert node.hello("n1").toolkit == toolkit.digest
    node.close()
    again = connecting()
    again.start_agent(toolkit, lambda count: pytest.fail("pushed again"))
    assert again.hello("n2").version == "2"
    assert listing(toolkit.workspace / "toolkit") == [toolkit.digest]


def test_a_node_of_another_architecture_is_refused_by_name(
    connecting: Connect, toolkit: LocalToolkit
) -> None:
    foreign = replace(toolkit, arch="vax")
    object.__setattr__(foreign, "workspace", toolkit.workspace)
    with pytest.raises(AttestationRefused, match="the node is not of vax") as caught:
        connecting().start_agent(foreign)
    assert [reason.code for reason in caught.value.reasons] == ["kernel.arch"]
    assert caught.value.exit_code == 77
    assert not toolkit.workspace.exists()


def test_a_damaged_toolkit_is_pushed_again(connecting: Connect, toolkit: LocalToolkit) -> None:
    place = Path(toolkit.node_dir)
    (place / "agent").mkdir(parents=True)
    (place / "agent/main.py").write_text("raise SystemExit(9)\n")
    node = connecting()
    node.start_agent(toolkit)
    assert node.hello("n").pid > 0
    assert (place / "agent/mock_cloud/agent/serve.py").exists()
    assert listing(place.parent) == [toolkit.digest]


def test_an_archive_that_cannot_be_unpacked_says_why(
    connecting: Connect, toolkit: LocalToolkit
) -> None:
    toolkit.archive.write_bytes(b"not a gzip file at all")
    with pytest.raises(TransportError, match=r"could not be unpacked.*gzip"):
        connecting().start_agent(toolkit)
    assert listing(toolkit.workspace / "toolkit") == []


def test_an_agent_that_cannot_run_shows_its_stderr(connecting: Connect, tmp_path: Path) -> None:
    broken = make_toolkit(tmp_path / "broken", main="raise SystemExit('no \\x1b[31mpython')")
    with pytest.raises(AgentEnded, match=r"status 1: no \\x1b\[31mpython"):
        connecting().start_agent(broken)


def test_hostile_variables_do_not_reach_the_agent(
    tmp_path: Path, toolkit: LocalToolkit, connecting: Connect
) -> None:
    hostile = "SetEnv PYTHONPATH=/nowhere GLIBC_TUNABLES=glibc.malloc.check=3 LD_DEBUG_X=1"
    with Sshd(tmp_path / "hostile", SshdOptions(extra=hostile)) as sshd:
        node = connecting(sshd)
        node.start_agent(toolkit)
        pid = node.hello("n").pid
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        names = {item.split(b"=")[0] for item in environment.split(b"\0") if item}
        assert names == {b"PATH", b"HOME", b"LC_ALL"}


def test_nothing_but_questions_is_answered_before_trust(
    node: UnverifiedNode, toolkit: LocalToolkit
) -> None:
    node.hello("nonce-1")
    agent = node._running()
    job = {"job": "j"}
    digest = "00" * 32
    for operation, keys in {
        "have": {"digests": []},
        "put_end": {"digest": digest, "size": 0},
        "job_start": job,
        "job_follow": {**job, "offsets": {}},
        "job_cancel": job,
        "results": job,
        "owner_sign": {**job, "nonce": "00" * 32},
        "get": {**job, "name": "x", "offset": 0, "length": 1},
        "forget": job,
    }.items():
        with pytest.raises(RemoteCommandError) as caught:
            agent.ask(operation, within_s=60, **keys)
        assert caught.value.code == "untrusted"
        assert f"refused-operation untrusted {operation}" in order_log(toolkit)
    agent.post("put", b"secret source", digest=digest, size=13, offset=0)
    agent.ask("ping", within_s=60)
    refusal = agent.refusal()
    assert isinstance(refusal, RemoteCommandError) and refusal.code == "untrusted"
    assert listing(toolkit.workspace / "blobs") == []
    assert order_log(toolkit)[:2] == ["started protocol 2", "hello nonce-1"]


def test_a_proof_of_another_host_opens_nothing(node: UnverifiedNode, toolkit: LocalToolkit) -> None:
    with pytest.raises(HostKeyMismatch):
        trust(node, make_proof(make_key_pair().public))
    assert not any(line.startswith("trusted") for line in order_log(toolkit))
    with pytest.raises(TypeError):
        trust(node, object())  # type: ignore[arg-type]


def test_trust_is_logged_with_the_verdict(node: UnverifiedNode, toolkit: LocalToolkit) -> None:
    channel = trust(node, make_proof(node.host_key))
    assert order_log(toolkit)[-1] == f"trusted {'ab' * 32}"
    assert 0 < channel.ping() < 5


def test_a_token_is_worth_nothing_without_its_agent(
    connecting: Connect, toolkit: LocalToolkit
) -> None:
    first = connecting()
    first.start_agent(toolkit)
    token = secrets.token_hex(32)
    first._running().ask("trust", within_s=60, verdict="ab" * 32, token=token)
    second = connecting()
    second.start_agent(toolkit)
    with pytest.raises(RemoteCommandError, match="no agent of this token"):
        second._running().ask("join", within_s=60, token="00" * 32)
    second._running().ask("join", within_s=60, token=token)
    second._running().ask("have", within_s=60, digests=[])
    os.kill(first.hello("n").pid, signal.SIGKILL)
    third = connecting()
    third.start_agent(toolkit)
    with pytest.raises(RemoteCommandError) as caught:
        third._running().ask("join", within_s=60, token=token)
    assert caught.value.code == "untrusted"


@pytest.mark.parametrize(
    ("operation", "keys"),
    [
        ("nonsense", {}),
        ("hello", {}),
        ("hello", {"nonce": 1}),
        ("hello", {"nonce": "n", "more": True}),
        ("headers", {"digests": ["../../etc/shadow"]}),
        ("measure", {"nonce": "n", "skip": [1], "trees": [], "processes": 1}),
        ("trust", {"verdict": "x", "token": "00" * 32}),
        ("trust", {"verdict": "00" * 32, "token": "../../x"}),
    ],
)
def test_malformed_requests_are_refused_and_the_agent_lives(
    node: UnverifiedNode, operation: str, keys: dict[str, object]
) -> None:
    with pytest.raises(RemoteCommandError) as caught:
        node._running().ask(operation, within_s=60, **keys)
    assert caught.value.code in ("bad-request", "unknown-op")
    assert node.hello("still there").version == "2"


def test_a_killed_agent_is_named(node: UnverifiedNode) -> None:
    pid = node.hello("n").pid
    agent = node._running()
    with agent.call("nonsense-is-answered") as call, pytest.raises(RemoteCommandError):
        call.next(within_s=60)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: agent.failure is not None)
    with pytest.raises(TransportError, match="the agent ended with status"):
        node.hello("again")


def test_who_closes_a_channel_does_not_wait_to_hear_why_it_ended(
    node: UnverifiedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_EXIT_WAIT_S", "_UNSAID_WAIT_S"):
        monkeypatch.setattr(channel, name, 1e6)
    node.hello("n")
    closer = threading.Thread(target=node._running().close, daemon=True)
    closer.start()
    closer.join(60)
    assert not closer.is_alive()


def test_a_dead_sshd_is_a_lost_connection(
    sshd: Sshd, connecting: Connect, toolkit: LocalToolkit
) -> None:
    node = connecting(sshd)
    node.start_agent(toolkit)
    sshd.stop()
    with pytest.raises(ConnectionLost, match="the connection is lost"):
        for _ in range(100):
            node.hello("n")
            time.sleep(0.05)


def test_a_frozen_line_is_noticed(
    shared_sshd: Sshd, connecting: Connect, toolkit: LocalToolkit
) -> None:
    with Relay(("127.0.0.1", shared_sshd.port)) as relay:
        node = connecting(port=relay.address[1], silence_timeout_s=_SILENCE_S)
        node.start_agent(toolkit)
        time.sleep(_SILENCE_S + 1)
        assert node.hello("idle, but alive").version == "2"
        relay.freeze()
        with pytest.raises(ConnectionLost, match=f"sent nothing for {_SILENCE_S:g} s"):
            node.hello("frozen")
        node.close()


def test_a_line_that_freezes_under_the_toolkit_is_noticed(
    shared_sshd: Sshd, connecting: Connect, toolkit: LocalToolkit
) -> None:
    with toolkit.archive.open("wb") as archive:
        archive.write(os.urandom(24 << 20))  # more than all buffers of the way hold
    with Relay(("127.0.0.1", shared_sshd.port)) as relay:
        node = connecting(port=relay.address[1], silence_timeout_s=_SILENCE_S)
        with pytest.raises(ConnectionLost):
            node.push_toolkit(toolkit, lambda count: relay.freeze())
        node.close()


@pytest.mark.parametrize(
    ("what", "output"),
    [
        ("garbage", "b'Welcome to this host! Have fun.'"),
        ("an oversize frame", "(1 << 24).to_bytes(4, 'big') * 2"),
        ("a header that is no object", "(2).to_bytes(4, 'big') + bytes(4) + b'[]'"),
        ("a header that is no JSON", "(2).to_bytes(4, 'big') + bytes(4) + b'{!'"),
    ],
)
def test_a_peer_that_sends_no_frames(
    connecting: Connect, tmp_path: Path, what: str, output: str
) -> None:
    text = f"import os, sys\nos.read(0, 1)\nos.write(1, {output})\n"
    liar = make_toolkit(tmp_path / "liar", main=text)
    with pytest.raises(TransportError, match="not an agent's answer"):
        connecting().start_agent(liar)


def test_a_frame_that_is_cut_is_a_line_that_is_lost(connecting: Connect, tmp_path: Path) -> None:
    text = "import os\nos.read(0, 1)\nos.write(1, (9).to_bytes(4, 'big') + bytes(4) + b'{')\n"
    peer = make_toolkit(tmp_path / "peer", main=text)
    with pytest.raises((AgentEnded, ConnectionLost)):
        connecting().start_agent(peer)


LIAR = """
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gzip, zlib, hashlib
from mock_cloud.wire.frames import encode_frame, read_frame
stream = open(0, "rb", closefd=False)
def send(header, body=b""):
    os.write(1, encode_frame(header, body))
while (frame := read_frame(stream)) is not None:
    header, _ = frame
    op, number = header["op"], header["id"]
    if op == "ping":
        send({"id": number, "clock": 0})
        continue
"""


def lying(connecting: Connect, tmp_path: Path, answer: str) -> UnverifiedNode:
    node = connecting()
    node.start_agent(make_toolkit(tmp_path / "liar", main=LIAR + answer))
    return node


@pytest.mark.parametrize(
    "answer",
    [
        "    send({'id': number})",
        "    send({'id': number, 'version': 1})",
        "    send({'id': number, 'error': 'no'})",
        "    send({'id': number, 'more': True})",
        "    send({'id': number, 'version': '2', 'toolkit': '', 'pid': -1, 'python': '', "
        "'uname': [], 'cpus': 1, 'clock': 0, 'boot_id': ''})",
        "    send({'id': number, 'version': '9', 'toolkit': '', 'pid': 1, 'python': '', "
        "'uname': [], 'cpus': 1, 'clock': 0, 'boot_id': ''})",
    ],
)
@pytest.mark.fault(34)
def test_a_lying_hello(connecting: Connect, tmp_path: Path, answer: str) -> None:
    with pytest.raises(TransportError):
        lying(connecting, tmp_path, answer).hello("n")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("    send({'id': number, 'sha256': 'x'}, b'no gzip')", "not gzip"),
        ("    send({'id': number, 'sha256': 'x'}, gzip.compress(b'{}'))", "digest"),
        ("    send({'id': number, 'sha256': 'x'}, gzip.compress(b'{}' * 99)[:9])", "cut short"),
        (
            # 600 MiB of zeros in 600 KiB: unzipped no further than the bound
            "    z = zlib.compressobj(wbits=31)\n"
            "    for _ in range(600):\n"
            "        send({'id': number, 'more': True}, z.compress(bytes(1 << 20))"
            " + z.flush(zlib.Z_SYNC_FLUSH))\n"
            "    send({'id': number, 'sha256': 'x'}, z.flush())",
            "too large",
        ),
    ],
)
def test_lying_evidence(connecting: Connect, tmp_path: Path, answer: str, complaint: str) -> None:
    with pytest.raises(TransportError, match=complaint):
        lying(connecting, tmp_path, answer).measure("n")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("    send({'id': number})", "not those"),
        (
            "    d = hashlib.sha256(b'other').hexdigest()\n"
            "    send({'id': number, 'digest': d, 'size': 5, 'more': True}, b'other')\n"
            "    send({'id': number})",
            "not those",
        ),
        (
            "    d = header['digests'][0]\n"
            "    send({'id': number, 'digest': d, 'size': 5, 'more': True}, b'wrong')",
            "does not match",
        ),
        (
            "    d = header['digests'][0]\n"
            "    send({'id': number, 'digest': d, 'size': 1 << 40, 'more': True}, b'wrong')",
            "too large",
        ),
        (
            "    d = header['digests'][0]\n"
            "    send({'id': number, 'digest': d, 'size': 2, 'more': True}, b'wrong')",
            "announced size",
        ),
        ("    send({'id': number, 'more': True}, b'x')", "announced size"),
    ],
)
def test_lying_headers(connecting: Connect, tmp_path: Path, answer: str, complaint: str) -> None:
    with pytest.raises(TransportError, match=complaint):
        list(lying(connecting, tmp_path, answer).fetch_headers(["aa" * 32]))


def test_no_agent_outlives_its_connection(node: UnverifiedNode, toolkit: LocalToolkit) -> None:
    assert agent_pids(toolkit.workspace)
    node.close()
    wait_for(lambda: not agent_pids(toolkit.workspace))
    assert order_log(toolkit)[-1] == "ended"

# SPDX-License-Identifier: GPL-2.0-or-later
"""Blobs to a node and results from it, over a real sshd: whole, resumed, broken, hostile."""

from __future__ import annotations

import os
import secrets
import threading
import time
from pathlib import Path

import pytest

from mock_cloud.errors import ConnectionLost, InputError, RemoteCommandError, ResultError
from mock_cloud.model import Blob
from mock_cloud.remote.download import Fetch
from mock_cloud.remote.trusted import TrustedChannel, trust
from mock_cloud.remote.upload import channels_for
from mock_cloud.wire.replies import ResultFile
from tests.component.conftest import Connect
from tests.component.remote_parts import (
    HandJob,
    LocalToolkit,
    agent_pids,
    make_proof,
    sha256,
)
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd
from tests.waiting import wait_for

MIB = 1 << 20
_SILENCE_S = 8.0  # more than a busy machine lets an agent wait


def blob_of(data: bytes, path: Path | None = None) -> Blob:
    if path is not None:
        path.write_bytes(data)
    return Blob(sha256(data), len(data), path or data)


def results_of(channel: TrustedChannel) -> list[ResultFile]:
    """Without the agent's own, the order log."""
    return [file for file in channel.results("j1") if file.name != "remote_order.log"]


def stored(toolkit: LocalToolkit) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (toolkit.workspace / "blobs").iterdir()}


def test_blobs_arrive_once(channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path) -> None:
    blobs = [
        blob_of(b""),
        blob_of(b"spec file\n"),
        blob_of(os.urandom(3 * MIB + 17), tmp_path / "foo.src.rpm"),
    ]
    moved: list[int] = []
    assert channel.send_blobs(blobs, moved.append) == sum(blob.size_bytes for blob in blobs)
    assert sum(moved) == 3 * MIB + 27
    content = stored(toolkit)
    assert {sha256(data): data for data in content.values()} == content
    assert set(content) == {blob.digest for blob in blobs}
    assert channel.send_blobs(blobs, lambda count: pytest.fail("sent again")) == 0


def test_a_blob_that_changed_on_the_node_is_sent_again(
    channel: TrustedChannel, toolkit: LocalToolkit
) -> None:
    blob = blob_of(b"the source")
    channel.send_blobs([blob])
    (toolkit.workspace / "blobs" / blob.digest).write_bytes(b"not source")
    assert channel.send_blobs([blob]) == 10
    assert stored(toolkit) == {blob.digest: b"the source"}


@pytest.mark.slow
def test_a_long_line_is_filled_by_several_channels(
    shared_sshd: Sshd, connecting: Connect, toolkit: LocalToolkit, tmp_path: Path
) -> None:
    data = os.urandom(24 * MIB + 5)
    with Relay(("127.0.0.1", shared_sshd.port), latency_s=0.03) as relay:
        node = connecting(port=relay.address[1])
        node.start_agent(toolkit)
        channel = trust(node, make_proof(node.host_key))
        channel.send_blobs([blob_of(data, tmp_path / "big"), blob_of(b"small")])
        assert stored(toolkit) == {sha256(data): data, sha256(b"small"): b"small"}
        joined = (toolkit.workspace / "order.log").read_text().count(" joined\n")
        assert joined == channels_for(len(data), 0.06) > 3
        channel.close()
    wait_for(lambda: not agent_pids(toolkit.workspace))


def test_sshds_limit_of_sessions_costs_speed_only(
    connecting: Connect, toolkit: LocalToolkit, tmp_path: Path
) -> None:
    from tests.lab.sshd import SshdOptions

    data = os.urandom(16 * MIB)
    with (
        Sshd(tmp_path / "tight", SshdOptions(extra="MaxSessions 2")) as tight,
        Relay(("127.0.0.1", tight.port), latency_s=0.05) as relay,
    ):
        node = connecting(tight, port=relay.address[1])
        node.start_agent(toolkit)
        channel = trust(node, make_proof(node.host_key))
        channel.send_blobs([blob_of(data)])
        assert stored(toolkit) == {sha256(data): data}
        channel.close()


def test_a_wrong_digest_stores_nothing(channel: TrustedChannel, toolkit: LocalToolkit) -> None:
    with pytest.raises(RemoteCommandError) as caught:
        channel.send_blobs([Blob(sha256(b"right"), 5, b"wrong")])
    assert caught.value.code == "digest"
    assert stored(toolkit) == {}
    channel.send_blobs([blob_of(b"right")])
    assert stored(toolkit) == {sha256(b"right"): b"right"}


def test_a_file_that_shrank_is_named(
    channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path
) -> None:
    path = tmp_path / "shrunk.src.rpm"
    path.write_bytes(b"short")
    with pytest.raises(InputError, match=r"shrunk\.src\.rpm: became shorter"):
        channel.send_blobs([Blob(sha256(b"longer than that"), 16, path)])


@pytest.mark.slow
def test_an_upload_goes_on_where_the_line_broke(
    shared_sshd: Sshd, connecting: Connect, toolkit: LocalToolkit
) -> None:
    data = os.urandom(40 * MIB)
    with Relay(("127.0.0.1", shared_sshd.port), latency_s=0.01) as relay:
        node = connecting(port=relay.address[1])
        node.start_agent(toolkit)
        channel = trust(node, make_proof(node.host_key))
        part = toolkit.workspace / "blobs" / (sha256(data) + ".part")

        queued = 0

        def held() -> int:
            # Not its size: several channels write to it, and leave holes until they are done.
            return part.stat().st_blocks * 512 if part.exists() else 0

        def cut_midway(count: int) -> None:
            nonlocal queued
            queued += count
            if queued > 24 * MIB:
                wait_for(lambda: held() > 8 * MIB)
                relay.cut()

        with pytest.raises(ConnectionLost):
            channel.send_blobs([blob_of(data)], cut_midway)
        channel.close()
        wait_for(lambda: not agent_pids(toolkit.workspace))
        again = connecting(port=relay.address[1])
        again.start_agent(toolkit)
        second = trust(again, make_proof(again.host_key))
        sent = second.send_blobs([blob_of(data)])
        assert sent < 36 * MIB
        assert stored(toolkit) == {sha256(data): data}
        second.close()


def test_a_part_with_wrong_bytes_is_sent_whole(
    channel: TrustedChannel, toolkit: LocalToolkit
) -> None:
    data = os.urandom(MIB)
    part = toolkit.workspace / "blobs" / (sha256(data) + ".part")
    part.write_bytes(os.urandom(MIB // 2))
    assert channel.send_blobs([blob_of(data)]) > MIB // 2
    assert stored(toolkit) == {sha256(data): data}


def test_an_upload_over_a_line_that_freezes(
    shared_sshd: Sshd, connecting: Connect, toolkit: LocalToolkit
) -> None:
    with Relay(("127.0.0.1", shared_sshd.port), latency_s=0.025) as relay:
        node = connecting(port=relay.address[1], silence_timeout_s=_SILENCE_S)
        node.start_agent(toolkit)
        channel = trust(node, make_proof(node.host_key))

        def freeze(count: int) -> None:
            relay.freeze()

        with pytest.raises(ConnectionLost, match=f"sent nothing for {_SILENCE_S:g} s"):
            channel.send_blobs([blob_of(os.urandom(48 * MIB))], freeze)
        channel.close()
        node.close()


def test_an_sshd_that_dies_under_an_upload(
    sshd: Sshd, connecting: Connect, toolkit: LocalToolkit
) -> None:
    node = connecting(sshd)
    node.start_agent(toolkit)
    channel = trust(node, make_proof(node.host_key))
    with pytest.raises(ConnectionLost):
        channel.send_blobs([blob_of(os.urandom(24 * MIB))], lambda count: sshd.stop())
    channel.close()


def test_results_are_listed_and_fetched(channel: TrustedChannel, toolkit: LocalToolkit) -> None:
    job = HandJob(toolkit.workspace, "j1")
    content = {"foo.rpm": os.urandom(2 * MIB), "build.log": b"log\n", "a/b.rpm": b"", "x": b"x"}
    for name, data in content.items():
        job.append(name, data)
    (job.results / "x").chmod(0o640)
    (job.results / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(job.results / "fifo")
    files = results_of(channel)
    assert {file.name: file.sha256 for file in files} == {
        name: sha256(data) for name, data in content.items()
    }
    assert {file.name: file.mode for file in files}["x"] == 0o640
    got: dict[str, bytearray] = {file.name: bytearray() for file in files}
    channel.fetch("j1", [Fetch(file, got[file.name].extend) for file in files])
    assert got == content


@pytest.mark.slow
def test_more_results_than_one_answer_holds(channel: TrustedChannel, toolkit: LocalToolkit) -> None:
    job = HandJob(toolkit.workspace, "j1")
    for number in range(9000):
        (job.results / f"subpackage-{number:05}.rpm").write_bytes(b"%d" % number)
    files = results_of(channel)
    assert [file.name for file in files] == sorted(file.name for file in files)
    got = {file.name: bytearray() for file in files}
    channel.fetch("j1", [Fetch(file, got[file.name].extend) for file in files])
    assert got == {f"subpackage-{number:05}.rpm": b"%d" % number for number in range(9000)}


@pytest.mark.slow
@pytest.mark.parametrize("rtt_s", [0, 0.08])
def test_a_large_result_over_a_short_and_a_long_line(
    shared_sshd: Sshd, connecting: Connect, toolkit: LocalToolkit, rtt_s: float
) -> None:
    job = HandJob(toolkit.workspace, "j1")
    data = os.urandom(25 * MIB + 1)
    job.append("big.rpm", data)
    job.append("empty", b"")
    with Relay(("127.0.0.1", shared_sshd.port), latency_s=rtt_s / 2) as relay:
        node = connecting(port=relay.address[1])
        node.start_agent(toolkit)
        channel = trust(node, make_proof(node.host_key))
        files = {file.name: file for file in results_of(channel)}
        got, empty, rest = bytearray(), bytearray(), bytearray()
        channel.fetch(
            "j1", [Fetch(files["big.rpm"], got.extend), Fetch(files["empty"], empty.extend)]
        )
        assert (got, empty) == (data, b"")
        channel.fetch("j1", [Fetch(files["big.rpm"], rest.extend, offset=5 * MIB + 3)])
        assert rest == data[5 * MIB + 3 :]
        joined = (toolkit.workspace / "order.log").read_text().count(" joined\n")
        assert (joined > 1) == (rtt_s > 0)
        channel.close()


def test_a_result_that_changed_is_refused(channel: TrustedChannel, toolkit: LocalToolkit) -> None:
    job = HandJob(toolkit.workspace, "j1")
    job.append("foo.rpm", b"good package")
    (file,) = results_of(channel)
    (job.results / "foo.rpm").write_bytes(b"evil package")
    with pytest.raises(ResultError, match="arrived with sha256"):
        channel.fetch("j1", [Fetch(file, bytearray().extend)])
    (job.results / "foo.rpm").write_bytes(b"short")
    with pytest.raises(RemoteCommandError, match="ends before byte 12"):
        channel.fetch("j1", [Fetch(file, bytearray().extend)])


@pytest.mark.parametrize(
    "name", ["../request.json", "/etc/passwd", "a/../../pid", "", ".", "a//b", "x\0y", "link"]
)
def test_names_that_lead_out_of_the_results(
    channel: TrustedChannel, toolkit: LocalToolkit, name: str
) -> None:
    job = HandJob(toolkit.workspace, "j1")
    (job.results / "link").symlink_to("/etc/passwd")
    with pytest.raises(RemoteCommandError) as caught:
        channel.fetch("j1", [Fetch(ResultFile(name, 1, "00" * 32, 0o644), bytearray().extend)])
    assert caught.value.code in ("bad-request", "disk")


@pytest.mark.parametrize("job", ["../jobs/j1", "", ".", "..", "a/b", "x" * 65, "nosuch"])
def test_names_that_are_no_jobs(channel: TrustedChannel, job: str) -> None:
    with pytest.raises(RemoteCommandError) as caught:
        channel.results(job)
    assert caught.value.code in ("bad-request", "no-job")


def test_a_full_local_disk_stays_what_it_is(channel: TrustedChannel, toolkit: LocalToolkit) -> None:
    job = HandJob(toolkit.workspace, "j1")
    job.append("big.rpm", os.urandom(12 * MIB))
    (file,) = results_of(channel)

    def full(piece: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        channel.fetch("j1", [Fetch(file, full)])
    got = bytearray()
    channel.fetch("j1", [Fetch(file, got.extend)])
    assert sha256(bytes(got)) == file.sha256


def test_logs_are_followed_by_offset(channel: TrustedChannel, toolkit: LocalToolkit) -> None:
    job = HandJob(toolkit.workspace, "j1")
    job.append("terminal", b"old ")
    job.append("root.log", b"0123456789")
    seen: dict[str, bytes] = {"terminal": b"", "root.log": b"01234"}

    def build() -> None:
        for number in range(20):
            job.append("terminal", f"line {number}\n".encode())
            job.append("build.log", secrets.token_bytes(1000))
            time.sleep(0.01)
        job.append("late/root.log", b"late")
        job.append("foo.rpm", b"not a log")
        job.end(1)

    def on_data(name: str, offset: int, data: bytes) -> None:
        assert offset == len(seen.get(name, b""))
        seen[name] = seen.get(name, b"") + data

    builder = threading.Thread(target=build)
    builder.start()
    end = channel.follow_job("j1", {"root.log": 5}, on_data, within_s=300)
    builder.join()
    assert end.exit == 1
    assert end.message == "as it was"
    assert seen == {
        "terminal": (job.directory / "terminal").read_bytes(),
        "root.log": b"0123456789",
        "build.log": (job.results / "build.log").read_bytes(),
        "late/root.log": b"late",
    }


def test_a_job_is_followed_again_after_a_cut(
    shared_sshd: Sshd, connecting: Connect, toolkit: LocalToolkit
) -> None:
    job = HandJob(toolkit.workspace, "j1")
    seen = bytearray()
    with Relay(("127.0.0.1", shared_sshd.port)) as relay:

        def follow(on_data: object) -> int | None:
            node = connecting(port=relay.address[1])
            node.start_agent(toolkit)
            channel = trust(node, make_proof(node.host_key))
            offsets = {"terminal": len(seen)}
            try:
                return channel.follow_job("j1", offsets, on_data, within_s=300).exit  # type: ignore[arg-type]
            finally:
                channel.close()

        def take_and_cut(name: str, offset: int, data: bytes) -> None:
            seen.extend(data)
            relay.cut()

        def take(name: str, offset: int, data: bytes) -> None:
            assert offset == len(seen)
            seen.extend(data)

        job.append("terminal", b"before the cut\n")
        with pytest.raises(ConnectionLost):
            follow(take_and_cut)
        job.append("terminal", b"meanwhile\n")
        job.end(0)
        assert follow(take) == 0
    assert seen == b"before the cut\nmeanwhile\n"


def test_a_job_that_vanished_has_no_exit(channel: TrustedChannel, toolkit: LocalToolkit) -> None:
    job = HandJob(toolkit.workspace, "j1")
    (job.directory / "pid").write_text(f"{os.getpid()} 1\n")  # another start time: not it
    job.append("terminal", b"last words")
    seen = bytearray()
    end = channel.follow_job("j1", {}, lambda name, at, data: seen.extend(data), within_s=300)
    assert end.exit is None
    assert seen == b"last words"


def test_following_can_be_left_and_the_channel_goes_on(
    channel: TrustedChannel, toolkit: LocalToolkit
) -> None:
    job = HandJob(toolkit.workspace, "j1")
    job.append("terminal", os.urandom(3 * MIB))

    def interrupt(name: str, offset: int, data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        channel.follow_job("j1", {}, interrupt, within_s=300)
    assert 0 < channel.ping() < 5
    with pytest.raises(RemoteCommandError) as caught:
        channel.forget("j1")
    assert caught.value.code == "busy"
    job.end(0)
    channel.forget("j1")
    assert not job.directory.exists()
    with pytest.raises(RemoteCommandError) as caught:
        channel.follow_job("j1", {}, interrupt, within_s=300)
    assert caught.value.code == "no-job"


@pytest.mark.slow
def test_a_lagging_reader_of_logs_is_no_silence(
    shared_sshd: Sshd, connecting: Connect, toolkit: LocalToolkit
) -> None:
    """The terminal is stopped (Ctrl-S) for longer than a silent node would be borne."""
    job = HandJob(toolkit.workspace, "j1")
    data = os.urandom(80 * MIB)
    job.append("terminal", data)
    job.end(0)
    node = connecting(silence_timeout_s=_SILENCE_S)
    node.start_agent(toolkit)
    channel = trust(node, make_proof(node.host_key))
    seen = bytearray()

    def stop_once(name: str, offset: int, piece: bytes) -> None:
        if not seen:
            time.sleep(_SILENCE_S + 2)
        seen.extend(piece)

    assert channel.follow_job("j1", {}, stop_once, within_s=300).exit == 0
    assert seen == data
    channel.close()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Real jobs of the real runner, started and watched over a real sshd."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.cloud.lease import Holder
from mock_cloud.errors import RemoteCommandError
from mock_cloud.remote.trusted import TrustedChannel, trust
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.job_request import EngineConfig, JobRequest
from mock_cloud.wire.layout import MOCK_LIBDIR
from mock_cloud.wire.replies import JobEnd
from tests.component.conftest import Connect
from tests.component.remote_parts import LocalToolkit, make_proof
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a job's namespaces")


ROOT = "mock-cloud-test-no-such-root"


@pytest.fixture(autouse=True)
def no_chroot_left() -> Iterator[None]:
    """Even a clean makes mock's directory for the chroot."""
    libdir = Path(MOCK_LIBDIR)
    was_there = libdir.exists()
    yield
    shutil.rmtree(libdir / ROOT, ignore_errors=True)
    if not was_there and libdir.exists() and not list(libdir.iterdir()):
        libdir.rmdir()


def request_for(mode: str) -> bytes:
    config = EngineConfig(
        root=ROOT,
        chroot_name="test",
        target_arch="x86_64",
        rpmbuild_arch="x86_64",
        package_manager="dnf4",
        dnf_conf="",
        chroot_setup_cmd=["install", "bash"],
    )
    return to_json(JobRequest(mode=mode, config=config))


def follow(channel: TrustedChannel, job: str) -> tuple[JobEnd, bytes]:
    seen = bytearray()

    def on_data(name: str, offset: int, data: bytes) -> None:
        if name == "terminal":
            seen.extend(data)

    end = channel.follow_job(job, {}, on_data, within_s=300)
    return end, bytes(seen)


def test_a_job_runs_to_its_end(channel: TrustedChannel, toolkit: LocalToolkit) -> None:
    channel.start_job("clean-1", request_for("clean"))
    end, _ = follow(channel, "clean-1")
    assert end.exit is not None
    assert end.phase == "done"
    channel.forget("clean-1")
    assert list((toolkit.workspace / "jobs").iterdir()) == []


def test_a_job_outlives_the_connection_that_started_it(
    connecting: Connect, toolkit: LocalToolkit
) -> None:
    node = connecting()
    node.start_agent(toolkit)
    trust(node, make_proof(node.host_key)).start_job("clean-2", request_for("clean"))
    node.close()
    again = connecting()
    again.start_agent(toolkit)
    channel = trust(again, make_proof(again.host_key))
    assert follow(channel, "clean-2")[0].phase == "done"


def test_a_bad_request_starts_nothing(channel: TrustedChannel, toolkit: LocalToolkit) -> None:
    for number, request in enumerate((b"{}", b"no json", request_for("clean")[:-9])):
        with pytest.raises(RemoteCommandError) as caught:
            channel.start_job(f"bad-{number}", request)
        assert caught.value.code == "bad-request"
    jobs: Path = toolkit.workspace / "jobs"
    assert not jobs.exists() or list(jobs.iterdir()) == []
    assert channel.ping() > 0


def test_an_id_is_used_once(channel: TrustedChannel) -> None:
    channel.start_job("once", request_for("clean"))
    channel.start_job("once", request_for("clean"))  # its answer might have been lost
    with pytest.raises(RemoteCommandError, match="exists already"):
        channel.start_job("once", request_for("init"))
    assert follow(channel, "once")[0].phase == "done"


def test_cancelling_is_idempotent(channel: TrustedChannel) -> None:
    channel.start_job("gone", request_for("clean"))
    assert channel.cancel_job("gone") is True
    assert channel.cancel_job("gone") is True
    end, _ = follow(channel, "gone")
    assert end.phase == "done"


def test_input_for_a_job_that_ended_harms_nothing(channel: TrustedChannel) -> None:
    channel.start_job("ended", request_for("clean"))
    follow(channel, "ended")
    channel.job_input("ended", b"too late\n")
    channel.resize("ended", 24, 80)
    assert channel.ping() > 0
    assert channel.send_blobs([]) == 0


def test_no_process_of_a_job_is_left(channel: TrustedChannel, toolkit: LocalToolkit) -> None:
    channel.start_job("tidy", request_for("clean"))
    pid = int((toolkit.workspace / "jobs/tidy/pid").read_text().split()[0])
    assert follow(channel, "tidy")[0].exit is not None
    # A zombie is over; who adopted it, perhaps this process, may not have looked yet.
    wait_for(lambda: Holder.of(pid) is None)

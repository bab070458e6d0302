# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's statement about a job's packages, signed by ssh-keygen, is one that is accepted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mock_cloud.agent import serve_jobs
from mock_cloud.agent.serve_jobs import JobFiles, sign_by_owner
from mock_cloud.agent.serve_wire import Failure
from mock_cloud.provenance.files import digest_package
from mock_cloud.provenance.owner import OwnerSignature, check_owned, open_owner_statement
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.job_request import Input, JobRequest, MockRun
from mock_cloud.wire.owner_statement import OwnerStatement
from tests.unit.signed.package_maker import package_file

NONCE, SOURCE = "ab" * 32, "1" * 64
NAME = "tiny-1-1.noarch.rpm"


@pytest.fixture
def job(tmp_path: Path) -> JobFiles:
    results = tmp_path / "jobs/j/results"
    results.mkdir(parents=True)
    inputs = [Input("a.src.rpm", "srpm", SOURCE, 1), Input("kit", "kit", "2" * 64, 1)]
    request = JobRequest("rebuild", mock=MockRun("r", "r", [], "{}", kit="kit"), inputs=inputs)
    (tmp_path / "jobs/j/request.json").write_bytes(to_json(request))
    (results / NAME).write_bytes(package_file("tiny", b"payload", []))
    (results / "build.log").write_text("+ make\n")
    return JobFiles(str(tmp_path), "j")


def test_the_owner_signs_for_the_jobs_packages(
    job: JobFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, key = make_key_pair(), tmp_path / "owner-key"
    key.touch(0o600)
    key.write_bytes(pair.private.reveal())
    monkeypatch.setattr(serve_jobs, "OWNER_KEY", str(key))
    said = sign_by_owner(job, NONCE)
    signed = OwnerSignature(str(pair.public), NONCE, said["statement"], said["signature"])
    found = open_owner_statement(signed, "j", [SOURCE])
    assert isinstance(found, OwnerStatement) and set(found.packages) == {NAME}
    path = Path(job.results, NAME)
    assert found.packages[NAME].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    facts = digest_package(path)
    assert not list(check_owned(found, {NAME: (facts.header, facts.payload)}))
    assert list(check_owned(found, {NAME: (facts.header, "0" * 64)}))


def test_without_a_usable_key_nothing_is_signed(
    job: JobFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "owner-key"
    monkeypatch.setattr(serve_jobs, "OWNER_KEY", str(key))
    with pytest.raises(Failure) as caught:
        sign_by_owner(job, NONCE)
    assert caught.value.code == "no-owner-key"
    key.with_suffix(".pub").write_text(f"{make_key_pair().public}\n")  # no agent has it
    with pytest.raises(Failure) as caught:
        sign_by_owner(job, NONCE)
    assert caught.value.code == "owner-key"

# SPDX-License-Identifier: GPL-2.0-or-later
"""Repositories that only this machine reaches: its files, its loopback, through a lent machine."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.process import run
from tests.integration.faults import check_failure
from tests.integration.lent_users import MakeUser, make_user_of, volunteers
from tests.integration.real_mock import add_mock
from tests.lab.clouds.network import Network
from tests.lab.http import FileServer
from tests.lab.layout import Lab
from tests.lab.relay import Relay
from tests.lab.volunteers import Volunteers

pytestmark = pytest.mark.lab


@pytest.mark.slow
def test_loopback_and_files_of_this_machine(
    make_user_of: MakeUser, lab: Lab, lab_repo: FileServer, plain_srpm: Path, tmp_path: Path
) -> None:
    """auto: both kinds are tunnelled; the second look sees no socket; warm layers stay warm."""
    user = make_user_of("alpha")
    remote = user.config.path / "remotes.d/alpha.toml"
    look = '[attest]\nsecond_look = "always"'
    remote.write_text(remote.read_text().replace("[attest]", look))
    results = tmp_path / "results"
    addrepo = f"--addrepo=file://{lab.release(2)}"
    built = user.mock(addrepo, "--resultdir", results, plain_srpm).expect()
    assert "reached through this machine: lab, " in built.stderr
    assert "the node is unchanged after the build" in built.stderr
    warnings = [line for line in built.stderr.splitlines() if line.startswith("WARNING")]
    assert all("unsafe_containers is set" in line for line in warnings)
    assert list(results.glob("toy-plain-*.rpm"))
    lab_repo.forget_accesses()
    again = user.mock(addrepo, "--resultdir", results, plain_srpm).expect()
    assert "warm node" in again.stderr
    assert [one.path.rpartition("/")[2] for one in lab_repo.accesses()] == ["repomd.xml"]
    remote.write_text(remote.read_text().replace("[build]", '[build]\nrepo_access = "direct"'))
    check_failure(user.mock(addrepo, "--init"), 50, "is on this machine", hint="repo_access")
    alone = user.mock("--init").expect(30)
    assert "repository 'lab' cannot be used" in alone.stderr


@pytest.mark.slow
def test_an_sshd_that_forwards_nothing(
    make_user_of: MakeUser, volunteers: Volunteers, lab: Lab
) -> None:
    """What the node reaches by itself is not in need of it."""
    user = make_user_of("beta", url=volunteers.repository.url)
    assert "reached through" not in user.mock("--init").expect().stderr
    addrepo = f"--addrepo=file://{lab.release(2)}"
    check_failure(user.mock(addrepo, "--init"), 75, "forwards no port", hint="AllowTcpForwarding")
    assert "warm node" in user.mock("--init").expect().stderr  # it was spared
    other = make_user_of("beta", 'repo_access = "tunnel"', url=volunteers.repository.url)
    user.release()
    check_failure(other.mock("--init"), 75, "forwards no port", hint="AllowTcpForwarding")


@pytest.mark.slow
def test_what_the_node_does_not_reach(
    make_user_of: MakeUser, volunteers: Volunteers, lab: Lab
) -> None:
    """A network that only this machine is in, as a VPN is: the node says that it gets nowhere."""
    with Network() as other, FileServer({"/dist": lab.dist}, host=other.host_address) as server:
        inside = ["nsenter", "-t", str(volunteers.alpha.machine.init_pid), "-n", "ip", "route"]
        run([*inside, "add", "unreachable", other.host_address], timeout_s=10)
        user = make_user_of("alpha", url=server.url)
        assert "reached through this machine: lab\n" in user.mock("--init").expect().stderr
        direct = make_user_of("alpha", 'repo_access = "direct"', url=server.url)
        user.release()
        assert "'lab' cannot be used" in direct.mock("--init").expect(30).stderr
        direct.release()


@pytest.mark.slow
def test_a_mirror_list_over_a_long_line(
    make_user_of: MakeUser, volunteers: Volunteers, lab_repo: FileServer, plain_srpm: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """tunnel, with 50 ms each way: list and mirror are had by this machine."""
    mirrors = tmp_path / "mirrors"
    mirrors.write_text(f"# ours\nrsync://nowhere.example/\n{lab_repo.url}/dist/1\n")
    with Relay((volunteers.alpha.machine.address, 22), latency_s=0.05) as relay:
        host, port = relay.address
        user = make_user_of("alpha", 'repo_access = "tunnel"', table=f"port = {port}")
        remote = user.config.path / "remotes.d/alpha.toml"
        address = volunteers.alpha.machine.address
        remote.write_text(remote.read_text().replace(f'"{address}"', f'"{host}"'))
        template = user.config.path / "templates/lab.tpl"
        text = template.read_text()
        line = next(one for one in text.splitlines() if one.startswith("baseurl="))
        template.write_text(text.replace(line, f"mirrorlist=file://{mirrors}"))
        built = user.mock("--resultdir", tmp_path / "results", plain_srpm).expect()
        assert "reached through this machine: lab" in built.stderr
        assert list((tmp_path / "results").glob("toy-plain-*.rpm"))
        mirrors.write_text("rsync://nowhere.example/\n")
        check_failure(user.mock("--init"), 50, "'lab' names no mirror")
        user.release()


@pytest.mark.slow
def test_what_no_repository_names_is_refused(
    make_user_of: MakeUser, lab_repo: FileServer, tmp_path: Path
) -> None:
    """A repository whose metadata points elsewhere: dnf asks, the proxy does not."""
    repository = tmp_path / "repository"
    (repository / "repodata").mkdir(parents=True)
    (repository / "repodata/repomd.xml").write_text(
        '<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision>'
        '<data type="primary"><checksum type="sha256">' + "0" * 64 + "</checksum>"
        f'<location xml:base="{lab_repo.url}/other/" href="primary.xml.gz"/></data></repomd>\n'
    )
    user = make_user_of("alpha", url=f"{lab_repo.url}")
    ended = user.mock(f"--addrepo=file://{repository}", "--init").expect(30)
    warned = [one for one in ended.stderr.splitlines() if "was refused" in one]
    assert len(warned) == 1 and f"{lab_repo.url}/other/primary.xml.gz" in warned[0]
    assert not [one for one in lab_repo.accesses() if "/other/" in one.path]


def test_real_mock_on_the_node_goes_through_the_tunnel_too(
    make_user_of: MakeUser, lab: Lab, tmp_path: Path
) -> None:
    plain = make_user_of("alpha")
    path = f"{add_mock(tmp_path / 'mock')}:{plain.environment['PATH']}"
    user = replace(plain, extra={"PATH": path})
    ended = user.mock("-v", f"--addrepo=file://{lab.release(2)}", "--init").expect()
    assert "mock engine, this machine's mock" in ended.stderr
    assert "reached through this machine: lab, " in ended.stderr
    assert "was refused" not in ended.stderr

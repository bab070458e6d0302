# SPDX-License-Identifier: GPL-2.0-or-later
"""kojid's own code for buildArch and both ways to a source package, on remote nodes.

The remote is the lab's EC2, so that nothing but mock itself needs root's rights.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mock_cloud.process import run
from tests.integration import koji_builder, real_mock
from tests.integration.faults import eventually, family, processes
from tests.integration.koji_builder import REPO_ID, TAG, Builder
from tests.integration.real_mock import RealMock
from tests.lab import seeds, srpm
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.http import FileServer
from tests.lab.layout import repository_root
from tests.lab.srpm import Recipe

pytestmark = [pytest.mark.lab, pytest.mark.slow]

SITE = """
config_opts['macros']['%_dbpath'] = '/var/lib/rpm'
config_opts['remote'] = 'ec2'
"""


@pytest.fixture(scope="module")
def mock() -> Iterator[RealMock]:
    koji_builder.find_checkout()
    with real_mock.made() as made:
        yield made


@pytest.fixture(scope="module")
def hub_files(ec2_cloud: Ec2Cloud, mock: RealMock) -> Iterator[str]:
    """The URL of the hub's files, a repository among them, as builder and nodes reach it."""
    top = mock.place / "top"
    koji_builder.make_hub_files(ec2_cloud.lab, top, seeds.BUILD_GROUP)
    host = urlsplit(ec2_cloud.repository_url).hostname or ""
    with FileServer({"": top}, host=host) as server:
        yield server.url


@pytest.fixture(scope="module")
def configured(ec2_cloud: Ec2Cloud, mock: RealMock) -> Iterator[None]:
    ec2_cloud.reset()
    written = ec2_cloud.write_config(mock.place / "etc")
    real_mock.configure(mock, written.path)
    site = written.path / "site-defaults.cfg"
    site.write_text(f"config_opts['isolation'] = 'simple'\n{SITE}")
    shutil.copy(ec2_cloud.manifest, mock.place)
    remote = written.path / "remotes.d/ec2.toml"
    text = remote.read_text().replace(str(ec2_cloud.manifest.parent), str(mock.place))
    remote.write_text(text)
    shutil.chown(remote, mock.user.pw_uid, mock.user.pw_gid)
    yield
    ec2_cloud.reset()


@pytest.fixture(scope="module", params=["launcher", "plugin"])
def builder(
    request: pytest.FixtureRequest, mock: RealMock, configured: None, hub_files: str
) -> Builder:
    """With our launcher at /usr/bin/mock, and with real mock and the plugin."""
    shutil.rmtree(mock.place / "etc/koji", ignore_errors=True)
    command = mock.session.with_name("launcher")
    if request.param == "plugin":
        if not shutil.which("sudo"):
            pytest.skip("needs sudo")
        command = mock.session.with_name("kojis-mock")
        words = shlex.join(["exec", "sudo", "-n", *mock.argv("--configdir", "/etc/mock")])
        command.write_text(f'#!/bin/sh\n{words} "$@"\n')
        command.chmod(0o755)
        # What a distribution's mock does by consolehelper.
        sudoers = mock.place / "sudoers"
        sudoers.write_text(f"{mock.user.pw_name} ALL=(root) NOPASSWD: ALL\n")
        sudoers.chmod(0o440)
        with (mock.place / "etc/site-defaults.cfg").open("a") as site:
            site.write(
                "config_opts['plugin_conf']['remote_enable'] = True\n"
                f"config_opts['plugin_conf']['remote_opts'] = {{'session': '{mock.session}'}}\n"
            )
    return koji_builder.make(mock.place, command, mock.user, hub_files)


@pytest.fixture(autouse=True)
def _given_back(builder: Builder, mock: RealMock) -> Iterator[None]:
    """No node outlives its test."""
    yield
    mock_cloud(builder, mock, "release", "--all", "--force")


def mock_cloud(builder: Builder, mock: RealMock, *words: str) -> str:
    """What the command mock-cloud prints for kojibuilder."""
    state = builder.place / f"lib/.home-{mock.user.pw_uid}/.local/state"
    argv = [
        str(mock.session.with_name("mock-cloud")),
        *words,
        "--configdir",
        str(builder.place / "etc"),
    ]
    return mock.as_user("env", f"XDG_STATE_HOME={state}", *argv).expect().stdout


def git(directory: Path, *words: str) -> None:
    own = ("-c", "user.name=Lab", "-c", "user.email=lab@example.org", "-c", "safe.directory=*")
    run(["git", *own, "-C", str(directory), *words], timeout_s=600)


SPEC = """\
Name: toy-scm
Version: 1
Release: 1
Summary: From a repository
License: MIT
BuildArch: noarch
Source0: fetched
%description
None.
%files
"""


@pytest.fixture
def repository(builder: Builder) -> str:
    """A repository that kojid clones from the hub's files by HTTP, as its URL for a task."""
    work, bare = builder.place / "checkout", builder.place / "top/scm/toy-scm"
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(bare, ignore_errors=True)
    work.mkdir()
    (work / "toy-scm.spec").write_text(SPEC)
    (work / "also-the.spec.link").symlink_to("toy-scm.spec")
    git(work, "init", "-q", "-b", "main")
    git(work, "add", ".")
    git(work, "commit", "-qm", "All of it")
    bare.mkdir(parents=True)
    git(work, "clone", "-q", "--bare", str(work), str(bare))
    git(bare, "update-server-info")
    return f"{builder.url.replace('http', 'git+http')}/scm/toy-scm#main"


def test_source_package_from_a_repository(builder: Builder, repository: str) -> None:
    params = [repository, TAG, {"repo_id": REPO_ID, "scratch": True}]
    order = builder.order("buildSRPMFromSCM", params)
    report = builder.run(order)
    assert Path(report.result["srpm"]).name == "toy-scm-1-1.src.rpm"
    assert "toy-scm-1-1.src.rpm" in report.files
    assert {"checkout.log", "root.log", "remote_attestation.log"} <= report.files
    shared = builder.buildroot(order) / "root/chroot_tmpdir/scmroot/toy-scm"
    assert (shared / "fetched").stat().st_uid == builder.user.pw_uid


def test_source_package_made_again(builder: Builder, plain_srpm: Path) -> None:
    uploaded = place_srpm(builder, plain_srpm)
    report = builder.run(builder.order("rebuildSRPM", [uploaded, TAG, {"repo_id": REPO_ID}]))
    assert Path(report.result["srpm"]).name == "toy-plain-1-1.lab1.src.rpm"
    assert "toy-plain-1-1.lab1.src.rpm" in report.files
    rpm = base64.b64decode(report.raw["files"]["toy-plain-1-1.lab1.src.rpm"])
    assert rpm.startswith(b"\xed\xab\xee\xdb")


def test_a_build_that_fails_is_told_and_keeps_the_list_of_packages(
    builder: Builder, failing_srpm: Path
) -> None:
    uploaded = place_srpm(builder, failing_srpm)
    arch = builder.arch
    report = builder.run(
        builder.order("buildArch", [uploaded, TAG, arch, True, {"repo_id": REPO_ID}])
    )
    assert "BuildError: error building package" in report.error
    assert "see build.log or root.log for more information" in report.error
    assert "about to fail" in report.file("build.log")
    ((_, packages),) = report.calls("host.updateBuildRootList")
    assert {"bash", "rpm-build"} <= {package["name"] for package in packages}


def place_srpm(builder: Builder, srpm: Path) -> str:
    """The source package where the hub has uploads; its name there."""
    work = builder.place / "top" / "work" / "cli-build"
    work.mkdir(parents=True, exist_ok=True)
    shutil.copy(srpm, work)
    return f"cli-build/{srpm.name}"


def test_build_arch(builder: Builder, plain_srpm: Path) -> None:
    uploaded = place_srpm(builder, plain_srpm)
    order = builder.order("buildArch", [uploaded, TAG, "noarch", True, {"repo_id": REPO_ID}])
    report = builder.run(order)
    result = report.result
    names = [Path(name).name for name in (*result["rpms"], *result["srpms"])]
    assert names == ["toy-plain-1-1.lab1.noarch.rpm", "toy-plain-1-1.lab1.src.rpm"]
    ((_, at_init),) = report.calls("host.setBuildRootList")
    ((_, at_end),) = report.calls("host.updateBuildRootList")
    assert {"bash", "rpm-build"} <= {package["name"] for package in at_init}
    unknown = [package["name"] for package in at_init if package.get("id") != 1]
    assert unknown == [], report.stderr
    assert {package["name"] for package in at_init} <= {package["name"] for package in at_end}
    logs = {"build.log", "root.log", "state.log", "remote_attestation.log", "dnf.log"}
    assert logs | {"mock_output.log", "mock_config.log", *names} <= report.files
    verdicts = report.file("remote_attestation.log")
    # A command within two minutes of the last one's verdict relies on it.
    assert verdicts.count("verdict: trusted") + verdicts.count("not measured again") == 3
    assert report.file("remote_order.log").count("started protocol") >= 3
    assert not report.shrunk & {"root.log", "build.log", "state.log", "dnf.log", "remote_order.log"}
    assert builder.run({**order, "clean": builder.buildroot(order).name}).raw["code"] == 0
    assert not builder.buildroot(order).exists()


HOOK = repository_root() / "contrib/koji/mock_cloud_builder.py"
# A builder that changes a package between mock's end and the upload.
SPOILING = """\
#!/bin/sh
{mock} "$@"; code=$?
for package in {lib}/*/result/*.noarch.rpm; do printf x >>"$package"; done
exit $code
"""


@pytest.fixture
def hooked(builder: Builder, tmp_path: Path) -> Iterator[dict[str, object]]:
    """What an order has for the hook: its file and its configuration, with the builder's key."""
    key = builder.place / "signing"
    key.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    os.chown(key, builder.user.pw_uid, builder.user.pw_gid)
    conf = tmp_path / "mock_cloud.conf"
    program = Path(sys.executable).parent / "mock-cloud"
    conf.write_text(f"[mock_cloud]\nkeys = {key}.pub\ncommand = {program}\n")
    remote = builder.place / "etc/remotes.d/ec2.toml"
    text = remote.read_text()
    remote.write_text(f'{text}\n[provenance]\nwrite = "always"\nkey = "{key}"\n')
    yield {"plugin": str(HOOK), "plugin_conf": str(conf)}
    remote.write_text(text)


def test_packages_leave_a_builder_with_the_hook_once_they_verify(
    builder: Builder, hooked: dict[str, object], plain_srpm: Path
) -> None:
    report = builder.run(build(builder, plain_srpm, **hooked))
    result = report.result
    packages = {Path(name).name for name in (*result["rpms"], *result["srpms"])}
    assert packages == {"toy-plain-1-1.lab1.noarch.rpm", "toy-plain-1-1.lab1.src.rpm"}
    logs = {Path(name).name for name in result["logs"]}
    kept = {"remote_provenance.json", "remote_evidence.zip"}
    assert kept <= logs and packages | kept <= report.files
    signed = json.loads(
        base64.b64decode(json.loads(report.file("remote_provenance.json"))["payload"])
    )
    assert {one["name"] for one in signed["subject"]} == packages

    remote = builder.place / "etc/remotes.d/ec2.toml"
    remote.write_text(remote.read_text().replace('write = "always"', 'write = "never"'))
    report = builder.run(build(builder, plain_srpm, **hooked))
    assert "mock-cloud refuses the packages" in report.error
    assert "provenance.missing" in report.error
    assert not {name for name in report.files if name.endswith(".rpm")}


def test_a_package_that_was_changed_on_a_builder_with_the_hook_stays_there(
    builder: Builder, hooked: dict[str, object], plain_srpm: Path
) -> None:
    spoiling = builder.place / "spoiling"
    spoiling.write_text(SPOILING.format(mock=builder.mock, lib=builder.place / "lib"))
    spoiling.chmod(0o755)
    report = replace(builder, mock=spoiling).run(build(builder, plain_srpm, **hooked))
    assert "BuildError: mock-cloud refuses the packages" in report.error, report.stderr
    assert "result.changed: toy-plain-1-1.lab1.noarch.rpm" in report.error
    assert not {name for name in report.files if name.endswith(".rpm")}


def build(builder: Builder, srpm: Path, **more: object) -> dict[str, Any]:
    """An order to build it, whose `log` is its build.log. With `cancel`: until that is in it."""
    params = [place_srpm(builder, srpm), TAG, "noarch", True, {"repo_id": REPO_ID}]
    order = builder.order("buildArch", params, **more)
    return {**order, "log": str(builder.buildroot(order) / "result/build.log")}


def on_builder(builder: Builder) -> list[str]:
    """Command lines of processes that have anything to do with the builder's directory."""
    return [command for _, command in processes().values() if str(builder.place) in command]


def on_nodes(cloud: Ec2Cloud) -> list[str]:
    """Command lines of the build that runs on the cloud's nodes."""
    inits = [machine.init_pid for machine in cloud.nodes() if machine.init_pid]
    commands = [command for init in inits for _, command in family(init).values()]
    return [command for command in commands if "rpmbuild" in command]


@pytest.fixture
def ticking(lab_srpm: Callable[[Recipe], Path]) -> Path:
    """A package that builds longer than any test waits."""
    return lab_srpm(srpm.sleeping(300))


def test_a_cancelled_task(
    builder: Builder, mock: RealMock, ticking: Path, ec2_cloud: Ec2Cloud
) -> None:
    report = builder.run(build(builder, ticking, cancel="tick 2"))
    assert len(report.raw["processes"]) > 1
    assert report.raw["left"] == on_builder(builder) == []
    assert on_nodes(ec2_cloud) == []
    # As long as kojid's first signal has to work; no other was needed.
    assert "by signal 2" in report.stderr
    assert "signal 15" not in report.stderr and "signal 9" not in report.stderr, report.stderr
    (row,) = json.loads(mock_cloud(builder, mock, "nodes", "--json"))
    assert (row["state"], row["holder_pid"]) == ("ready", 0)


@pytest.fixture
def short_lease(builder: Builder) -> Iterator[None]:
    remote = builder.place / "etc/remotes.d/ec2.toml"
    text = remote.read_text()
    remote.write_text(f'{text}\n[lease]\nidle_ttl = "60s"\n')
    yield
    remote.write_text(text)


@pytest.mark.usefixtures("short_lease")
def test_a_task_that_is_killed(
    builder: Builder, mock: RealMock, ticking: Path, ec2_cloud: Ec2Cloud
) -> None:
    report = builder.run(build(builder, ticking, cancel="tick 2", kill=True))
    assert report.raw["left"] == on_builder(builder) == []
    (row,) = json.loads(mock_cloud(builder, mock, "nodes", "--json"))
    assert row["state"] == "abandoned"
    # Nobody tells the node: it ends by the timer that it was given. Its build goes on till then;
    # in the lab only if there is no real mock here, which ends all processes that it sees in a
    # chroot of this name, the nodes' among them.
    assert on_nodes(ec2_cloud) or builder.mock.name != "launcher"
    eventually(lambda: ec2_cloud.nodes() == ())
    assert ec2_cloud.listing().instances == ()


def test_two_tasks_at_once_and_a_node_that_is_lost(
    builder: Builder, mock: RealMock, ticking: Path, plain_srpm: Path, ec2_cloud: Ec2Cloud
) -> None:
    order = build(builder, ticking)
    log = Path(order["log"])
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(builder.run, order)
        eventually(lambda: log.exists() and "tick 2" in log.read_text())
        (row,) = json.loads(mock_cloud(builder, mock, "nodes", "--json"))
        assert builder.run(build(builder, plain_srpm)).result["rpms"]
        assert not running.done()
        assert len(json.loads(mock_cloud(builder, mock, "nodes", "--json"))) == 2
        (machine,) = [one for one in ec2_cloud.nodes() if one.address in row["address"]]
        ec2_cloud.end(machine.name, "Server.SpotInstanceTermination", "taken back")
        report = running.result()
    assert "exited with status 75" in report.error
    assert machine.address in report.file("root.log")
    assert "taken back" in report.file("root.log")

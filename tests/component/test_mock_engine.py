# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs of the mock engine in a lab node: real mock, sent as a kit, under the node's python."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.agent.measure.tree import digest_tree
from mock_cloud.wire.job_request import JOB_DIRECTORY, JobRequest
from tests.component.cloud_nodes import eventually
from tests.component.engine_node import LAB, NEEDS_LAB, engine_config
from tests.component.mock_engine import INPUTS, ROOT, MockSite, mock_site
from tests.tars import unpack_own
from tests.tree_archives import listing

pytestmark = NEEDS_LAB


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockSite]:
    with mock_site(LAB, tmp_path_factory.mktemp("mock")) as site:
        yield site


def trees(site: MockSite) -> list[str]:
    """What the node has of mock's chroots."""
    return sorted(path.name for path in (site.node.mock / ROOT).glob("mock.*"))


def test_a_package_is_built_by_mock(site: MockSite) -> None:
    # /proc/net/dev has a colon after each interface: a loopback and nothing else, which is up, and
    # to which all is routed.
    build = (
        "id -un; test $(grep -c : /proc/net/dev) = 1; grep lo: /proc/net/dev;"
        " grep '^lo.00000000.0100007F' /proc/net/route"
    )
    ended = site.rebuild(site.source("plain", head="BuildRequires: make", build=build))
    assert ended.exit == 0, ended.stderr
    assert ended.results() == [
        "build.log",
        "hw_info.log",
        "installed_pkgs.log",
        "plain-1.0-1.lab1.noarch.rpm",
        "plain-1.0-1.lab1.src.rpm",
        "root.log",
        "state.log",
    ]
    assert "\nmockbuild\n" in ended.log("build.log")
    assert "Start(plain-1.0-1.lab1.src.rpm)  Config(lab-1-x86_64)" in ended.stderr
    assert "Results and/or logs in: /home/user/result\n" in ended.stderr
    assert "mock.py version" not in ended.stderr
    assert "/run/mock-cloud" not in ended.stderr
    assert ended.status["chroots"] == []
    assert trees(site) == []


def test_a_second_build_stands_on_mocks_own_caches(site: MockSite) -> None:
    assert site.rebuild(site.source("before")).exit == 0
    site.server.forget_accesses()
    changed = {"macros": {**site.options["macros"], "%_mine": "1"}}
    ended = site.rebuild(site.source("again", build="test %_mine = 1"), options=changed)
    assert ended.exit == 0, ended.stderr
    assert "unpacking root cache" in ended.stderr
    assert not [one.path for one in site.server.accesses() if one.path.endswith(".rpm")]


def test_a_build_may_have_the_network(site: MockSite) -> None:
    reach = f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{site.server.port}'"
    ended = site.rebuild(site.source("social", build=reach), options={"rpmbuild_networking": True})
    assert ended.exit == 0, ended.log("build.log")


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"build": "exit 3"}, 1),
        ({"head": "BuildRequires: no-such-thing"}, 30),
        ({"requires": "%generate_buildrequires\nexit 2"}, 10),
    ],
)
def test_exit_codes_are_mocks(site: MockSite, parts: dict[str, str], code: int) -> None:
    ended = site.rebuild(site.source("failing", **parts))
    assert ended.exit == code, ended.stderr
    assert "ERROR: Exception(failing-1.0-1.lab1.src.rpm)" in ended.stderr
    assert "build.log" in ended.results()


def test_a_kept_chroot_is_found_again(site: MockSite) -> None:
    first = site.shell("echo kept > /builddir/mark; exit 7")
    assert first.exit == 7, first.stderr
    assert first.status["chroots"] == [f"/var/lib/mock/{ROOT}"]
    job = site.node.start(site.request("shell", "--shell", "--", "cat /builddir/mark -"))
    site.node.ask("input", job, "typed\n", True)
    second = site.node.wait(job)
    assert (second.exit, second.stdout) == (0, b"kept\ntyped\n"), second.stderr


def test_a_chroot_that_nobody_vouches_for_is_made_anew(site: MockSite) -> None:
    assert site.shell("echo mine > /builddir/mark").exit == 0
    (recorded,) = [path for path in site.node.layers if path.startswith("/var/lib/mock/")]
    del site.node.layers[recorded]
    ended = site.shell("test ! -e /builddir/mark")
    assert ended.exit == 0, ended.stderr
    assert trees(site) == [f"mock.{ended.directory.name}"]


def test_a_cache_that_foreign_code_only_read_is_what_it_was_vouched_for(site: MockSite) -> None:
    assert site.shell("true").exit == 0
    for _ in range(2):
        ended = site.shell("true", foreign=True)
        assert ended.exit == 0, ended.stderr
        found = {
            path: digest_tree(str(_on_this_machine(site, path))).sha256
            for path in ended.status["layers"]
        }
        assert len(found) == 4, "chroot, cache, what was seen of their files, mock's own code"
        assert found == ended.status["layers"]


def test_what_foreign_code_changes_is_recorded_however_it_hides_it(site: MockSite) -> None:
    """What has not changed is not read again for the record (decision 0095)."""
    assert site.shell("true").exit == 0
    changes = (
        "cp -p /usr/bin/env /opt/env; echo 1 >> /usr/bin/env; touch -r /opt/env /usr/bin/env",
        "cd /usr/lib && mv rpm x && cp -a x rpm && : > rpm/macros && touch -r x/macros rpm/macros",
        "cd /usr/bin; mv true t; mv false true; mv t false",
    )
    digests = set()
    for change in changes:
        ended = site.shell(change, foreign=True)
        assert ended.exit == 0, ended.stderr
        recorded = {path: digest for path, digest in ended.status["layers"].items()
                    if path.startswith("/var/lib/mock/")}  # fmt: skip
        (path,) = recorded
        found = digest_tree(str(_on_this_machine(site, path))).sha256
        assert recorded == {path: found}
        digests.add(found)
    assert len(digests) == len(changes)


def _on_this_machine(site: MockSite, path: str) -> Path:
    if path.startswith("/var/lib/mock/"):
        return site.node.mock / path.removeprefix("/var/lib/mock/")
    return site.node.workspace / path.removeprefix("/var/lib/mock-cloud/")


def test_a_shell_on_a_terminal(site: MockSite) -> None:
    job = site.node.start(site.request("shell", "--shell", pty=[33, 101, "xterm"]))
    terminal = site.node.job_dir(job) / "terminal"
    eventually(lambda: b"Start: shell" in terminal.read_bytes())
    site.node.ask("input", job, "stty size; echo $TERM; exit 5\n", False)
    ended = site.node.wait(job)
    assert ended.exit == 5
    assert b"33 101\r\n" in ended.stdout
    assert ended.stderr == ""
    assert b"mock.py version" not in ended.stdout


def test_files_go_in_and_out(site: MockSite, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/one").write_text("1")
    (tmp_path / "two").write_text("2")
    archive = site.packed("copyin", "copyin.tree", tmp_path, "tree", "two")
    words = [f"{INPUTS}/copyin/{name}" for name in ("tree", "two")]
    assert site.run("copyin", "--copyin", *words, "/builddir", inputs=(archive,)).exit == 0
    ended = site.run("copyout", "--copyout", "/builddir/t*o", f"{JOB_DIRECTORY}/copyout")
    assert ended.exit == 0, ended.stderr
    assert list(listing(ended.directory / "results/copyout.tree")) == ["two"]
    ended = site.run("copyout", "--copyout", "/builddir/tree", f"{JOB_DIRECTORY}/copyout/new")
    assert list(listing(ended.directory / "results/copyout.tree")) == ["new", "new/one"]
    ended = site.run("copyout", "--copyout", "/nothing", f"{JOB_DIRECTORY}/copyout")
    assert (ended.exit, "copyout.tree" in ended.results()) == (50, False)


def test_what_cannot_be_copied_out_does_not_keep_the_rest(site: MockSite) -> None:
    script = "mkdir -p /opt/m; cd /opt/m; echo 1 > one; mkfifo -m 644 pipe; ln -s ../.. up"
    assert site.run("chroot", "--chroot", "--", script).exit == 0
    ended = site.run("copyout", "--copyout", "/opt/m", f"{JOB_DIRECTORY}/copyout/new")
    assert ended.exit != 0
    found = listing(ended.directory / "results/copyout.tree")
    assert list(found) == ["new", "new/one", "new/up"]


def test_a_scan_of_a_failed_build_is_an_archive(site: MockSite) -> None:
    scan = {"chroot_scan_enable": True}
    build = "mkdir -p a/b/c/d/e; echo kept > a/b/c/d/e/config.log; false"
    ended = site.rebuild(site.source("scanned", build=build), options={"plugin_conf": scan})
    assert ended.exit == 1, ended.stderr
    found = listing(ended.directory / "results/chroot_scan.tree")
    (path,) = [name for name in found if name.endswith("e/config.log")]
    assert found[path][1] == b"kept\n"
    assert not (ended.directory / "results/chroot_scan").exists()


def test_a_tree_is_bound_into_the_chroot(site: MockSite, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/word").write_text("bound\n")
    tree = site.packed("tree", "shared", tmp_path, "shared")
    dirs = [[f"{INPUTS}/tree/shared", "/shared"]]
    conf = {"bind_mount_enable": True, "bind_mount_opts": {"dirs": dirs, "create_dirs": True}}
    ended = site.shell("cat /shared/word", inputs=(tree,), options={"plugin_conf": conf})
    assert (ended.exit, ended.stdout) == (0, b"bound\n"), ended.stderr


def test_a_source_package_is_made(site: MockSite) -> None:
    path = site.source("made")
    spec = site.node.put(path.parent / "made.spec", "spec")
    ended = site.run("buildsrpm", "--buildsrpm", f"--spec={INPUTS}/spec/made.spec", inputs=(spec,))
    assert ended.exit == 0, ended.stderr
    assert [name for name in ended.results() if name.endswith(".src.rpm")]


def test_a_chain_leaves_a_repository_for_the_next_one(site: MockSite) -> None:
    one = site.source("one")
    two = site.source("two", head="BuildRequires: one")
    bad = site.source("bad", build="exit 1")
    ended = site.chain(one, bad, two, words=("--continue",))
    assert ended.exit == 4, ended.stderr
    assert "results dir: /home/user/result\n" in ended.stderr
    results = ended.directory / "results"
    names = ended.results()
    assert {f"{name}-1.0-1.lab1/success" for name in ("one", "two")} < set(names)
    assert {"bad-1.0-1.lab1/fail", "repodata/repomd.xml"} < set(names)
    place = "one-1.0-1.lab1"
    built = tuple(
        replace(site.node.put(results / place / name, "built"), directory=place)
        for name in ("one-1.0-1.lab1.noarch.rpm", "success")
    )
    ended = site.chain(one, two, built=built)
    assert ended.exit == 0, ended.stderr
    assert f"Skipping already built pkg {one.name}" in ended.stderr
    assert not (ended.directory / "results" / place / "success").is_symlink()
    assert "two-1.0-1.lab1/two-1.0-1.lab1.noarch.rpm" in ended.results()


def test_build_requirements_are_locked(site: MockSite) -> None:
    package = site.node.put(site.source("locked", head="BuildRequires: bison"), "srpm")
    word = f"{INPUTS}/srpm/{package.name}"
    words = ("--calculate-build-dependencies", word)
    ended = site.run("calculatedeps", *words, inputs=(package,))
    assert ended.exit == 0, ended.stderr
    assert "bison" in ended.log("buildroot_lock.json")


def test_a_cancelled_build_leaves_nothing(site: MockSite) -> None:
    assert site.shell("echo old > /builddir/old").exit == 0
    build = "trap '' TERM; echo started; sleep 300"
    package = site.node.put(site.source("cancelled", build=build), "srpm")
    request = site.request(
        "rebuild", "--rebuild", f"{INPUTS}/srpm/{package.name}", inputs=(package,)
    )
    job = site.node.start(request)
    log = site.node.job_dir(job) / "results/build.log"
    eventually(lambda: log.exists() and "\nstarted\n" in log.read_text())
    assert site.node.ask("cancel", job) is True
    eventually(lambda: not site.node.processes())
    ended = site.node.wait(job)
    assert (ended.exit, ended.status["message"]) == (7, "cancelled")
    assert not [path for path in ended.status["layers"] if path.startswith("/var/lib/mock/")]
    site.node.layers = ended.status["layers"]
    ended = site.shell("test ! -e /builddir/old")
    assert ended.exit == 0, ended.stderr
    assert trees(site) == [f"mock.{ended.directory.name}"]


def test_two_jobs_never_share_a_chroot(site: MockSite) -> None:
    job = site.node.start(site.request("shell", "--shell", "--", "echo on; sleep 300"))
    terminal = site.node.job_dir(job) / "terminal"
    try:
        eventually(lambda: b"Start: shell" in terminal.read_bytes())
        second = site.node.run(site.request("shell", "--shell", "--", "true"))
    finally:
        assert site.node.ask("cancel", job) is True
    assert second.exit == 60
    assert "Build root is locked by another process." in second.stderr


def test_one_name_is_one_chroot_whichever_engine_made_it(site: MockSite) -> None:
    assert site.shell("true").exit == 0
    assert trees(site)
    config = engine_config(f"{site.server.url}/dist", root=ROOT)
    key = site.node.put(LAB.package_key, "gpgkey", "lab.asc")
    ended = site.node.run(JobRequest("init", config, inputs=[key]))
    assert ended.exit == 0, ended.stderr
    assert trees(site) == []
    assert (site.node.mock / ROOT / "overlay").is_dir()
    assert site.shell("true").exit == 0
    assert not (site.node.mock / ROOT / "overlay").exists()


@pytest.mark.slow
def test_a_bootstrap_chroot_is_kept_for_the_next_build(site: MockSite) -> None:
    # The lab calls packages as Debian does.
    options = {
        "use_bootstrap": True,
        "use_bootstrap_image": False,
        "dnf4_install_command": "install rpm dnf python3-dnf dnf-plugins-core",
    }
    # Nothing is built: the lab's rpm cannot read such a chroot's database as its build user, and
    # mock sometimes takes a word of that complaint for the name of the spec file.
    first = site.run("init", "--init", options=options)
    assert first.exit == 0, first.stderr
    assert "installing dnf4 tooling" in first.stderr
    cleaned = site.run("clean", "--clean", options=options)
    assert (cleaned.exit, cleaned.status["chroots"], len(trees(site))) == (0, [], 1)
    second = site.shell("true", options=options)
    assert second.exit == 0, second.stderr
    assert "installing dnf4 tooling" not in second.stderr
    assert "(direct choice)" in second.stderr  # the package manager in there
    # For other tests: without it, nothing of it is left.
    assert site.run("clean", "--scrub=all", "-q").exit == 0


def test_a_node_without_the_bindings_of_rpm_says_so(site: MockSite, tmp_path: Path) -> None:
    root = Path(f"/proc/{site.node._process.pid}/root")
    (module,) = root.glob("usr/lib/python3*/*-packages/rpm")
    aside = shutil.copytree(module, tmp_path / "rpm")
    shutil.rmtree(module)
    try:
        ended = site.shell("true")
    finally:
        shutil.copytree(aside, module)
    assert ended.exit == 3
    assert ended.stderr == "ERROR: the node has no python3-rpm, which the mock engine needs\n"


@pytest.mark.slow
def test_snapshots_of_a_chroot_live_on_the_node(site: MockSite) -> None:
    # mock loads overlayfs, which the lab's kernel has anyway, with a program the lab's node lacks.
    modprobe = Path(f"/proc/{site.node._process.pid}/root/usr/sbin/modprobe")
    plugins = {"root_cache_enable": False, "overlayfs_enable": True}
    plugins["overlayfs_opts"] = {"base_dir": "{{cache_topdir}}/overlayfs"}
    options = {"plugin_conf": plugins}

    def run(mode: str, *words: str) -> bytes:
        ended = site.run(mode, *words, options=options)
        assert ended.exit == 0, ended.stderr
        return ended.stdout

    def in_chroot(command: str) -> bytes:
        return run("chroot", "--quiet", "--chroot", "--", command)

    modprobe.write_text("#!/bin/sh\n")
    modprobe.chmod(0o755)
    try:
        run("clean", "--scrub=all")
        run("init", "--init")
        in_chroot("touch /var/tmp/before")
        run("snapshot", "--snapshot", "first")
        in_chroot("touch /var/tmp/after; rm /var/tmp/before")
        assert in_chroot("ls /var/tmp").split() == [b"after"]
        assert b"first" in run("list-snapshots", "--list-snapshots")
        run("rollback-to", "--rollback-to", "first")
        assert in_chroot("ls /var/tmp").split() == [b"before"]
        run("remove_snapshot", "--remove-snapshot", "first")
        assert b"first" not in run("list-snapshots", "--list-snapshots")
    finally:
        site.run("clean", "--scrub=all", options=options)
        modprobe.unlink()


@pytest.mark.slow
def test_a_node_may_have_a_mock_of_its_own(site: MockSite) -> None:
    """Laid out as mock's package does it; nothing is sent but the request."""
    root = Path(f"/proc/{site.node._process.pid}/root")
    libraries = root / "usr/lib/python3.11/site-packages"
    script = root / "usr/libexec/mock/mock"
    found = root / "usr/lib/python3/dist-packages/site.pth"  # where Fedora's python looks anyway
    assert site.own().exit == 3
    try:
        unpack_own(site.kit.path, libraries)
        script.parent.mkdir(parents=True)
        (libraries / "mock.py").rename(script)
        found.write_text("/usr/lib/python3.11/site-packages\n")
        _say_where_it_is(libraries / "mockbuild/constants.py")
        ended = site.own("test $(grep -c : /proc/net/dev) = 1; grep lo: /proc/net/dev; echo built")
        assert (ended.exit, ended.stdout[-6:]) == (0, b"built\n"), ended.stderr
    finally:
        found.unlink(missing_ok=True)
        for directory in (libraries, script.parent):
            shutil.rmtree(directory, ignore_errors=True)


def _say_where_it_is(constants: Path) -> None:
    """What mock's package does with the paths of a checkout."""
    text = constants.read_text()
    for name, value in {
        "VERSION": "6.7",
        "SYSCONFDIR": "/etc",
        "PYTHONDIR": "/usr/lib/python3.11/site-packages",
        "PKGPYTHONDIR": "/usr/lib/python3.11/site-packages/mockbuild",
    }.items():
        text, count = re.subn(rf"(?m)^{name} *=.*$", f"{name} = {value!r}", text)
        assert count
    constants.write_text(text)


def test_a_job_finds_the_nodes_name_servers_where_run_is_its_own(site: MockSite) -> None:
    root = Path(f"/proc/{site.node._process.pid}/root")
    link, target = root / "etc/resolv.conf", root / "run/resolver/stub.conf"
    before = link.rename(link.with_name("before")) if os.path.lexists(link) else None
    target.parent.mkdir()
    target.write_text("nameserver 127.0.0.53\n")
    link.symlink_to("../run/resolver/stub.conf")
    try:
        options = {"use_host_resolv": True, "rpmbuild_networking": True}
        ended = site.shell("cat /etc/resolv.conf", options=options)
    finally:
        link.unlink()
        target.unlink()
        target.parent.rmdir()
        if before is not None:
            before.rename(link)
    assert ended.stdout == b"nameserver 127.0.0.53\n", ended.stderr


@pytest.mark.slow
def test_a_full_disk_is_the_nodes_fault(tmp_path: Path) -> None:
    with mock_site(LAB, tmp_path / "small", mock_mib=700) as small:
        options = {"plugin_conf": {"root_cache_enable": False}}
        fill = "dd if=/dev/zero of=big bs=1M || { sleep 1; exit 1; }"
        ended = small.rebuild(small.source("filling", build=fill), options=options)
        assert (ended.exit, ended.status["message"][:9]) == (75, "no-space:"), ended.stderr
        full = small.source("devfull", build="echo x > /dev/full")
        assert small.rebuild(full, options=options).exit == 1

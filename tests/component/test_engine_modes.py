# SPDX-License-Identifier: GPL-2.0-or-later
"""The chroot engine's modes other than building, in a lab node."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.component.cloud_nodes import eventually
from tests.component.engine_node import (
    NEEDS_LAB,
    EngineSite,
    engine_site,
    make_source,
)
from tests.lab.http import Fault
from tests.tree_archives import UP, archive, directory, file, listing, pack

pytestmark = NEEDS_LAB


class Site(EngineSite):
    """A node whose one chroot is used by all tests of this module."""

    def path(self, inside: str) -> Path:
        return self.node.mock / "lab-1-x86_64" / inside


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with engine_site(tmp_path_factory.mktemp("modes")) as site:
        yield Site(site.node, site.server, site.sources)


@pytest.mark.slow
def test_init_keeps_a_chroot_for_later_jobs(site: Site) -> None:
    ended = site.run("init")
    assert ended.exit == 0, ended.stderr
    assert ended.status["chroots"] == ["/var/lib/mock/lab-1-x86_64"]
    assert "/var/lib/mock/lab-1-x86_64/overlay/upper.job-1" in ended.status["layers"]
    assert site.chroot("touch /root/kept").exit == 0
    assert site.chroot("test -e /root/kept").exit == 0
    assert list(site.path("root").iterdir()) == []


def test_a_kept_chroot_that_nobody_vouches_for_is_made_anew(site: Site) -> None:
    assert site.chroot("touch /root/unvouched").exit == 0
    site.node.layers = {
        path: digest for path, digest in site.node.layers.items() if "/overlay/" not in path
    }
    ended = site.chroot("test -e /root/unvouched")
    assert ended.exit == 1
    assert "WARNING: the chroot that an earlier build left is not covered" in ended.stderr


def test_the_status_and_output_of_a_command_come_back(site: Site) -> None:
    ended = site.chroot("echo out; echo err >&2; exit 42")
    assert ended.exit == 42
    assert ended.stdout == b"out\nerr\n"
    assert "INFO: Running in chroot: ['echo out; echo err >&2; exit 42']" in ended.stderr
    argv = site.run("chroot", "/bin/echo", "$HOME;", "a b")
    assert argv.stdout == b"$HOME; a b\n"
    assert site.run("chroot", "/no/such/program", "x").exit == 1  # as with mock
    assert site.chroot("kill -9 $$").exit == 247  # as with mock


def test_who_and_where_a_command_is(site: Site) -> None:
    assert site.chroot("id -u; pwd").stdout == b"0\n/\n"
    unpriv = site.chroot("id -un; id -gn; pwd; id -G", unpriv=True, cwd="/tmp")
    assert unpriv.stdout == b"mockbuild\nmock\n/tmp\n135\n"


def test_a_directory_of_a_layer_can_be_renamed(site: Site) -> None:
    # mv would copy where rename(2) fails; the one of coreutils 9.5 can be told not to.
    mv, rename = "mv --no-copy /usr/share/doc /usr/share/doc2", "rename.ul doc doc2 /usr/share/doc"
    assert site.chroot(f"if mv --help | grep -q no-copy; then {mv}; else {rename}; fi").exit == 0
    listed = site.chroot(
        "ls -d /usr/share/doc*; rpmdb --rebuilddb --dbpath /var/lib/rpm; rpm -q make"
    )
    assert listed.exit == 0, listed.stdout
    assert listed.stdout.startswith(b"/usr/share/doc2\n")


def test_quiet_and_verbose(site: Site) -> None:
    assert site.chroot("true", verbose=0).stderr == ""
    assert "Start: chroot init" in site.chroot("true", verbose=1).stderr
    assert "DEBUG: Child return code" not in site.chroot("true", verbose=1).stderr


def test_a_shell_without_a_terminal_reads_its_input(site: Site) -> None:
    job = site.node.start(site.request("shell"))
    site.node.wait_for_phase(job, "shell")
    assert site.node.ask("input", job, "cat; exit 3\nto cat\n", True) == "ok"
    ended = site.node.wait(job)
    assert b"to cat" in ended.stdout
    assert not (ended.directory / "results/build.log").exists()
    words = site.run("shell", "echo", "out;", "echo err >&2; exit 5")
    assert (words.exit, words.stdout) == (5, b"out\n")
    assert words.stderr.count("err\n") == 1


def test_a_shell_with_a_terminal(site: Site) -> None:
    job = site.node.start(site.request("shell", pty=[33, 99, "vt220"]))
    site.node.wait_for_phase(job, "shell")
    terminal = site.node.job_dir(job) / "terminal"
    assert site.node.ask("input", job, "tty; stty size; echo $TERM\n", False) == "ok"
    eventually(lambda: b"33 99" in terminal.read_bytes() and b"vt220\r\n" in terminal.read_bytes())
    assert site.node.ask("resize", job, 44, 111) is None
    assert site.node.ask("input", job, "stty size\n", False) == "ok"
    eventually(lambda: b"44 111" in terminal.read_bytes())
    assert site.node.ask("input", job, "exit 7\n", False) == "ok"
    ended = site.node.wait(job)
    assert ended.exit == 7
    assert b"/dev/pts/0\r\n" in ended.stdout
    assert site.node.ask("input", job, "late", False).startswith("error FileNotFoundError")


@pytest.mark.slow
def test_packages_are_installed_and_removed(site: Site) -> None:
    assert site.chroot("bison --version").exit == 127
    ended = site.run("install", "bison")
    assert ended.exit == 0, ended.stderr
    assert site.chroot("bison --version").exit == 0
    assert site.run("remove", "bison").exit == 0
    assert site.chroot("bison --version").exit == 127
    assert site.run("update").exit == 0
    assert site.run("install", "no-such-package").exit == 30


@pytest.mark.slow  # tests/integration has the same through `mock --remote`
def test_a_local_package_is_installed(site: Site) -> None:
    source = make_source(site.sources / "local", "local")
    built = site.run(
        "rebuild", source.name, inputs=[site.node.put(source, "srpm")],
        config=replace(site.config, root="other"),
    )  # fmt: skip
    package = built.directory / "results/local-1.0-1.lab1.noarch.rpm"
    item = site.node.put(package, "package")
    unsigned = site.run("install", item.name, inputs=[item])
    assert unsigned.exit in (0, 30)  # localpkg_gpgcheck is off by default: dnf decides
    if unsigned.exit == 0:
        assert site.chroot("cat /usr/share/local/name").stdout == b"local\n"


def test_dependencies_are_installed(site: Site) -> None:
    source = make_source(site.sources / "needs", "needs", head="BuildRequires: patch")
    ended = site.run("installdeps", source.name, inputs=[site.node.put(source, "srpm")])
    assert ended.exit == 0, ended.stderr
    assert site.chroot("patch --version").exit == 0


def test_files_are_copied_in_and_out(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    item = site.node.put(pack(tmp_path / "in.tree", tmp_path / "file"), "copyin")
    assert site.run("copyin", "/root/renamed", inputs=[item]).exit == 0
    assert site.run("copyin", "/builddir", inputs=[item]).exit == 0
    assert site.chroot("cat /root/renamed; stat -c %U /builddir/file").stdout == (
        b"contentmockbuild\n"
    )
    ended = site.run("copyout", "/builddir/fil*", "/etc/os-release")
    assert ended.exit == 0, ended.stderr
    found = listing(ended.directory / "results/copyout.tree")
    assert list(found) == ["file", "os-release"]
    assert found["file"][1] == b"content"
    assert site.run("copyout", "/no/such/file").exit == 50


def test_a_place_that_is_missing_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    item = site.node.put(pack(tmp_path / "in.tree", tmp_path / "one"), "copyin")
    ended = site.run("copyin", "/no/such/dir/one", inputs=[item])
    assert ended.exit == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("ERROR: [Errno 2] No such file or directory: '")
    assert last.endswith("/root/no/such/dir/one'")


def test_what_cannot_be_copied_out_is_named_and_the_rest_comes(site: Site) -> None:
    script = (
        "mkdir -p /opt/tree/below; cd /opt/tree; echo 1 > one; echo 2 > below/two;"
        "mkfifo -m 644 pipe; echo 3 > secret; chmod 600 secret; ln -s /nowhere link;"
        "ln -s tree /opt/way"
    )
    assert site.chroot(script).exit == 0
    ended = site.run("copyout", "/opt/tree")
    assert ended.exit == 1
    assert "/opt/tree/pipe': it is a named pipe" in ended.stderr
    assert "/opt/tree/secret': Permission denied" in ended.stderr
    found = listing(ended.directory / "results/copyout.tree")
    assert list(found) == ["tree", "tree/below", "tree/below/two", "tree/link", "tree/one"]
    assert found["tree/link"][0].target == "/nowhere"
    # A directory that was named by a link is copied itself, as mock does it.
    assert "way/one" in listing(site.run("copyout", "/opt/way").directory / "results/copyout.tree")


def test_an_archive_cannot_leave_its_place(site: Site, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tree"
    for data in (archive(file(b"../escaped")), archive(directory(b"d"), UP, file(b"escaped"))):
        bad.write_bytes(data)
        assert site.run("copyin", "/tmp", inputs=[site.node.put(bad, "copyin")]).exit == 1
        assert site.chroot("ls /escaped").exit == 2


def test_links_in_the_chroot_stay_in_the_chroot(site: Site, tmp_path: Path) -> None:
    assert site.chroot("ln -s /var/lib/mock-cloud /root/out").exit == 0
    (tmp_path / "planted").touch()
    item = site.node.put(pack(tmp_path / "in.tree", tmp_path / "planted"), "copyin")
    site.run("copyin", "/root/out/planted", inputs=[item])
    assert not (site.node.workspace / "planted").exists()


def test_a_source_package_is_made(site: Site) -> None:
    place = site.sources / "srcpkg"
    (place / "below").mkdir(parents=True)
    (place / "below/word").write_text("found")
    (place / ".hidden").write_text("data")
    (place / "run").write_text("#!/bin/sh\n")
    (place / "run").chmod(0o755)
    os.utime(place / "run", (1, 1_000_000_000))
    head = (
        "Source0: .hidden\nSource1: run\n"
        "Group: %(cat %{_sourcedir}/below/word 2>/dev/null || echo none)"
    )
    source = make_source(place, "srcpkg", head=head, build="%{SOURCE1}")
    source.unlink()
    spec = site.node.put(place / "srcpkg.spec", "spec")
    packed = pack(site.sources / "sources.tree", *sorted(place.iterdir()))
    data = site.node.put(packed, "sources", "sources")
    ended = site.run("buildsrpm", spec="srcpkg.spec", inputs=[spec, data])
    assert ended.exit == 0, ended.stderr
    query = "[%{FILENAMES} %{FILEMODES:octal} %{FILEMTIMES}\n]"
    made = ended.directory / "results/srcpkg-1.0-1.lab1.src.rpm"
    argv = ["rpm", "-qp", "--nosignature", "--qf", query, str(made)]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "run 100755 1000000000\n" in listed
    assert ".hidden 100644 " in listed
    argv = ["rpm", "-qp", "--nosignature", "--qf", "%{GROUP}", str(made)]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "found"
    built = site.run("rebuild", spec="srcpkg.spec", inputs=[spec, data])
    assert built.exit == 0, built.stderr
    assert "srcpkg-1.0-1.lab1.noarch.rpm" in built.results()


def test_no_clean_builds_in_what_is_there(site: Site) -> None:
    assert site.run("init").exit == 0
    assert site.chroot("echo mine > /etc/mine").exit == 0
    source = make_source(site.sources / "dirty", "dirty", build="grep mine /etc/mine")
    config = replace(site.config, clean=False, cleanup_on_success=False)
    item = site.node.put(source, "srpm")
    ended = site.run("rebuild", source.name, inputs=[item], config=config)
    assert ended.exit == 0, ended.log("build.log")
    assert "rpmbuild -bb --noclean" in ended.log("build.log")
    assert site.chroot("test -e /builddir/build/RPMS/dirty-1.0-1.lab1.noarch.rpm").exit == 0


def test_what_was_left_in_the_home_goes_whoever_closed_it(site: Site) -> None:
    """As mock does it: directories that nobody may enter, and root's; nothing outside of it."""
    assert site.run("init").exit == 0
    left = (
        "cd /builddir/build/BUILD && mkdir -p closed/in rooted && touch closed/in/x rooted/x &&"
        " ln -s /etc out && chown -R mockbuild closed && chmod 0 closed/in closed"
    )
    assert site.chroot(left).exit == 0
    source = make_source(site.sources / "after", "after")
    config = replace(site.config, clean=False, cleanup_on_success=False)
    item = site.node.put(source, "srpm")
    ended = site.run("rebuild", source.name, inputs=[item], config=config)
    assert ended.exit == 0, ended.stderr
    look = "test -d /etc && cd /builddir/build/BUILD && test ! -e closed -a ! -e rooted"
    assert site.chroot(look).exit == 0


def test_clean_and_scrub_remove(site: Site) -> None:
    assert site.run("init").exit == 0
    assert site.path("overlay").exists()
    ended = site.run("clean")
    assert ended.status["chroots"] == []
    assert not site.path("overlay").exists()
    assert site.run("init").exit == 0
    assert site.run("scrub", "all").exit == 0
    assert not site.path("overlay").exists()
    layers = site.node.workspace / "layers"
    assert [path.name for path in layers.iterdir() if path.is_dir()] == []


def test_nothing_stays_behind(site: Site) -> None:
    eventually(lambda: not site.node.processes())
    for job in (site.node.workspace / "jobs").iterdir():
        assert not (job / "inputs").exists()
        assert not (job / "input").exists()


@pytest.mark.parametrize(("what", "package"), [("repodata/repomd.xml", "psmisc"), ("m4-", "m4")])
def test_a_package_manager_is_started_as_often_as_the_configuration_has_it(
    site: Site, what: str, package: str
) -> None:
    """A repository is away for a moment: dnf itself asks again at once, and gives up."""
    away = f"/dist/1/{what}"
    patient = replace(site.config, package_manager_max_attempts=3, package_manager_attempt_delay=0)
    assert site.run("init").exit == 0
    site.server.forget_accesses()
    with site.server.fault(away, Fault.NOT_FOUND):
        failed = site.run("install", package)
        assert failed.exit == 30 and "retrying" not in failed.stderr
        asked = sum(one.path.startswith(away) for one in site.server.accesses())
    with site.server.fault(away, Fault.NOT_FOUND, times=max(asked, 1)):
        ended = site.node.run(replace(site.request("install", package), config=patient))
    assert ended.exit == 0, ended.stderr
    assert "WARNING: DNF4 command failed, retrying, attempt #2, sleeping 0s" in ended.stderr

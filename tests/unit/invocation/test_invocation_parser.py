# SPDX-License-Identifier: GPL-2.0-or-later
"""mock's command line: options, modes, `--`, and what is refused with which exit code."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.errors import MockCloudError
from mock_cloud.invocation.model import CommandLine
from mock_cloud.invocation.options import GROUPS, REMOTE
from mock_cloud.invocation.parser import parse_command_line


def parse(*argv: str, **environ: str) -> CommandLine:
    return parse_command_line(argv, environ)


VALUES: list[tuple[list[str], str, Any]] = [
    (["-r", "fedora-43-x86_64"], "chroot", "fedora-43-x86_64"),
    (["--root=./x.cfg"], "chroot", "./x.cfg"),
    (["--configdir", "/d"], "configdir", "/d"),
    (["--config-opts", "a=1", "--config-opts=b=2"], "cli_config_opts", ("a=1", "b=2")),
    (["--uniqueext", "me"], "uniqueext", "me"),
    (["--resultdir=/tmp/r"], "resultdir", "/tmp/r"),
    (["--rootdir=/tmp/r"], "rootdir", "/tmp/r"),
    (["--offline"], "online", False),
    (["-n"], "clean", False),
    (["--no-clean"], "clean", False),
    (["--cleanup-after"], "cleanup_after", True),
    (["-N"], "cleanup_after", False),
    (["--no-cleanup-after"], "cleanup_after", False),
    (["--cache-alterations"], "cache_alterations", True),
    (["--nocheck"], "check", False),
    (["--arch", "i686"], "arch", "i686"),
    (["--forcearch", "s390x"], "forcearch", "s390x"),
    (["--target=noarch"], "rpmbuild_arch", "noarch"),
    (["-D", "a b", "--define=c d"], "rpmmacros", ("a b", "c d")),
    (["--macro-file", "/m"], "macrofile", "/m"),
    (["--with", "x", "--with=y"], "rpmwith", ("x", "y")),
    (["--without", "x"], "rpmwithout", ("x",)),
    (["--rpmbuild_timeout", "60"], "rpmbuild_timeout", 60),
    (["--rpmbuild-opts=--noclean"], "rpmbuild_opts", "--noclean"),
    (["--unpriv"], "unpriv", True),
    (["--cwd", "/d"], "cwd", "/d"),
    (["--spec", "/a.spec"], "spec", "/a.spec"),
    (["--sources", "/s"], "sources", "/s"),
    (["--symlink-dereference"], "symlink_dereference", True),
    (["--short-circuit=install"], "short_circuit", "install"),
    (["--old-chroot"], "old_chroot", True),
    (["--new-chroot"], "new_chroot", True),
    (["--isolation", "auto"], "isolation", "auto"),
    (["--enable-network"], "enable_network", True),
    (["--postinstall"], "post_install", True),
    (["-v"], "verbose", 2),
    (["-q"], "verbose", 0),
    (["-v", "-q"], "verbose", 0),
    (["--trace"], "trace", True),
    (["--enable-plugin", "sign"], "enabled_plugins", ("sign",)),
    (["--disable-plugin", "sign"], "disabled_plugins", ("sign",)),
    (["--plugin-option", "a:b=c"], "plugin_opts", ("a:b=c",)),
    (["-p"], "printrootpath", True),
    (["-l"], "list_snapshots", True),
    (["--scm-enable"], "scm", True),
    (["--scm-option", "a=b"], "scm_opts", ("a=b",)),
    (["--yum"], "pkg_manager", "yum"),
    (["--dnf"], "pkg_manager", "dnf"),
    (["--bootstrap-chroot"], "bootstrapchroot", True),
    (["--no-bootstrap-chroot"], "bootstrapchroot", False),
    (["--use-bootstrap-image"], "usebootstrapimage", True),
    (["--no-bootstrap-image"], "usebootstrapimage", False),
    (["--buildroot-image", "i"], "buildroot_image", "i"),
    (["--additional-package", "gcc"], "additional_packages", ("gcc",)),
    (["--hermetic-build", "l", "d"], "hermetic_build", ("l", "d")),
    (["-a", "http://a/", "--addrepo=http://b/"], "repos", ("http://a/", "http://b/")),
    (["--tmp_prefix", "p"], "tmp_prefix", "p"),
    (["--remote", "ec2"], "remote", "ec2"),
    (["--remote=ec2"], "remote", "ec2"),
    (["--no-remote"], "no_remote", True),
    (["--detach"], "detach", True),
    (["--then", "release"], "then", "release"),
    (["--progress", "json"], "progress", "json"),
    (["--duplicate", "2"], "duplicate", 2),
    (["--jobs", "4"], "jobs", 4),
    (
        ["--disablerepo=*", "--enablerepo", "a,b"],
        "enable_disable_repos",
        (("--disablerepo", "*"), ("--enablerepo", "a,b")),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "field", "value"), VALUES, ids=lambda it: str(it)[:40])
def test_option_sets_its_field_only(argv: list[str], field: str, value: Any) -> None:
    line = parse(*argv, "x.src.rpm")
    assert getattr(line, field) == value
    assert line.args == ("x.src.rpm",)
    assert line.given == {field, "mode"}
    default = CommandLine()
    for other in dataclasses.fields(CommandLine):
        if other.name not in (field, "args", "argv", "given"):
            assert getattr(line, other.name) == getattr(default, other.name), other.name


def test_every_field_of_an_option_exists_and_is_tried() -> None:
    dests = {option.dest for group in GROUPS for option in group.options}
    assert dests <= {item.name for item in dataclasses.fields(CommandLine)}
    tried = {field for _, field, _ in VALUES} | {"mode", "scrub", "localrepo", "cont", "recurse"}
    assert dests == tried


MODES: list[tuple[list[str], str, tuple[str, ...]]] = [
    (["x.src.rpm"], "rebuild", ("x.src.rpm",)),
    (["rebuild", "x.src.rpm"], "rebuild", ("x.src.rpm",)),
    (["--rebuild", "x.src.rpm"], "rebuild", ("x.src.rpm",)),
    (["--rebuild", "rebuild"], "rebuild", ("rebuild",)),
    (["shell"], "shell", ()),
    (["init"], "init", ()),
    (["clean"], "clean", ()),
    (["install", "gcc", "make"], "install", ("gcc", "make")),
    (["-i", "gcc"], "install", ("gcc",)),
    (["installdeps", "a.spec"], "installdeps", ("a.spec",)),
    (["remove", "gcc"], "remove", ("gcc",)),
    (["--update"], "update", ()),
    (["--chain", "a.src.rpm", "b.src.rpm"], "chain", ("a.src.rpm", "b.src.rpm")),
    (["--chain", "-c", "a.src.rpm"], "chain", ("a.src.rpm",)),
    (["--buildsrpm", "--spec=a.spec", "--sources=."], "buildsrpm", ()),
    (["--spec=a.spec", "--sources=."], "rebuild", ()),
    (["--scrub=all"], "clean", ()),
    (["--scrub=all", "--rebuild", "x"], "clean", ("x",)),
    (["--calculate-build-dependencies", "x.src.rpm"], "rebuild", ("x.src.rpm",)),
    (["--copyin", "a", "b", "/c"], "copyin", ("a", "b", "/c")),
    (["--copyout", "/a", "."], "copyout", ("/a", ".")),
    (["--list-chroots"], "listchroots", ()),
    (["--debug-config"], "debugconfig", ()),
    (["--shell", "--", "rpm", "-q", "--qf", "x"], "shell", ("rpm", "-q", "--qf", "x")),
    (["--chroot", "--", "ls -l"], "chroot", ("ls -l",)),
    (["--chroot", "ls", "--color"], "chroot", ("ls", "--color")),
    (["chroot", "ls", "--color"], "chroot", ("ls", "--color")),
    (["--shell", "a", "--", "-b"], "shell", ("a", "--", "-b")),
    (["--shell", "--", "a", "--", "b"], "shell", ("a", "--", "b")),
    (["--dnf-cmd", "repoquery", "--foo"], "dnf-cmd", ("repoquery", "--foo")),
    (["-p"], "rebuild", ()),
    (["--shell", "ls -la /"], "shell", ("ls -la /",)),
]


@pytest.mark.parametrize(("argv", "mode", "args"), MODES, ids=lambda it: str(it)[:50])
def test_mode_and_arguments(argv: list[str], mode: str, args: tuple[str, ...]) -> None:
    line = parse(*argv)
    assert (line.mode, line.args) == (mode, args)


REFUSED: list[tuple[list[str], int, str]] = [
    (["--remot", "x", "--bogus", "a"], 5, "--bogus"),
    (["--resultdirr", "/x", "a.src.rpm"], 5, "--resultdirr"),
    (["a.src.rpm", "--nochek"], 5, "--nochek"),
    (["-Z", "a.src.rpm"], 5, "-Z"),
    (["--shell", "--lable", "ls"], 5, "--lable"),
    (["--root"], 5, "-r"),
    (["--rpmbuild_timeout", "soon", "x"], 5, "rpmbuild_timeout"),
    (["--rpmbuild_timeout=-1", "x"], 5, "negative"),
    (["--scrub=everything"], 5, "everything"),
    (["--short-circuit=no", "x"], 5, "no"),
    (["a.src.rpm", "b.src.rpm"], 5, "--resultdir"),
    (["--chain", "a", "--resultdir=/x"], 5, "--resultdir"),
    (["--localrepo=/x", "a"], 5, "--localrepo"),
    (["--recurse", "a"], 5, "--recurse"),
    (["-c", "a"], 5, "--continue"),
    (["--additional-package=a", "--init"], 5, "--additional-package"),
    (["--buildsrpm"], 5, "--spec"),
    (["--target=a,b", "x"], 5, "--target"),
    (["--isolation=full", "x"], 5, "full"),
    (["-D", "novalue", "x"], 5, "novalue"),
    (["-D", " novalue ", "x"], 5, "novalue"),
    (["--config-opts", "novalue", "x"], 5, "novalue"),
    (["--config-opts", "=v", "x"], 5, "=v"),
    (["--plugin-option", "a=b", "x"], 5, "a=b"),
    (["--hermetic-build", "a", "b", "-r", "x", "y"], 5, "-r"),
    (["--hermetic-build", "a", "b", "--init"], 5, "--rebuild"),
    (["--remote=a", "--no-remote", "x"], 5, "exclude"),
    (["--remote=../a", "x"], 5, "../a"),
    (["--remote=", "x"], 5, "--remote"),
    (["--jobs=0", "x"], 5, "--jobs 0"),
    (["--jobs=2", "--detach", "--resultdir=r", "a", "b"], 5, "--detach"),
    (["--jobs=2", "--shell"], 5, "--shell"),
    (["--remote=a\nb", "x"], 5, "remote"),
    ([], 50, "SRPM"),
    (["--chain"], 50, "--chain"),
    (["--chroot"], 50, "--chroot"),
    (["--install"], 50, "--install"),
    (["--installdeps"], 50, "--installdeps"),
    (["--remove"], 50, "--remove"),
    (["--copyin", "a"], 50, "--copyin"),
    (["--copyout", "a"], 50, "--copyout"),
    (["--spec=a.spec", "--resultdir=r", "a", "b"], 50, "--spec"),
]


@pytest.mark.parametrize(("argv", "code", "word"), REFUSED, ids=lambda it: str(it)[:50])
def test_refusals_name_the_mistake(argv: list[str], code: int, word: str) -> None:
    with pytest.raises(MockCloudError) as caught:
        parse(*argv)
    assert caught.value.exit_code == code
    assert word in caught.value.message
    assert "\n" not in caught.value.message


def test_a_near_option_is_suggested() -> None:
    with pytest.raises(MockCloudError) as caught:
        parse("--resultdri=/x", "a.src.rpm")
    assert caught.value.hint == "did you mean --resultdir?"


def test_abbreviations_work_as_in_mock() -> None:
    assert parse("--resultd=/x", "--enable-net", "a").resultdir == "/x"
    assert parse("--enabler=a", "x").enable_disable_repos == (("--enablerepo", "a"),)


def test_recurse_implies_continue_and_calculation_its_flag() -> None:
    assert parse("--chain", "--recurse", "a").cont
    assert parse("--calculate-build-dependencies", "a").calculatedeps


def test_home_is_expanded_for_spec_and_sources() -> None:
    line = parse("--buildsrpm", "--spec=~/a.spec", "--sources=~/s")
    assert line.spec == str(Path("~/a.spec").expanduser())
    assert line.sources == str(Path("~/s").expanduser())


def test_environment_remote_is_kept_apart() -> None:
    line = parse("x", MOCK_REMOTE="ec2")
    assert (line.remote, line.environ_remote) == (None, "ec2")
    assert parse("x", MOCK_REMOTE="").environ_remote is None
    assert parse("--no-remote", "x", MOCK_REMOTE="../bad").no_remote
    with pytest.raises(MockCloudError, match="MOCK_REMOTE"):
        parse("x", MOCK_REMOTE="../bad")


def test_help_and_version_are_texts_even_with_other_mistakes_after_them() -> None:
    shown = parse("--help", "--bogus").show
    assert "--remote cloud hello" in shown
    for group in GROUPS:
        for option in group.options:
            assert option.names[0] in shown
    assert re.match(r"6\.7 \(mock-cloud \d", parse("--version").show)
    assert parse("--version").is_local


def test_modes_that_need_no_node() -> None:
    assert parse("--debug-config").is_local
    assert parse("-p").is_local
    assert not parse("--init").is_local


SOURCE = os.environ.get("MOCK_CLOUD_TEST_MOCK_SOURCE", "")
PYTHON = os.environ.get("MOCK_CLOUD_TEST_MOCK_PYTHON", sys.executable)

UPSTREAM = """
import ast, json, sys
tree = ast.parse(open(sys.argv[1] + "/mock/py/mock.py").read())
found = {}
for node in ast.walk(tree):
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_option":
        names = [a.value for a in node.args]
        words = {k.arg: k.value for k in node.keywords}
        dest = words["dest"].value if "dest" in words else names[-1].lstrip("-").replace("-", "_")
        for name in names:
            found[name] = dest
print(json.dumps(found))
"""


@pytest.mark.skipif(not SOURCE, reason="needs a mock checkout: set MOCK_CLOUD_TEST_MOCK_SOURCE")
def test_all_options_of_mock_are_there_under_mocks_names() -> None:
    done = subprocess.run(
        [PYTHON, "-c", UPSTREAM, SOURCE], capture_output=True, text=True, check=True, timeout=600
    )
    upstream: dict[str, str] = __import__("json").loads(done.stdout)
    known = {name: option.dest for group in GROUPS if group is not REMOTE
             for option in group.options for name in option.names}  # fmt: skip
    assert len(upstream) > 80
    assert known == upstream
    assert not upstream.keys() & {name for option in REMOTE.options for name in option.names}

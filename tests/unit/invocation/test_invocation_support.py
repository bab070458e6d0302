# SPDX-License-Identifier: GPL-2.0-or-later
"""What the chroot engine refuses of a command line, by name."""

from __future__ import annotations

import dataclasses

import pytest

from mock_cloud.errors import UnsupportedByEngine
from mock_cloud.invocation.engines import FIELDS
from mock_cloud.invocation.model import CommandLine
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.invocation.support import check_supported

ACCEPTABLE = [
    ["x.src.rpm"],
    ["-r", "a", "--with=x", "--without=y", "-D", "a b", "--nocheck", "x.src.rpm"],
    ["--isolation=simple", "--no-bootstrap-chroot", "--no-bootstrap-image", "x.src.rpm"],
    ["--isolation=auto", "--old-chroot", "--dnf", "x.src.rpm"],
    ["--init"], ["--clean"], ["--scrub=all"], ["--shell"], ["--chroot", "ls"], ["--update"],
    ["--install", "gcc"], ["--remove", "gcc"], ["--installdeps", "a.src.rpm"],
    ["--copyin", "a", "/b"], ["--copyout", "/a", "b"], ["--chain", "-c", "--recurse", "a.src.rpm"],
    ["--buildsrpm", "--spec=a.spec", "--sources=."], ["--list-chroots"], ["--debug-config"], ["-p"],
    ["--enable-plugin=tmpfs", "--plugin-option=a:b=c", "x"], ["--offline", "-n", "-N", "x"],
    ["--install", "--setopt=install_weak_deps=False", "gcc", "--setopt=tsflags=nodocs"],
    ["--forcearch=s390x", "x"],  # judged by the configuration that results
]  # fmt: skip


@pytest.mark.parametrize("argv", ACCEPTABLE, ids=" ".join)
def test_accepted(argv: list[str]) -> None:
    check_supported(parse_command_line(argv, {}))


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--rootdir=/x", "a"], "--rootdir"),
        (["--yum", "a"], "--yum"),
        (["--bootstrap-chroot", "a"], "--bootstrap-chroot"),
        (["--use-bootstrap-image", "a"], "--use-bootstrap-image"),
        (["--buildroot-image=x", "a"], "--buildroot-image"),
        (["--hermetic-build", "x", "y", "a"], "--hermetic-build"),
        (["--calculate-build-dependencies", "a"], "--calculate-build-dependencies"),
        (["-l"], "--list-snapshots"),
        (["--scrub=lvm"], "--scrub=lvm"),
        (["--scrub=overlayfs"], "--scrub=overlayfs"),
        (["--pm-cmd", "x"], "--pm-cmd"),
        (["--yum-cmd", "x"], "--yum-cmd"),
        (["--dnf-cmd", "x"], "--dnf-cmd"),
        (["--orphanskill"], "--orphanskill"),
        (["--snapshot", "a"], "--snapshot"),
        (["--remove-snapshot", "a"], "--remove-snapshot"),
        (["--rollback-to", "a"], "--rollback-to"),
        (["--mount"], "--mount"),
        (["--umount"], "--umount"),
        (["--cwd=rel", "--shell"], "--cwd"),
        (["--install", "--", "--installroot=/"], "--installroot"),
        (["--update", "--", "-x"], "-x"),
        (["--install", "--setopt=installroot=/", "a"], "--setopt=installroot"),
        (["--update", "--setopt=reposdir=/etc/yum.repos.d"], "--setopt=reposdir"),
        (["--install", "--setopt=tsflags=/x", "a"], "--setopt=tsflags"),
        (["--install", "--setopt=lab.gpgcheck=0", "a"], "--setopt=lab.gpgcheck"),
    ],
    ids=lambda it: str(it)[:40],
)
def test_refused_by_name_with_a_hint(argv: list[str], named: str) -> None:
    with pytest.raises(UnsupportedByEngine) as caught:
        check_supported(parse_command_line(argv, {}))
    assert named in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 50


def test_every_option_was_decided() -> None:
    assert list(FIELDS) == [item.name for item in dataclasses.fields(CommandLine)]
    undecided = {name for name, row in FIELDS.items() if not row[0]}
    assert undecided == {"argv", "args", "built", "given", "show", "environ_remote"}

# SPDX-License-Identifier: GPL-2.0-or-later
"""The command lines that rpkg 1.70, and so fedpkg, calls mock with."""

from __future__ import annotations

from typing import Any

import pytest

from mock_cloud.invocation.parser import parse_command_line

OPTIONS = [
    "--no-clean", "--no-cleanup-after", "--with", "a", "--without", "b", "--enablerepo", "c",
    "--disablerepo", "*", "--enable-network",
]  # fmt: skip
GIVEN = {
    "clean": False,
    "cleanup_after": False,
    "rpmwith": ("a",),
    "rpmwithout": ("b",),
    "enable_disable_repos": (("--enablerepo", "c"), ("--disablerepo", "*")),
    "enable_network": True,
}
REMOTE = ["--remote", "ec2"]
CHROOT = ["-r", "f44-build-x86_64"]
KOJI = ["--configdir", "/tmp/f44.mockconfig", *CHROOT]
RESULT = ["--resultdir", "/p/results_hello/1/1"]
SRPM = "/p/hello-1-1.src.rpm"
QUERY = ["rpm", "--define", "'_sourcedir /p'", "-q", "--qf", "'??%{NAME} %{VERSION}??'"]

FORMS: dict[str, tuple[list[str], str, tuple[str, ...], dict[str, Any]]] = {
    "plain": ([*CHROOT, *RESULT, "--rebuild", SRPM], "rebuild", (SRPM,), {}),
    "options": (
        [*OPTIONS, *REMOTE, "--quiet", *CHROOT, *RESULT, "--rebuild", SRPM],
        "rebuild",
        (SRPM,),
        {**GIVEN, "verbose": 0, "remote": "ec2"},
    ),
    "mock's result directory": (
        [*REMOTE, *CHROOT, "--rebuild", SRPM],
        "rebuild",
        (SRPM,),
        {"remote": "ec2", "resultdir": None},
    ),
    "Koji's configuration": (
        [*REMOTE, *KOJI, *RESULT, "--rebuild", SRPM],
        "rebuild",
        (SRPM,),
        {"remote": "ec2", "configdir": "/tmp/f44.mockconfig"},
    ),
    "shell": ([*OPTIONS, *REMOTE, *CHROOT, *RESULT, "--shell"], "shell", (), GIVEN),
    "source package": (
        [*REMOTE, *KOJI, *RESULT, "--buildsrpm", "--sources", "/p", "--spec", "/p/hello.spec"],
        "buildsrpm",
        (),
        {"remote": "ec2", "spec": "/p/hello.spec", "sources": "/p"},
    ),
    "extra packages": (
        ["--additional-package", "gdb", "--additional-package", "/p/x.rpm", "--no-cleanup-after",
         *CHROOT, *RESULT, "--rebuild", SRPM],
        "rebuild",
        (SRPM,),
        {"remote": None, "cleanup_after": False, "additional_packages": ("gdb", "/p/x.rpm")},
    ),
    "spec file in": (
        [*REMOTE, *KOJI, "--chroot", "--resultdir", "/tmp/r", "--copyin", "/p/x.spec", "/var/tmp"],
        "copyin",
        ("/p/x.spec", "/var/tmp"),
        {"remote": "ec2", "resultdir": "/tmp/r"},
    ),
    "version and release": (
        [*REMOTE, *KOJI, "--chroot", "--resultdir", "/tmp/r",
         "--shell", "--", *QUERY, "> /var/tmp/o"],
        "shell",
        (*QUERY, "> /var/tmp/o"),
        {"remote": "ec2"},
    ),
    "version and release, --remote is rpm's": (
        [*CHROOT, "--chroot", "--shell", "--", "rpm", "--remote", "x"],
        "shell",
        ("rpm", "--remote", "x"),
        {"remote": None},
    ),
    "the answer out": (
        [*KOJI, "--chroot", "--resultdir", "/tmp/r", "--copyout", "/var/tmp/output", "/tmp/r"],
        "copyout",
        ("/var/tmp/output", "/tmp/r"),
        {"remote": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("argv", "mode", "args", "fields"), FORMS.values(), ids=FORMS)
def test_each_form(
    argv: list[str], mode: str, args: tuple[str, ...], fields: dict[str, Any]
) -> None:
    line = parse_command_line(argv, {"MOCK_REMOTE": "of-environment"})
    assert (line.mode, line.args, line.environ_remote) == (mode, args, "of-environment")
    assert line.chroot == "f44-build-x86_64"
    assert {name: getattr(line, name) for name in fields} == fields

# SPDX-License-Identifier: GPL-2.0-or-later
"""kojid's calls: after which of them nobody comes back to the chroot."""

from __future__ import annotations

import shlex

import pytest

from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.koji.tasks import ends_task

# As kojid's BuildRoot makes them.
INIT = "--init"
KERNEL = "--chroot 'uname -r'"
SOURCE = "--no-clean --unpriv --cwd /chroot_tmpdir/scmroot/x --chroot make sources"
FROM_SCM = "--no-clean --buildsrpm --spec x.spec --sources . --target noarch"
UNPACK = "--no-clean --target noarch --chroot -- rpm --define '_topdir /t' -iv x.src.rpm"
REBUILD = "--no-clean --target noarch --chroot -- rpmbuild --define '_topdir /t' -bs x.spec"
BUILD = "--no-clean --target x86_64 --rebuild x.src.rpm"


@pytest.mark.parametrize(
    ("words", "status", "ends"),
    [
        (INIT, 0, False),
        (KERNEL, 0, False),
        (SOURCE, 0, False),
        (UNPACK, 0, False),
        (BUILD, 0, True),
        (BUILD, 1, True),
        (FROM_SCM, 0, True),
        (REBUILD, 0, True),
        # A command that fails ends the task; that of the kernel's release is not looked at.
        (SOURCE, 1, True),
        (FROM_SCM, 1, True),
        (INIT, 30, True),
        (INIT, None, True),
        (KERNEL, 1, False),
    ],
)
def test_a_tasks_last_call(words: str, status: int | None, ends: bool) -> None:
    line = parse_command_line(["-r", "koji/f43-build-1-2", *shlex.split(words)], {})
    assert ends_task(line, status) is ends


@pytest.mark.parametrize(("words", "ends"), [(FROM_SCM, False), (BUILD, True)])
def test_a_wrapper_is_built_in_the_chroot_of_its_source_package(words: str, ends: bool) -> None:
    line = parse_command_line(["-r", "koji/f43-build-1-2", *shlex.split(words)], {})
    assert ends_task(line, 0, ["install", "@wrapper-rpm-build"]) is ends


@pytest.mark.parametrize(
    ("words", "ends"), [(FROM_SCM, False), (REBUILD, False), (SOURCE, False), (BUILD, True)]
)
def test_others_come_back_after_a_source_package(words: str, ends: bool) -> None:
    """With [build] shadow = "always" a script's commands are not kojid's."""
    line = parse_command_line(["-r", "fedora-43-x86_64", *shlex.split(words)], {})
    assert ends_task(line, 0) is ends

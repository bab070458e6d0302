# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of kojid's calls a remote node can serve.

Facts of kojid, its plugins runroot, kiwi and dud, and koji's genMockConfig.
Only what can be told from a call for certain is refused. docs/koji.md has the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mock_cloud.errors import UnsupportedByEngine
from mock_cloud.invocation.model import CommandLine

_GROUPS: Final = {
    "maven-build": "maven builds",
    "appliance-build": "images (createAppliance)",
    "livecd-build": "images (createLiveCD)",
    "livemedia-build": "images (createLiveMedia)",
    "kiwi-build": "images (createKiwiImage)",
    "dud-build": "driver update disks (createDudIso)",
}
"""Groups of packages that one kind of task alone asks for, and their tasks."""

_WRAPPER: Final = "@wrapper-rpm-build"
_RUNROOT: Final = "| /usr/bin/tee /builddir/runroot.log; exit ${PIPESTATUS[0]}"
_KERNEL: Final = ("uname -r",)
"""kojid's command after --init, whose failure it passes over."""
_MAVEN: Final = "/usr/bin/mvn"


def ends_task(line: CommandLine, status: int | None, chroot_setup_cmd: Sequence[str] = ()) -> bool:
    """Whether this command of kojid's was its task's last in the chroot.

    `status` is the job's exit status. buildArch and wrapperRPM end with --rebuild, buildSRPMFromSCM
    with --buildsrpm, rebuildSRPM with an rpmbuild of its own; and each with a command that fails
    (`BuildRoot` in kojid).
    """
    if line.mode == "rebuild" or not line.is_kojis:
        return line.mode == "rebuild"
    if line.mode == "buildsrpm" and status == 0 and _WRAPPER in chroot_setup_cmd:
        return False
    if line.mode == "buildsrpm" or (status != 0 and line.args != _KERNEL):
        return True
    return line.mode == "chroot" and line.args[:1] == ("rpmbuild",) and "-bs" in line.args


def check_task(line: CommandLine, chroot_setup_cmd: Sequence[str]) -> None:
    """UnsupportedByEngine for a call of a task that works all over the chroot's tree.

    Such a task reads and writes files there, or mounts over it, from outside and without mock.
    A chroot can be removed whatever it was made for.
    """
    if line.discards_chroot:
        return
    for word in chroot_setup_cmd:
        if word.startswith("@") and word[1:] in _GROUPS:
            _refuse(_GROUPS[word[1:]])
    if line.mode != "chroot":
        return
    if line.args[:1] == (_MAVEN,):
        _refuse(_GROUPS["maven-build"])
    if any(_RUNROOT in word for word in line.args):
        _refuse("runroot")


def _refuse(what: str) -> None:
    raise UnsupportedByEngine(
        f"Koji's {what} cannot run on a remote node: kojid works in the chroot's own files",
        hint="give these tasks to a builder without a remote, by Koji's channels",
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the chroot engine honours of a command line, and what it refuses by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mock_cloud.errors import UnsupportedByEngine
from mock_cloud.invocation.engines import FIELDS
from mock_cloud.invocation.model import LOCAL_MODES, PACKAGE_MODES, CommandLine
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.job_request import MODES

USE_MOCK: Final = 'the mock engine can: set engine = "mock" in the remote\'s [build] table'

DNF_OPTIONS: Final = frozenset({
    "allow_vendor_change", "best", "clean_requirements_on_remove", "excludepkgs",
    "install_weak_deps", "multilib_policy", "obsoletes", "protected_packages", "skip_broken",
    "skip_if_unavailable", "strict", "tsflags",
})  # fmt: skip
"""Options of dnf.conf(5) that say which packages a transaction has, and how they are put there.

Others lead dnf, which runs on the node itself, to other files, repositories or keys.
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """Refuse `option` when `applies`; `hint` says what to do instead."""

    option: str
    applies: Callable[[CommandLine], bool]
    hint: str = USE_MOCK


RULES: Final = (
    Rule("--rootdir", lambda line: line.rootdir is not None),
    Rule("--yum", lambda line: line.pkg_manager == "yum", "leave it out: dnf is used"),
    Rule("--bootstrap-chroot", lambda line: line.bootstrapchroot is True),
    Rule("--use-bootstrap-image", lambda line: line.usebootstrapimage is True),
    Rule("--buildroot-image", lambda line: line.buildroot_image is not None),
    Rule("--hermetic-build", lambda line: bool(line.hermetic_build)),
    Rule("--calculate-build-dependencies", lambda line: line.calculatedeps),
    Rule("--list-snapshots", lambda line: line.list_snapshots),
    Rule("--scrub=lvm", lambda line: "lvm" in line.scrub),
    Rule("--scrub=overlayfs", lambda line: "overlayfs" in line.scrub),
)  # fmt: skip


def check_supported(line: CommandLine) -> None:
    """Raise UnsupportedByEngine naming the first thing the chroot engine has not got."""
    for rule in RULES:
        if rule.applies(line):
            raise UnsupportedByEngine(
                f"{rule.option} is not supported by the chroot engine", hint=rule.hint
            )
    for name in sorted(name for name in line.given if not FIELDS[name][0]):
        raise UnsupportedByEngine(f"{name} is not supported by the chroot engine", hint=USE_MOCK)
    if line.mode not in MODES and line.mode not in LOCAL_MODES:
        raise UnsupportedByEngine(
            f"--{line.mode.replace('_', '-')} is not supported by the chroot engine",
            hint=USE_MOCK,
        )
    _check_paths(line)
    _check_words(line)


def _check_paths(line: CommandLine) -> None:
    if line.cwd is not None and (not line.cwd.startswith("/") or "\0" in line.cwd):
        raise UnsupportedByEngine(
            f"--cwd {line.cwd!r} is not an absolute path", hint="name a path in the chroot"
        )


def _check_words(line: CommandLine) -> None:
    # mock hands these to dnf on the host's own command line, where they would be options.
    words = line.args if line.mode in PACKAGE_MODES else ()
    for word in words:
        option, _, value = word.removeprefix("--setopt=").partition("=")
        if word.startswith("--setopt=") and (option not in DNF_OPTIONS or "/" in value):
            raise UnsupportedByEngine(
                f"--setopt={option} is not supported by the chroot engine, which has"
                f" --setopt of {', '.join(sorted(DNF_OPTIONS))}",
                hint=USE_MOCK,
            )
    packages = (word for word in words if not word.startswith("--setopt="))
    for word in (*packages, *line.additional_packages):
        if word.startswith("-"):
            raise UnsupportedByEngine(
                f"{word!r}: options for dnf are not supported by the chroot engine", hint=USE_MOCK
            )

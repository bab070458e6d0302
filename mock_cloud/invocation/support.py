# SPDX-License-Identifier: GPL-2.0-or-later
"""What the chroot engine honours of a command line, and what it refuses by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mock_cloud.errors import UnsupportedByEngine
from mock_cloud.invocation.model import LOCAL_MODES, PACKAGE_MODES, CommandLine
from mock_cloud.wire.job_request import MODES

USE_MOCK: Final = 'the mock engine can: set engine = "mock" in the remote\'s [build] table'

HONOURED: Final = frozenset({
    "mode", "remote", "no_remote", "chroot", "configdir", "cli_config_opts", "uniqueext",
    "resultdir", "online", "scrub", "clean", "cleanup_after", "localrepo", "cont", "recurse",
    "repos", "tmp_prefix", "arch", "rpmbuild_arch", "rpmmacros", "macrofile", "rpmwith",
    "rpmwithout", "rpmbuild_opts", "rpmbuild_timeout", "check", "short_circuit",
    "post_install", "additional_packages", "unpriv", "cwd", "spec", "sources",
    "symlink_dereference", "enable_disable_repos", "enable_network", "verbose",
    "printrootpath", "disabled_plugins", "plugin_opts", "scm", "scm_opts", "forcearch",
})  # fmt: skip
"""Fields that take full effect, some through the configuration.

Plugins and --forcearch are judged by the configuration that results (`config.limits`).
"""

ACCEPTED: Final = {
    "cache_alterations": "there is no root cache to rebuild: layers take its place",
    "isolation": "a jail in any case: judged by the configuration that results",
    "new_chroot": "an old name of isolation",
    "old_chroot": "an old name of isolation",
    "trace": "traces mock's own functions",
    "enabled_plugins": "judged by the configuration that results",
}
"""Fields without effect on this engine, and why that is right."""


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

_JUDGED_BY_VALUE: Final = frozenset({
    "rootdir", "pkg_manager", "bootstrapchroot",
    "usebootstrapimage", "buildroot_image", "hermetic_build", "calculatedeps", "list_snapshots",
})  # fmt: skip


def check_supported(line: CommandLine) -> None:
    """Raise UnsupportedByEngine naming the first thing the chroot engine has not got."""
    for rule in RULES:
        if rule.applies(line):
            raise UnsupportedByEngine(
                f"{rule.option} is not supported by the chroot engine", hint=rule.hint
            )
    for name in sorted(line.given - HONOURED - ACCEPTED.keys() - _JUDGED_BY_VALUE):
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

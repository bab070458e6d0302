# SPDX-License-Identifier: GPL-2.0-or-later
"""Which options and arguments go together: what mock checks, with mock's exit codes."""

from __future__ import annotations

import re
from typing import Final

from mock_cloud.errors import CommandLineError, UsageError
from mock_cloud.invocation.model import CommandLine
from mock_cloud.invocation.names import find_name_problem
from mock_cloud.wire.terminal_text import printable

_KEY_VALUE: Final = re.compile(r"[^=]+=")
_PLUGIN_KEY_VALUE: Final = re.compile(r"[^:]+:[^=]+=")
_NEEDS_ARGUMENTS: Final = {
    "chain": "an SRPM",
    "chroot": "a command",
    "installdeps": "an SRPM or a spec file",
    "install": "a package",
    "remove": "a package",
    "snapshot": "a snapshot's name",
    "rollback-to": "a snapshot's name",
    "remove_snapshot": "a snapshot's name",
}


def check_rules(line: CommandLine) -> None:
    """Raise CommandLineError (exit 5) or UsageError (exit 50) as mock would."""
    _check_remote(line)
    if line.printrootpath or line.list_snapshots:
        return
    _check_options(line)
    _check_values(line)
    _check_arguments(line)


def _check_remote(line: CommandLine) -> None:
    if line.remote is not None and line.no_remote:
        raise CommandLineError("--remote and --no-remote exclude each other")
    name = line.named_remote
    problem = None if name is None else find_name_problem(name)
    if name is not None and problem is not None:
        source = "MOCK_REMOTE" if line.remote is None else "--remote"
        raise CommandLineError(
            f"{source}: invalid remote name {printable(name)!r}: {problem}",
            hint="a remote's name is the name of its file without .toml",
        )


def _check_options(line: CommandLine) -> None:
    mode = line.mode
    if line.hermetic_build and line.chroot != "default":
        raise CommandLineError("--hermetic-build brings its own configuration: drop -r/--root")
    if line.hermetic_build and mode != "rebuild":
        raise CommandLineError("--hermetic-build goes with --rebuild only")
    if mode == "buildsrpm" and not line.spec and not line.scm:
        raise CommandLineError("--buildsrpm needs --spec", hint="and --sources, mostly")
    for value, name in (
        (line.localrepo, "--localrepo"),
        (line.recurse, "--recurse"),
        (line.cont, "--continue"),
    ):
        if value and mode != "chain":
            raise CommandLineError(f"{name} goes with --chain only")
    if line.additional_packages and mode != "rebuild":
        raise CommandLineError("--additional-package goes with --rebuild only")
    if mode == "chain" and line.resultdir:
        raise CommandLineError(
            "The --chain mode doesn't support --resultdir, use --localrepo instead"
        )
    if mode == "rebuild" and len(line.args) > 1 and not line.resultdir:
        raise CommandLineError("Must specify --resultdir when building multiple RPMS.")


def _check_values(line: CommandLine) -> None:
    if line.rpmbuild_arch and "," in line.rpmbuild_arch:
        raise CommandLineError(f"--target takes one architecture, not {line.rpmbuild_arch!r}")
    if line.isolation not in (None, "simple", "nspawn", "auto"):
        raise CommandLineError(
            f"--isolation {line.isolation!r} is unknown", hint="simple, nspawn or auto"
        )
    if line.rpmbuild_timeout is not None and line.rpmbuild_timeout < 0:
        raise CommandLineError("--rpmbuild_timeout is negative", hint="0 stands for no limit")
    for macro in line.rpmmacros:
        if " " not in macro.strip():
            raise CommandLineError(f"--define {macro!r} has no value", hint="-D 'MACRO EXPR'")
    for values, option, form in (
        (line.cli_config_opts, "--config-opts", "KEY=VALUE"),
        (line.scm_opts, "--scm-option", "KEY=VALUE"),
        (line.plugin_opts, "--plugin-option", "PLUGIN:KEY=VALUE"),
    ):
        pattern = _KEY_VALUE if form == "KEY=VALUE" else _PLUGIN_KEY_VALUE
        for text in values:
            if not pattern.match(text):
                raise CommandLineError(f"{option} {text!r} is not {form}")


def _check_arguments(line: CommandLine) -> None:
    mode, count = line.mode, len(line.args)
    if not count and mode in _NEEDS_ARGUMENTS:
        raise UsageError(f"--{mode.replace('_', '-')} needs {_NEEDS_ARGUMENTS[mode]}")
    if mode in ("copyin", "copyout") and count < 2:
        raise UsageError(f"--{mode} needs a source and a destination")
    if mode == "rebuild" and not line.scm:
        if not count and not (line.spec and line.sources):
            raise UsageError("no SRPM to rebuild", hint="mock -r CONFIG --remote NAME x.src.rpm")
        if count > 1 and line.spec:
            raise UsageError("--spec goes with a single SRPM")

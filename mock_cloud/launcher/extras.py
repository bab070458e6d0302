# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command asks for beyond its build: to repeat it elsewhere, or a shadow of it for Koji.

Few do: what does it is in `repeated` and in `koji`, loaded by the commands that ask.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from mock_cloud.config.remotes import load_remote
from mock_cloud.errors import CommandLineError, ConfigError
from mock_cloud.invocation.model import ANY_HOST, BUILDING_MODES, PACKAGE_BUILDS, PART, CommandLine
from mock_cloud.settings import Remote, ShadowChoice

if TYPE_CHECKING:
    from mock_cloud.steps.check.request import Shadowing


def find_then(line: CommandLine, remote: Remote) -> Remote | None:
    """The remote that builds again what succeeds on `remote`; None if this is all there is.

    CommandLineError, ConfigError.
    """
    name = line.then or remote.then
    if PART in os.environ or not name:
        return None
    if line.mode not in PACKAGE_BUILDS:
        if line.then:
            raise CommandLineError(f"--then builds packages: not with --{line.mode}")
        return None
    if line.is_several:
        raise CommandLineError(
            f"--jobs: what is built at once is not built again on {name}", hint="leave out --jobs"
        )
    if line.detach:
        raise CommandLineError(
            f"--detach: the build on {name} would have nobody to begin it",
            hint="run it in the background by your shell's means",
        )
    then = load_remote(name, line.configdir_path)
    if then.scratch or then.then or then.name == remote.name:
        raise ConfigError(
            f"remote {name} builds what counts after {remote.name}, and is a scratch remote itself"
            if then.name != remote.name
            else f"remote {name} cannot build again what it built",
            hint=f"name a remote that you trust: --then, or then in {remote.source}",
        )
    return then


def part_of(remote: Remote) -> Remote:
    """The remote as far as this command may use it: a part of another one may have fewer hosts.

    It then turns to no other remote, whose owner might be the other builder's. ConfigError.
    """
    names = os.environ.get(PART, ANY_HOST)
    if names == ANY_HOST:
        return remote
    hosts = tuple(host for host in remote.hosts if host.name in names.split(","))
    if not hosts:
        raise ConfigError(f"remote {remote.name} has none of the hosts in {PART}")
    return replace(remote, hosts=hosts, fallback=())


def count_duplicates(line: CommandLine, remote: Remote) -> int:
    """How many builders are to build it; 0 if it is one, as always. CommandLineError."""
    count = remote.audit.duplicates if line.duplicate is None else line.duplicate
    word = "[audit] duplicates" if line.duplicate is None else "--duplicate"
    if count == 0 or PART in os.environ:
        return 0
    if line.duplicate is not None and line.mode not in BUILDING_MODES:
        raise CommandLineError(f"--duplicate compares packages: not with --{line.mode}")
    return count if _compares_packages(line, remote, word) else 0


def is_random(line: CommandLine, remote: Remote) -> bool:
    """Whether chance is to say that of this command's build. CommandLineError."""
    return remote.audit.random and _compares_packages(line, remote, "[audit] random")


def _compares_packages(line: CommandLine, remote: Remote, word: str) -> bool:
    """Whether what `word` asks for, a comparison of packages, is for this command.

    CommandLineError where it leaves packages that would not be compared.
    """
    if PART in os.environ or line.mode not in BUILDING_MODES:
        return False
    if line.is_kojis:
        wrong = "kojid, whose builds are several commands each"
    elif line.is_several:
        wrong = "--jobs"
    elif line.detach:
        wrong = "--detach"
    elif line.mode in PACKAGE_BUILDS:
        return True
    else:
        wrong = f"--{line.mode}"
    raise CommandLineError(
        f"remote {remote.name}: {word} compares the packages of one build in the foreground: not"
        f" with {wrong}",
        hint="build the packages one by one, or on a remote without it",
    )


def find_shadowing(line: CommandLine, remote: Remote) -> Shadowing | None:
    """Koji's part in a command: it refuses what a remote node cannot do, and may keep a shadow."""
    if not line.is_kojis and remote.build.shadow is not ShadowChoice.ALWAYS:
        return None
    from mock_cloud.koji.shadow import shadowed

    return shadowed

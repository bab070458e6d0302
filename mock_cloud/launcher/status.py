# SPDX-License-Identifier: GPL-2.0-or-later
"""In which ways the launcher is installed for this user, and whether each of them works."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mock_cloud.errors import ConfigError
from mock_cloud.launcher import install_site, install_user
from mock_cloud.launcher.edits import find_block, read_edited
from mock_cloud.real_mock import find_real_mock, has_plugin, is_launcher
from mock_cloud.wire.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class LauncherStatus:
    """One way: whether it is on, where it stands, and what is wrong with it, if anything."""

    way: str
    on: bool
    path: str | None
    found: str
    problem: str | None = None


def look_at_launchers(environ: Mapping[str, str], configdir: Path) -> list[LauncherStatus]:
    """All ways, as they are now. Raises nothing for what is broken: that is a problem's text."""
    return [_command(environ), _path(environ), *_site(environ, configdir)]


MOCK_PATH: Final = Path("/usr/bin/mock")
"""Where DLRN, kojid and others call mock, whatever the PATH says."""


def describe_by_name(environ: Mapping[str, str]) -> str:
    """Which mock a script gets that calls `mock`."""
    command = _command(environ)
    return command.found if command.path is None else f"{command.path}: {command.found}"


def describe_by_path(configdir: Path, path: Path = MOCK_PATH) -> str:
    """Which mock a script gets that calls it by its full name."""
    if not os.access(path, os.X_OK):
        return f"there is no {path}: programs that call it by that name fail"
    if is_launcher(str(path)):
        return f"{path}: the launcher"
    try:
        is_on = find_block(read_edited(configdir / install_site.SITE_FILE)) is not None
    except ConfigError:
        is_on = False
    if is_on and has_plugin(str(path)):
        return f"{path}: mock itself, with mock-cloud's plugin"
    return (
        f"{path}: mock itself, which builds on this machine whatever MOCK_REMOTE says"
        " (mock-cloud launcher enable --site changes that)"
    )


def _command(environ: Mapping[str, str]) -> LauncherStatus:
    """What a shell starts for `mock`."""
    first = shutil.which("mock", path=environ.get("PATH", os.defpath))
    real = find_real_mock(environ)
    behind = f"before {real}" if real else "there is no other mock"
    if first is None:
        return LauncherStatus("command", False, None, "no mock on the PATH")
    if is_launcher(first):
        return LauncherStatus("command", True, first, f"the launcher, {behind}")
    return LauncherStatus("command", False, first, "mock itself")


def _path(environ: Mapping[str, str]) -> LauncherStatus:
    link = install_user.own_directory(environ) / "mock"
    if not link.is_symlink():
        return LauncherStatus("user", False, None, "not enabled")
    found = f"a link to {link.readlink()}"
    if not link.exists() or not is_launcher(str(link)):
        mend = "mock-cloud launcher enable --user makes it anew"
        return LauncherStatus("user", True, str(link), found, f"it leads to no launcher: {mend}")
    try:
        found += "".join(f", on the PATH by {path}" for path in install_user.profiles_with_block())
    except ConfigError as error:
        return LauncherStatus("user", True, str(link), found, error.message)
    places = environ.get("PATH", os.defpath).split(os.pathsep)
    if str(link.parent) not in places:
        found += ", not on the PATH of this shell"
    return LauncherStatus("user", True, str(link), found)


def _site(environ: Mapping[str, str], configdir: Path) -> list[LauncherStatus]:
    file = configdir / install_site.SITE_FILE
    try:
        block = find_block(read_edited(file))
    except ConfigError as error:
        return [LauncherStatus("site", True, str(file), "damaged", error.message)]
    plugin = _plugin(environ, wanted=block is not None)
    if block is None:
        return [plugin, LauncherStatus("site", False, None, "not enabled")]
    remotes = [line for line in block.splitlines() if line.startswith("config_opts['remote']")]
    found = "plugin switched on, " + (
        f"remote {remotes[0].partition(' = ')[2]}" if remotes else "no remote for all"
    )
    problem = None if plugin.on else "the plugin is not there: mock builds here"
    return [plugin, LauncherStatus("site", True, str(file), found, problem)]


def _plugin(environ: Mapping[str, str], *, wanted: bool) -> LauncherStatus:
    try:
        target = install_site.plugin_target(environ)
        if not target.is_file():
            return LauncherStatus("plugin", False, None, "not installed")
        ours, text = read_edited(install_site.plugin_source()), read_edited(target)
    except ConfigError as error:
        return LauncherStatus("plugin", False, None, error.message, error.hint if wanted else None)
    package = install_site.owning_package(target)
    found = f"of the package {package}" if package else "installed by mock-cloud launcher enable"
    if not install_site.is_ours(target):
        return LauncherStatus(
            "plugin", False, str(target), "a plugin of somebody else's", "not ours"
        )
    if text != ours:
        mend = f"update {package}" if package else "mock-cloud launcher enable --site"
        return LauncherStatus("plugin", True, str(target), found, f"of another version: {mend}")
    return LauncherStatus("plugin", True, str(target), f"{found}, this version")

# SPDX-License-Identifier: GPL-2.0-or-later
"""For everybody on this machine: our plugin in the installed mock, and its site-defaults.cfg.

This works for programs that start /usr/bin/mock by its full path, as kojid does, and no file of
mock's package is replaced. See docs/decisions/0024.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import mock_cloud
from mock_cloud.config.remotes import load_remote
from mock_cloud.errors import ConfigError
from mock_cloud.launcher.edits import Edit, check_writable, edit_block, read_edited, write_file
from mock_cloud.places import find_shipped
from mock_cloud.process import CommandFailed, run
from mock_cloud.real_mock import PLUGIN, find_real_mock, module_places

SITE_FILE: Final = "site-defaults.cfg"
_SESSION: Final = "mock-cloud-session"
# Where consolehelper and sudo look for commands, whatever the user's PATH is.
_SYSTEM_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
_RPM_TIMEOUT_S: Final = 20.0


def plugin_source() -> Path:
    """This installation's own copy of the plugin. ConfigError if it came without."""
    path = find_shipped("mock-plugins/remote.py", "remote.py")
    if path is None:
        raise ConfigError(
            "this installation of mock-cloud came without mock's plugin", hint="install it again"
        )
    return path


def plugin_target(environ: Mapping[str, str]) -> Path:
    """Where the plugin belongs in the mock that is installed. ConfigError if there is none."""
    real = find_real_mock(environ)
    for place in module_places(real) if real else ():
        if (Path(place) / PLUGIN).parent.is_dir():
            return Path(place) / PLUGIN
    found = f"{real} has no directory of plugins" if real else "there is no mock on this machine"
    raise ConfigError(f"the plugin cannot be installed: {found}", hint="install mock first")


def enable_for_site(environ: Mapping[str, str], configdir: Path, remote: str | None) -> list[Edit]:
    """The edits that install the plugin and switch it on, for `remote` if given. ConfigError."""
    target, source = plugin_target(environ), read_edited(plugin_source())
    for path in (target, configdir / SITE_FILE):
        check_writable(path)
    edits = []
    if read_edited(target) != source:
        _refuse_foreign(target)
        edits.append(Edit("install mock's plugin", target, lambda: write_file(target, source)))
    if remote is not None:
        load_remote(remote, configdir)
    return edits + edit_block(configdir / SITE_FILE, site_block(remote, session_words()))


def disable_for_site(environ: Mapping[str, str], configdir: Path) -> list[Edit]:
    """The edits that switch the plugin off and remove it, in that order.

    A configuration that asks for a plugin that is not there would build here, silently.
    """
    edits = edit_block(configdir / SITE_FILE, None)
    try:
        target = plugin_target(environ)
    except ConfigError:
        return edits  # no mock, so no plugin
    if target.is_file() and is_ours(target) and owning_package(target) is None:
        edits.append(Edit("remove mock's plugin", target, lambda: _remove(target)))
    return edits


def site_block(remote: str | None, session: list[str] | None) -> str:
    """The lines for site-defaults.cfg."""
    lines = ["config_opts['plugin_conf']['remote_enable'] = True"]
    if session is not None:
        lines.append(f"config_opts['plugin_conf']['remote_opts']['session'] = {session!r}")
    if remote is not None:
        lines.append(f"config_opts['remote'] = {remote!r}")
    return "".join(f"{line}\n" for line in lines)


def session_words() -> list[str] | None:
    """What the plugin has to start; None if it finds the command of this installation itself.

    ConfigError if not everybody could run this installation, or others than root could change
    it: every user who calls mock runs it, with their own credentials.
    """
    found = shutil.which(_SESSION, path=_SYSTEM_PATH)
    beside = Path(sys.executable).parent / _SESSION
    if found and beside.is_file() and Path(found).samefile(beside):
        return None
    for path in (Path(sys.executable), Path(sys.executable).resolve(), Path(mock_cloud.__file__)):
        for part in (path, *path.parents):
            _refuse_private(part)
    return [sys.executable, "-m", "mock_cloud.handover"]


def _refuse_private(path: Path) -> None:
    facts = path.lstat()
    if stat.S_ISLNK(facts.st_mode):
        return
    hint = "install mock-cloud where root alone may write and everybody may read, as in /opt"
    wanted = stat.S_IXOTH if path.is_dir() else stat.S_IROTH
    if not facts.st_mode & wanted:
        raise ConfigError(f"not everybody who runs mock could use {path}", hint=hint)
    loose = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not facts.st_mode & stat.S_ISVTX
    if facts.st_uid != 0 or loose:
        raise ConfigError(f"others than root could change {path}", hint=hint)


def is_ours(plugin: Path) -> bool:
    """Whether this is our plugin, of any version."""
    return "mock-cloud" in read_edited(plugin)


def owning_package(path: Path) -> str | None:
    """The RPM that owns `path`, if any."""
    if shutil.which("rpm") is None:
        return None
    argv = ["rpm", "-qf", "--queryformat", "%{NAME}\\n", str(path)]
    try:
        database = run(["rpm", "--eval", "%{_dbpath}"], timeout_s=_RPM_TIMEOUT_S).strip()
        # Where there is none, as on Debian, the question alone would make one in the user's home.
        if not Path(os.fsdecode(database)).is_dir():
            return None
        names = run(argv, timeout_s=_RPM_TIMEOUT_S).decode(errors="replace").split()
    except CommandFailed:
        return None
    return names[0] if names else None


def _refuse_foreign(target: Path) -> None:
    if not target.exists():
        return
    if not is_ours(target):
        raise ConfigError(f"{target} is a plugin of somebody else's", hint="move it away")
    package = owning_package(target)
    if package is not None:
        raise ConfigError(
            f"{target} is of another version, and belongs to the package {package}",
            hint=f"update {package}, or remove it",
        )


def _remove(target: Path) -> None:
    for path in (target, *target.parent.glob(f"__pycache__/{target.stem}.*.pyc")):
        path.unlink()

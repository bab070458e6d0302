# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory of the user's, to stand on the PATH before mock's, with a link `mock` to us."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mock_cloud import places
from mock_cloud.errors import ConfigError
from mock_cloud.launcher.edits import Edit, edit_block, find_block, read_edited
from mock_cloud.real_mock import is_launcher

PACKAGED: Final = Path("/usr/libexec/mock-cloud/bin/mock")
_PROFILES: Final = (".bashrc", ".zshrc", ".profile", ".bash_profile", ".zprofile")
_BY_SHELL: Final = {"bash": ".bashrc", "zsh": ".zshrc"}


def own_directory(environ: Mapping[str, str]) -> Path:
    """Where the user's link stands: ``$XDG_DATA_HOME/mock-cloud/bin``."""
    return places.data_home(environ) / "mock-cloud/bin"


def find_launcher() -> Path:
    """The `mock` of this installation. ConfigError if it was installed without one."""
    places = (Path(sys.argv[0]).absolute().parent, Path(sys.executable).parent)
    for candidate in (*(place / "mock" for place in places), PACKAGED):
        if os.access(candidate, os.X_OK) and is_launcher(str(candidate)):
            return candidate
    raise ConfigError(
        "this installation of mock-cloud has no launcher beside its other commands",
        hint="install it with pip, or the package mock-cloud-launcher",
    )


def shell_lines(directory: Path) -> str:
    """What puts `directory` before the PATH of a shell, once; for sh and what descends from it."""
    place = shlex.quote(str(directory))
    return (
        f'case ":$PATH:" in\n    *:{place}:*) ;;\n'
        f'    *) PATH={place}"${{PATH:+:$PATH}}"; export PATH ;;\nesac\n'
    )


def default_profile(environ: Mapping[str, str]) -> Path:
    """The file that the user's shell reads."""
    return places.home(environ) / _BY_SHELL.get(Path(environ.get("SHELL", "")).name, ".profile")


def enable_for_user(environ: Mapping[str, str], profile: Path | None) -> list[Edit]:
    """The edits that make the directory and the link, and the block in `profile` if given."""
    link, target = own_directory(environ) / "mock", find_launcher()
    if link.exists() and not link.is_symlink():
        raise ConfigError(f"{link} was not created by mock-cloud", hint="move it away")
    edits = []
    if not link.is_symlink() or link.readlink() != target:
        edits.append(Edit(f"link to {target}", link, lambda: _link(link, target), of_link=True))
    if profile is not None:
        edits += edit_block(profile, shell_lines(link.parent))
    return edits


def disable_for_user(environ: Mapping[str, str], profile: Path | None) -> list[Edit]:
    """The edits that take the link, the directory and the blocks away."""
    link = own_directory(environ) / "mock"
    edits = []
    for path in dict.fromkeys([*profiles_with_block(), *([profile] if profile else [])]):
        edits += edit_block(path, None)
    if link.is_symlink():
        edits.append(Edit("remove the link", link, lambda: _unlink(link), of_link=True))
    return edits


def profiles_with_block() -> list[Path]:
    """The usual profiles that have our block."""
    found = [places.home() / name for name in _PROFILES]
    return [path for path in found if path.is_file() and find_block(read_edited(path)) is not None]


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".mock.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)


def _unlink(link: Path) -> None:
    link.unlink()
    for place in (link.parent, link.parent.parent):
        if not any(place.iterdir()):
            place.rmdir()

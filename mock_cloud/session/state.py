# SPDX-License-Identifier: GPL-2.0-or-later
"""Where this user's state and cache live (XDG base directory specification 0.8).

Users of services may have no home, or an environment with somebody else's: Koji's builder starts
mock as kojibuilder with the environment of root. Theirs is in mock's own directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from mock_cloud.config.chroots import user_home
from mock_cloud.errors import ConfigError

MOCK_LIBDIR: Final = Path("/var/lib/mock")


def state_dir() -> Path:
    """``$XDG_STATE_HOME/mock-cloud``, made if need be, open to its owner only. ConfigError."""
    return _private("XDG_STATE_HOME", ".local/state")


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/mock-cloud``; whatever is in it can be made again. ConfigError."""
    return _private("XDG_CACHE_HOME", ".cache")


def manifests_dir() -> Path:
    """Where manifests of images go that were baked here; made if need be. ConfigError."""
    path = state_dir() / "manifests"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot use {path}: {error.strerror}") from error
    return path


def _private(variable: str, default: str) -> Path:
    first: ConfigError | None = None
    for root in _places(variable, default):
        try:
            return _make(root / "mock-cloud", variable)
        except ConfigError as error:
            first = first or error
    raise first or ConfigError(f"no place for {variable}")


def _places(variable: str, default: str) -> list[Path]:
    base = os.environ.get(variable, "")
    if base.startswith("/"):  # the specification has relative paths ignored
        return [Path(base)]
    homes = [Path.home(), user_home(), MOCK_LIBDIR / f".home-{os.geteuid()}"]
    return [home / default for home in dict.fromkeys(homes)]


def _make(path: Path, variable: str) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_uid != os.geteuid():
            raise ConfigError(f"{path} belongs to another user", hint=f"set {variable}")
    except OSError as error:
        raise ConfigError(f"cannot use {path}: {error.strerror}", hint=f"set {variable}") from error
    return path

# SPDX-License-Identifier: GPL-2.0-or-later
"""Where this user's state and cache live: see `places`.

Users of services may have no home; theirs is in mock's own directory then.
"""

from __future__ import annotations

import os
from pathlib import Path

from mock_cloud import places
from mock_cloud.errors import ConfigError
from mock_cloud.wire.layout import MOCK_LIBDIR


def state_dir() -> Path:
    """``$XDG_STATE_HOME/mock-cloud``, made if need be, open to its owner only. ConfigError."""
    return _private(places.state_home(), "XDG_STATE_HOME", ".local/state")


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/mock-cloud``; whatever is in it can be made again. ConfigError."""
    return _private(places.cache_home(), "XDG_CACHE_HOME", ".cache")


def manifests_dir() -> Path:
    """Where manifests of images go that were baked here; made if need be. ConfigError."""
    path = state_dir() / "manifests"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot use {path}: {error.strerror}") from error
    return path


def _private(base: Path, variable: str, default: str) -> Path:
    try:
        return _make(base / "mock-cloud", variable)
    except ConfigError:
        if os.environ.get(variable, "").startswith("/"):
            raise
        homeless = Path(MOCK_LIBDIR) / f".home-{os.geteuid()}"
        try:
            return _make(homeless / default / "mock-cloud", variable)
        except ConfigError:
            pass
        raise  # of the home directory, where it belongs


def _make(path: Path, variable: str) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_uid != os.geteuid():
            raise ConfigError(f"{path} belongs to another user", hint=f"set {variable}")
    except OSError as error:
        raise ConfigError(f"cannot use {path}: {error.strerror}", hint=f"set {variable}") from error
    return path

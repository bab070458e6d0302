# SPDX-License-Identifier: GPL-2.0-or-later
"""Where this user's state and cache live (XDG base directory specification 0.8)."""

from __future__ import annotations

import os
from pathlib import Path

from mock_cloud.errors import ConfigError


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
    base = os.environ.get(variable, "")
    # The specification has relative paths ignored.
    root = Path(base) if base.startswith("/") else Path.home() / default
    path = root / "mock-cloud"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_uid != os.geteuid():
            raise ConfigError(f"{path} belongs to another user", hint=f"set {variable}")
    except OSError as error:
        raise ConfigError(f"cannot use {path}: {error.strerror}", hint=f"set {variable}") from error
    return path

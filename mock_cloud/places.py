# SPDX-License-Identifier: GPL-2.0-or-later
"""Where this user's own files are: one rule for remotes, state, cache, data and credentials.

The XDG Base Directory Specification 0.8: ``$XDG_…_HOME`` if it is an absolute path, else a
directory in the user's home. The home is $HOME if that is the user's own. Services start programs
with another user's environment (Koji's builder runs mock as kojibuilder with root's, `sudo` may
keep $HOME): then it is the one in the password database. Files of mock's and OpenSSH's, such as
``~/.config/mock.cfg``, are where these look for them, whatever $HOME says.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mock_cloud.errors import ConfigError
from mock_cloud.wire.layout import MOCK_LIBDIR

MOCK_CONFIG_DIR: Final = Path("/etc/mock")
"""mock's own configuration."""

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's home directory. It need not exist."""
    given = Path(environ.get("HOME", ""))
    try:
        if given.is_absolute() and given.stat().st_uid == os.geteuid():
            return given
    except OSError:
        pass
    return password_home() or (given if given.is_absolute() else Path("/nonexistent"))


def password_home() -> Path | None:
    """The home directory in the password database; None for a user who is not in it."""
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None


def caller_uid() -> int | None:
    """The user for whom sudo or consolehelper made this process root's; None if it did not.

    consolehelper's goes before sudo's, as in mock (setup_uid_manager in its uid.py).
    """
    if os.geteuid() != 0:
        return None
    for name in ("USERHELPER_UID", "SUDO_UID"):
        text = os.environ.get(name, "")
        if text.isdecimal() and int(text):
            return int(text)
    return None


def config_home(environ: Mapping[str, str] = os.environ) -> Path:
    """``$XDG_CONFIG_HOME``, else ``~/.config``."""
    return _base("XDG_CONFIG_HOME", ".config", environ)


def data_home(environ: Mapping[str, str] = os.environ) -> Path:
    """``$XDG_DATA_HOME``, else ``~/.local/share``."""
    return _base("XDG_DATA_HOME", ".local/share", environ)


def results_home() -> Path:
    """`data_home` of the user whose results are; under sudo it is found without variables."""
    uid = caller_uid()
    try:
        return data_home() if uid is None else Path(pwd.getpwuid(uid).pw_dir, ".local/share")
    except KeyError:
        return data_home()


def state_home(environ: Mapping[str, str] = os.environ) -> Path:
    """``$XDG_STATE_HOME``, else ``~/.local/state``."""
    return _base("XDG_STATE_HOME", ".local/state", environ)


def cache_home(environ: Mapping[str, str] = os.environ) -> Path:
    """``$XDG_CACHE_HOME``, else ``~/.cache``."""
    return _base("XDG_CACHE_HOME", ".cache", environ)


def find_shipped(in_checkout: str, in_share: str) -> Path | None:
    """A file or directory that came with mock-cloud beside its Python code; None if it did not.

    In a checkout it is at `in_checkout`, else below ``PREFIX/share/mock-cloud``, where the code is
    ``PREFIX/lib/python3.N/site-packages/mock_cloud``.
    """
    package = Path(__file__).resolve().parent
    places = [package.parent / in_checkout]
    if len(package.parents) > 3:
        places.append(package.parents[3] / "share/mock-cloud" / in_share)
    return next((place for place in places if place.exists()), None)


def _base(variable: str, default: str, environ: Mapping[str, str]) -> Path:
    given = Path(environ.get(variable, ""))
    return given if given.is_absolute() else home(environ) / default


def state_dir() -> Path:
    """``$XDG_STATE_HOME/mock-cloud``, made if need be, open to its owner only. ConfigError."""
    return _private(state_home(), "XDG_STATE_HOME", ".local/state")


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/mock-cloud``; whatever is in it can be made again. ConfigError."""
    return _private(cache_home(), "XDG_CACHE_HOME", ".cache")


def packed_dir(kind: str) -> Path:
    """The cache of what is packed for nodes. ConfigError.

    It is in `cache_dir`, or where that has none, as in a $HOME that a tool has made to throw away,
    in the cache of the user's own home: if nobody else could have written there, for what lies in
    it is sent and run.
    """
    usual = cache_dir() / kind
    own = password_home()
    chosen = Path(os.environ.get("XDG_CACHE_HOME", "")).is_absolute()
    if own is None or chosen or usual.is_dir():
        return usual
    place = own / ".cache/mock-cloud" / kind
    private = all(map(_is_private, (place, place.parent, place.parent.parent, own)))
    return place if private and os.access(place, os.W_OK) else usual


def _is_private(path: Path) -> bool:
    """Whether it is a directory of this user's, no link, that nobody else may write to."""
    try:
        seen = path.lstat()
    except OSError:
        return False
    mode = seen.st_mode
    return stat.S_ISDIR(mode) and seen.st_uid == os.geteuid() and not mode & _OTHERS_WRITE


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
        return _make_private(base / "mock-cloud", variable)
    except ConfigError:
        if os.environ.get(variable, "").startswith("/"):
            raise
        homeless = Path(MOCK_LIBDIR) / f".home-{os.geteuid()}"
        try:
            return _make_private(homeless / default / "mock-cloud", variable)
        except ConfigError:
            pass
        raise  # of the home directory, where it belongs


def _make_private(path: Path, variable: str) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_uid != os.geteuid():
            raise ConfigError(f"{path} belongs to another user", hint=f"set {variable}")
    except OSError as error:
        raise ConfigError(f"cannot use {path}: {error.strerror}", hint=f"set {variable}") from error
    return path

# SPDX-License-Identifier: GPL-2.0-or-later
"""mock's configuration under sudo and consolehelper: the caller's, read with the caller's rights.

Configuration files are Python. mock reads them in a child that has dropped root's rights, from the
caller's home; so do we. What the child says is read as literals, never evaluated.
"""

from __future__ import annotations

import ast
import codecs
import os
import pwd
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mock_cloud.config.chroots import load_config_opts, user_home
from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.errors import CommandLineError, ConfigError, MockCloudError
from mock_cloud.places import caller_uid

_MAX_BYTES: Final = 16 << 20
_ERRORS: Final[Mapping[str, type[MockCloudError]]] = {
    one.__name__: one for one in (ConfigError, CommandLineError)
}


def home_of_caller() -> Path:
    """The home directory that mock looks into."""
    user = _caller()
    return user_home() if user is None else Path(user.pw_dir)


def load_of_caller(
    name: str, config_path: Path, plugins: Sequence[str] = (), *, home: Path | None = None
) -> ConfigOpts:
    """`load_config_opts` as the caller. Raises what that raises."""
    user = _caller()
    if user is None:
        return load_config_opts(name, config_path, home=home, plugins=plugins)

    def load() -> dict[str, Any]:
        opts = load_config_opts(name, config_path, home=home, plugins=plugins)
        opts["__jinja_expand"] = False
        return {key: _literal(key, opts[key]) for key in opts}

    found = _in_child(load, user)
    opts = default_config_opts()
    for key in [key for key in opts if key not in found]:
        del opts[key]
    opts.update(found)
    opts["__jinja_expand"] = True
    return opts


def _caller() -> pwd.struct_passwd | None:
    uid = caller_uid()
    if uid is None:
        return None
    try:
        return pwd.getpwuid(uid)
    except KeyError as error:
        raise ConfigError(
            f"user {uid}, who called sudo, is not in the password database"
        ) from error


def _literal(name: str, value: object) -> object:
    """`value` as Python's own types. ConfigError for what has no literal."""
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return value
        case Mapping():
            return {key: _literal(name, one) for key, one in value.items()}
        case list():
            return [_literal(name, one) for one in value]
        case tuple():
            return tuple(_literal(name, one) for one in value)
        case set() | frozenset():
            return {_literal(name, one) for one in value}
    raise ConfigError(f"config_opts[{name!r}] holds a {type(value).__name__}")


def _in_child(load: Callable[[], dict[str, Any]], user: pwd.struct_passwd) -> dict[str, Any]:
    codecs.lookup("idna")  # for getfqdn(3); the user may not be able to read root's own Python
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            _become(user)
            said = repr(_answer(load)).encode("utf-8", "surrogateescape")
            sys.stdout.flush()
            with os.fdopen(writing, "wb") as stream:
                stream.write(said)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        data = stream.read(_MAX_BYTES + 1)
    os.waitpid(child, 0)
    return _understood(data)


def _become(user: pwd.struct_passwd) -> None:
    os.setgroups(os.getgrouplist(user.pw_name, user.pw_gid))
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    os.environ["HOME"] = user.pw_dir


def _answer(load: Callable[[], dict[str, Any]]) -> tuple[object, ...]:
    try:
        return ("opts", load())
    except MockCloudError as error:
        return (type(error).__name__, error.message, error.hint)
    except Exception as error:
        return ("ConfigError", f"{type(error).__name__}: {error}", None)


def _understood(data: bytes) -> dict[str, Any]:
    """The options that the child sent, or its error."""
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError
        match ast.literal_eval(data.decode("utf-8", "surrogateescape")):
            case ("opts", dict() as found) if all(isinstance(key, str) for key in found):
                return found
            case (str() as kind, str() as message, (None | str()) as hint) if kind in _ERRORS:
                raise _ERRORS[kind](message, hint=hint)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    raise ConfigError("the configuration could not be read with its user's rights")

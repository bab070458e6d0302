# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads single options of `config_opts` as what they should be: the edge for loose values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import jinja2

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.errors import ConfigError


def read_option(opts: ConfigOpts, name: str, default: Any = None) -> Any:
    """The expanded value of an option, `default` if there is none. ConfigError."""
    try:
        return opts[name]
    except KeyError:
        return default
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        raise ConfigError(f"config_opts[{name!r}] cannot be expanded: {error}") from error


def read_text(opts: ConfigOpts, name: str, default: str = "") -> str:
    """A string; a number is turned into one, None into `default`."""
    value = read_option(opts, name, default)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        _refuse(name, "a string", value)
    return str(value)


def read_flag(opts: ConfigOpts, name: str, default: bool = False) -> bool:
    """The truth of a value, as mock takes it, apart from strings that say false."""
    value = read_option(opts, name, default)
    if isinstance(value, str):
        words = {"true": True, "1": True, "": False, "false": False, "0": False, "none": False}
        if value.lower() not in words:
            _refuse(name, "true or false", value)
        return words[value.lower()]
    return bool(value)


def read_number(opts: ConfigOpts, name: str, default: int) -> int:
    """A non-negative integer."""
    value = read_option(opts, name, default)
    try:
        number = int(value)
    except (TypeError, ValueError):
        _refuse(name, "an integer", value)
    if number < 0:
        _refuse(name, "not negative", value)
    return number


def read_words(opts: ConfigOpts, name: str) -> list[str]:
    """A list of strings; a string is split at white space; None is empty."""
    value = read_option(opts, name)
    if value is None:
        return []
    if isinstance(value, str):
        return value.split()
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
        _refuse(name, "a list of strings", value)
    return list(value)


def read_texts(opts: ConfigOpts, name: str) -> dict[str, str]:
    """A mapping to strings; other plain values become strings as mock writes them."""
    value = read_option(opts, name, {})
    if not isinstance(value, Mapping):
        _refuse(name, "a mapping", value)
    for key, item in value.items():
        if not isinstance(key, str) or isinstance(item, (list, tuple, dict, set)):
            _refuse(f"{name}[{key!r}]", "a string", item)
    return {key: str(item) for key, item in value.items()}


def _refuse(name: str, wanted: str, value: Any) -> NoReturn:
    raise ConfigError(f"config_opts[{name!r}] should be {wanted}, not {value!r}")

# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads mock's chroot configurations without mock: the same files, order and meaning.

The files are Python and run with the rights of the process that calls this, so the caller must be
the invoking user: never root on behalf of somebody else. See docs/decisions/0005.
"""

from __future__ import annotations

import ast
import glob
import grp
import json
import logging
import os
import pwd
import re
import shlex
import socket
import sys
import uuid
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from templated_dictionary import TemplatedDictionary

from mock_cloud import places
from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.errors import CommandLineError, ConfigError
from mock_cloud.places import MOCK_CONFIG_DIR

# The modules that a configuration file finds imported, since mock runs it inside its own
# module mockbuild.config: real configurations use os and re without importing them.
_PREDEFINED: Final[dict[str, Any]] = {
    "TemplatedDictionary": TemplatedDictionary,
    "glob": glob.glob,
    "grp": grp,
    "json": json,
    "literal_eval": ast.literal_eval,
    "logging": logging,
    "os": os,
    "pwd": pwd,
    "re": re,
    "shlex": shlex,
    "socket": socket,
    "sys": sys,
    "uuid": uuid,
    "warnings": warnings,
}


def user_home() -> Path:
    """The home directory mock looks into: the one in the password database, not $HOME."""
    return places.password_home() or Path(os.environ.get("HOME", "/nonexistent"))


def load_config_opts(
    name: str,
    config_path: Path = MOCK_CONFIG_DIR,
    *,
    home: Path | None = None,
    plugins: Iterable[str] = (),
) -> ConfigOpts:
    """The configuration `name`, like mock's `load_config(config_path, name)`.

    `name` is a path if it ends in ``.cfg``; else ``NAME.cfg`` is looked up in `home`'s
    ``.config/mock`` and in `config_path`. `plugins` are in mock's plugin directory besides its own:
    known, disabled, without options. Template expansion is on in the result. Raises
    ConfigError; a macro without a value raises CommandLineError, as in mock.
    """
    home = home if home is not None else user_home()
    opts = default_config_opts()
    for plugin in plugins:
        opts["plugins"].append(plugin)
        opts["plugin_conf"].update({f"{plugin}_enable": False, f"{plugin}_opts": {}})
    opts["config_path"] = str(config_path)
    opts["chroot_name"] = Path(name).stem if name.endswith(".cfg") else name
    file = find_config_file(name, config_path, home)
    opts["config_file"] = str(file)
    for optional in ("site-defaults.cfg", "chroot-aliases.cfg"):
        _update(opts, config_path / optional, required=None)
    site = _take_remote(opts)
    _update(opts, file, required=name)
    chroot = _take_remote(opts)
    for optional in (".mock/user.cfg", ".config/mock.cfg"):
        _update(opts, home / optional, required=None)
    for said in (chroot, _take_remote(opts), site):
        if said:
            opts.update(said)
            break
    if opts["use_container_host_hostname"] and "%_buildhost" not in opts["macros"]:
        opts["macros"]["%_buildhost"] = socket.getfqdn()
    opts["__jinja_expand"] = True
    if "use_bootstrap_container" in opts:  # the option's old name
        opts["use_bootstrap"] = opts["use_bootstrap_container"]
    return opts


def _take_remote(opts: ConfigOpts) -> ConfigOpts:
    # For everything else the last file read wins; for the remote a chroot's configuration
    # goes before the user's, which may then name a default for all chroots.
    return {"remote": opts.pop("remote")} if "remote" in opts else {}


def find_config_file(name: str, config_path: Path, home: Path) -> Path:
    """The file that `-r NAME` means; it need not exist."""
    if name.endswith(".cfg"):
        return Path(name)
    own = home / f".config/mock/{name}.cfg"
    return own if own.exists() else config_path / f"{name}.cfg"


def _update(opts: ConfigOpts, file: Path, *, required: str | None) -> None:
    if not file.exists():
        if required is not None:
            raise _missing(opts, required, file)
        return
    real = Path(os.path.realpath(file))
    seen: set[str] = set()
    names = dict(_PREDEFINED)
    text = read_with_includes(real, Path(opts["config_path"]), names, seen)
    try:
        # Separate dictionaries, as inside a function: functions that the file defines see
        # the predefined names, and neither config_opts nor each other, as in mock.
        exec(compile(text, str(real), "exec"), names, {"config_opts": opts})  # noqa: S102
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{file}: {type(error).__name__}: {error}") from error
    opts["config_paths"] = sorted(set(opts["config_paths"]) | seen)
    _check_macros(opts)


def _check_macros(opts: ConfigOpts) -> None:
    macros = opts["macros"]
    for name, value in list(macros.items()):
        if not name or (not value and value is not None) or len(name.split()) != 1:
            raise CommandLineError(f"bad macro in config_opts['macros']: {name!r}: {value!r}")
        if not name.startswith("%"):
            del macros[name]
            macros[f"%{name}"] = value


def _missing(opts: ConfigOpts, name: str, file: Path) -> ConfigError:
    message = f"no mock configuration {name!r}: {file} does not exist"
    hints = []
    replaced = re.fullmatch(r"([\w-]+-\w+)-(\w+)", name)
    if replaced and replaced[1] in opts["no-config"]:
        for base in opts["no-config"][replaced[1]].get("alternatives", {}):
            if (Path(opts["config_path"]) / f"{base}-{replaced[2]}.cfg").exists():
                hints.append(f"-r {base}-{replaced[2]}")
        if hints:
            return ConfigError(message, hint="there are instead: " + ", ".join(hints))
    if name == "default":
        return ConfigError(message, hint="choose the chroot with -r")
    if "/" in name:
        return ConfigError(message, hint="a path ends in .cfg, as in -r ./target.cfg")
    if not any(Path(opts["config_path"]).glob("*-*.cfg")):
        hint = f"{opts['config_path']} has no configurations: install mock-core-configs"
        return ConfigError(message, hint=f"{hint}, or name a directory with --configdir")
    return ConfigError(message, hint="mock --list-chroots lists what there is")


_INCLUDE: Final = re.compile(r"^\s*include\((?P<argument>.*)\)", re.MULTILINE)
_DEPTH_MAX: Final = 50


def read_with_includes(
    file: Path, search: Path, names: dict[str, Any], seen: set[str], depth: int = 0
) -> str:
    """The text of `file` with each `include(…)` line replaced by the included text.

    Relative paths are looked up in `search`. `names` is what an argument, a Python
    expression, may use. `seen` collects the paths read; a path already in it is replaced by
    nothing, as mock does. Raises ConfigError.
    """
    path = search / file
    if not path.exists():
        raise ConfigError(f"included configuration file not found: {path}")
    if str(path) in seen:
        return ""
    if depth > _DEPTH_MAX:
        raise ConfigError(f"{path}: includes are nested more than {_DEPTH_MAX} deep")
    seen.add(str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    for found in _INCLUDE.findall(text):
        included = read_with_includes(
            Path(_argument(found, path, names)), search, names, seen, depth + 1
        )
        # mock uses the text as the template of re.sub: in an included file a backslash is
        # written twice. A configuration must mean the same here.
        try:
            text = _INCLUDE.sub(included, text, count=1)
        except re.error as error:
            raise ConfigError(f"{path}: include({found}): {error}") from error
    return text


def _argument(expression: str, path: Path, names: dict[str, Any]) -> str:
    try:
        value = eval(expression, names)  # noqa: S307  the whole file is Python, see chroots
    except Exception as error:
        raise ConfigError(f"{path}: include({expression}): {error}") from error
    if not isinstance(value, str):
        raise ConfigError(f"{path}: include({expression}) does not name a file")
    return value

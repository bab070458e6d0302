# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a configuration the chroot engine has not got: refused by name, never ignored."""

from __future__ import annotations

import json
from typing import Any

from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.config.isolation import check_isolation
from mock_cloud.config.stages import needs_plugin, needs_setting
from mock_cloud.config.values import read_number, read_option, read_text
from mock_cloud.errors import UnsupportedByEngine
from mock_cloud.invocation.engines import PLUGINS, SETTINGS, chroot_engine
from mock_cloud.invocation.model import CommandLine
from mock_cloud.invocation.support import USE_MOCK


def check_limits(opts: ConfigOpts, line: CommandLine) -> None:
    """Raise UnsupportedByEngine for the first thing that `line` needs and the engine lacks.

    `opts` are the configuration that results from the command line.
    """
    _check_plugins(read_option(opts, "plugin_conf", {}), line)
    for name, why in chroot_engine(SETTINGS, "refused").items():
        if read_option(opts, name) and needs_setting(line, name):
            _refuse(f"config_opts[{name!r}]", USE_MOCK, why)
    check_isolation(opts, line)
    defaults = default_config_opts()
    for name, why in chroot_engine(SETTINGS, "fixed").items():
        if read_option(opts, name) != defaults[name] and needs_setting(line, name):
            _refuse(f"config_opts[{name!r}] other than {defaults[name]!r}", USE_MOCK, why)
    if needs_setting(line, "forcearch"):
        _check_values(opts, defaults)


def _check_values(opts: ConfigOpts, defaults: ConfigOpts) -> None:
    target = read_text(opts, "target_arch")
    if read_text(opts, "forcearch", target) != target:
        _refuse(
            f"--forcearch (config_opts['forcearch']) other than the chroot's own {target}",
            "choose a remote whose nodes have that architecture, or " + USE_MOCK,
        )
    loops = read_number(opts, "dev_loop_count", 0)
    if loops > defaults["dev_loop_count"]:
        _refuse(f"config_opts['dev_loop_count'] = {loops}", USE_MOCK)
    if not _is_usual(opts, defaults, "ssl_copied_ca_trust_dirs"):
        _refuse("config_opts['ssl_copied_ca_trust_dirs'] other than mock's", USE_MOCK)


def _is_usual(opts: ConfigOpts, defaults: ConfigOpts, name: str) -> bool:
    """Whether a list is empty or the default; tuples come back as lists from mock's plugin."""
    value = read_option(opts, name)
    return not value or json.dumps(value) == json.dumps(defaults[name])


def _check_plugins(conf: dict[str, Any], line: CommandLine) -> None:
    for key in sorted(conf):
        name = key.removesuffix("_enable")
        if name == key or not conf[key] or not needs_plugin(line, name):
            continue
        word, _, why = PLUGINS.get(name, ("refused", ""))[0].partition(": ")
        if word == "refused":
            _refuse(
                f"the plugin {name!r}" + (f" ({why})" if why else ""),
                f"--disable-plugin={name}, or {USE_MOCK}",
            )
    for name, key in (
        ("bind_mount", "dirs"),
        ("mount", "dirs"),
        ("package_state", "available_pkgs"),
    ):
        if not needs_plugin(line, name):
            continue
        if conf.get(f"{name}_enable") and conf.get(f"{name}_opts", {}).get(key):
            _refuse(
                f"plugin_conf['{name}_opts'][{key!r}]", f"--disable-plugin={name}, or {USE_MOCK}"
            )


def _refuse(what: str, hint: str, why: str = "") -> None:
    reason = f": {why}" if why else ""
    raise UnsupportedByEngine(f"{what} is not supported by the chroot engine{reason}", hint=hint)

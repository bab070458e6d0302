# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a configuration the chroot engine has not got: refused by name, never ignored.

Each entry was decided by one question: would the packages, the files in the resultdir, or
what the build sees differ from mock's? docs/configuration.md explains the tables.
"""

from __future__ import annotations

from typing import Any, Final

from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.config.values import read_option
from mock_cloud.errors import UnsupportedByEngine
from mock_cloud.invocation.support import USE_MOCK

HONOURED_PLUGINS: Final = frozenset({"hw_info", "package_state"})

HARMLESS_PLUGINS: Final = {
    "tmpfs": "where the chroot lies; layers are as fast",
    "root_cache": "layers take its place",
    "yum_cache": "the node keeps its own package cache",
    "ccache": "speeds a build up, the packages are the same",
    "selinux": "the node's own affair",
    "lvm_root": "where the chroot lies",
    "overlayfs": "where the chroot lies",
    "mount": "does nothing without directories",
    "bind_mount": "does nothing without directories",
    "remote": "this package's own",
}
"""Plugins without effect on what is built, and why."""

REFUSED_PLUGINS: Final = {
    "buildroot_lock": "it writes buildroot_lock.json",
    "chroot_scan": "it copies files out of the chroot",
    "compress_logs": "it compresses the logs",
    "expand_spec": "it writes the expanded spec file",
    "export_buildroot_image": "it writes an image of the chroot",
    "pm_request": "it lets the build install packages",
    "procenv": "it writes procenv.log",
    "rpkg_preprocessor": "it changes the spec file",
    "rpmautospec": "it changes the spec file",
    "showrc": "it writes showrc.log",
    "sign": "it signs the packages",
    "system_monitor": "it writes a log of the system's load",
    "unbreq": "it reports unneeded build dependencies",
}

_SETTINGS_REFUSED: Final = (
    "backup_on_clean", "copy_host_users", "createrepo_on_rpms", "external_buildrequires",
    "forcearch", "hermetic_build", "hostname", "module_enable", "module_install",
    "module_setup_commands", "redhat_subscription_required", "scm", "ssl_extra_certs",
    "use_buildroot_image",
)  # fmt: skip
"""Options that are refused when they are set to anything true."""

_SETTINGS_FIXED: Final = (
    "rpm_command", "dnf4_avoid_opts", "dnf5_avoid_opts", "exclude_from_homedir_cleanup",
)  # fmt: skip
"""Options that must have mock's default value."""


def check_limits(opts: ConfigOpts) -> None:
    """Raise UnsupportedByEngine for the first thing `opts` asks for that the engine lacks."""
    _check_plugins(read_option(opts, "plugin_conf", {}))
    for name in _SETTINGS_REFUSED:
        if read_option(opts, name):
            _refuse(f"config_opts[{name!r}]", USE_MOCK)
    if read_option(opts, "isolation") == "nspawn":
        _refuse("config_opts['isolation'] = 'nspawn'", "use simple, or " + USE_MOCK)
    defaults = default_config_opts()
    for name in _SETTINGS_FIXED:
        if read_option(opts, name) != defaults[name]:
            _refuse(f"config_opts[{name!r}] other than {defaults[name]!r}", USE_MOCK)


def _check_plugins(conf: dict[str, Any]) -> None:
    for key in sorted(conf):
        name = key.removesuffix("_enable")
        if name == key or not conf[key]:
            continue
        if name not in HONOURED_PLUGINS and name not in HARMLESS_PLUGINS:
            why = REFUSED_PLUGINS.get(name)
            _refuse(
                f"the plugin {name!r}" + (f" ({why})" if why else ""),
                f"--disable-plugin={name}, or {USE_MOCK}",
            )
    for name, key in (
        ("bind_mount", "dirs"),
        ("mount", "dirs"),
        ("package_state", "available_pkgs"),
    ):
        if conf.get(f"{name}_enable") and conf.get(f"{name}_opts", {}).get(key):
            _refuse(
                f"plugin_conf['{name}_opts'][{key!r}]", f"--disable-plugin={name}, or {USE_MOCK}"
            )


def _refuse(what: str, hint: str) -> None:
    raise UnsupportedByEngine(f"{what} is not supported by the chroot engine", hint=hint)

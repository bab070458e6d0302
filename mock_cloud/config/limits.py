# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a configuration the chroot engine has not got: refused by name, never ignored.

Each entry was decided by one question: would the packages, the files in the resultdir, or
what the build sees differ from mock's? docs/configuration.md explains the tables.
"""

from __future__ import annotations

import json
from typing import Any, Final

from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.config.isolation import check_isolation
from mock_cloud.config.stages import needs_plugin, needs_setting
from mock_cloud.config.values import read_number, read_option, read_text
from mock_cloud.errors import UnsupportedByEngine
from mock_cloud.invocation.model import CommandLine
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

SETTINGS_REFUSED: Final = {
    "backup_on_clean": "results are not moved away",
    "copy_host_users": "the node's accounts are not this machine's",
    "createrepo_on_rpms": "no repository is made of the results",
    "hermetic_build": "it has no lock files",
    "hostname": "the chroot has the node's host name",
    "module_enable": "it has no modules",
    "module_install": "it has no modules",
    "module_setup_commands": "it has no modules",
    "redhat_subscription_required": "a node has no subscription",
    "scm": "sources are checked out by mock",
    "ssl_extra_certs": "no certificates are copied into the chroot",
    "use_buildroot_image": "chroots are made by dnf",
}
"""Options that are refused when they are set to anything true, where a command needs them."""

SETTINGS_FIXED: Final = {
    "build_log_fmt_name": "build.log has mock's usual lines",
    "createrepo_command": "createrepo_c is run as mock runs it",
    "dnf4_avoid_opts": "options are left out as mock leaves them out",
    "dnf5_avoid_opts": "options are left out as mock leaves them out",
    "exclude_from_homedir_cleanup": "mock's list is used",
    "internal_dev_setup": "/dev is always the chroot's own",
    "log_config_file": "logs have mock's usual lines",
    "root_log_fmt_name": "root.log has mock's usual lines",
    "rpm_command": "the chroot's /bin/rpm is run",
    "state_log_fmt_name": "state.log has mock's usual lines",
    "stderr_line_prefix": "build.log has a command's two outputs as one",
}
"""Options that must have mock's default value where a chroot is made or used, and why."""

HONOURED_SETTINGS: Final = frozenset({
    "basedir", "check", "chroot_additional_packages", "chroot_setup_cmd", "chrootgid",
    "chrootgroup", "chroothome", "chrootuid", "chrootuser", "clean", "cleanup_on_failure",
    "cleanup_on_success", "dnf4_common_opts", "dnf4_disable_plugins", "dnf5_common_opts",
    "dnf5_disable_plugins", "dnf_vars", "dynamic_buildrequires", "dynamic_buildrequires_max_loops",
    "environment",
    "extra_chroot_dirs", "files", "macros", "more_buildreqs", "no_root_shells", "package_manager",
    "post_install", "print_main_output", "releasever", "repo_arch", "repo_arch_map", "resultdir",
    "rootdir", "rpmbuild_arch", "rpmbuild_command", "rpmbuild_networking", "rpmbuild_timeout",
    "static_buildrequires_max_loops", "target_arch", "update_before_build",
    "use_container_host_hostname", "use_host_resolv", "user_agent",
})  # fmt: skip
"""Options that take effect, here or in what the node is told."""

FROM_THE_COMMAND_LINE: Final = frozenset({"additional_packages", "calculatedeps", "online"})
"""Options that mock takes from its command line every time: see `invocation.support`."""

_BOOTSTRAP: Final = "there is no bootstrap chroot: the node's own dnf installs the same packages"
_COMMAND: Final = "the node's own dnf is run"
_IMAGE: Final = "of use_buildroot_image, which is refused"
_YUM: Final = "a configuration of yum's, which is not run"

HARMLESS_SETTINGS: Final = {
    "backup_base_dir": "of backup_on_clean, which is refused",
    "bootstrap_chroot_additional_packages": _BOOTSTRAP,
    "bootstrap_image": _BOOTSTRAP,
    "bootstrap_image_assert_digest": _BOOTSTRAP,
    "bootstrap_image_fallback": _BOOTSTRAP,
    "bootstrap_image_keep_getting": _BOOTSTRAP,
    "bootstrap_image_pull_timeout": _BOOTSTRAP,
    "bootstrap_image_ready": _BOOTSTRAP,
    "bootstrap_image_skip_pull": _BOOTSTRAP,
    "bootstrap_module_enable": _BOOTSTRAP,
    "bootstrap_module_install": _BOOTSTRAP,
    "bootstrap_module_setup_commands": _BOOTSTRAP,
    "buildroot_image": "switches use_buildroot_image on, which is refused",
    "buildroot_image_assert_digest": _IMAGE,
    "buildroot_image_fallback": _IMAGE,
    "buildroot_image_keep_getting": _IMAGE,
    "buildroot_image_pull_timeout": _IMAGE,
    "buildroot_image_ready": _IMAGE,
    "buildroot_image_skip_pull": _IMAGE,
    "cache_topdir": "the node keeps its own cache",
    "config_paths": "what mock has read",
    "dnf4_command": _COMMAND,
    "dnf4_install_command": _BOOTSTRAP,
    "dnf4_system_command": _COMMAND,
    "dnf5_command": _COMMAND,
    "dnf5_install_command": _BOOTSTRAP,
    "dnf5_system_command": _COMMAND,
    "host_arch": "the node's own",
    "microdnf_avoid_opts": _COMMAND,
    "microdnf_builddep_command": _COMMAND,
    "microdnf_builddep_opts": _COMMAND,
    "microdnf_command": _COMMAND,
    "microdnf_common_opts": _COMMAND,
    "microdnf_install_command": _BOOTSTRAP,
    "mock_run_uuid": "of one run",
    "no-config": "advice for configurations that are missing here",
    "nosync": "saves time only",
    "nosync_force": "saves time only",
    "oci_platform_map": _IMAGE,
    "opstimeout": "a limit for LVM's commands",
    "package_manager_attempt_delay": "dnf itself repeats what failed to load",
    "package_manager_max_attempts": "dnf itself repeats what failed to load",
    "plugin_dir": "plugins that are not mock's own are refused",
    "plugins": "plugins that are not mock's own are refused",
    "priorities.conf": _YUM,
    "qemu_user_static_mapping": "nodes are of the chroot's own architecture",
    "recursion_limit": "of mock's own process",
    "rhnplugin.conf": _YUM,
    "scm_opts": "of scm, which is judged",
    "seccomp": "of nspawn only",
    "shadow_utils_isolation_option": "how the build user is made, not which",
    "ssl_ca_bundle_path": "mock copies certificates there for dnf; the node's own dnf has its own",
    "subscription-manager.conf": _YUM,
    "tar": "of scm, which uses it here",
    "tar_binary": "of scm, which uses it here",
    "use_bootstrap": _BOOTSTRAP,
    "use_bootstrap_image": _BOOTSTRAP,
    "use_host_shadow_utils": "how the build user is made, not which",
    "version": "mock's own",
    "yum_avoid_opts": _COMMAND,
    "yum_builddep_command": _COMMAND,
    "yum_builddep_opts": _COMMAND,
    "yum_command": _COMMAND,
    "yum_common_opts": _COMMAND,
    "yum_install_command": _BOOTSTRAP,
    "yum_system_command": _COMMAND,
}
"""Options without effect on packages, logs and what a build sees, and why."""

JUDGED: Final = {
    "dev_loop_count": "no more loop devices than mock's default",
    "dnf.conf": "see `config.repositories`",
    "external_buildrequires": "refused on the node where a package has such requirements",
    "forcearch": "the chroot's own architecture only",
    "isolation": "a jail in any case, with a warning in place of nspawn",
    "nspawn_args": "mock's default, or any where isolation is simple, for mock ignores them there",
    "plugin_conf": "see the plugins",
    "ssl_copied_ca_trust_dirs": "mock's default, or none",
    "use_nspawn": "an old name of isolation, which takes its place",
}
"""Options that are judged by their value, and by what rule."""


def check_limits(opts: ConfigOpts, line: CommandLine) -> None:
    """Raise UnsupportedByEngine for the first thing that `line` needs and the engine lacks.

    `opts` are the configuration that results from the command line.
    """
    _check_plugins(read_option(opts, "plugin_conf", {}), line)
    for name, why in SETTINGS_REFUSED.items():
        if read_option(opts, name) and needs_setting(line, name):
            _refuse(f"config_opts[{name!r}]", USE_MOCK, why)
    check_isolation(opts, line)
    defaults = default_config_opts()
    for name, why in SETTINGS_FIXED.items():
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
        if not needs_plugin(line, name):
            continue
        if conf.get(f"{name}_enable") and conf.get(f"{name}_opts", {}).get(key):
            _refuse(
                f"plugin_conf['{name}_opts'][{key!r}]", f"--disable-plugin={name}, or {USE_MOCK}"
            )


def _refuse(what: str, hint: str, why: str = "") -> None:
    reason = f": {why}" if why else ""
    raise UnsupportedByEngine(f"{what} is not supported by the chroot engine{reason}", hint=hint)

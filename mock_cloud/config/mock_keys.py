# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of each of mock's options when mock runs on a node: one decision a key.

docs/mock-engine.md has these tables for readers; a test compares them with mock's defaults, so that
an option that a later mock brings is decided here before anything passes it on.
"""

from __future__ import annotations

from typing import Final

SENT: Final = frozenset({
    "build_log_fmt_name", "check", "chroot_additional_packages", "chroot_setup_cmd", "chrootgroup",
    "chroothome", "chrootuser", "clean", "cleanup_on_failure", "cleanup_on_success",
    "createrepo_command", "dnf4_avoid_opts", "dnf4_builddep_opts",
    "dnf4_command", "dnf4_common_opts", "dnf4_disable_plugins", "dnf4_install_command",
    "dnf4_system_command", "dnf5_avoid_opts", "dnf5_command", "dnf5_common_opts",
    "dnf5_disable_plugins", "dnf5_install_command", "dnf5_system_command", "dnf_vars",
    "dynamic_buildrequires", "dynamic_buildrequires_max_loops", "exclude_from_homedir_cleanup",
    "external_buildrequires", "extra_chroot_dirs", "files", "forcearch", "hostname",
    "internal_dev_setup", "macros", "microdnf_avoid_opts",
    "microdnf_builddep_command", "microdnf_builddep_opts", "microdnf_command",
    "microdnf_common_opts", "microdnf_install_command", "module_enable", "module_install",
    "module_setup_commands", "more_buildreqs", "no_root_shells", "nosync", "nosync_force",
    "oci_platform_map", "opstimeout", "package_manager", "package_manager_attempt_delay",
    "package_manager_max_attempts", "post_install", "priorities.conf", "qemu_user_static_mapping",
    "recursion_limit", "releasever", "repo_arch", "repo_arch_map", "rhnplugin.conf",
    "root_log_fmt_name", "rpm_command", "rpmbuild_arch", "rpmbuild_command",
    "rpmbuild_networking", "rpmbuild_timeout", "seccomp", "shadow_utils_isolation_option",
    "ssl_ca_bundle_path", "state_log_fmt_name", "static_buildrequires_max_loops",
    "stderr_line_prefix", "subscription-manager.conf", "tar", "tar_binary", "target_arch",
    "update_before_build", "use_bootstrap", "use_bootstrap_image", "use_buildroot_image",
    "use_container_host_hostname", "use_host_resolv", "use_host_shadow_utils",
    "user_agent", "yum_avoid_opts", "yum_builddep_command", "yum_builddep_opts", "yum_command",
    "yum_common_opts", "yum_install_command", "yum_system_command",
    "bootstrap_chroot_additional_packages", "bootstrap_image_assert_digest",
    "bootstrap_image_fallback", "bootstrap_image_keep_getting", "bootstrap_image_pull_timeout",
    "bootstrap_image_ready", "bootstrap_image_skip_pull", "bootstrap_module_enable",
    "bootstrap_module_install", "bootstrap_module_setup_commands",
    "buildroot_image_assert_digest", "buildroot_image_fallback", "buildroot_image_keep_getting",
    "buildroot_image_pull_timeout", "buildroot_image_ready", "buildroot_image_skip_pull",
})  # fmt: skip
"""Options that travel as they are, templates unexpanded. So do those without a default."""

LEFT: Final = {
    "backup_base_dir": "a directory of this machine",
    "basedir": "the node's own",
    "cache_topdir": "the node's own",
    "chroot_name": "said in the request",
    "chrootgid": "the node's own",
    "chrootuid": "said in the request",
    "config_file": "a file of this machine",
    "config_path": "a directory of this machine",
    "config_paths": "files of this machine",
    "dev_loop_count": "a job makes no devices",
    "host_arch": "the node's own",
    "isolation": "a jail in any case, with a warning in place of nspawn",
    "nspawn_args": "refused when they are not mock's own, unless isolation is simple",
    "use_nspawn": "an old name of isolation",
    "log_config_file": "logging.ini's text is sent",
    "build_log_fmt_str": "from logging.ini, which is sent",
    "root_log_fmt_str": "from logging.ini, which is sent",
    "state_log_fmt_str": "from logging.ini, which is sent",
    "mock_run_uuid": "of one run",
    "no-config": "advice for configurations that are missing here",
    "plugin_dir": "plugins travel with mock's own code",
    "plugins": "plugins travel with mock's own code",
    "remote": "this package's own",
    "resultdir": "the node's own; results are put here",
    "rootdir": "the chroot is on the node",
    "scm_opts": "sources are checked out here",
    "use_bootstrap_container": "an old name, settled here",
    "version": "mock's own",
}
"""Options that belong to a host, and why."""

SAID: Final = {
    "additional_packages": "--additional-package",
    "cache_alterations": "--cache-alterations",
    "calculatedeps": "--calculate-build-dependencies",
    "enable_disable_repos": "--enablerepo, --disablerepo",
    "hermetic_build": "--hermetic-build",
    "online": "--offline",
    "verbose": "--verbose, --quiet",
}
"""Options that mock takes from its command line every time: the words that say them there."""

CARRIED: Final = {
    "bootstrap_image": "an image in a file or a directory goes along",
    "buildroot_image": "an image in a file or a directory goes along",
    "dnf.conf": "expanded; keys go along, certificates and passwords are refused",
    "environment": "without the proxies of this machine's environment",
    "macrofile": "goes along",
    "offline_local_repository": "goes along with --hermetic-build",
    "plugin_conf": "see the plugins",
    "print_main_output": "decided by this machine's terminal",
    "ssl_copied_ca_trust_dirs": "mock's defaults are the node's own; others go along",
    "ssl_extra_certs": "certificates go along, private keys are refused",
}
"""Options that name things of this machine: what becomes of those."""

REFUSED: Final = {
    "backup_on_clean": "it keeps results on the node",
    "copy_host_users": "it copies accounts of this machine",
    "createrepo_on_rpms": "done here afterwards, by mock's plugin `remote`",
    "redhat_subscription_required": "it needs this machine's entitlement keys",
    "scm": "sources are checked out here, by mock's own code",
}
"""Options that are refused when they are set, and why."""

PLUGINS_SENT: Final = {
    "bind_mount": ("create_dirs",),
    "buildroot_lock": (),
    "ccache": ("max_cache_size", "compress", "hashdir", "debug", "show_stats"),
    "chroot_scan": ("regexes", "only_failed", "write_tar"),
    "expand_spec": ("rpmspec_opts",),
    "export_buildroot_image": (),
    "hw_info": (),
    "mount": (),
    "overlayfs": ("touch_rpmdb", "trace_hooks"),
    "package_state": ("available_pkgs", "installed_pkgs"),
    "pm_request": (),
    "procenv": (),
    "root_cache": (
        "age_check", "max_age_days", "compress_program", "decompress_program", "exclude_dirs",
        "extension",
    ),
    "rpkg_preprocessor": ("requires", "cmd", "force_enable"),
    "rpmautospec": ("requires", "cmd_base"),
    "selinux": (),
    "showrc": (),
    "system_monitor": ("interval",),
    "tmpfs": ("required_ram_mb", "max_fs_size", "mode"),
    "unbreq": ("exclude_accessed_files",),
    "yum_cache": ("max_age_days", "max_metadata_age_days", "online"),
}  # fmt: skip
"""Plugins that run on the node, with the options that travel as they are."""

PLUGIN_OPTIONS: Final = {
    ("bind_mount", "dirs"): "goes along; what is written there comes back",
    ("ccache", "dir"): "the node's own, emptied after each command",
    ("mount", "dirs"): "file systems of the kernel's own; others are refused",
    ("overlayfs", "base_dir"): "the node's own",
    ("root_cache", "dir"): "the node's own",
    ("tmpfs", "keep_mounted"): "the chroot is on the node's disk then, where it is kept",
}
"""Options of plugins that do not travel as they are, and why."""

PLUGINS_REFUSED: Final = {
    "compress_logs": "done here afterwards, by mock's plugin `remote`",
    "lvm_root": "it needs a volume group of this machine",
    "sign": "done here afterwards, by mock's plugin `remote`",
}

PLUGINS_LEFT: Final = frozenset({"remote"})

INJECTED: Final = frozenset({"basedir", "cache_topdir", "cachedir", "root", "resultdir"})
"""What mock adds to every plugin's options (init_plugins in its plugin.py)."""

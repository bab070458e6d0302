# SPDX-License-Identifier: GPL-2.0-or-later
"""What each engine does with mock 6.7's options, settings and plugins: a column an engine.

A cell is a word, mostly with the reason. The chroot engine's were decided by one question: would
the packages, the files in the resultdir, or what the build sees differ from mock's? Readers find
them in docs/configuration.md, the mock engine's in docs/mock-engine.md. Tests hold that each of
mock's is here: what a later mock brings is decided before anything passes it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_Table = Mapping[str, tuple[str, str]]


def chroot_engine(table: _Table, word: str) -> dict[str, str]:
    """What the chroot engine does `word` with, and why."""
    return _column(table, 0, word)


def mock_engine(table: _Table, word: str) -> dict[str, str]:
    """What the mock engine does `word` with, and why."""
    return _column(table, 1, word)


def _column(table: _Table, column: int, word: str) -> dict[str, str]:
    cells = {name: row[column].partition(": ") for name, row in table.items()}
    return {name: why for name, (found, _, why) in cells.items() if found == word}


FIELDS: Final[_Table] = {
    "argv": ("", "left"),
    "mode": ("honoured", "said"),
    "args": ("", "said"),
    "given": ("", "left"),
    "show": ("", "left"),
    "remote": ("honoured", "left"),
    "no_remote": ("honoured", "left"),
    "detach": ("honoured", "left"),
    "then": ("honoured", "left"),
    "progress": ("honoured", "left"),
    "duplicate": ("honoured", "left"),
    "jobs": ("honoured", "left"),
    "chroot": ("honoured", "left"),
    "configdir": ("honoured", "left"),
    "cli_config_opts": ("honoured", "folded"),
    "uniqueext": ("honoured", "folded"),
    "resultdir": ("honoured", "left"),
    "rootdir": ("judged", "left"),
    "online": ("honoured", "said"),
    "scrub": ("honoured", "said"),
    "clean": ("honoured", "folded"),
    "cleanup_after": ("honoured", "folded"),
    "cache_alterations": ("accepted: there is no root cache to rebuild: layers take its place",
                          "said"),
    "localrepo": ("honoured", "left"),
    "built": ("", "left"),
    "cont": ("honoured", "said"),
    "recurse": ("honoured", "said"),
    "repos": ("honoured", "folded"),
    "tmp_prefix": ("honoured", "said"),
    "arch": ("honoured", "folded"),
    "forcearch": ("honoured", "folded"),
    "rpmbuild_arch": ("honoured", "folded"),
    "rpmmacros": ("honoured", "folded"),
    "macrofile": ("honoured", "folded"),
    "rpmwith": ("honoured", "folded"),
    "rpmwithout": ("honoured", "folded"),
    "rpmbuild_opts": ("honoured", "folded"),
    "rpmbuild_timeout": ("honoured", "folded"),
    "check": ("honoured", "folded"),
    "short_circuit": ("honoured", "folded"),
    "post_install": ("honoured", "folded"),
    "additional_packages": ("honoured", "said"),
    "calculatedeps": ("judged", "said"),
    "hermetic_build": ("judged", "said"),
    "unpriv": ("honoured", "said"),
    "cwd": ("honoured", "said"),
    "spec": ("honoured", "said"),
    "sources": ("honoured", "said"),
    "symlink_dereference": ("honoured", "said"),
    "enable_disable_repos": ("honoured", "said"),
    "enable_network": ("honoured", "folded"),
    "isolation": ("accepted: a jail in any case: judged by the configuration that results", "left"),
    "old_chroot": ("accepted: an old name of isolation", "left"),
    "new_chroot": ("accepted: an old name of isolation", "left"),
    "pkg_manager": ("judged", "folded"),
    "bootstrapchroot": ("judged", "folded"),
    "usebootstrapimage": ("judged", "folded"),
    "buildroot_image": ("judged", "folded"),
    "enabled_plugins": ("accepted: judged by the configuration that results", "folded"),
    "disabled_plugins": ("honoured", "folded"),
    "plugin_opts": ("honoured", "folded"),
    "scm": ("honoured", "left"),
    "scm_opts": ("honoured", "left"),
    "verbose": ("honoured", "said"),
    "trace": ("accepted: traces mock's own functions", "said"),
    "printrootpath": ("honoured", "left"),
    "list_snapshots": ("judged", "said"),
    "environ_remote": ("", "left"),
}  # fmt: skip
"""Fields of a command line. Empty: they are no options.

Chroot engine: *honoured*, some through the configuration; *accepted*, without effect; *judged* by
its value, see `invocation.support`. Mock engine: *said* by words to the node's mock; *folded* into
the configuration, which is sent; *left*, for it means something on this machine only.
"""

_BOOTSTRAP: Final = (
    "harmless: there is no bootstrap chroot: the node's own dnf installs the same packages"
)
_COMMAND: Final = "harmless: the node's own dnf is run"
_IMAGE: Final = "harmless: of use_buildroot_image, which is refused"
_YUM: Final = "harmless: a configuration of yum's, which is not run"

SETTINGS: Final[_Table] = {
    "additional_packages": ("said", "said: --additional-package"),
    "backup_base_dir": ("harmless: of backup_on_clean, which is refused",
                        "left: a directory of this machine"),
    "backup_on_clean": ("refused: results are not moved away",
                        "refused: it keeps results on the node"),
    "basedir": ("honoured", "left: the node's own"),
    "bootstrap_chroot_additional_packages": (_BOOTSTRAP, "sent"),
    "bootstrap_image": (_BOOTSTRAP, "carried: an image in a file or a directory goes along"),
    "bootstrap_image_assert_digest": (_BOOTSTRAP, "sent"),
    "bootstrap_image_fallback": (_BOOTSTRAP, "sent"),
    "bootstrap_image_keep_getting": (_BOOTSTRAP, "sent"),
    "bootstrap_image_pull_timeout": (_BOOTSTRAP, "sent"),
    "bootstrap_image_ready": (_BOOTSTRAP, "sent"),
    "bootstrap_image_skip_pull": (_BOOTSTRAP, "sent"),
    "bootstrap_module_enable": (_BOOTSTRAP, "sent"),
    "bootstrap_module_install": (_BOOTSTRAP, "sent"),
    "bootstrap_module_setup_commands": (_BOOTSTRAP, "sent"),
    "build_log_fmt_name": ("fixed: build.log has mock's usual lines", "sent"),
    "build_log_fmt_str": ("", "left: from logging.ini, which is sent"),
    "buildroot_image": ("harmless: switches use_buildroot_image on, which is refused",
                        "carried: an image in a file or a directory goes along"),
    "buildroot_image_assert_digest": (_IMAGE, "sent"),
    "buildroot_image_fallback": (_IMAGE, "sent"),
    "buildroot_image_keep_getting": (_IMAGE, "sent"),
    "buildroot_image_pull_timeout": (_IMAGE, "sent"),
    "buildroot_image_ready": (_IMAGE, "sent"),
    "buildroot_image_skip_pull": (_IMAGE, "sent"),
    "cache_alterations": ("", "said: --cache-alterations"),
    "cache_topdir": ("harmless: the node keeps its own cache", "left: the node's own"),
    "calculatedeps": ("said", "said: --calculate-build-dependencies"),
    "check": ("honoured", "sent"),
    "chroot_additional_packages": ("honoured", "sent"),
    "chroot_name": ("", "left: said in the request"),
    "chroot_setup_cmd": ("honoured", "sent"),
    "chrootgid": ("honoured", "left: the node's own"),
    "chrootgroup": ("honoured", "sent"),
    "chroothome": ("honoured", "sent"),
    "chrootuid": ("honoured", "left: said in the request"),
    "chrootuser": ("honoured", "sent"),
    "clean": ("honoured", "sent"),
    "cleanup_on_failure": ("honoured", "sent"),
    "cleanup_on_success": ("honoured", "sent"),
    "config_file": ("", "left: a file of this machine"),
    "config_path": ("", "left: a directory of this machine"),
    "config_paths": ("harmless: what mock has read", "left: files of this machine"),
    "copy_host_users": ("refused: the node's accounts are not this machine's",
                        "refused: it copies accounts of this machine"),
    "createrepo_command": ("fixed: createrepo_c is run as mock runs it", "sent"),
    "createrepo_on_rpms": ("refused: no repository is made of the results",
                           "refused: done here afterwards, by mock's plugin `remote`"),
    "dev_loop_count": ("judged: no more loop devices than mock's default",
                       "left: a job makes no devices"),
    "dnf.conf": ("judged: see `config.repositories`",
                 "carried: expanded; keys go along, certificates and passwords stay here"),
    "dnf4_avoid_opts": ("fixed: options are left out as mock leaves them out", "sent"),
    "dnf4_builddep_opts": ("", "sent"),
    "dnf4_command": (_COMMAND, "sent"),
    "dnf4_common_opts": ("honoured", "sent"),
    "dnf4_disable_plugins": ("honoured", "sent"),
    "dnf4_install_command": (_BOOTSTRAP, "sent"),
    "dnf4_system_command": (_COMMAND, "sent"),
    "dnf5_avoid_opts": ("fixed: options are left out as mock leaves them out", "sent"),
    "dnf5_command": (_COMMAND, "sent"),
    "dnf5_common_opts": ("honoured", "sent"),
    "dnf5_disable_plugins": ("honoured", "sent"),
    "dnf5_install_command": (_BOOTSTRAP, "sent"),
    "dnf5_system_command": (_COMMAND, "sent"),
    "dnf_vars": ("honoured", "sent"),
    "dynamic_buildrequires": ("honoured", "sent"),
    "dynamic_buildrequires_max_loops": ("honoured", "sent"),
    "enable_disable_repos": ("", "said: --enablerepo, --disablerepo"),
    "environment": ("honoured", "carried: without the proxies of this machine's environment"),
    "exclude_from_homedir_cleanup": ("fixed: mock's list is used", "sent"),
    "external_buildrequires": ("judged: refused on the node where a package has such requirements",
                               "sent"),
    "extra_chroot_dirs": ("honoured", "sent"),
    "files": ("honoured", "sent"),
    "forcearch": ("judged: the chroot's own architecture only", "sent"),
    "hermetic_build": ("refused: it has no lock files", "said: --hermetic-build"),
    "host_arch": ("harmless: the node's own", "left: the node's own"),
    "hostname": ("refused: the chroot has the node's host name", "sent"),
    "internal_dev_setup": ("fixed: /dev is always the chroot's own", "sent"),
    "isolation": ("judged: a jail in any case, with a warning in place of nspawn",
                  "left: a jail in any case, with a warning in place of nspawn"),
    "log_config_file": ("fixed: logs have mock's usual lines", "left: logging.ini's text is sent"),
    "macrofile": ("", "carried: goes along"),
    "macros": ("honoured", "sent"),
    "microdnf_avoid_opts": (_COMMAND, "sent"),
    "microdnf_builddep_command": (_COMMAND, "sent"),
    "microdnf_builddep_opts": (_COMMAND, "sent"),
    "microdnf_command": (_COMMAND, "sent"),
    "microdnf_common_opts": (_COMMAND, "sent"),
    "microdnf_install_command": (_BOOTSTRAP, "sent"),
    "mock_run_uuid": ("harmless: of one run", "left: of one run"),
    "module_enable": ("refused: it has no modules", "sent"),
    "module_install": ("refused: it has no modules", "sent"),
    "module_setup_commands": ("refused: it has no modules", "sent"),
    "more_buildreqs": ("honoured", "sent"),
    "no-config": ("harmless: advice for configurations that are missing here",
                  "left: advice for configurations that are missing here"),
    "no_root_shells": ("honoured", "sent"),
    "nosync": ("harmless: saves time only", "sent"),
    "nosync_force": ("harmless: saves time only", "sent"),
    "nspawn_args": (
        "judged: mock's default, or any where isolation is simple, for mock ignores them there",
        "left: refused when they are not mock's own, unless isolation is simple"),
    "oci_platform_map": (_IMAGE, "sent"),
    "offline_local_repository": ("", "carried: goes along with --hermetic-build"),
    "online": ("said", "said: --offline"),
    "opstimeout": ("harmless: a limit for LVM's commands", "sent"),
    "package_manager": ("honoured", "sent"),
    "package_manager_attempt_delay": ("honoured", "sent"),
    "package_manager_max_attempts": ("honoured", "sent"),
    "plugin_conf": ("judged: see the plugins", "carried: see the plugins"),
    "plugin_dir": ("harmless: plugins that are not mock's own are refused",
                   "left: plugins travel with mock's own code"),
    "plugins": ("harmless: plugins that are not mock's own are refused",
                "left: plugins travel with mock's own code"),
    "post_install": ("honoured", "sent"),
    "print_main_output": ("honoured", "carried: decided by this machine's terminal"),
    "priorities.conf": (_YUM, "sent"),
    "qemu_user_static_mapping": ("harmless: nodes are of the chroot's own architecture", "sent"),
    "recursion_limit": ("harmless: of mock's own process", "sent"),
    "redhat_subscription_required": ("judged: this machine's entitlement is used here",
                                     "left: this machine's entitlement is used here"),
    "releasever": ("honoured", "sent"),
    "remote": ("", "left: this package's own"),
    "repo_arch": ("honoured", "sent"),
    "repo_arch_map": ("honoured", "sent"),
    "resultdir": ("honoured", "left: the node's own; results are put here"),
    "rhnplugin.conf": (_YUM, "sent"),
    "root_log_fmt_name": ("fixed: root.log has mock's usual lines", "sent"),
    "root_log_fmt_str": ("", "left: from logging.ini, which is sent"),
    "rootdir": ("honoured", "left: the chroot is on the node"),
    "rpm_command": ("fixed: the chroot's /bin/rpm is run", "sent"),
    "rpmbuild_arch": ("honoured", "sent"),
    "rpmbuild_command": ("honoured", "sent"),
    "rpmbuild_networking": ("honoured", "sent"),
    "rpmbuild_timeout": ("honoured", "sent"),
    "scm": ("refused: sources are checked out by mock",
            "refused: sources are checked out here, by mock's own code"),
    "scm_opts": ("harmless: of scm, which is judged", "left: sources are checked out here"),
    "seccomp": ("harmless: of nspawn only", "sent"),
    "shadow_utils_isolation_option": ("harmless: how the build user is made, not which", "sent"),
    "ssl_ca_bundle_path": (
        "harmless: mock copies certificates there for dnf; the node's own dnf has its own", "sent"),
    "ssl_copied_ca_trust_dirs": ("judged: mock's default, or none",
                                 "carried: mock's defaults are the node's own; others go along"),
    "ssl_extra_certs": ("refused: no certificates are copied into the chroot",
                        "carried: certificates go along, private keys are refused"),
    "state_log_fmt_name": ("fixed: state.log has mock's usual lines", "sent"),
    "state_log_fmt_str": ("", "left: from logging.ini, which is sent"),
    "static_buildrequires_max_loops": ("honoured", "sent"),
    "stderr_line_prefix": ("fixed: build.log has a command's two outputs as one", "sent"),
    "subscription-manager.conf": (_YUM, "sent"),
    "tar": ("harmless: of scm, which uses it here", "sent"),
    "tar_binary": ("harmless: of scm, which uses it here", "sent"),
    "target_arch": ("honoured", "sent"),
    "update_before_build": ("honoured", "sent"),
    "use_bootstrap": (_BOOTSTRAP, "sent"),
    "use_bootstrap_container": ("", "left: an old name, settled here"),
    "use_bootstrap_image": (_BOOTSTRAP, "sent"),
    "use_buildroot_image": ("refused: chroots are made by dnf", "sent"),
    "use_container_host_hostname": ("honoured", "sent"),
    "use_host_resolv": ("honoured", "sent"),
    "use_host_shadow_utils": ("harmless: how the build user is made, not which", "sent"),
    "use_nspawn": ("judged: an old name of isolation, which takes its place",
                   "left: an old name of isolation"),
    "user_agent": ("honoured", "sent"),
    "verbose": ("", "said: --verbose, --quiet"),
    "version": ("harmless: mock's own", "left: mock's own"),
    "yum_avoid_opts": (_COMMAND, "sent"),
    "yum_builddep_command": (_COMMAND, "sent"),
    "yum_builddep_opts": (_COMMAND, "sent"),
    "yum_command": (_COMMAND, "sent"),
    "yum_common_opts": (_COMMAND, "sent"),
    "yum_install_command": (_BOOTSTRAP, "sent"),
    "yum_system_command": (_COMMAND, "sent"),
}  # fmt: skip
"""Settings: keys of config_opts. Empty: mock has no default for it, and the engine no rule.

Chroot engine: *honoured*, here or in what the node is told; *harmless* to packages, logs and what
a build sees; *refused* when it is set to anything true, *fixed* to mock's default, both where a
command needs it; *judged* by its value; *said* on mock's command line every time. Mock engine:
*sent* as it is, templates unexpanded, as are those that are not here; *left*, for it belongs to a
host; *said* by these words of the command line; *carried*: it names things of this machine;
*refused* when it is set.
"""

PLUGINS: Final[_Table] = {
    "bind_mount": ("harmless: does nothing without directories", "sent: create_dirs"),
    "buildroot_lock": ("refused: it writes buildroot_lock.json", "sent"),
    "ccache": ("harmless: speeds a build up, the packages are the same",
               "sent: max_cache_size, compress, hashdir, debug, show_stats"),
    "chroot_scan": ("refused: it copies files out of the chroot",
                    "sent: regexes, only_failed, write_tar"),
    "compress_logs": ("refused: it compresses the logs",
                      "refused: done here afterwards, by mock's plugin `remote`"),
    "expand_spec": ("refused: it writes the expanded spec file", "sent: rpmspec_opts"),
    "export_buildroot_image": ("refused: it writes an image of the chroot", "sent"),
    "hw_info": ("honoured", "sent"),
    "lvm_root": ("harmless: where the chroot lies",
                 "refused: it needs a volume group of this machine"),
    "mount": ("harmless: does nothing without directories", "sent"),
    "overlayfs": ("harmless: where the chroot lies", "sent: touch_rpmdb, trace_hooks"),
    "package_state": ("honoured", "sent: available_pkgs, installed_pkgs"),
    "pm_request": ("refused: it lets the build install packages", "sent"),
    "procenv": ("refused: it writes procenv.log", "sent"),
    "remote": ("harmless: this package's own", "left"),
    "root_cache": ("harmless: layers take its place",
        "sent: age_check, max_age_days, compress_program, decompress_program, exclude_dirs,"
        " extension"),
    "rpkg_preprocessor": ("refused: it changes the spec file", "sent: requires, cmd, force_enable"),
    "rpmautospec": ("refused: it changes the spec file", "sent: requires, cmd_base"),
    "selinux": ("harmless: the node's own affair", "sent"),
    "showrc": ("refused: it writes showrc.log", "sent"),
    "sign": ("refused: it signs the packages",
             "refused: done here afterwards, by mock's plugin `remote`"),
    "system_monitor": ("refused: it writes a log of the system's load", "sent: interval"),
    "tmpfs": ("harmless: where the chroot lies; layers are as fast",
              "sent: required_ram_mb, max_fs_size, mode"),
    "unbreq": ("refused: it reports unneeded build dependencies", "sent: exclude_accessed_files"),
    "yum_cache": ("harmless: the node keeps its own package cache",
                  "sent: max_age_days, max_metadata_age_days, online"),
}  # fmt: skip
"""Plugins. Others are refused by the chroot engine, and sent by the mock engine with mock's code.

Mock engine: *sent* with these of their options as they are; *left*, or *refused*.
"""

PLUGIN_OPTIONS: Final = {
    ("bind_mount", "dirs"): "goes along; what is written there comes back",
    ("ccache", "dir"): "the node's own, emptied after each command",
    ("mount", "dirs"): "file systems of the kernel's own; others are refused",
    ("overlayfs", "base_dir"): "the node's own",
    ("root_cache", "dir"): "the node's own",
    ("tmpfs", "keep_mounted"): "the chroot is on the node's disk then, where it is kept",
}
"""Options of plugins that do not travel as they are, and why."""

INJECTED: Final = frozenset({"basedir", "cache_topdir", "cachedir", "root", "resultdir"})
"""What mock adds to every plugin's options (init_plugins in its plugin.py)."""

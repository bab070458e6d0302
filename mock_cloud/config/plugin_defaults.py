# SPDX-License-Identifier: GPL-2.0-or-later
"""mock 6.7's plugins and their default settings."""

from __future__ import annotations

from typing import Any, Final

# In mock's order, which is the order of initialisation; overlayfs is found in the directory.
_SETTINGS: Final[dict[str, tuple[bool, dict[str, Any]]]] = {
    "tmpfs": (
        False,
        {"required_ram_mb": 900, "max_fs_size": None, "mode": "0755", "keep_mounted": False},
    ),
    "root_cache": (
        True,
        {
            "age_check": True,
            "max_age_days": 15,
            "dir": "{{cache_topdir}}/{{root}}/root_cache/",
            "compress_program": "pigz",
            "decompress_program": None,
            "exclude_dirs": [
                f"./{path}"
                for path in (
                    "proc", "sys", "dev", "tmp/ccache", "var/cache/yum", "var/cache/dnf",
                    "var/log",
                )
            ],
            "extension": ".gz",
        },
    ),
    "yum_cache": (True, {"max_age_days": 30, "max_metadata_age_days": 30, "online": True}),
    "mount": (True, {"dirs": []}),
    "bind_mount": (True, {"dirs": [], "create_dirs": False}),
    "ccache": (
        False,
        {
            "max_cache_size": "4G",
            "compress": None,
            "dir": "{{cache_topdir}}/{{root}}/ccache/u{{chrootuid}}/",
            "hashdir": True,
            "debug": False,
            "show_stats": False,
        },
    ),
    "selinux": (True, {}),
    "package_state": (True, {"available_pkgs": False, "installed_pkgs": True}),
    "chroot_scan": (
        False,
        {
            "regexes": ["^[^k]?core(\\.\\d+)?$", "\\.log$"],
            "only_failed": True,
            "write_tar": False,
        },
    ),
    "lvm_root": (False, {"pool_name": "mockbuild"}),
    "compress_logs": (False, {"command": "gzip"}),
    "sign": (False, {"cmd": "rpmsign", "opts": "--addsign %(rpms)s"}),
    "pm_request": (False, {}),
    "hw_info": (True, {}),
    "procenv": (False, {}),
    "showrc": (False, {}),
    "rpkg_preprocessor": (
        False,
        {
            "requires": ["preproc-rpmspec"],
            "cmd": "/usr/bin/preproc-rpmspec %(source_spec)s --output %(target_spec)s",
        },
    ),
    "rpmautospec": (
        False,
        {
            "requires": ["rpmautospec"],
            "cmd_base": ["/usr/bin/rpmautospec", "process-distgit"],
        },
    ),
    "buildroot_lock": (False, {}),
    "export_buildroot_image": (False, {}),
    "unbreq": (False, {"exclude_accessed_files": []}),
    "expand_spec": (False, {"rpmspec_opts": []}),
    "system_monitor": (False, {"interval": 2}),
    "overlayfs": (False, {}),
}  # fmt: skip

PLUGINS: Final = tuple(_SETTINGS)

PLUGIN_CONF: Final[dict[str, Any]] = {
    key: value
    for name, (enabled, settings) in _SETTINGS.items()
    for key, value in ((f"{name}_enable", enabled), (f"{name}_opts", settings))
}
"""`config_opts['plugin_conf']`: NAME_enable and NAME_opts. Copy before use."""

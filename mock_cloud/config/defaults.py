# SPDX-License-Identifier: GPL-2.0-or-later
"""The names and default values of mock 6.7's `config_opts`.

Source: `setup_default_config_opts` of mock's `mockbuild/config.py`. A test compares the two.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import grp
import os
import uuid
from collections.abc import MutableMapping
from typing import Any, Final

import jinja2
from templated_dictionary import TemplatedDictionary

from mock_cloud.invocation.model import MOCK_VERSION
from mock_cloud.wire.job_request import NO_ALLOWERASING
from mock_cloud.wire.layout import MOCK_CACHEDIR

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

PLUGIN_NAMES: Final = tuple(_SETTINGS)

PLUGIN_CONF: Final[dict[str, Any]] = {
    key: value
    for name, (enabled, settings) in _SETTINGS.items()
    for key, value in ((f"{name}_enable", enabled), (f"{name}_opts", settings))
}
"""`config_opts['plugin_conf']`: NAME_enable and NAME_opts. Copy before use."""


ConfigOpts = MutableMapping[str, Any]
"""mock's `config_opts`: values are templates until `__jinja_expand` is set."""


class Options(TemplatedDictionary):  # type: ignore[misc]
    """mock's dictionary; what holds no template is not made one, and each template once.

    Jinja2 compiles a module of Python for each string, 0.3 ms, and a command reads hundreds.
    """

    def __getitem__(self, key: str) -> Any:
        own = vars(self)
        value = own.get(key)
        if value is not None and _is_literal(value):
            return value
        if value is None or not own.get("__jinja_expand"):
            return super().__getitem__(key)
        return self._expand(value)

    def _expand(self, value: Any) -> Any:
        """As mock's: a list or a table is changed for good."""
        if isinstance(value, str):
            return self._render(value)
        if isinstance(value, (list, dict)):
            for key in value.keys() if isinstance(value, dict) else range(len(value)):
                value[key] = self._expand(value[key])
        return value

    def _render(self, text: str) -> str:
        last = text
        for _ in range(vars(self).get("jinja_max_recursion", 5)):
            if _is_literal(last):
                return last
            rendered = _template(last).render(vars(self))
            if rendered == last:
                return rendered
            last = rendered
        raise ValueError(f"too deep jinja re-evaluation on '{text}'")


@functools.lru_cache(maxsize=1000)
def _template(text: str) -> jinja2.Template:
    template: jinja2.Template = jinja2.Template(text, keep_trailing_newline=True)
    return template


def _is_literal(value: Any) -> bool:
    """Whether expanding it changes nothing: no delimiter of jinja2's, no end of line it changes."""
    if isinstance(value, str):
        return "\r" not in value and not any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, dict):
        return all(map(_is_literal, value.values()))
    return not isinstance(value, list) or all(map(_is_literal, value))


_DNF_OPTIONS: Final = (
    "--setopt=deltarpm=False",
    "--setopt=allow_vendor_change=yes",
    "--allowerasing",
)
_DNF4_NAMES: Final = (
    "dnf_command",
    "dnf_common_opts",
    "dnf_install_command",
    "dnf_disable_plugins",
    "dnf_avoid_opts",
    "dnf_builddep_opts",
)
_YUM_PLUGIN_OFF: Final = "\n[main]\nenabled=0"

_PLACES: Final[dict[str, Any]] = {
    "config_paths": [],
    "basedir": "/var/lib/mock",
    "resultdir": "{{basedir}}/{{root}}/result",
    "rootdir": "{{basedir}}/{{root}}/root",
    "cache_topdir": MOCK_CACHEDIR,
    "backup_on_clean": False,
    "backup_base_dir": "{{basedir}}/backup",
    "chroothome": "/builddir",
    "log_config_file": "logging.ini",
    "build_log_fmt_name": "unadorned",
    "root_log_fmt_name": "detailed",
    "state_log_fmt_name": "state",
    "stderr_line_prefix": "",
    "plugin_dir": "/usr/lib/python3/site-packages/mockbuild/plugins",
    "recursion_limit": 5000,
}

_BUILD: Final[dict[str, Any]] = {
    "clean": True,
    "check": True,
    "post_install": False,
    "rpmbuild_timeout": 0,
    "opstimeout": 0,
    "rpmbuild_networking": False,
    "online": True,
    "cleanup_on_success": True,
    "cleanup_on_failure": True,
    "exclude_from_homedir_cleanup": ["build/SOURCES", ".bash_history", ".bashrc"],
    "createrepo_on_rpms": False,
    "createrepo_command": "/usr/bin/createrepo_c -d -q -x *.src.rpm",
    "tar_binary": "/bin/tar",
    "tar": "gnutar",
    "rpm_command": "/bin/rpm",
    "rpmbuild_command": "/usr/bin/rpmbuild",
    "dynamic_buildrequires": True,
    "dynamic_buildrequires_max_loops": 10,
    "static_buildrequires_max_loops": 10,
    "external_buildrequires": False,
    "update_before_build": True,
    "more_buildreqs": {},
    "nosync": False,
    "nosync_force": False,
    "calculatedeps": None,
    "hermetic_build": False,
    "environment": {
        "TERM": "vt100",
        "SHELL": "/bin/bash",
        "HOME": "/builddir",
        "HOSTNAME": "mock",
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "PROMPT_COMMAND": r'printf "\033]0;<mock-chroot>\007"',
        "PS1": r"<mock-chroot> \s-\v\$ ",
        "LANG": "C.UTF-8",
    },
    "macros": {
        "%_topdir": "/builddir/build",
        "%_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
    },
    "files": {},
    "scm": False,
    "scm_opts": {
        "method": "git",
        "cvs_get": "cvs -d /srv/cvs co SCM_BRN SCM_PKG",
        "git_get": "git clone SCM_BRN git://localhost/SCM_PKG.git SCM_PKG",
        "svn_get": "svn co file:///srv/svn/SCM_PKG/SCM_BRN SCM_PKG",
        "distgit_get": "rpkg clone -a --branch SCM_BRN SCM_PKG SCM_PKG",
        "distgit_src_get": "rpkg sources",
        "spec": "SCM_PKG.spec",
        "int_src_dir": None,
        "ext_src_dir": os.devnull,
        "write_tar": False,
        "git_timestamps": False,
        "exclude_vcs": True,
    },
}

_CHROOT: Final[dict[str, Any]] = {
    "chrootgroup": "mock",
    "chrootuser": "mockbuild",
    "isolation": None,
    "use_nspawn": None,
    "nspawn_args": ["--capability=cap_ipc_lock"],
    "seccomp": False,
    "use_container_host_hostname": True,
    "hostname": None,
    "internal_dev_setup": True,
    "dev_loop_count": 12,
    "use_host_resolv": False,
    "chroot_setup_cmd": ("groupinstall", "buildsys-build"),
    "chroot_additional_packages": [],
    "additional_packages": None,
    "extra_chroot_dirs": [],
    "no_root_shells": False,
    "copy_host_users": [],
    "use_host_shadow_utils": True,
    "shadow_utils_isolation_option": "--prefix",
    "target_arch": "i386",
    "rpmbuild_arch": None,
    "repo_arch": None,
    "repo_arch_map": {},
    "forcearch": None,
    "releasever": None,
    "qemu_user_static_mapping": {"armv7hl": "arm", "i686": "i386"},
    "oci_platform_map": {
        f"x86_64_v{level}": f"linux/amd64/v{level}" for level in (2, 3, 4)
    },
    "no-config": {},
    "redhat_subscription_required": False,
    "ssl_ca_bundle_path": None,
    "ssl_extra_certs": None,
    "ssl_copied_ca_trust_dirs": [
        (path, path) for path in ("/etc/pki/ca-trust", "/usr/share/pki/ca-trust-source")
    ],
    "module_enable": [],
    "module_install": [],
    "module_setup_commands": [],
}  # fmt: skip

_BOOTSTRAP: Final[dict[str, Any]] = {
    "use_bootstrap": True,
    "use_bootstrap_image": True,
    "bootstrap_image": "fedora:latest",
    "bootstrap_image_skip_pull": False,
    "bootstrap_image_ready": False,
    "bootstrap_image_fallback": True,
    "bootstrap_image_keep_getting": 120,
    "bootstrap_image_pull_timeout": 120,
    "bootstrap_image_assert_digest": None,
    "bootstrap_chroot_additional_packages": [],
    "bootstrap_module_enable": [],
    "bootstrap_module_install": [],
    "bootstrap_module_setup_commands": [],
    "use_buildroot_image": False,
    "buildroot_image": None,
    "buildroot_image_skip_pull": False,
    "buildroot_image_ready": False,
    "buildroot_image_fallback": False,
    "buildroot_image_keep_getting": 120,
    "buildroot_image_pull_timeout": 120,
    "buildroot_image_assert_digest": None,
}

_PACKAGE_MANAGERS: Final[dict[str, Any]] = {
    "package_manager": "dnf",
    "package_manager_max_attempts": 1,
    "package_manager_attempt_delay": 10,
    "user_agent": "Mock ({{ root }}; {{ target_arch }})",
    "dnf_vars": {},
    "priorities.conf": _YUM_PLUGIN_OFF,
    "rhnplugin.conf": _YUM_PLUGIN_OFF,
    "subscription-manager.conf": "",
    "yum_command": "/usr/bin/yum",
    "yum_system_command": "/usr/bin/yum",
    "yum_install_command": "install yum yum-utils",
    "yum_builddep_command": "/usr/bin/yum-builddep",
    "yum_builddep_opts": [],
    "yum_common_opts": [],
    "yum_avoid_opts": {},
    "dnf4_command": "/usr/bin/dnf-3",
    "dnf4_system_command": "/usr/bin/dnf-3",
    "dnf4_common_opts": list(_DNF_OPTIONS),
    "dnf4_install_command": "install python3-dnf python3-dnf-plugins-core",
    "dnf4_disable_plugins": ["local", "spacewalk", "versionlock"],
    "dnf4_avoid_opts": {},
    "dnf5_command": "/usr/bin/dnf5",
    "dnf5_system_command": "/usr/bin/dnf5",
    "dnf5_common_opts": list(_DNF_OPTIONS),
    "dnf5_install_command": "install dnf5 dnf5-plugins",
    "dnf5_disable_plugins": [],
    "dnf5_avoid_opts": {command: ["--allowerasing"] for command in NO_ALLOWERASING},
    "microdnf_command": "/usr/bin/microdnf",
    "microdnf_install_command": "dnf-install microdnf dnf dnf-plugins-core",
    "microdnf_builddep_command": "/usr/bin/dnf",
    "microdnf_builddep_opts": [],
    "microdnf_common_opts": [],
    "microdnf_avoid_opts": {},
}


def _aliases() -> dict[str, list[str]]:
    """Which names stand for which: {name kept: [other names]}."""
    aliases = {"dnf.conf": ["yum.conf", "dnf5.conf", "dnf4.conf"]}
    aliases |= {name.replace("dnf", "dnf4"): [name] for name in _DNF4_NAMES}
    for manager in ("dnf4", "dnf5", "yum", "microdnf"):
        aliases[f"{manager}_system_command"] = [f"system_{manager}_command"]
    aliases["dnf4_system_command"].append("system_dnf_command")
    return aliases


def default_config_opts() -> ConfigOpts:
    """mock's defaults on this machine, not expanded, nothing shared with an earlier call.

    Never call `copy()` on it: releases of templated-dictionary before 1.5 lose the aliases.
    """
    opts: ConfigOpts = Options(alias_spec=_aliases())
    for table in (_PLACES, _BUILD, _CHROOT, _BOOTSTRAP, _PACKAGE_MANAGERS):
        for name, value in table.items():
            opts[name] = copy.deepcopy(value)
    opts["plugins"] = list(PLUGIN_NAMES)
    opts["plugin_conf"] = copy.deepcopy(PLUGIN_CONF)
    opts["version"] = MOCK_VERSION
    opts["host_arch"] = os.uname().machine
    opts["chrootuid"] = os.getuid()
    opts["mock_run_uuid"] = str(uuid.uuid4())
    with contextlib.suppress(KeyError):  # no group of that name: no key, as in mock
        opts["chrootgid"] = grp.getgrnam("mock").gr_gid
    return opts

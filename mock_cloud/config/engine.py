# SPDX-License-Identifier: GPL-2.0-or-later
"""Renders a configuration and a command line into what the chroot engine is told."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from mock_cloud.config.access import (
    Accesses,
    has_secret,
    secret_words,
    without_logins,
    without_secret_variables,
)
from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.config.isolation import check_isolation
from mock_cloud.config.paths import locate_paths
from mock_cloud.config.repositories import Portable, add_repositories, make_portable
from mock_cloud.config.stages import needs_plugin, needs_setting
from mock_cloud.config.values import (
    read_flag,
    read_number,
    read_option,
    read_text,
    read_texts,
    read_words,
)
from mock_cloud.errors import CommandLineError, ConfigError, UnsupportedByEngine
from mock_cloud.invocation.engines import PLUGINS, SETTINGS, chroot_engine
from mock_cloud.invocation.hostfiles import find_package_file
from mock_cloud.invocation.model import CommandLine
from mock_cloud.invocation.support import USE_MOCK, check_supported
from mock_cloud.places import caller_uid
from mock_cloud.wire.dnf_conf import dnf_variables
from mock_cloud.wire.job_request import EngineConfig
from mock_cloud.wire.terminal_text import printable

MACROFILE_MAX_BYTES: Final = 1 << 20
DEFAULT_CHROOTUID: Final = 1000
DEFAULT_CHROOTGID: Final = 135
"""The gid that Fedora's setup package reserves for mock (its uidgid file)."""

PROXIES: Final = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")


def engine_config(opts: ConfigOpts, line: CommandLine) -> tuple[EngineConfig, Portable]:
    """What the node needs to know, and its dnf.conf with what stays here of it.

    `opts` are loaded and changed by `apply_command_line`. Raises UnsupportedByEngine naming
    what the chroot engine lacks, ConfigError for what is wrong.
    """
    check_supported(line)
    check_limits(opts, line)
    wanted = _package_manager(opts)
    manager, other = ("dnf5", "dnf4") if wanted == "dnf5" else ("dnf4", "dnf5")
    target_arch = read_text(opts, "target_arch")
    releasever = read_text(opts, "releasever")
    dnf_vars = read_texts(opts, "dnf_vars")
    variables = dnf_variables(releasever, target_arch, dnf_vars)
    portable = make_portable(
        add_repositories(_dnf_conf(opts), line.repos),
        variables,
        line.enable_disable_repos,
        accesses=Accesses(variables, proxy_environ(opts)),
    )
    dnf_vars = without_secret_variables(dnf_vars, portable.accesses, [portable.text])
    plugins = read_option(opts, "plugin_conf")
    config = EngineConfig(
        root=locate_paths(opts).root,
        chroot_name=read_text(opts, "chroot_name"),
        target_arch=target_arch,
        rpmbuild_arch=read_text(opts, "rpmbuild_arch", target_arch),
        package_manager=wanted,
        dnf_conf=portable.text,
        chroot_setup_cmd=_setup_command(opts),
        releasever=releasever,
        dnf_vars=dnf_vars,
        dnf_common_opts=read_words(opts, f"{manager}_common_opts"),
        dnf_builddep_opts=read_words(opts, f"{manager}_builddep_opts"),
        package_manager_max_attempts=read_number(opts, "package_manager_max_attempts", 1),
        package_manager_attempt_delay=read_number(opts, "package_manager_attempt_delay", 10),
        dnf_disable_plugins=read_words(opts, f"{manager}_disable_plugins"),
        other_common_opts=read_words(opts, f"{other}_common_opts"),
        other_builddep_opts=read_words(opts, f"{other}_builddep_opts"),
        other_disable_plugins=read_words(opts, f"{other}_disable_plugins"),
        repo_switches=[list(pair) for pair in line.enable_disable_repos],
        macros=_macros(opts),
        macrofile_text=_macrofile_text(opts),
        environment=_environment(opts),
        files=read_texts(opts, "files"),
        chrootuser=read_text(opts, "chrootuser"),
        chrootgroup=read_text(opts, "chrootgroup"),
        chrootuid=build_user(opts),
        chrootgid=read_number(opts, "chrootgid", DEFAULT_CHROOTGID) or DEFAULT_CHROOTGID,
        chroothome=read_text(opts, "chroothome"),
        extra_chroot_dirs=read_words(opts, "extra_chroot_dirs"),
        rpmbuild_command=read_text(opts, "rpmbuild_command"),
        rpmbuild_opts=read_text(opts, "rpmbuild_opts"),
        rpmbuild_timeout=read_number(opts, "rpmbuild_timeout", 0),
        rpmbuild_networking=read_flag(opts, "rpmbuild_networking"),
        use_host_resolv=read_flag(opts, "use_host_resolv"),
        online=read_flag(opts, "online", True),
        check=read_flag(opts, "check", True),
        clean=read_flag(opts, "clean", True),
        cleanup_on_success=read_flag(opts, "cleanup_on_success", True),
        cleanup_on_failure=read_flag(opts, "cleanup_on_failure", True),
        update_before_build=read_flag(opts, "update_before_build", True),
        dynamic_buildrequires=read_flag(opts, "dynamic_buildrequires", True),
        dynamic_buildrequires_max_loops=read_number(opts, "dynamic_buildrequires_max_loops", 10),
        static_buildrequires_max_loops=read_number(opts, "static_buildrequires_max_loops", 10),
        short_circuit=read_text(opts, "short_circuit"),
        more_buildreqs=_more_buildreqs(opts),
        additional_packages=[_package(word) for word in line.additional_packages],
        post_install=read_flag(opts, "post_install"),
        external_buildrequires=read_flag(opts, "external_buildrequires"),
        print_main_output=shows_output(opts, line),
        hw_info=bool(plugins["hw_info_enable"]),
        installed_pkgs=bool(
            plugins["package_state_enable"] and plugins["package_state_opts"].get("installed_pkgs")
        ),
    )
    words = secret_words(portable.accesses.found.values())
    for name, value in asdict(config).items() if words else ():
        if name != "dnf_conf" and has_secret(value, words):
            raise ConfigError(f"{name} has a repository's password in it, which goes to no node")
    return config, portable


def shows_output(opts: ConfigOpts, line: CommandLine) -> bool:
    """Whether the output of commands is shown too, which is in the logs."""
    # As mock decides (set_config_opts_per_cmdline in its config.py): by the user's terminal.
    told = read_option(opts, "print_main_output")
    return line.verbose > 0 and sys.stderr.isatty() if told is None else bool(told)


def shell_is_unprivileged(opts: ConfigOpts, line: CommandLine) -> bool:
    """Whether the command of --shell or --chroot runs as the chroot's user."""
    return line.unpriv or (line.mode == "shell" and read_flag(opts, "no_root_shells"))


def _package_manager(opts: ConfigOpts) -> str:
    """What mock would look for. The node says what it takes instead of yum and microdnf."""
    wanted = read_text(opts, "package_manager")
    if wanted not in ("dnf", "dnf4", "dnf5", "yum", "microdnf"):
        raise ConfigError(f"config_opts['package_manager'] {wanted!r} is unknown")
    return "dnf4" if wanted == "dnf" else wanted


def _dnf_conf(opts: ConfigOpts) -> str:
    text = read_option(opts, "dnf.conf")
    if not isinstance(text, str) or not text.strip():
        raise ConfigError("the configuration has no config_opts['dnf.conf']")
    return text


def _setup_command(opts: ConfigOpts) -> list[str]:
    words = read_words(opts, "chroot_setup_cmd")
    more = read_words(opts, "chroot_additional_packages")
    if more and (not words or words[0] != "install"):
        raise UnsupportedByEngine(
            "chroot_additional_packages with a chroot_setup_cmd other than install is not "
            "supported by the chroot engine",
            hint=USE_MOCK,
        )
    return words + more


def _macros(opts: ConfigOpts) -> dict[str, str]:
    macros = read_texts(opts, "macros")
    if "legal_host_arches" in opts:
        # multiply_platform_multiplier in its config.py: packages multiply their time limits by it.
        macros.setdefault("%_platform_multiplier", "10" if read_text(opts, "forcearch") else "1")
    return macros


def _macrofile_text(opts: ConfigOpts) -> str:
    name = read_text(opts, "macrofile")
    if not name:
        return ""
    shown = printable(name)
    try:
        data = Path(name).read_bytes()
        if len(data) > MACROFILE_MAX_BYTES:
            raise CommandLineError(f"the macro file {shown} is larger than 1 MiB")
        return data.decode()
    except OSError as error:
        raise CommandLineError(f"the macro file {shown}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandLineError(f"the macro file {shown} is not UTF-8") from error


def _environment(opts: ConfigOpts) -> dict[str, str]:
    # mock takes proxies from its own environment too; this machine's mean nothing on a node.
    environment = read_texts(opts, "environment")
    environment["HOME"] = read_text(opts, "chroothome")
    environment.update({name: read_text(opts, name) for name in PROXIES if read_text(opts, name)})
    # With a password it is for this machine's own requests (`proxy_environ`).
    return without_logins(environment)


def proxy_environ(opts: ConfigOpts) -> dict[str, str]:
    """The proxies by which this machine reaches others: the configuration's, else its own."""
    configured = {name: read_text(opts, name) for name in PROXIES if read_text(opts, name)}
    return {**os.environ, **configured}


def build_user(opts: ConfigOpts) -> int:
    """The id of the user who builds in the chroot, never root's."""
    # mock refuses to run as root unless sudo or consolehelper says for whom, and builds with
    # that user's id. Root itself building (in a container, say) must not become root there.
    uid = read_number(opts, "chrootuid", DEFAULT_CHROOTUID)
    return uid or caller_uid() or DEFAULT_CHROOTUID


def _more_buildreqs(opts: ConfigOpts) -> dict[str, list[str]]:
    value = read_option(opts, "more_buildreqs", {})
    if not isinstance(value, dict):
        raise ConfigError("config_opts['more_buildreqs'] should be a mapping")
    found = {}
    for name, wanted in value.items():
        words = [wanted] if isinstance(wanted, str) else list(wanted)
        if not isinstance(name, str) or not all(isinstance(word, str) for word in words):
            raise ConfigError(f"config_opts['more_buildreqs'][{name!r}] should be names")
        found[name] = words
    return found


def _package(word: str) -> str:
    file = find_package_file(word)
    return word if file is None else file.name


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

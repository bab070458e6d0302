# SPDX-License-Identifier: GPL-2.0-or-later
"""What the command line changes in `config_opts`, in mock's order.

Source: `set_config_opts_per_cmdline` of mock's `mockbuild/config.py`.
"""

from __future__ import annotations

import ast
import os
import socket
from pathlib import Path
from typing import Any, Final

import jinja2

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.errors import CommandLineError, ConfigError
from mock_cloud.invocation.model import CommandLine
from mock_cloud.invocation.names import expand_home
from mock_cloud.wire.decode import load_json
from mock_cloud.wire.terminal_text import printable

ENTITLEMENTS: Final = Path("/etc/pki/entitlement")
_WORDS: Final = {
    "true": True, "True": True, "false": False, "False": False, "none": None, "None": None,
}  # fmt: skip


def apply_command_line(opts: ConfigOpts, line: CommandLine) -> None:
    """Change `opts` as mock would for `line`. Call it once for a set of options.

    Raises CommandLineError for unknown plugins, ConfigError when no root is configured or a
    template can't be expanded.
    """
    try:
        _apply(opts, line)
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        raise ConfigError(f"the configuration {line.chroot!r} cannot be used: {error}") from error


def _apply(opts: ConfigOpts, line: CommandLine) -> None:
    _apply_hermetic(opts, line)
    opts.update(_config_opts(line.cli_config_opts))
    opts["verbose"] = line.verbose
    _apply_architecture(opts, line)
    _apply_macros(opts, line)
    _apply_places(opts, line)
    _apply_plugins(opts, line)
    _apply_build(opts, line)
    _apply_package_manager(opts, line)
    if "root" not in opts:
        raise ConfigError("the configuration has no config_opts['root']")
    _apply_cleanup(opts, line)
    _apply_subscription(opts)
    if "unique-ext" in opts:
        opts["root"] = f"{opts['root']}-{opts['unique-ext']}"


def _apply_subscription(opts: ConfigOpts) -> None:
    """The id of this machine's entitlement, as mock's `subscription_redhat_init` finds it."""
    if not opts["redhat_subscription_required"] or "redhat_subscription_key_id" in opts:
        return
    keys = sorted(path.name for path in ENTITLEMENTS.glob("*-key.pem"))
    if not keys:
        raise ConfigError(
            f"config_opts['redhat_subscription_required'] is set, and {ENTITLEMENTS} has no key:"
            " this machine is not subscribed",
            hint="subscription-manager register",
        )
    opts["redhat_subscription_key_id"] = keys[0].partition("-")[0]


def _apply_hermetic(opts: ConfigOpts, line: CommandLine) -> None:
    """What the lock file has of the configuration that it was made with."""
    if not line.hermetic_build:
        return
    lock, repository = line.hermetic_build
    if not Path(repository.removeprefix("file://"), "repodata").exists():
        raise CommandLineError(
            f"--hermetic-build: {printable(repository)} is not a repository of RPMs"
        )
    try:
        told = load_json(Path(lock).read_bytes())["config"]
        is_ready = bool(told.get("bootstrap_image_ready"))
    except OSError as error:
        raise CommandLineError(f"--hermetic-build: {printable(lock)}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandLineError(f"--hermetic-build: {printable(lock)} is not a lock file") from error
    if not is_ready:
        raise CommandLineError(
            f"--hermetic-build: {printable(lock)} was made without bootstrap_image_ready"
        )
    opts.update(told)
    opts["hermetic_build"] = True


def _config_opts(texts: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE words; a repeated key makes a list, a second empty value a list of one."""
    found: dict[str, Any] = {}
    for text in texts:
        key, _, word = text.partition("=")
        value = _config_value(word)
        if key not in found:
            found[key] = value
        elif isinstance(found[key], list):
            found[key].append(value)
        else:
            found[key] = [found[key]] if value == "" else [found[key], value]
    return found


def _config_value(word: str) -> Any:
    if word in _WORDS:
        return _WORDS[word]
    try:
        return int(word)
    except ValueError:
        return word


def _apply_architecture(opts: ConfigOpts, line: CommandLine) -> None:
    if line.arch:
        opts["target_arch"] = line.arch
    if line.rpmbuild_arch:
        opts["rpmbuild_arch"] = line.rpmbuild_arch
    elif opts["rpmbuild_arch"] is None:
        opts["rpmbuild_arch"] = opts["target_arch"]
    if line.forcearch:
        opts["forcearch"] = line.forcearch
    if not opts["repo_arch"]:
        target = opts["target_arch"]
        opts["repo_arch"] = opts["repo_arch_map"].get(target, target)


def _apply_macros(opts: ConfigOpts, line: CommandLine) -> None:
    texts = list(line.rpmmacros)
    texts += [f"_with_{word.replace('-', '_')} --with-{word}" for word in line.rpmwith]
    texts += [f"_without_{word.replace('-', '_')} --without-{word}" for word in line.rpmwithout]
    for text in texts:
        name, _, value = text.strip().partition(" ")
        opts["macros"][name if name.startswith("%") else f"%{name}"] = value
    if line.macrofile:
        opts["macrofile"] = expand_home(line.macrofile)


def _apply_places(opts: ConfigOpts, line: CommandLine) -> None:
    if line.resultdir:
        opts["resultdir"] = expand_home(line.resultdir)
    if line.rootdir:
        opts["rootdir"] = expand_home(line.rootdir)
    if line.uniqueext:
        opts["unique-ext"] = line.uniqueext


def _apply_plugins(opts: ConfigOpts, line: CommandLine) -> None:
    known = opts["plugins"]

    def check(name: str, option: str) -> None:
        if name not in known:
            raise CommandLineError(
                f"{option}: there is no plugin {name!r}", hint="there are: " + ", ".join(known)
            )

    for name in line.disabled_plugins:
        check(name, "--disable-plugin")
        opts["plugin_conf"][f"{name}_enable"] = False
    for name in line.enabled_plugins:
        check(name, "--enable-plugin")
        opts["plugin_conf"][f"{name}_enable"] = True
    for text in line.plugin_opts:
        name, _, setting = text.partition(":")
        key, _, word = setting.partition("=")
        check(name, "--plugin-option")
        opts["plugin_conf"][f"{name}_opts"][key] = _literal(word)


def _literal(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return word


def _apply_build(opts: ConfigOpts, line: CommandLine) -> None:
    if not line.clean:
        opts["clean"] = False
    if not line.check:
        opts["check"] = False
    opts["post_install"] = opts["post_install"] or line.post_install
    if line.rpmbuild_timeout is not None:
        opts["rpmbuild_timeout"] = line.rpmbuild_timeout
    if line.enable_network:
        opts["rpmbuild_networking"] = True
        opts["use_host_resolv"] = True
    if line.short_circuit:
        opts["short_circuit"] = line.short_circuit
        opts["clean"] = False
    for name in ("rpmbuild_opts", "isolation"):
        if getattr(line, name):
            opts[name] = getattr(line, name)
    opts["cache_alterations"] = line.cache_alterations
    opts["online"] = line.online
    opts["additional_packages"] = list(line.additional_packages)
    opts["calculatedeps"] = line.calculatedeps or None
    if line.calculatedeps:
        opts["plugin_conf"]["buildroot_lock_enable"] = True
    if line.scm:
        opts["scm"] = True
        opts["scm_opts"].update(text.split("=", 1) for text in line.scm_opts)


def _apply_package_manager(opts: ConfigOpts, line: CommandLine) -> None:
    if line.bootstrapchroot is not None:
        opts["use_bootstrap"] = line.bootstrapchroot
    if line.usebootstrapimage is not None:
        opts["use_bootstrap_image"] = line.usebootstrapimage
        if line.usebootstrapimage:
            opts["use_bootstrap"] = True
    if line.pkg_manager:
        opts["package_manager"] = line.pkg_manager
    if line.mode == "yum-cmd":
        opts["package_manager"] = "yum"
    if line.mode == "dnf-cmd" and opts["package_manager"] not in ("dnf", "dnf5"):
        opts["package_manager"] = "dnf"
    opts["enable_disable_repos"] = [word for pair in line.enable_disable_repos for word in pair]
    if line.buildroot_image:
        image = line.buildroot_image
        if Path(image).exists():
            image = f"oci-archive:{os.path.realpath(image)}"
        opts["buildroot_image"] = image
    if opts["buildroot_image"]:
        opts["use_buildroot_image"] = True


def _apply_cleanup(opts: ConfigOpts, line: CommandLine) -> None:
    if line.cleanup_after is not None:
        opts["cleanup_on_success"] = line.cleanup_after
        opts["cleanup_on_failure"] = line.cleanup_after
    # Results that lie beside the chroot's root would go with it.
    chroot = os.path.realpath(f"{opts['basedir']}/{opts['root']}")
    if os.path.realpath(expand_percent(opts["resultdir"], opts)).startswith(chroot):
        opts["cleanup_on_success"] = False
        opts["cleanup_on_failure"] = False


def expand_percent(text: str, opts: ConfigOpts) -> str:
    """`text` with mock's old ``%(name)s`` replaced. ConfigError if it can't be."""
    if "%(" not in text:
        return text
    try:
        return text % opts
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"cannot expand {text!r}: {error}") from error


_MACROS: Final = {
    "%source_date_epoch_from_changelog": "1",
    "%use_source_date_epoch_as_buildtime": "1",
    "%clamp_mtime_to_source_date_epoch": "1",
    "%build_mtime_policy": "clamp_to_source_date_epoch",
}
"""rpm's macros(7): SOURCE_DATE_EPOCH is the day of the changelog's last entry, and no time in a
package is later. The last macro is for rpm since 4.20, the one before it for older ones."""

_HOST: Final = ("%_buildhost", "reproducible")
_ENVIRONMENT: Final = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def make_reproducible(opts: ConfigOpts) -> None:
    """Add it to a configuration. What that says already about a macro stays as it is.

    A build host that mock or its configuration took from this machine is none of the user's words.
    """
    macros = opts["macros"]
    for name, value in _MACROS.items():
        macros.setdefault(name, value)
    name, host = _HOST
    if macros.get(name, socket.getfqdn()) == socket.getfqdn():
        macros[name] = host
    opts["environment"].update(_ENVIRONMENT)

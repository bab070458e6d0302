# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration directory for mock: the request's options, then what belongs to the node."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any, Final

from mock_cloud.agent.engine.errors import ConfigurationError
from mock_cloud.agent.engine.mock import places, plugins
from mock_cloud.wire.job_request import JOB_DIRECTORY, TUNNEL_PROXY, MockRun
from mock_cloud.wire.layout import MOCK_LIBDIR

HERMETIC: Final = "hermetic-build"
"""How mock calls the configuration of --hermetic-build, without being asked."""

_ZSTD: Final = "/usr/bin/zstd"
_CACHE_PACKING: Final = {
    "compress_program": "pigz", "decompress_program": None, "extension": ".gz"
}  # fmt: skip
"""mock's defaults."""

_ABOUT_BUILDS: Final = frozenset({
    "additional_packages", "check", "clean", "cleanup_on_failure", "cleanup_on_success",
    "createrepo_command", "dynamic_buildrequires", "dynamic_buildrequires_max_loops",
    "external_buildrequires", "macrofile", "macros", "more_buildreqs", "opstimeout", "plugin_conf",
    "post_install", "print_main_output", "rpmbuild_arch", "rpmbuild_command", "rpmbuild_opts",
    "rpmbuild_networking", "rpmbuild_timeout", "short_circuit", "static_buildrequires_max_loops",
    "stderr_line_prefix", "unique-ext",
})  # fmt: skip

# The formats and levels of mock's own file, which its manual describes.
_LOGGING: Final = """\
[formatters]
keys: detailed,simple,unadorned,state

[formatter_detailed]
format: %(levelname)s %(filename)s:%(lineno)d:  %(message)s

[formatter_simple]
format: %(levelname)s: %(message)s

[formatter_unadorned]
format: %(message)s

[formatter_state]
format: %(asctime)s - %(message)s

[handlers]
keys: console,plain,warnings

[handler_console]
class: StreamHandler
args: []
formatter: simple
level: INFO

[handler_plain]
class: StreamHandler
args: []
formatter: unadorned
level: INFO

[handler_warnings]
class: StreamHandler
args: []
formatter: simple
level: WARNING

[loggers]
keys: root,mockbuild,state,build

[logger_root]
level: NOTSET
handlers: console

[logger_mockbuild]
level: NOTSET
handlers:
qualname: mockbuild
propagate: 1

[logger_state]
level: NOTSET
handlers: plain
qualname: mockbuild.Root.state
propagate: 0

[logger_build]
level: NOTSET
handlers: warnings
qualname: mockbuild.Root.build
propagate: 0
"""


def write_config(directory: str, run: MockRun, tunnel: str) -> None:
    """Write what mock reads with ``--configdir``. ConfigurationError for unusable options.

    `tunnel` takes the place of `TUNNEL_PROXY`.
    """
    hermetic = "--hermetic-build" in run.argv
    name = HERMETIC if hermetic else run.chroot_name
    # Koji's builder has its configurations in a directory: mock -r koji/NAME.
    if any(not part or part.startswith(".") for part in name.split("/")):
        raise ConfigurationError(f"{name!r} is not the name of a configuration")
    os.makedirs(os.path.dirname(os.path.join(directory, name)), exist_ok=True)
    lines = [*_requested(run.config.replace(TUNNEL_PROXY, tunnel)), *_nodes_own(bool(run.kit))]
    _write(os.path.join(directory, f"{name}.cfg"), "".join(f"{line}\n" for line in lines))
    _write(os.path.join(directory, "logging.ini"), run.logging or _LOGGING)


def plugin_directory(has_kit: bool) -> str:
    """Where mock looks for plugins, as it sees it."""
    return f"{places.KIT}/mockbuild/plugins" if has_kit else f"{places.HERE}/plugins"


def chroot_digest(run: MockRun) -> str:
    """sha256 (hex) over those options that decide what is in a fresh chroot.

    What is not known to be about builds alone counts.
    """
    options = json.loads(run.config)
    decisive = {name: value for name, value in options.items() if name not in _ABOUT_BUILDS}
    text = json.dumps([run.chrootuid, decisive], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def place(value: Any) -> Any:
    """`value` with the job's directory where `JOB_DIRECTORY` stands in its strings."""
    if isinstance(value, str):
        return value.replace(JOB_DIRECTORY, places.HERE)
    if isinstance(value, list):
        return [place(item) for item in value]
    if isinstance(value, dict):
        return {name: place(item) for name, item in value.items()}
    return value


def _requested(text: str) -> Iterator[str]:
    """One statement a line, so that no value can be taken for an ``include`` of mock's."""
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ConfigurationError("the options for mock are not JSON") from error
    if not isinstance(options, dict):
        raise ConfigurationError("the options for mock are not an object")
    options = place(options)
    plugin_conf = options.pop("plugin_conf", {})
    for name, value in options.items():
        yield f"config_opts[{name!r}] = {value!r}"
    for name, value in plugin_conf.items():
        where = f"config_opts['plugin_conf'][{name!r}]"
        if name.endswith("_opts"):
            yield f"config_opts['plugin_conf'].setdefault({name!r}, {{}}).update({value!r})"
        else:
            yield f"{where} = {value!r}"
    yield from _cache_packing({**_CACHE_PACKING, **plugin_conf.get("root_cache_opts", {})})


def _cache_packing(chosen: dict[str, Any]) -> Iterator[str]:
    """How mock packs its cached chroot, unless the configuration has chosen.

    mock's default is gzip's format, most of the time of a small build. The archive stays on the
    node, where nothing else reads it: packed by zstd where there is one, else not packed.
    """
    if chosen.items() >= _CACHE_PACKING.items():
        program, extension = ("zstd", ".zst") if os.path.exists(_ZSTD) else ("", "")
        packing = {"compress_program": program, "extension": extension}
        update = f"config_opts['plugin_conf'].setdefault('root_cache_opts', {{}}).update({packing})"
        # For bsdtar mock adds "-d" to the program, though it were none.
        yield f"if config_opts.get('tar') != 'bsdtar': {update}"


def _nodes_own(has_kit: bool) -> Iterator[str]:
    """What no controller decides; and what is the controller's work, on finished packages."""
    options = {
        "basedir": MOCK_LIBDIR,
        "cache_topdir": places.CACHE,
        "rootdir": "{{basedir}}/{{root}}/root",
        "resultdir": "{{basedir}}/{{root}}/result",
        "log_config_file": "logging.ini",
        "createrepo_on_rpms": False,
        "dnf_warning": False,  # after it mock waits for Enter; what it takes is said all the same
        "isolation": "simple",  # in a jail systemd-nspawn cannot run
        "plugin_dir": plugin_directory(has_kit),
    }
    for name, value in options.items():
        yield f"config_opts[{name!r}] = {value!r}"
    for plugin in ("sign", "compress_logs", "remote"):
        yield f"config_opts['plugin_conf'][{f'{plugin}_enable'!r}] = False"
    yield from plugins.statements()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)
    os.chmod(path, 0o644)
    # mock compares its age with that of cached chroots; here `chroot_digest` decides.
    os.utime(path, (0, 0))

# SPDX-License-Identifier: GPL-2.0-or-later
"""mock's plugins for a node: which run there, with which of their options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from mock_cloud.errors import ConfigError, UnsupportedByEngine
from mock_cloud.file_owner import may_write
from mock_cloud.invocation.carrying import Carrier
from mock_cloud.invocation.engines import INJECTED, PLUGIN_OPTIONS, PLUGINS, mock_engine
from mock_cloud.wire.terminal_text import printable

HERMETIC_MOUNT: Final = "/hermetic_repo"
"""Where mock binds a hermetic build's repository (process_hermetic_build_config in config.py)."""

_SENT, _REFUSED, _LEFT = (mock_engine(PLUGINS, word) for word in ("sent", "refused", "left"))
_KERNEL_FILE_SYSTEMS: Final = frozenset(
    {"binfmt_misc", "debugfs", "devpts", "hugetlbfs", "mqueue", "proc", "sysfs", "tmpfs", "tracefs"}
)
_PROGRAMS: Final = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/libexec")


def portable_plugins(
    raw: Mapping[str, Any],
    expanded: Mapping[str, Any],
    carrier: Carrier,
    warnings: list[str],
    *,
    code_travels: bool,
    hermetic: bool,
) -> dict[str, Any]:
    """The `plugin_conf` for a node. `raw` are the values as written, `expanded` for judging.

    Of plugins that are off nothing but that is said. UnsupportedByEngine names the first plugin or
    option that only this machine can serve.
    """
    found: dict[str, Any] = {}
    for key in raw:
        name = key.removesuffix("_enable")
        if name == key or name in _LEFT:
            continue
        if not expanded[key]:
            if name in _SENT or name in _REFUSED:
                found[key] = False
            continue
        _check(name, code_travels)
        found[key] = True
        options = raw.get(f"{name}_opts", {})
        judged = expanded.get(f"{name}_opts", {})
        sent = {option: options[option] for option in options if _is_sent(name, option)}
        if name not in _SENT:
            _refuse_paths(name, {option: judged[option] for option in sent})
        found[f"{name}_opts"] = sent
    _adapt(found, expanded, carrier, warnings, hermetic=hermetic)
    return found


def _check(name: str, code_travels: bool) -> None:
    if name in _REFUSED:
        _refuse(f"the plugin {name!r}", _REFUSED[name], name)
    if name not in _SENT and not code_travels:
        _refuse(f"the plugin {name!r}", "this machine's mock has it, the node's own runs", name)


def _is_sent(plugin: str, option: str) -> bool:
    if option in INJECTED:
        return False
    return plugin not in _SENT or (plugin, option) not in PLUGIN_OPTIONS


def _refuse_paths(plugin: str, options: Mapping[str, Any]) -> None:
    # Of a plugin that is not mock's own nobody here knows what its options mean.
    for option, value in options.items():
        for text in _texts(value):
            place = text.removeprefix("file://")
            if not place.startswith("/") or "\0" in place or str(Path(place).parent) in _PROGRAMS:
                continue
            if Path(place).exists():
                _refuse(
                    f"plugin_conf['{plugin}_opts'][{option!r}]",
                    f"it names {printable(place)} of this machine",
                    plugin,
                )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _adapt(
    found: dict[str, Any],
    expanded: Mapping[str, Any],
    carrier: Carrier,
    warnings: list[str],
    *,
    hermetic: bool,
) -> None:
    """The options of `PLUGIN_OPTIONS`, for the plugins that are on."""
    if found.get("bind_mount_enable"):
        dirs = _rows(expanded, "bind_mount", 2)
        if hermetic:  # mock adds it once more
            dirs = [row for row in dirs if row[1] != HERMETIC_MOUNT]
        found["bind_mount_opts"]["dirs"] = _bound(dirs, carrier, warnings)
    if found.get("mount_enable"):
        found["mount_opts"]["dirs"] = _mounted(_rows(expanded, "mount", 4))
    if found.get("overlayfs_enable"):
        found["overlayfs_opts"]["base_dir"] = "{{cache_topdir}}/overlayfs"
    if found.get("tmpfs_enable") and expanded["tmpfs_opts"].get("keep_mounted"):
        found["tmpfs_enable"] = False  # it would end with the command, and the chroot with it
        warnings.append("tmpfs: the chroot is kept mounted, which is on the node's disk")


def _rows(expanded: Mapping[str, Any], plugin: str, width: int) -> list[list[str]]:
    rows = expanded[f"{plugin}_opts"].get("dirs") or []
    what = f"plugin_conf['{plugin}_opts']['dirs']"
    if not isinstance(rows, (list, tuple)):
        raise ConfigError(f"{what} should be a list")
    for row in rows:
        if not isinstance(row, (list, tuple)) or len(row) != width:
            raise ConfigError(f"{what} should be a list of {width} strings each")
    return [[str(word) for word in row] for row in rows]


def _bound(rows: list[list[str]], carrier: Carrier, warnings: list[str]) -> list[list[str]]:
    what = "plugin_conf['bind_mount_opts']['dirs']"
    found, staying = [], []
    for source, place in rows:
        path = Path(source)
        if may_write(path):
            found.append([carrier.returned_tree(path, what), place])
        else:
            staying.append(place)
            found.append([carrier.path(path, what), place])
    if staying:
        warnings.append(
            f"bind_mount: what is written to {', '.join(staying)} stays on the node: here it is"
            " no directory that you may write to"
        )
    return found


def _mounted(rows: list[list[str]]) -> list[list[str]]:
    for device, _, kind, _ in rows:
        if kind not in _KERNEL_FILE_SYSTEMS:
            _refuse(
                "plugin_conf['mount_opts']['dirs']",
                f"{printable(device)} is this machine's to mount",
                "mount",
            )
    return rows


def refuse(what: str, why: str, hint: str | None = None) -> NoReturn:
    """Raise UnsupportedByEngine for `what`."""
    raise UnsupportedByEngine(f"{what} cannot be used on a node: {why}", hint=hint)


def _refuse(what: str, why: str, plugin: str) -> NoReturn:
    refuse(what, why, f"--disable-plugin={plugin}")

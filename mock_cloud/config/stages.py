# SPDX-License-Identifier: GPL-2.0-or-later
"""The stages of mock that a command line goes through, and the settings and plugins of each.

A setting matters where mock reads it. A configuration is written once for all commands, so what an
engine lacks is refused where a command needs it, not where the configuration mentions it.
"""

from __future__ import annotations

from typing import Final

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.values import read_option
from mock_cloud.errors import UnsupportedByEngine
from mock_cloud.invocation.model import CommandLine

_INIT: Final = frozenset(
    {"preinit", "postinit", "initfailed", "preyum", "postyum", "mount_root", "umount_root"}
)
_SOURCE_PACKAGE: Final = frozenset(
    {"clean", "sources", "earlyprebuild", "pre_srpm_build", "postbuild", "process_logs"}
)
_BUILD: Final = frozenset(
    {"clean", "build", "earlyprebuild", "postdeps", "prebuild", "postbuild", "process_logs"}
)

STAGES_OF_PLUGIN: Final = {
    "buildroot_lock": frozenset({"postdeps"}),
    "chroot_scan": frozenset({"postbuild", "initfailed"}),
    "compress_logs": frozenset({"process_logs"}),
    "expand_spec": frozenset({"postdeps"}),
    "export_buildroot_image": frozenset({"postdeps"}),
    "pm_request": frozenset({"earlyprebuild", "preshell"}),
    "procenv": frozenset({"prebuild"}),
    "rpkg_preprocessor": frozenset({"pre_srpm_build"}),
    "rpmautospec": frozenset({"pre_srpm_build"}),
    "showrc": frozenset({"prebuild"}),
    "sign": frozenset({"postbuild"}),
    "system_monitor": frozenset({"postdeps", "postbuild"}),
    "unbreq": frozenset({"postbuild"}),
}
"""The hooks in which mock's plugins do what is seen outside (`add_hook` in its plugins/NAME.py).

A plugin that is not here may work in any stage.
"""

STAGES_OF_SETTING: Final = {
    "backup_on_clean": frozenset({"clean"}),  # Buildroot.delete in its buildroot.py
    "createrepo_command": frozenset({"chain"}),
    "createrepo_on_rpms": frozenset({"build"}),  # do_rebuild in its rebuild.py
    "scm": frozenset({"build", "sources"}),
}
"""The stages of the settings that mock reads in some only; the others are of the chroot's init."""


_MOUNTED_BY: Final = ("lvm_root", "overlayfs", "tmpfs")
"""Plugins with the hook mount_root."""


def stages_of(line: CommandLine) -> frozenset[str]:
    """The stages of `line`: mock's hooks, and "build", "chain", "clean", "sources" (for an SRPM).

    Source: `run_command` of its mock.py, rebuild.py, and `call_hooks` in its backend.py.
    """
    if line.mode == "clean":
        return frozenset({"clean"})
    found = _INIT
    if line.mode in ("rebuild", "chain"):
        found |= _BUILD
    if line.mode == "buildsrpm" or (line.mode == "rebuild" and line.spec and line.sources):
        found |= _SOURCE_PACKAGE
    if line.mode == "chain":
        found |= {"chain"}
    if line.mode == "init":
        found |= {"clean"}
    if line.mode == "shell":
        found |= {"preshell"}
    return found


def is_needless(opts: ConfigOpts, line: CommandLine) -> bool:
    """Whether `line` has nothing to do on a node: --mount, --umount of what is never mounted.

    No file system of a chroot stays mounted on a node between commands, so that there is none to
    unmount; and there is none to mount where no plugin keeps the chroot on one of its own, and mock
    does nothing either. UnsupportedByEngine for --mount where one does.
    """
    if line.mode not in ("mount", "umount"):
        return False
    conf = read_option(opts, "plugin_conf", {})
    for name in _MOUNTED_BY if line.mode == "mount" else ():
        if conf.get(f"{name}_enable"):
            raise UnsupportedByEngine(
                f"--mount with the plugin {name!r} cannot be used on a node: nothing stays mounted"
                " between commands",
                hint="--shell, --copyin and --copyout work in the chroot without it",
            )
    return True


def needs_plugin(line: CommandLine, name: str) -> bool:
    """Whether the plugin `name`, if it is on, does anything in `line`."""
    stages = STAGES_OF_PLUGIN.get(name, _INIT | _BUILD | _SOURCE_PACKAGE)
    return bool(stages & stages_of(line))


def needs_setting(line: CommandLine, name: str) -> bool:
    """Whether mock would read config_opts[`name`] in `line`, as far as that is known here."""
    return bool(STAGES_OF_SETTING.get(name, _INIT) & stages_of(line))

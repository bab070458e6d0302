# SPDX-License-Identifier: GPL-2.0-or-later
"""What a chroot needs besides its packages: directories, devices, files, users.

All of it is the same for every build of a configuration, so it is part of the base layer.
Lists and contents are those of mock's `buildroot.py`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterable, Mapping
from typing import Final

from mock_cloud.agent.engine import processes
from mock_cloud.wire.files import digest_of
from mock_cloud.wire.job_request import EngineConfig

_DIRECTORIES: Final = (
    "var/lib/rpm", "var/lib/yum", "var/lib/dbus", "var/log", "var/cache/dnf", "var/cache/yum",
    "etc/rpm", "tmp", "tmp/ccache", "var/tmp", "etc/dnf", "etc/dnf/vars", "etc/yum.repos.d",
    "etc/yum", "proc", "sys", "dev/pts", "dev/shm", "dev/mapper",
)  # fmt: skip
_STICKY: Final = ("tmp", "var/tmp", "dev/shm")
_DEVICES: Final = (
    ("null", 0o666, 1, 3), ("full", 0o666, 1, 7), ("zero", 0o666, 1, 5),
    ("random", 0o666, 1, 8), ("urandom", 0o444, 1, 9), ("tty", 0o666, 5, 0),
    ("console", 0o600, 5, 1), ("fuse", 0o666, 10, 229),
)  # fmt: skip
_DEVICE_LINKS: Final = (
    ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
    ("fd", "/proc/self/fd"), ("ptmx", "pts/ptmx"),
)  # fmt: skip
_TTY_GID: Final = 5
_TOUCHED: Final = ("etc/fstab", "etc/yum/yum.conf", "etc/dnf/dnf.conf", "var/log/yum.log")
_TIME_ZONE: Final = "etc/localtime"
_RESOLVER_FILES: Final = ("etc/resolv.conf", "etc/hosts")
_HOSTS: Final = (
    "127.0.0.1 localhost localhost.localdomain\n"
    "::1       localhost localhost.localdomain localhost6 localhost6.localdomain6\n"
)


def sources(config: EngineConfig, node: str = "/") -> dict[str, str]:
    """What a chroot has from elsewhere than its configuration and packages: sha256 (hex) by path.

    Files of the node, and this module, which may change without a new version of mock-cloud.
    """
    resolver = _RESOLVER_FILES if _uses_resolver(config) else ()
    paths = {name: os.path.join(node, name) for name in (*resolver, _TIME_ZONE)}
    found = {"skeleton.py": _digest_of(__file__)}
    found.update((name, _digest_of(path)) for name, path in paths.items())
    return found


def _digest_of(path: str) -> str:
    """Empty for a file that is not there."""
    try:
        with open(path, "rb") as stream:
            return digest_of(stream)[0]
    except FileNotFoundError:
        return ""


def prepare_tree(root: str, config: EngineConfig) -> None:
    """Before the first package: directories, devices, the files dnf and scriptlets look for."""
    for name in (*_DIRECTORIES, *config.extra_chroot_dirs):
        os.makedirs(_inside(root, name), exist_ok=True)
    for name in _STICKY:
        os.chmod(_inside(root, name), 0o1777)  # noqa: S103 (as everywhere)
    _make_devices(root)
    for name in _TOUCHED:
        with open(_inside(root, name), "ab"):
            pass
    with contextlib.suppress(FileExistsError):
        os.symlink("yum/yum.conf", _inside(root, "etc/yum.conf"))
    _replace_link(_inside(root, "etc/mtab"), "../proc/self/mounts")
    for name, value in config.dnf_vars.items():
        _write(root, f"etc/dnf/vars/{os.path.basename(name)}", value)
    _write_all(root, _resolver(config))
    for name, text in config.files.items():
        if not os.path.lexists(_inside(root, name)):
            _write(root, name, text)
    _write_machine_id(root)
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(f"/{_TIME_ZONE}", _inside(root, _TIME_ZONE), follow_symlinks=False)


def finish(root: str, config: EngineConfig) -> None:
    """After the base packages: what they may have replaced, and the build user.

    Their scripts were root in there, so that links may lead anywhere: it is done from within.
    """
    resolver = _resolver(config)

    def finish_inside() -> bytes:
        with open("/etc/os-release", "ab"):
            pass
        _write_all("", resolver)
        add_build_user("", config)
        os.makedirs(config.chroothome, exist_ok=True)
        os.chown(config.chroothome, config.chrootuid, config.chrootgid)
        os.chmod(config.chroothome, 0o755)  # noqa: S103 (as mock's)
        shutil.rmtree("/installation-homedir", ignore_errors=True)
        with open("/.initialized", "ab"):
            pass
        return b""

    processes.call(processes.Place(root), finish_inside)


def _resolver(config: EngineConfig) -> dict[str, bytes]:
    """The node's resolv.conf and hosts if the build may use them, else as good as none.

    An empty resolv.conf makes look-ups fail at once instead of after a time-out.
    """
    if not _uses_resolver(config):
        found = {"etc/resolv.conf": b""}
        if not any(name.lstrip("/") == "etc/hosts" for name in config.files):
            found["etc/hosts"] = _HOSTS.encode()
        return found
    found = {}
    for name in _RESOLVER_FILES:
        with contextlib.suppress(FileNotFoundError), open(f"/{name}", "rb") as stream:
            found[name] = stream.read()
    return found


def _write_all(root: str, files: Mapping[str, bytes]) -> None:
    """Each file anew: what stands there may be a link."""
    for name, data in files.items():
        path = _inside(root, name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with open(path, "wb") as stream:
            stream.write(data)


def _uses_resolver(config: EngineConfig) -> bool:
    return config.use_host_resolv and config.rpmbuild_networking


def add_build_user(root: str, config: EngineConfig) -> None:
    """The build user and group in the chroot's passwd files, in place of any of their names.

    Written directly: the chroot need not have shadow-utils. Fields as useradd(8) and
    groupadd(8) would write them, the account without a password.
    """
    user, group = config.chrootuser, config.chrootgroup
    uid, gid, home = config.chrootuid, config.chrootgid, config.chroothome
    today = int(time.time() // 86400)
    shell = "/bin/bash" if os.path.lexists(_inside(root, "bin/bash")) else "/bin/sh"
    _set_entry(root, "etc/group", group, f"{group}:x:{gid}:", create=True)
    _set_entry(root, "etc/passwd", user, f"{user}:x:{uid}:{gid}::{home}:{shell}", create=True)
    _set_entry(root, "etc/gshadow", group, f"{group}:!::")
    _set_entry(root, "etc/shadow", user, f"{user}:!!:{today}:0:99999:7:::")


def _set_entry(root: str, name: str, key: str, line: str, *, create: bool = False) -> None:
    path = _inside(root, name)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            kept = [old for old in stream.read().splitlines() if old.split(":", 1)[0] != key]
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        if not create:
            return
        kept, mode = [], 0o644
    temporary = f"{path}+"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write("\n".join([*kept, line]) + "\n")
    os.chmod(temporary, mode)
    os.replace(temporary, path)


def _make_devices(root: str) -> None:
    mask = os.umask(0)
    try:
        for name, mode, major, minor in _DEVICES:
            path = _inside(root, f"dev/{name}")
            if os.path.exists(f"/dev/{name}") and not os.path.lexists(path):
                os.mknod(path, mode | stat.S_IFCHR, os.makedev(major, minor))
        os.chown(_inside(root, "dev/tty"), 0, _TTY_GID)
    finally:
        os.umask(mask)
    for name, target in _DEVICE_LINKS:
        _replace_link(_inside(root, f"dev/{name}"), target)


def _write_machine_id(root: str) -> None:
    _write(root, "etc/machine-id", os.urandom(16).hex() + "\n")
    with contextlib.suppress(FileExistsError):
        os.symlink("../../../etc/machine-id", _inside(root, "var/lib/dbus/machine-id"))


def _replace_link(path: str, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.symlink(target, path)


def _write(root: str, name: str, text: str) -> None:
    path = _inside(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)


def _inside(root: str, name: str) -> str:
    parts: Iterable[str] = (part for part in name.split("/") if part not in ("", "."))
    inside = "/".join(parts)
    if ".." in inside.split("/"):
        raise ValueError(f"{name!r} leaves the chroot")
    return f"{root}/{inside}"

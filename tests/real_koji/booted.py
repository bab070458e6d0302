# SPDX-License-Identifier: GPL-2.0-or-later
"""A builder whose kojid is a service of a systemd, with Koji's own unit and docs/koji.md's drop-in.

systemd is the first process of the builder's namespace, in a control group of its own. It has no
units but kojid's and a few targets: those of this machine would clean up, mount and log here.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.lab.layout import repository_root
from tests.real_koji import programs
from tests.real_koji.builders import Builder
from tests.waiting import wait_for

_SYSTEMD = Path("/usr/lib/systemd/systemd")
_TARGETS = ("basic", "final", "multi-user", "network", "shutdown", "sysinit", "umount")
_ENTER_GROUP = 'echo 0 >"$0/cgroup.procs"; exec "$@"'
_BOOT = """\
set -e
place=$0
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind /proc/sys /proc/sys  # systemd raises limits, this machine's
mount -o remount,bind,ro /proc/sys
mount --bind /dev/null /dev/console
mount -t overlay -o "ro,lowerdir=$place/sbin:/usr/sbin" koji-builder /usr/sbin
for own in /run /opt /usr/lib/systemd/system-generators; do
    mount -t tmpfs -o mode=755 own "$own"
done
mkdir /opt/mock-cloud  # where docs/koji.md has it
mount --bind "$place/product" /opt/mock-cloud
mount --bind "$place/units" /usr/lib/systemd/system
rm -rf /etc/systemd
cp -a "$place/etc-systemd" /etc/systemd
rm -rf /etc/kojid
mkdir -p /etc/kojid/plugins
cp "$place/kojid.conf" /etc/kojid/kojid.conf
hostname >/etc/hostname
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \\
    /usr/lib/systemd/systemd --system --unit=multi-user.target
"""


def find_missing() -> str | None:
    """Why no builder can be booted on this machine; None if one can."""
    if not _SYSTEMD.exists():
        return "not installed: systemd"
    if _groups() is None:
        return "no control groups of version 2 are mounted"
    return None


def _groups() -> Path | None:
    lines = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return next((Path(words[1]) for words in lines if words[2] == "cgroup2"), None)


def drop_in() -> str:
    """What docs/koji.md says is to be in kojid.service.d/nodes.conf."""
    text = (repository_root() / "docs/koji.md").read_text()
    found = re.search(r"nodes\.conf`:\n\n```ini\n(.*?)```", text, re.DOTALL)
    assert found, "docs/koji.md has no nodes.conf"
    return found[1]


@dataclass
class BootedBuilder(Builder):
    """One that `systemctl` starts and stops."""

    def runs(self) -> bool:
        return self.systemctl("is-active", "kojid") == "active"

    def systemctl(self, *words: str) -> str:
        """What `systemctl` says to root."""
        return self.enter("systemctl", *words, user="root").stdout.strip()

    def start(self) -> None:
        groups = _groups()
        assert groups is not None  # find_missing
        self._group = groups / f"koji-{self.name}"
        self._group.mkdir(exist_ok=True)  # of a run that was killed
        super().start()

    def stop(self) -> None:
        super().stop()
        wait_for(self._is_removed)

    def _is_removed(self) -> bool:
        """The kernel ends the namespace's processes in its own time."""
        try:
            for path in sorted(self._group.rglob("*"), reverse=True):
                if path.is_dir():
                    path.rmdir()
            self._group.rmdir()
        except OSError:
            return False
        return True

    def _namespaces(self) -> list[str]:
        return ["sh", "-c", _ENTER_GROUP, str(self._group), *super()._namespaces(), "--cgroup"]

    def _first(self) -> list[str]:
        return ["sh", "-c", _BOOT, str(self.place)]

    def _write(self) -> None:
        super()._write()
        sbin, units, etc = (self.place / name for name in ("sbin", "units", "etc-systemd"))
        own = etc / "system/kojid.service.d"
        for path in (sbin, units, own, etc / "system/multi-user.target.wants"):
            path.mkdir(parents=True)
        (self.place / "product").symlink_to(Path(self.setup.path).parent)
        words = " ".join(self._kojid)
        (sbin / "kojid").write_text(
            "#!/bin/sh\n"
            f"export PYTHONPATH={programs.checkout()} PYTHONDONTWRITEBYTECODE=1\n"
            f'exec {words} "$@" >>{self.log} 2>&1\n'
        )
        (sbin / "kojid").chmod(0o755)
        for name in _TARGETS:
            shutil.copy(_SYSTEMD.parent / f"system/{name}.target", units)
        shutil.copy(programs.checkout() / "builder/kojid.service", etc / "system")
        wants = etc / "system/multi-user.target.wants/kojid.service"
        wants.symlink_to("/etc/systemd/system/kojid.service")
        said = f"[Service]\nStandardOutput=append:{self.log}\nStandardError=inherit\n"
        for name, text in {"nodes": drop_in(), "log": said}.items():
            (own / f"{name}.conf").write_text(text)

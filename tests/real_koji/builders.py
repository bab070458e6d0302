# SPDX-License-Identifier: GPL-2.0-or-later
"""Koji's builders: kojid in a mount, pid and uts namespace, set up as docs/koji.md says.

Each has its own /etc, /var/lib and /usr/bin, laid over this machine's: the user kojibuilder, the
group mock, /etc/mock and what is at /usr/bin/mock. The network is this machine's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.real_koji import programs
from tests.waiting import wait_for

UID = 59990  # kojibuilder's, which no distribution gives away
_CONF = """\
[kojid]
server = {server}
topurl = {topurl}
topdir = {top}
{login}
workdir = {place}/work
minspace = 1024
maxjobs = {maxjobs}
sleeptime = 2
retry_interval = 3
max_retries = 1000
allowed_scms = *:*:no:touch,fetched
pluginpath = {koji}/plugins/builder
plugins = runroot
"""
_SETUP = """\
set -e
hostname "$1"; place=$2; shift 2
for pair in etc:/etc lib:/var/lib; do
    layer=$place/${pair%%:*}; over=${pair#*:}
    mkdir -p "$layer" "$layer.work"
    mount -t overlay -o "lowerdir=$over,upperdir=$layer,workdir=$layer.work" koji-builder "$over"
done
mount -t overlay -o "ro,lowerdir=$place/bin:/usr/bin" koji-builder /usr/bin
sed -i '/^kojibuilder:/d' /etc/passwd
echo "kojibuilder:x:@UID:@UID::/builddir:/bin/bash" >>/etc/passwd
sed -i '/^mock:/d' /etc/group
echo "mock:x:@UID:kojibuilder" >>/etc/group
rm -rf /etc/mock
[ -d "$place/lib/mock" ] || rm -rf /var/lib/mock  # this machine's own
cp -a "$place/etc-mock" /etc/mock
install -d -o kojibuilder -g mock /etc/mock/koji
mkdir -p /etc/rpm /etc/kojid/plugins
# Debian's rpm has its database in the home directory: kojid and mock would find no package.
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
install -d -g mock -m 2775 /var/lib/mock
# kojid takes no task where the load is above four for each processor. A builder does not have the
# load of its nodes, which here are on one machine with it; so it has more processors.
echo 0-63 >"$place/online"
mount --bind "$place/online" /sys/devices/system/cpu/online
exec "$@"
""".replace("@UID", str(UID))
# kojid is started again when it ends, and its tasks outlive it. It is not the first process of the
# namespace, which would take them along.
_KEEP = """\
while :; do
    "$@" & echo $! >"$0"; wait $! || :
    sleep 1
done
"""


@dataclass(frozen=True)
class Setup:
    """What all builders have in common. `mock` is the program that goes to /usr/bin/mock."""

    server: str
    topurl: str
    top: Path
    python: Path
    etc_mock: Path
    mock: Path
    path: str
    """Where kojibuilder finds the command mock-cloud."""


@dataclass
class Builder:
    name: str
    place: Path
    setup: Setup
    maxjobs: int = 4
    login: str = ""
    """Of kojid.conf; by a password without it."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.place / "kojid.log"

    @property
    def conf(self) -> Path:
        return self.place / "kojid.conf"

    def start(self) -> None:
        """Returns once kojid was started; see `log` for what became of it."""
        self._write()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._namespaces(),
                 "sh", "-c", _SETUP, "sh", self.name, str(self.place), *self._first()],
                cwd="/",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
                     "PYTHONPATH": str(programs.checkout()), "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )  # fmt: skip
        wait_for(self._children)
        wait_for(self.runs)

    def runs(self) -> bool:
        """Whether kojid was started."""
        return self._running.exists()

    @property
    def _running(self) -> Path:
        return self.place / "kojid.pid"

    @property
    def _kojid(self) -> list[str]:
        return [str(self.setup.python / "bin/python"), str(programs.checkout() / "builder/kojid")]

    def _namespaces(self) -> list[str]:
        return ["unshare", "--mount", "--propagation", "private", "--pid", "--fork",
                "--kill-child", "--uts", "--mount-proc"]  # fmt: skip

    def _first(self) -> list[str]:
        """The namespace's first process."""
        kojid = [*self._kojid, "-c", str(self.conf), "-f", "-v", "--force-lock"]
        return ["sh", "-c", _KEEP, str(self._running), *kojid]

    def _write(self) -> None:
        """What the namespace is laid over with."""
        self._running.unlink(missing_ok=True)
        for name in ("bin", "work"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        setup = self.setup
        if not (self.place / "etc-mock").exists():
            shutil.copytree(setup.etc_mock, self.place / "etc-mock", symlinks=True)
            for remote in (self.place / "etc-mock/remotes.d").glob("*.toml"):
                os.chown(remote, UID, UID)
        shutil.copy2(setup.mock, self.place / "bin/mock")
        self.conf.write_text(
            _CONF.format(
                server=setup.server, topurl=setup.topurl, top=setup.top,
                login=self.login or f"user = {self.name}\npassword = kojid",
                place=self.place, maxjobs=self.maxjobs, koji=programs.checkout(),
            )
        )  # fmt: skip

    def first_process(self) -> int:
        """This machine's number of the namespace's first process."""
        return int(self._children()[0])

    def _children(self) -> list[str]:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        pid = self._process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def enter(self, *argv: str, user: str = "kojibuilder") -> subprocess.CompletedProcess[str]:
        """Run a command in the namespace, as root does it for a user."""
        who = ["runuser", "-u", user, "--"] if user != "root" else []
        namespace = ["nsenter", "-t", str(self.first_process()), "-m", "-p", "-u"]
        path = f"PATH={self.setup.path}:/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.run(
            [*namespace, *who, "env", "-i", path, "LANG=C.UTF-8", "HOME=/builddir", *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def stop(self) -> None:
        """End everything in the namespace; nodes are to be given back beforehand."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # and by --kill-child the namespace
            process.wait()

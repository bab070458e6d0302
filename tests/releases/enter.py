# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs commands inside of a tree as on a machine of its own, but for the kernel and the network.

Mount, pid, ipc and uts namespaces; /proc, /dev, /run and /tmp of the tree's own. All that was
started ends with the first process, and that ends with its caller (unshare's --kill-child).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

# pivot_root and not chroot: after chroot alone, a mount namespace made inside of the tree cannot
# change its root's propagation (mount_namespaces(7)).
_SETUP = r"""
set -e
root=$1; shift
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount --rbind /sys sys
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
for name in null zero full random urandom tty; do
    cp -a "/dev/$name" dev/
done
for name in kvm fuse loop-control net; do
    [ ! -e "/dev/$name" ] || cp -a "/dev/$name" dev/
done
# Loop devices: the devtmpfs of this machine makes them as they are wanted.
for number in $(seq 0 31); do
    mknod -m 660 dev/loop$number b 7 $number
done
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
while [ "$1" != -- ]; do
    mkdir -p "$1" "$2"
    mount --bind "$1" "$2"
    shift 2
done
shift
mkdir -p mnt
pivot_root . mnt
umount -l /mnt
cd "$1"; shift
exec "$@"
"""


def start(
    root: Path,
    argv: list[str],
    *,
    output: IO[bytes] | int,
    directory: str = "/root",
    binds: Mapping[Path, str] | None = None,
    environment: Mapping[str, str] | None = None,
    dies_with_caller: bool = False,
) -> subprocess.Popen[bytes]:
    """A process of `argv` in the tree `root`, in its `directory`; needs root.

    `binds` are directories of this machine and where the tree has them; both are made. The
    environment is a login's, and `environment`. `dies_with_caller`: with the thread that calls
    this, which is to be the main one (prctl(2), PR_SET_PDEATHSIG).
    """
    pairs = [
        word for here, there in (binds or {}).items() for word in (str(here), there.lstrip("/"))
    ]
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        **(environment or {}),
    }
    namespaces = ["--mount", "--propagation", "private", "--pid", "--ipc", "--uts", "--fork"]
    return subprocess.Popen(
        [
            *(("setpriv", "--pdeathsig", "KILL") if dies_with_caller else ()),
            "unshare",
            *namespaces,
            "--kill-child",
            "sh",
            "-c",
            _SETUP,
            "sh",
            str(root),
            *pairs,
            "--",
            directory,
            *argv,
        ],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=env,
    )


@dataclass(frozen=True)
class System:
    """A tree, in which each command is entered anew, in `directory`; its output goes to `log`."""

    root: Path
    directory: str
    log: Path
    binds: Mapping[Path, str] = field(default_factory=dict)

    def run(self, command: str) -> str:
        """The output of root's shell command; AssertionError with it where the command fails."""
        with self.log.open("w+b") as output:
            process = start(
                self.root,
                ["sh", "-ec", command],
                output=output,
                directory=self.directory,
                binds=self.binds,
            )
            status = process.wait()
            output.seek(0)
            text = output.read().decode(errors="replace")
        assert status == 0, f"{command}: exit status {status}\n{text[-4000:]}"
        return text

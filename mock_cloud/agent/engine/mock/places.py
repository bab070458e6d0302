# SPDX-License-Identifier: GPL-2.0-or-later
"""Where mock finds the parts of its job: the same paths in every job, in mounts of its own.

The build user must reach them, and W, where they lie, is closed to all but root. And what mock
writes into chroots and caches (the URL of a local repository, say) does not depend on the job.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Final

from mock_cloud.agent.engine import syscalls
from mock_cloud.agent.engine.chroot import MOCK_LIBDIR

HERE: Final = "/run/mock-cloud"
"""What stands for the job's directory in the words and the configuration."""

CONFIG: Final = f"{HERE}/etc"
CACHE: Final = f"{HERE}/cache"
COPYOUT: Final = f"{HERE}/copyout"
HOME: Final = f"{HERE}/home"
INPUTS: Final = f"{HERE}/inputs"
KIT: Final = f"{HERE}/kit"
LOCAL_REPOSITORY: Final = f"{HERE}/chain"
RESULTS: Final = f"{HERE}/results"

_ACCOUNTS: Final = ("passwd", "group")
# mock asks what the node's package manager is, and rpm does not read without writing beside it.
_PACKAGE_DATABASES: Final = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
# mock copies it into its bootstrap chroot, and its package makes sure that it is there. The keys
# that count came with the request.
_KEYS: Final = "/usr/share/distribution-gpg-keys"


def results_of(mode: str, chroot_name: str) -> str:
    """Where mock puts results; a chain's local repository has a place for each chroot's."""
    if mode == "chain":
        return os.path.join(LOCAL_REPOSITORY, "results", chroot_name)
    return RESULTS


@dataclass(frozen=True, slots=True)
class Places:
    """The directories of one job as the node has them; `mount` shows them to mock.

    `top` appears as `HERE`, `results` at `shown_results` below it; `chroots` and `cache` go in
    place of /var/lib/mock and of mock's cache. `top`/private has the passwd and group to use.
    """

    top: str
    results: str
    shown_results: str
    chroots: str
    cache: str

    def inside(self, shown: str) -> str:
        """The node's path of what mock sees at `shown`, `HERE` or below."""
        return os.path.join(self.top, os.path.relpath(shown, HERE))

    def prepare(self) -> None:
        """Make what `mount` mounts on. OSError."""
        for shown in (CONFIG, CACHE, COPYOUT, HOME, INPUTS, self.shown_results):
            os.makedirs(self.inside(shown), mode=0o755, exist_ok=True)
        os.makedirs(self.inside(f"{HERE}/private"), exist_ok=True)
        os.makedirs(HERE, mode=0o755, exist_ok=True)

    def mount(self) -> None:
        """In a forked child: a mount namespace in which everything is where mock looks. OSError."""
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.make_private()
        syscalls.bind(self.top, HERE)
        syscalls.bind(self.results, self.shown_results)
        syscalls.bind(self.cache, CACHE)
        for name in _ACCOUNTS:
            syscalls.bind(f"{HERE}/private/{name}", f"/etc/{name}")
        for path in _PACKAGE_DATABASES:
            if os.path.isdir(path) and not os.path.islink(path):
                _overlay(path, f"{HERE}/private")
        if not os.path.isdir(_KEYS):
            _overlay(os.path.dirname(_KEYS), f"{HERE}/private")
            with contextlib.suppress(OSError):
                os.mkdir(_KEYS)
        # Last: the chroots lie there themselves.
        syscalls.bind(self.chroots, MOCK_LIBDIR)


def _overlay(path: str, scratch: str) -> None:
    """Make `path` writable for us: what is written goes to `scratch`."""
    upper, work = (os.path.join(scratch, f"{path.replace('/', '_')}.{name}") for name in "uw")
    os.mkdir(upper)
    os.mkdir(work)
    options = f"lowerdir={path},upperdir={upper},workdir={work}"
    with contextlib.suppress(OSError):  # mock says itself what it misses
        syscalls.mount("overlay", path, "overlay", 0, options)

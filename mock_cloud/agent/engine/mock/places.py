# SPDX-License-Identifier: GPL-2.0-or-later
"""Where mock finds the parts of its job: the same paths in every job, in mounts of its own.

The build user must reach them, and W, where they lie, is closed to all but root. And what mock
writes into chroots and caches (the URL of a local repository, say) does not depend on the job.
"""

from __future__ import annotations

import os
from typing import Final

from mock_cloud.agent.engine import jail
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import MOCK_LIBDIR, RPMDB_DIRS

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
START: Final = f"{HERE}/start.py"

_ACCOUNTS: Final = ("passwd", "group")
# mock asks what the node's package manager is, and rpm does not read without writing beside it.
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
    """The directories of one job as the node has them; `tree` shows them to mock.

    `top` appears as `HERE`, `results` at `shown_results` below it; `chroots` and `cache` go in
    place of /var/lib/mock and of mock's cache. What is written to the cache goes to
    `written_cache`, if that is not empty. `top`/private has the passwd and group to use. `joined`
    is the root of the chroot that another job made, as mock sees it, if there is one. `kit` has
    mock's own code, if that was sent.
    """

    top: str
    results: str
    shown_results: str
    chroots: str
    cache: str
    written_cache: str
    joined: str = ""
    kit: str = ""

    def inside(self, shown: str) -> str:
        """The node's path of what mock sees at `shown`, `HERE` or below."""
        return os.path.join(self.top, os.path.relpath(shown, HERE))

    def prepare(self) -> None:
        """Make what `tree` shows. OSError."""
        for shown in (CONFIG, CACHE, COPYOUT, HOME, INPUTS, self.shown_results):
            os.makedirs(self.inside(shown), mode=0o755, exist_ok=True)
        os.makedirs(self.inside(f"{HERE}/private"), exist_ok=True)

    def tree(self) -> jail.NodeTree:
        """Everything where mock looks, and nothing else of the node."""
        shown = [
            jail.Shown(self.top, HERE, writable=True),
            jail.Shown(self.results, self.shown_results, writable=True),
            jail.Shown(self.chroots, MOCK_LIBDIR, writable=True),
        ]
        if self.kit:
            os.makedirs(self.inside(KIT), exist_ok=True)
            shown.append(jail.Shown(self.kit, KIT))
        shown += [
            jail.Shown(self.inside(f"{HERE}/private/{name}"), f"/etc/{name}") for name in _ACCOUNTS
        ]
        changed = [path for path in RPMDB_DIRS if _is_plain_directory(path)]
        if not os.path.isdir(_KEYS):
            changed.append(os.path.dirname(_KEYS))
        overlaid = [jail.Overlaid(path, path, self._scratch(path)) for path in changed]
        if not os.path.isdir(_KEYS):  # its parent is the last of these
            os.makedirs(os.path.join(overlaid[-1].upper, os.path.basename(_KEYS)), exist_ok=True)
        if self.written_cache:
            overlaid.append(jail.Overlaid(self.cache, CACHE, self.written_cache))
        else:
            shown.append(jail.Shown(self.cache, CACHE, writable=True))
        joined = (self.joined,) if self.joined else ()
        return jail.NodeTree(tuple(shown), tuple(overlaid), chroots=joined)

    def _scratch(self, path: str) -> str:
        scratch = self.inside(f"{HERE}/private/{path.replace('/', '_')}")
        os.makedirs(scratch, exist_ok=True)
        return scratch


def _is_plain_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)

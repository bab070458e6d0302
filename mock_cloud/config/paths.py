# SPDX-License-Identifier: GPL-2.0-or-later
"""Where mock would put things on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mock_cloud import places
from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.overrides import expand_percent
from mock_cloud.config.values import read_text
from mock_cloud.errors import ConfigError
from mock_cloud.file_owner import may_write
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import MOCK_LIBDIR

COPY_MARK: Final = ".mock-cloud-copy"
"""In a chroot's tree here: the chroot is on a node, and this is the copy of a part of it."""


@dataclass(frozen=True, slots=True)
class Paths:
    """`root` is the chroot's name with `--uniqueext`; the rest are absolute paths.

    `basedir` is BASEDIR/ROOT, `rootdir` the chroot's tree, `resultdir` where packages and
    logs go (with --chain: see `chain_results`). `is_users_own`: mock's default resultdir is not for
    this user to write to, and `resultdir` is one of the user's in its place.
    """

    root: str
    basedir: Path
    rootdir: Path
    resultdir: Path
    is_users_own: bool = False

    @property
    def results_go_with_chroot(self) -> bool:
        """Whether results are emptied and cleaned with the chroot, as in mock's own directory."""
        return self.is_users_own or self.basedir in self.resultdir.parents


def locate_paths(opts: ConfigOpts) -> Paths:
    """The paths after `apply_command_line`. ConfigError for a root that is not a plain name."""
    root = read_text(opts, "root")
    if not root or root.startswith(".") or "/" in root or "\0" in root or "\n" in root:
        raise ConfigError(f"config_opts['root'] {root!r} is not a directory name")
    basedir = Path(read_text(opts, "basedir")).absolute() / root
    resultdir = Path(expand_percent(read_text(opts, "resultdir"), opts)).absolute()
    is_default = resultdir == Path(MOCK_LIBDIR) / root / "result"
    is_users_own = is_default and not _may_write(resultdir)
    if is_users_own:
        resultdir = users_results() / root / "result"
    return Paths(
        root, basedir, Path(read_text(opts, "rootdir")).absolute(), resultdir, is_users_own
    )


def users_results() -> Path:
    """Where this user's results go if mock's directory is not for them to write to.

    Under sudo it is the user who called it: root's process writes results with that user's rights.
    """
    return places.results_home() / "mock-cloud/results"


def describe_default_results() -> str:
    """Where results go without --resultdir, and why there."""
    if _may_write(Path(MOCK_LIBDIR)):
        return f"{MOCK_LIBDIR}/CHROOT/result, as mock's"
    return f"{users_results()}/CHROOT/result, since {MOCK_LIBDIR} is not yours to write to"


def _may_write(path: Path) -> bool:
    """Whether this user may write to the directory, or make it."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    return may_write(place)


def chain_results(localrepo: Path, opts: ConfigOpts) -> Path:
    """The directory under `localrepo` where --chain keeps one directory a package."""
    return localrepo.absolute() / "results" / read_text(opts, "chroot_name")

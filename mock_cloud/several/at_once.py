# SPDX-License-Identifier: GPL-2.0-or-later
"""``--jobs N``: the source packages of one command, built on up to N nodes at once.

Each is a build of its own, with a directory of its own below the resultdir: logs that grow,
verdict, provenance. When it has ended, what mock would have left in the resultdir is there as well.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.paths import locate_paths
from mock_cloud.config.values import read_flag
from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError, MockCloudError
from mock_cloud.exit_status import Stopped
from mock_cloud.invocation.hostfiles import host_inputs
from mock_cloud.invocation.model import CommandLine
from mock_cloud.results.own_directory import OwnDirectory
from mock_cloud.results.resultdir import ResultDir
from mock_cloud.several.children import Children
from mock_cloud.steps.check.fetching import fetched
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.job_request import LIVE_LOGS

BuildPackage = Callable[[CommandLine, Console], int]
"""What the command would do, if it were this one; mock's exit code."""

_TOGETHER: Final = {
    "post_install": "--postinstall installs all packages together",
    "createrepo_on_rpms": "createrepo_on_rpms makes one repository of all packages",
}


@dataclass(slots=True)
class _Package:
    """One of the command's source packages; `code` once its build has ended."""

    name: str
    line: CommandLine
    place: OwnDirectory
    began_s: float = 0.0
    code: int | None = None


def build_several(
    line: CommandLine, opts: ConfigOpts, max_nodes: int, build_one: BuildPackage, console: Console
) -> int:
    """Build the packages of `line`; mock's exit code, as if they were built one after the other.

    1. All are looked at, before any is built. 2. They begin in their order, as many at once as
    nodes may be had. 3. When one fails, no other begins; those at work go on. 4. The exit code is
    that of the first in their order that failed. A signal is passed on to all.

    Raises what `host_inputs` does; ResultDirError, Stopped.
    """
    check_together(opts)
    with fetched(line, console) as here:
        host_inputs(here)
        check_twins(here.args)
        top = locate_paths(opts).resultdir
        with ResultDir.open(top) as resultdir:
            resultdir.check_logs(sorted(LIVE_LOGS))
        packages = list(_packages(here, top))
        at_once = min(line.jobs, max_nodes, len(packages))
        console.info(f"{len(packages)} packages, on up to {at_once} nodes at once")
        _build_all(packages, at_once, build_one, console, line.verbose)
    return _summarise(packages, console)


def check_together(opts: ConfigOpts) -> None:
    """CommandLineError for what is about all packages, or about one chroot."""
    for name, why in _TOGETHER.items():
        if read_flag(opts, name):
            _refuse(why)
    if not read_flag(opts, "clean", True):
        _refuse("without a clean chroot for each they are built in one, one after the other")


def check_twins(words: Sequence[str]) -> None:
    """CommandLineError where two packages would have one directory."""
    for number, word in enumerate(words):
        if Path(word).name in (Path(other).name for other in words[:number]):
            _refuse(f"{Path(word).name} is named twice")


def _refuse(why: str) -> NoReturn:
    raise CommandLineError(f"--jobs: {why}", hint="leave out --jobs")


def _packages(line: CommandLine, top: Path) -> Iterable[_Package]:
    """The last one's chroot has the name that the chroot has after mock."""
    for number, word in enumerate(line.args, 1):
        name = Path(word).name.removesuffix(".src.rpm")
        is_last = number == len(line.args)
        own = replace(
            line,
            args=(word,),
            jobs=1,
            resultdir=str(top / name),
            uniqueext=line.uniqueext if is_last else f"{line.uniqueext or 'job'}-{number}",
        )
        yield _Package(name, own, OwnDirectory(top / name))


def _build_all(
    packages: list[_Package], at_once: int, build_one: BuildPackage, console: Console, verbose: int
) -> None:
    waiting, by_name = deque(packages), {one.name: one for one in packages}
    with closing(Children(console, verbose)) as children:
        try:
            while waiting or children:
                while waiting and len(children) < at_once:
                    package = waiting.popleft()
                    package.began_s = time.monotonic()
                    children.start(package.name, _act(build_one, package.line))
                for name, code in children.wait():
                    _end(by_name[name], code, console)
                    if code:
                        waiting.clear()
        except Stopped as stopped:
            for name, code in children.stop(stopped):
                _end(by_name[name], code, console)
            raise


def _act(build_one: BuildPackage, line: CommandLine) -> Callable[[Console], int]:
    return lambda console: build_one(line, console)


def _end(package: _Package, code: int, console: Console) -> None:
    """Put what it left into the resultdir. What fails there fails the package."""
    package.code = code
    try:
        package.place.publish()
    except MockCloudError as error:
        console.failure(error)
        package.code = code or error.exit_code
    took = int(time.monotonic() - package.began_s)
    spent = f"after {took // 60} minutes {took % 60} seconds"
    if package.code:
        console.error(f"{package.name}: exit status {package.code} {spent}")
    else:
        console.info(f"{package.name}: built {spent}")


def _summarise(packages: list[_Package], console: Console) -> int:
    failed = [one for one in packages if one.code]
    left = [one.name for one in packages if one.code is None]
    built = len(packages) - len(failed) - len(left)
    console.info(f"{built} of {len(packages)} packages were built")
    if left:
        console.error(f"not begun, since another one failed: {', '.join(left)}")
    return next((one.code for one in failed if one.code), 0)

# SPDX-License-Identifier: GPL-2.0-or-later
"""``mock --chain``: packages built one after the other, each against those before it.

The results directory is the local repository: a directory a package, named after its source
package, and `repodata`, as mock lays it out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from mock_cloud.agent.engine import jail, processes
from mock_cloud.agent.engine.buildroot import Buildroot
from mock_cloud.agent.engine.context import Job, remove_earlier, remove_links
from mock_cloud.agent.engine.errors import (
    ConfigurationError,
    EngineError,
    NoSpace,
    NotExecutable,
    PackageManagerError,
)

REPOSITORY_ID: Final = "local_build_repo"
_PARTLY_BUILT: Final = 4
_CREATEREPO: Final = ("createrepo_c", "-d", "-q", "-x", "*.src.rpm")


BuildOne = Callable[[str, str], None]
"""Builds the source package at a path on the node into a directory. EngineError."""


def perform_chain(job: Job, buildroot: Buildroot, build_one: BuildOne) -> int:
    """Build the request's packages in order; 0, or 4 if some failed."""
    _place_earlier(job, job.results)
    try:
        return _perform(job, buildroot, build_one)
    finally:
        remove_earlier(job.results)


def offer_earlier(job: Job, buildroot: Buildroot) -> None:
    """For a build of one of a chain's packages: what the request has of others, as a chain has it.

    The chroot is made before, so that nothing of theirs is in a layer that others use. Among inputs
    dnf sees it.
    """
    buildroot.init()
    repository = os.path.join(job.directory, "inputs", "repository")
    os.makedirs(repository, mode=0o755, exist_ok=True)
    _place_earlier(job, repository)
    _create_repository(job, repository)
    buildroot.packages.extra_conf = _local_repository(repository)


def _perform(job: Job, buildroot: Buildroot, build_one: BuildOne) -> int:
    logs = job.logs
    repository = job.results
    buildroot.init()
    logs.info(f"results dir: {job.shown_results}")
    buildroot.packages.extra_conf = _local_repository(repository)
    _create_repository(job, repository)
    built: list[str] = []
    skipped: list[str] = []
    pending = list(job.request.args)
    tries = 0
    while True:
        tries += 1
        failed = _round(job, build_one, pending, built, skipped)
        if not failed or not job.request.chain_recurse:
            break
        if len(failed) == len(pending):
            logs.info(f"Tried {tries} times - following pkgs could not be successfully built:")
            for name in failed:
                logs.info(job.shown(name))
            break
        logs.info("Some package succeeded, some failed.")
        logs.info(f"Trying to rebuild {len(failed)} failed pkgs, because --recurse is set.")
        pending = failed
    _summarise(job, built, skipped, failed=bool(failed))
    return _PARTLY_BUILT if failed else 0


def _round(
    job: Job,
    build_one: BuildOne,
    names: Sequence[str],
    built: list[str],
    skipped: list[str],
) -> list[str]:
    """One pass over `names`; those that failed. The others are added to `built` or `skipped`."""
    failed: list[str] = []
    for name in names:
        if failed and not job.request.chain_continue and not job.request.chain_recurse:
            job.logs.error(
                "Stopping the --chain build because --continue isn't specified and the package"
                f" '{job.shown(failed[0])}' failed to build"
            )
            break
        if not name.endswith(".rpm"):
            job.logs.error(f"{name} doesn't appear to be an rpm - skipping")
            failed.append(name)
            continue
        job.logs.info(f"Start chain build: {job.shown(name)}")
        done = os.path.exists(os.path.join(_results_of(job, name), "success"))
        if not done:
            _open_logs(job, name)
        job.logs.announce(again=True)
        built_now = not done and _build(job, build_one, name)
        job.logs.info(f"End chain build: {job.shown(name)}")
        if done:
            job.logs.info(f"Skipping already built pkg {name}")
            skipped.append(name)
        elif built_now:
            _note_success(job, name)
            built.append(name)
        else:
            _note_failure(job, name)
            failed.append(name)
    return failed


def _open_logs(job: Job, name: str) -> None:
    results = _results_of(job, name)
    if os.path.isdir(results):
        remove_links(results)  # else the new package would be written to the old one's file
    job.logs.open(results, job.logs.version)


def _build(job: Job, build_one: BuildOne, name: str) -> bool:
    try:
        build_one(job.take_input(job.find_input(name)), _results_of(job, name))
    except NoSpace:
        raise
    except EngineError as error:
        job.logs.error(error.message)
        return False
    return True


def _note_success(job: Job, name: str) -> None:
    job.logs.info(f"Success building {name}")
    _touch(os.path.join(_results_of(job, name), "success"))
    _create_repository(job, job.results)


def _note_failure(job: Job, name: str) -> None:
    job.logs.info(f"Error building {name}.")
    if job.request.chain_recurse:
        job.logs.info("Will try to build again (if some other package will succeed).")
    else:
        job.logs.info(f"See logs/results in {job.shown_results}")
        _touch(os.path.join(_results_of(job, name), "fail"))


def _results_of(job: Job, name: str) -> str:
    return os.path.join(job.results, name.replace(".src.rpm", ""))


def _summarise(job: Job, built: Sequence[str], skipped: Sequence[str], *, failed: bool) -> None:
    logs = job.logs
    logs.info(f"Results out to: {job.shown_results}")
    if skipped:
        logs.info(f"Packages skipped: {len(skipped)}")
        for name in skipped:
            logs.info(job.shown(name))
    logs.info(f"Packages built: {len(built)}")
    if built:
        some = "Some packages" if failed else "Packages"
        logs.info(f"{some} successfully built in this order:")
        for name in built:
            logs.info(job.shown(name))


def _place_earlier(job: Job, repository: str) -> None:
    """Put what earlier chains built into the repository, as links: not among the results."""
    for item in job.inputs_of("built"):
        kept = os.path.join(job.directory, "inputs", "built", item.directory)
        path = job.take_input(item, kept)
        place = os.path.join(repository, item.directory)
        os.makedirs(place, mode=0o755, exist_ok=True)
        os.symlink(path, os.path.join(place, item.name))


def _local_repository(directory: str) -> str:
    """The section mock adds to dnf.conf for its local repository."""
    options = {
        "name": f"file://{directory}",
        "baseurl": f"file://{directory}",
        "enabled": "1",
        "skip_if_unavailable": "0",
        "metadata_expire": "0",
        "gpgcheck": "0",
        "cost": "1",
        "best": "1",
        "module_hotfixes": "true",
    }
    lines = "".join(f"{name}={value}\n" for name, value in options.items())
    return f"\n\n[{REPOSITORY_ID}]\n{lines}"


def _create_repository(job: Job, directory: str) -> None:
    """Of what is in `directory`; packages of earlier chains are links to the job's inputs."""
    inputs = os.path.join(job.directory, "inputs")
    shown = (jail.Shown(inputs, inputs), jail.Shown(directory, directory, writable=True))
    argv = [*_CREATEREPO]
    if os.path.exists(os.path.join(directory, "repodata", "repomd.xml")):
        argv.append("--update")
    argv.append(directory)
    try:
        code, output = processes.capture(argv, processes.Place(jail.NodeTree(shown)))
    except NotExecutable as error:
        raise ConfigurationError("the node has no createrepo_c, which --chain needs") from error
    if code != 0:
        text = output.decode(errors="replace")
        raise PackageManagerError(f"Command failed: \n # {processes.pretty(argv)}\n{text}")


def _touch(path: str) -> None:
    with open(path, "ab"):
        pass

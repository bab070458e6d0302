# SPDX-License-Identifier: GPL-2.0-or-later
"""mock's modes, as `mock.py`'s run_command has them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from mock_cloud.agent.engine import build, chain, files, interactive
from mock_cloud.agent.engine.buildroot import Buildroot
from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.engine.errors import Cancelled, EngineError, ModeUsageError
from mock_cloud.wire.rpmfile import read_package, requirements
from mock_cloud.wire.rpmheader import HeaderError

_VERSION: Final = "0.1.0"
_QUIET_MODES: Final = ("shell",)
_SCRUBBED: Final = {
    "all": "everything",
    "dnf-cache": "yum-cache and dnf-cache",
    "yum-cache": "yum-cache and dnf-cache",
}


def perform_mode(job: Job, buildroot: Buildroot) -> int:
    """Do what the request's mode says; mock's exit code. Raises EngineError."""
    mode = _MODES[job.request.mode]
    if job.request.mode not in _QUIET_MODES:
        job.logs.open(job.results, _VERSION)
    with job.logs.state("run"):
        buildroot.open()
        try:
            return mode(job, buildroot)
        except EngineError as error:
            # Of a wrong use mock says so and finishes. A child process raises a plain EngineError.
            if error.exit_code != ModeUsageError.exit_code:
                raise
            job.logs.critical(error.message)
            return error.exit_code


def _init(job: Job, buildroot: Buildroot) -> int:
    if job.config.clean:
        _clean_chroot(job, buildroot)
    buildroot.init()
    return 0


def _clean(job: Job, buildroot: Buildroot) -> int:
    _clean_chroot(job, buildroot)
    return 0


def _clean_chroot(job: Job, buildroot: Buildroot) -> None:
    with job.logs.state("clean chroot"):
        buildroot.delete()


def _scrub(job: Job, buildroot: Buildroot) -> int:
    what = job.request.args
    caches = ("all", "cache", "root-cache")
    with job.logs.state(f"scrub {what}"):
        for name in what:
            shown = _SCRUBBED.get(name, name)
            job.logs.info(f"scrubbing {shown} for {job.config.chroot_name}")
            if name in ("all", "chroot"):
                buildroot.delete()
            if name in caches:
                buildroot.remove_layers()
            if name in ("all", "cache", "dnf-cache", "yum-cache"):
                buildroot.packages.cache.remove()
            # c-cache and bootstrap: this engine has neither, so they are clean
    return 0


def _timed(
    job: Job,
    buildroot: Buildroot,
    items: Sequence[str],
    step: Callable[[str], object],
    *,
    clean: bool = True,
    post: Callable[[], None] = lambda: None,
) -> None:
    """mock's rebuild_generic: clean, init and `step` for each item, and the messages around.

    Without `clean` the chroot is left as it is, whatever the configuration says. `post` comes
    last, and its failure is that of the last item.
    """
    config, logs = job.config, job.logs
    start = time.monotonic()
    item = ""
    try:
        for item in items:
            logs.info(f"Start({job.shown(item)})  Config({config.root})")
            if config.clean and clean:
                _clean_chroot(job, buildroot)
            buildroot.init(
                prebuild=not config.short_circuit, requirements=_expected_requirements(item)
            )
            step(item)
            took = _minutes(start)
            logs.info(f"Done({job.shown(item)}) Config({config.chroot_name}) {took}")
            _say_where(job)
        if config.cleanup_on_success:
            logs.info("Cleaning up build root ('cleanup_on_success=True')")
            _clean_chroot(job, buildroot)
        post()
    except (EngineError, OSError) as error:
        if isinstance(error, Cancelled) and error.keep_chroot:
            raise
        logs.error(f"Exception({job.shown(item)}) Config({config.root}) {_minutes(start)}")
        _say_where(job)
        if config.cleanup_on_failure:
            logs.info("Cleaning up build root ('cleanup_on_failure=True')")
            _clean_chroot(job, buildroot)
        raise


def _say_where(job: Job) -> None:
    """Of a chain, the package's own directory."""
    directory = job.logs.directory
    where = job.shown_results if directory == job.results else job.shown(directory)
    job.logs.info(f"Results and/or logs in: {where}")


def _expected_requirements(path: str) -> list[str]:
    """What a source package's own header asks for; its rebuilt one mostly asks the same."""
    try:
        return requirements(read_package(path))
    except HeaderError:
        return []


def _minutes(start: float) -> str:
    took = int(time.monotonic() - start)
    return f"{took // 60} minutes {took % 60} seconds"


def _rebuild(job: Job, buildroot: Buildroot) -> int:
    packages = [job.take_input(job.find_input(name)) for name in job.request.args]
    spec = job.take_input(job.find_input(job.request.spec)) if job.request.spec else ""
    made_here = not packages and bool(spec)
    if made_here:
        packages, spec = [_source_package(job, buildroot)], ""
    if not packages:
        raise ModeUsageError("No package specified to rebuild command.")
    if len(packages) > 1 and spec:
        raise ModeUsageError("--spec argument only supported with single srpm.")
    clean = not made_here
    if job.inputs_of("built"):
        chain.offer_earlier(job, buildroot)
    _build_packages(job, buildroot, packages, job.results, [], spec=spec, clean=clean)
    return 0


def _build_packages(
    job: Job,
    buildroot: Buildroot,
    packages: Sequence[str],
    results: str,
    built: list[str],
    *,
    spec: str = "",
    clean: bool = True,
) -> None:
    """Build source packages on the node; paths of what was made are added to `built`.

    Then ``--postinstall`` is honoured, for all in `built`: of a chain, what it made before too.
    """
    build.check_source_packages(packages)

    def step(path: str) -> None:
        names = build.PackageBuild(job, buildroot, results).rebuild(path, spec)
        built.extend(os.path.join(results, name) for name in names)

    def post() -> None:
        _install_built(job, buildroot, built)

    _timed(job, buildroot, packages, step, clean=clean, post=post)


def _install_built(job: Job, buildroot: Buildroot, built: Sequence[str]) -> None:
    """``--postinstall``: prove that what was built can be installed."""
    if not job.config.post_install:
        return
    was_clean = not buildroot.chroot.is_mounted
    if was_clean:
        buildroot.init()
    job.logs.info("Installing built packages")
    paths = [path for path in built if not path.endswith("src.rpm")]
    job.logs.info(f"installing package(s): {' '.join(map(job.shown, paths))}")
    try:
        buildroot.run_packages(["install", *paths])
    except EngineError:
        job.logs.error("Installation of built packages failed")
        raise
    if was_clean and job.config.cleanup_on_success:
        job.logs.info("Cleaning up build root ('cleanup_on_success=True')")
        _clean_chroot(job, buildroot)


def _source_package(job: Job, buildroot: Buildroot) -> str:
    """Make the source package of --spec and --sources; its path among the results."""
    if not job.request.spec:
        raise ModeUsageError("You must specify a spec file with --spec")
    spec = job.take_input(job.find_input(job.request.spec))
    sources = [*job.inputs_of("sources"), *job.inputs_of("source")]
    made: list[str] = []

    def step(path: str) -> None:
        packaging = build.PackageBuild(job, buildroot, job.results)
        made.append(packaging.source_package(path, sources))

    _timed(job, buildroot, [spec], step)
    return made[0]


def _buildsrpm(job: Job, buildroot: Buildroot) -> int:
    _source_package(job, buildroot)
    return 0


def _installdeps(job: Job, buildroot: Buildroot) -> int:
    if not job.request.args:
        raise ModeUsageError("You must specify an SRPM file with --installdeps")
    buildroot.init()
    paths = [job.take_input(job.find_input(name)) for name in job.request.args]
    build.check_source_packages(
        [path for path in paths if not path.endswith(".spec")], plain_too=True
    )
    extras = build.PackageBuild(job, buildroot, job.results).additional_packages()
    if extras:
        buildroot.run_packages(["install", *extras])
    buildroot.run_packages(["builddep", *paths])
    return 0


def _package_words(job: Job) -> list[str]:
    """Package arguments, where a name of an input stands for that file."""
    inputs = {item.name: item for item in job.inputs_of("package")}
    return [job.take_input(inputs[word]) if word in inputs else word for word in job.request.args]


def _install(job: Job, buildroot: Buildroot) -> int:
    if not job.request.args:
        raise ModeUsageError("You must specify a package list to install.")
    buildroot.init()
    words = _package_words(job)
    job.logs.info(f"installing package(s): {' '.join(job.request.args)}")
    buildroot.run_packages(["install", *words])
    return 0


def _remove(job: Job, buildroot: Buildroot) -> int:
    if not job.request.args:
        raise ModeUsageError("You must specify a package list to remove.")
    buildroot.init()
    job.logs.info(f"removing package(s): {' '.join(job.request.args)}")
    buildroot.run_packages(["remove", *job.request.args])
    return 0


def _update(job: Job, buildroot: Buildroot) -> int:
    buildroot.init()
    verb = "upgrade" if buildroot.packages.name == "dnf5" else "update"
    buildroot.run_packages([verb, *job.request.args])
    return 0


def _chain(job: Job, buildroot: Buildroot) -> int:
    if not job.request.args:
        raise ModeUsageError("You must specify an SRPM file with --chain")
    built: list[str] = []

    def build_one(package: str, results: str) -> None:
        _build_packages(job, buildroot, [package], results, built)

    return chain.perform_chain(job, buildroot, build_one)


def _shell(job: Job, buildroot: Buildroot) -> int:
    buildroot.init()
    return interactive.shell(job, buildroot)


def _chroot(job: Job, buildroot: Buildroot) -> int:
    if not job.request.args:
        raise ModeUsageError("You must specify a command to run with --chroot")
    buildroot.init()
    return interactive.chroot(job, buildroot)


def _copyin(job: Job, buildroot: Buildroot) -> int:
    buildroot.init()
    files.copy_in(job, buildroot)
    return 0


def _copyout(job: Job, buildroot: Buildroot) -> int:
    buildroot.init()
    files.copy_out(job, buildroot)
    return 0


_MODES: Final[dict[str, Callable[[Job, Buildroot], int]]] = {
    "init": _init,
    "clean": _clean,
    "scrub": _scrub,
    "rebuild": _rebuild,
    "buildsrpm": _buildsrpm,
    "chain": _chain,
    "installdeps": _installdeps,
    "install": _install,
    "remove": _remove,
    "update": _update,
    "shell": _shell,
    "chroot": _chroot,
    "copyin": _copyin,
    "copyout": _copyout,
}

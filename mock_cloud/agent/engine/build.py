# SPDX-License-Identifier: GPL-2.0-or-later
"""One source package built in the chroot: the steps of mock's `backend.build`.

1. the source package is installed in the build user's tree and rebuilt (``-bs``);
2. its BuildRequires are installed; 1 and 2 repeat until the set of packages is stable;
3. with dynamic BuildRequires, ``-br`` and their installation until that is stable too;
4. ``-bb`` (or ``-ba --noprep`` after 3), and the packages are copied out.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
from collections.abc import Sequence
from typing import Final

from mock_cloud.agent.engine import origins, outside, processes
from mock_cloud.agent.engine.buildroot import Buildroot
from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.engine.errors import (
    BuildError,
    ChrootCommandFailed,
    EngineError,
    PackageError,
    Unsupported,
)
from mock_cloud.agent.engine.space import SpaceWatch
from mock_cloud.wire import rpmfile, tree_unpack
from mock_cloud.wire.chroot_packages import CHROOT_PACKAGES, ChrootPackage, ChrootPackages
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.job_request import Input
from mock_cloud.wire.rpmheader import Header, HeaderError, Tag
from mock_cloud.wire.tree_archive import Reader
from mock_cloud.wire.tree_unpack import Unpacker

_NEEDS_MORE: Final = 11  # rpmbuild -br: BuildRequires are missing
_DYNAMIC: Final = "rpmlib(DynamicBuildRequires)"
_PACKAGE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~^%{}-]*")
"""What rpmbuild accepts in name, version and release (rpm's build/parsePreamble.c)."""
_SHORT_CIRCUIT: Final = {"prep": "-bp", "install": "-bi", "build": "-bc", "binary": "-bb"}


class PackageBuild:
    """Builds one source package in an initialised `buildroot`; results go to `results`."""

    def __init__(self, job: Job, buildroot: Buildroot, results: str) -> None:
        self._job = job
        self._root = buildroot
        self._config = job.config
        self._logs = job.logs
        self._results = results
        self._topdir = os.path.join(job.config.chroothome, "build")
        self._installed_logged = False
        self._space = SpaceWatch((buildroot.chroot.base, job.workspace))

    # whole builds

    def rebuild(self, srpm: str, spec: str = "") -> list[str]:
        """Build the source package at `srpm`, with the spec file at `spec` instead of its own.

        Both are paths on the node. Returns the names of the packages in the results directory.
        """
        name = os.path.basename(srpm)
        with self._logs.state(f"build phase for {name}"):
            with self._logs.state(f"build setup for {name}"):
                inside = self._copy_in(srpm, "originals")
                self._install_source(inside)
                if spec:
                    spec_path = self._copy_in(spec, "originals")
                else:
                    spec_path = os.path.join(self._topdir, "SPECS", _spec_name(srpm))
                dynamic = self._install_static_requirements(spec_path, srpm)
            with self._logs.state(f"rpmbuild {name}"):
                self._build_packages(spec_path, srpm, dynamic=dynamic)
            names = self._copy_results()
            if not names and not self._config.short_circuit:
                raise PackageError("No build results found")
        return names

    def source_package(self, spec: str, sources: Sequence[Input]) -> str:
        """mock's ``--buildsrpm``: a source package of the spec file and `sources`, in results."""
        with self._logs.state("buildsrpm"):
            spec_path = self._copy_in(spec, "SPECS")
            for source in sources:
                self._unpack_sources(source)
            with self._logs.state("rpmbuild -bs"):
                rebuilt = self._rebuild_source(spec_path)
            return outside.copy_file_out(self._root.chroot.root, rebuilt, self._results)

    # steps

    def _copy_in(self, source: str, directory: str) -> str:
        """Copy a file of the node into the build tree, as the build user; its path inside."""
        target = os.path.join(self._topdir, directory, os.path.basename(source))
        with open(source, "rb") as reader:

            def copy() -> bytes:
                with open(target, "wb") as writer:
                    shutil.copyfileobj(reader, writer, 1 << 20)
                os.chmod(target, 0o644)
                return b""

            processes.call(self._root.builder(networking=True), copy)
        return target

    def _unpack_sources(self, item: Input) -> None:
        """Files as they were given, but the build user's. A whole directory takes SOURCES' place.

        By root in the chroot: the blobs are no one else's to read.
        """
        owner = (self._config.chrootuid, self._config.chrootgid)
        archive = self._job.take_input(item)
        with open(archive, "rb") as stream, self._job.blobs() as read_blob:
            unpacker = Unpacker(
                replace=True,
                mode_mask=0o7777,
                directory_bits=0,
                owners=(owner,),
                read_blob=read_blob,
            )

            def unpack() -> bytes:
                top = os.open(self._topdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                if item.role == "sources":
                    tree_unpack.remove(top, "SOURCES")
                with tree_unpack.below(top, ["SOURCES"]) as directory:
                    os.fchown(directory, *owner)
                    unpacker.unpack(Reader(stream), directory)
                return b""

            processes.call(processes.Place(root=self._root.chroot.root), unpack)

    def _install_source(self, inside: str) -> None:
        argv = ["/bin/rpm", "-Uvh", "--nodeps", inside]
        code, output = processes.capture(argv, self._root.builder())
        if code != 0:
            self._space.raise_if_full()
            text = output.decode(errors="replace")
            raise PackageError(f"Source RPM is not installable:\n{text}")

    def _install_static_requirements(self, spec_path: str, srpm: str) -> bool:
        """Whether the package has dynamic BuildRequires too."""
        extras = self._extras(srpm)
        dynamic = False
        for _ in range(max(1, self._config.static_buildrequires_max_loops)):
            rebuilt = self._rebuild_source(spec_path)
            copy = outside.copy_file_out(self._root.chroot.root, rebuilt, self._scratch())
            self._refuse_external(_requirements(copy))
            dynamic = _DYNAMIC in " ".join(_requirements(copy, internal=True))
            if dynamic and not self._config.dynamic_buildrequires:
                raise EngineError(
                    "DynamicBuildRequires are found but support is disabled."
                    ' See "dynamic_buildrequires" in config_opts.'
                )
            changed = self._root.install_dependencies(_requirements(copy), extras, copy)
            os.unlink(copy)
            if not changed:
                break
        return dynamic

    def _refuse_external(self, requirements: list[str]) -> None:
        """Requirements that name packages of PyPI or crates.io, which mock fetches from there."""
        found = [text for text in requirements if text.startswith("external:")]
        if found and not self._config.external_buildrequires:
            raise EngineError(
                "ExternalBuildRequires are found but support is disabled."
                ' See "external_buildrequires" in config_opts.'
            )
        if found:
            raise Unsupported(
                f"BuildRequires: {found[0]} is not supported by the chroot engine: it installs"
                " from the repositories only. Use the mock engine"
            )

    def _extras(self, srpm: str) -> list[str]:
        """Packages wanted besides the BuildRequires: ``--additional-package``, more_buildreqs."""
        return [*self.additional_packages(), *self._more_buildreqs(srpm)]

    def additional_packages(self) -> list[str]:
        """``--additional-package`` words; one that names an input becomes its path."""
        inputs = {item.name: item for item in self._job.inputs_of("package")}
        return [
            self._job.take_input(inputs[word]) if word in inputs else word
            for word in self._config.additional_packages
        ]

    def _more_buildreqs(self, srpm: str) -> list[str]:
        if not self._config.more_buildreqs:
            return []
        header = _read_package(srpm)
        name, version, release = (
            header.string(tag) or "" for tag in (Tag.NAME, Tag.VERSION, Tag.RELEASE)
        )
        for key in (f"{name}-{version}-{release}", f"{name}-{version}", name):
            if key in self._config.more_buildreqs:
                return sorted(set(self._config.more_buildreqs[key]))
        return []

    def _rebuild_source(self, spec_path: str) -> str:
        """``rpmbuild -bs``; the path inside the chroot of the one source package it made."""
        command = (
            f"{self._rpmbuild} -bs {self._noclean} --target {self._config.rpmbuild_arch}"
            f" --nodeps {spec_path}"
        )
        self._check(command)
        found = self._list("SRPMS", "*src.rpm")
        if len(found) != 1:
            where = self._root.chroot.path(os.path.join(self._topdir, "SRPMS/*src.rpm"))
            raise PackageError(
                f"Expected to find single rebuilt srpm, found {len(found)} in {where}"
            )
        return found[0]

    def _build_packages(self, spec_path: str, srpm: str, *, dynamic: bool) -> None:
        config = self._config
        mode = ["-bb"]
        if config.short_circuit:
            mode = [_SHORT_CIRCUIT[config.short_circuit], "--short-circuit"]
        if dynamic:
            self._install_dynamic_requirements(spec_path, srpm)
            mode = [*(mode if config.short_circuit else ["-ba"]), "--noprep"]
        self._log_installed()
        self._check(self._build_command(mode, spec_path))

    def _install_dynamic_requirements(self, spec_path: str, srpm: str) -> None:
        mode = ["-br"]
        for _ in range(max(1, self._config.dynamic_buildrequires_max_loops)):
            command = self._build_command(mode, spec_path)
            code = self._run(command)
            if code not in (0, _NEEDS_MORE):
                self._space.raise_if_full()
                raise BuildError(f"Command failed: \n # {_shown(command)}\n")
            self._logs.build_line("Dynamic buildrequires detected")
            self._logs.build_line(
                "Going to install missing buildrequires. See root.log for details."
            )
            self._logs.info("Going to install missing dynamic buildrequires")
            if not self._install_generated(srpm):
                break
            mode = ["-br", "--noprep"]

    def _install_generated(self, srpm: str) -> bool:
        """Install what ``-br`` found; False if the set of packages did not change."""
        changed = False
        for path in self._list("SRPMS", "*.buildreqs.nosrc.rpm"):
            copy = outside.copy_file_out(self._root.chroot.root, path, self._scratch())
            requirements = _requirements(copy)
            if self._root.install_dependencies(requirements, self._extras(srpm), copy):
                changed = True
            os.unlink(copy)
            self._unlink(path)
        return changed

    def _build_command(self, mode: Sequence[str], spec_path: str) -> str:
        config = self._config
        # Not --nocheck: mock's own way, which old rpmbuilds know as well.
        check = [] if config.check else ["--define", "'__spec_check_template exit 0; '"]
        options = [config.rpmbuild_opts] if config.rpmbuild_opts else []
        words = [self._rpmbuild, *mode, self._noclean, "--target", config.rpmbuild_arch]
        return " ".join([*words, "--nodeps", *check, spec_path, *options])

    @property
    def _rpmbuild(self) -> str:
        return self._config.rpmbuild_command or "/usr/bin/rpmbuild"

    @property
    def _noclean(self) -> str:
        return "" if self._config.cleanup_on_success else "--noclean"

    # running

    def _check(self, command: str) -> None:
        """Run rpmbuild; like mock, its status becomes the exit code."""
        code = self._run(command)
        if code != 0:
            self._space.raise_if_full()
            raise ChrootCommandFailed(f"Command failed: \n # {_shown(command)}\n", code)

    def _run(self, command: str) -> int:
        argv = ["bash", "--login", "-c", command]
        place = self._root.builder()
        environment = dict(place.environment)
        self._logs.build_line(f"Executing command: {argv} with env {environment} and shell False")

        sink, finish = self._logs.build_sink()

        def take(data: bytes) -> None:
            self._space.look(data)
            sink(data)

        timeout_s = float(self._config.rpmbuild_timeout)
        try:
            code = processes.run_command(argv, place, take, timeout_s=timeout_s)
        finally:
            finish()
        self._logs.build_line(f"Child return code was: {code}")
        return code

    # files

    def _list(self, directory: str, pattern: str) -> list[str]:
        """Paths inside the chroot of the build tree's files that match, by name."""
        path = os.path.join(self._topdir, directory)
        names = outside.list_files(self._root.chroot.root, path)
        return [os.path.join(path, name) for name in names if fnmatch.fnmatchcase(name, pattern)]

    def _unlink(self, inside: str) -> None:
        def unlink() -> bytes:
            os.unlink(inside)
            return b""

        processes.call(self._root.builder(networking=True), unlink)

    def _copy_results(self) -> list[str]:
        self._logs.debug("Copying packages to result dir")
        names = []
        found = (*self._list("RPMS", "*.rpm"), *self._list("SRPMS", "*.rpm"))
        for path in found:
            if not _PACKAGE_NAME.fullmatch(os.path.basename(path)):
                raise PackageError(f"The build left a file that no package is called: {path!a}")
        for path in found:
            outside.copy_file_out(self._root.chroot.root, path, self._results)
            names.append(os.path.basename(path))
        return names

    def _log_installed(self) -> None:
        """The packages of the chroot, once those for the build are complete: before it runs there.

        installed_pkgs.log, as mock writes it, and what the provenance says of them.
        """
        if self._installed_logged:
            return
        self._installed_logged = True
        installed = self._root.installed()
        repositories = origins.find_repositories(self._root.chroot.root)
        described = ChrootPackages(tuple(
            ChrootPackage(one.nevra, one.buildtime, one.header, one.sigmd5,
                          repositories.get(origins.plain_nevra(one.nevra), ""))
            for one in installed
        ))  # fmt: skip
        with open(os.path.join(self._results, CHROOT_PACKAGES), "wb") as stream:
            stream.write(to_json(described))
        if not self._config.installed_pkgs:
            return
        with self._logs.state("Outputting list of installed packages"):
            path = os.path.join(self._results, "installed_pkgs.log")
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as text:
                text.write("".join(package.log_line for package in installed))

    def _scratch(self) -> str:
        path = os.path.join(self._job.directory, "inputs")
        os.makedirs(path, exist_ok=True)
        return path


def check_source_packages(paths: Sequence[str], *, plain_too: bool = False) -> None:
    """EngineError, in mock's words, for the first file that is not a source package."""
    for path in paths:
        try:
            header = rpmfile.read_package(path)
        except (HeaderError, OSError) as error:
            raise EngineError(f"Cannot find/open srpm: {path}. Error: {error}") from error
        if not plain_too and not rpmfile.is_source(header):
            raise EngineError(f"File is not an srpm: {path}.")


def _read_package(path: str) -> Header:
    try:
        return rpmfile.read_package(path)
    except HeaderError as error:  # the build may have written it
        raise PackageError(f"{os.path.basename(path)} is damaged: {error}") from error


def _requirements(path: str, *, internal: bool = False) -> list[str]:
    return rpmfile.requirements(_read_package(path), internal=internal)


def _spec_name(srpm: str) -> str:
    names = rpmfile.spec_names(_read_package(srpm))
    if not names:
        raise PackageError(f"No specfile found in srpm: {os.path.basename(srpm)}")
    return os.path.basename(names[0])


def _shown(command: str) -> str:
    return processes.pretty(["bash", "--login", "-c", command])

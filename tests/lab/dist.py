# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the lab's RPM distribution: two releases, signed, with metadata."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from mock_cloud.process import run
from mock_cloud.toolkit.machines import find_machine
from tests.lab import debian, debs, foreign, generations, keys, own, seeds
from tests.lab.convert import Converter
from tests.lab.layout import RELEASES, Lab, code_digest, stamp_matches
from tests.lab.prepare import is_debian
from tests.lab.rpmspec import Package, spec_text, stage

_MODULES = (
    *("convert", "debian", "debs", "dist", "keys", "own", "rpmspec", "seeds"),
    "generations",
    *("cloudpackages", "clouds/guest/dmidecode", "clouds/guest/init", "clouds/guest/shutdown"),
)
_BOOTABLE_MODULES = (
    *("bootable/packages", "bootable/seeds", "bootable/macros/macros.cmake"),
    *("bootable/macros/macros.python", "bootable/macros/macros.systemd"),
)
SOURCE_DATE_EPOCH = 1_700_000_000
_RPMBUILD_TIMEOUT_S = 300.0
_DEFINES = {
    "_binary_payload": "w1.zstdio",  # speed before size: both ends are this machine
    "_binary_filedigest_algorithm": "8",
    "_buildhost": "lab.invalid",
    "_build_id_links": "none",
    "_binaries_in_noarch_packages_terminate_build": "0",
    "_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
    "__check_files": "%{nil}",
    "debug_package": "%{nil}",
    "use_source_date_epoch_as_buildtime": "1",
    "source_date_epoch_from_changelog": "0",
    "vendor": "Lab",
}


def build_rpm(package: Package, work: Path, out: Path, arch: str) -> Path:
    """One rpmbuild run; returns the unsigned RPM in `out`. `work` is used and emptied."""
    top = work / f"{package.name}-{package.release}"
    root = top / "root"
    stage(package.entries, root, SOURCE_DATE_EPOCH)
    spec = top / "package.spec"
    spec.write_text(spec_text(package))
    argv = ["rpmbuild", "-bb", "--quiet", "--nodeps", "--noclean", "--buildroot", str(root)]
    argv += ["--target", f"{arch}-linux"]
    for name, value in {**_DEFINES, "_topdir": str(top), "_rpmdir": str(out)}.items():
        argv += ["--define", f"{name} {value}"]
    epoch = {"SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH)}
    run([*argv, str(spec)], timeout_s=_RPMBUILD_TIMEOUT_S, extra_env=epoch)
    shutil.rmtree(top)
    return out / package.file_name


def _makers(
    closure: debian.Closure, scratch: Path, lab: Lab
) -> list[tuple[int, Callable[[], Package]]]:
    """(first release it is in, how to make it) for every package of both releases."""
    converter = Converter(closure, machine=lab.arch, scratch=scratch, has_systemd=lab.has_systemd)
    makers: list[tuple[int, Callable[[], Package]]] = [
        (1, lambda package=package: package)  # type: ignore[misc]
        for package in generations.of(lab).own(lab.arch)
    ]
    for number in RELEASES:
        names = closure.packages if number == 1 else seeds.RENEWED
        makers.append((number, lambda number=number: own.release(number)))  # type: ignore[misc]
        for name in names:
            makers.append(
                (number, lambda name=name, number=number: converter.convert(name, number))  # type: ignore[misc]
            )
    return makers


def input_key(closure: debian.Closure, lab: Lab) -> str:
    """What the distribution's content depends on, as one hex digest."""
    modules = (*_MODULES, "foreign") if lab.is_foreign else _MODULES
    modules = (*modules, *_BOOTABLE_MODULES) if lab.has_systemd else modules
    names = "\n".join(package.identity for package in closure.packages.values())
    return hashlib.sha256(f"{names}\n{code_digest(modules)}".encode()).hexdigest()


def build(lab: Lab) -> bool:
    """Make `lab.dist` unless it is there for the same inputs; returns whether it was made.

    The old distribution is replaced only by a complete new one.
    """
    if not is_debian():
        from tests.lab import fedora  # another family of machines, its own packages

        return fedora.build(lab)
    closure = choose(lab, generations.of(lab).seeds)
    key = input_key(closure, lab)
    if stamp_matches(lab.dist / "key", key):
        return False
    keys.ensure_keys(lab)
    shutil.rmtree(lab.work, ignore_errors=True)
    fresh = lab.work / "dist"
    for number in RELEASES:
        (fresh / str(number)).mkdir(parents=True)
    _pack(closure, lab, fresh)
    for number in RELEASES:
        index(fresh / str(number), build_group(lab))
    for key_file in keys.package_keys(lab):
        shutil.copyfile(key_file, fresh / key_file.name)
    (fresh / "key").write_text(key)
    retired = lab.work / "retired"
    if lab.dist.exists():
        lab.dist.rename(retired)
    fresh.rename(lab.dist)
    shutil.rmtree(lab.work)
    return True


def choose(lab: Lab, wanted: tuple[str, ...]) -> debian.Closure:
    """The Debian packages `wanted`, and all that they need."""
    return debian.close(
        _packages(lab),
        wanted,
        left_out=seeds.NOT_PACKED,
        not_required=seeds.NOT_REQUIRED,
        also_required=seeds.ALSO_REQUIRED,
        fetch=None if lab.is_foreign else lambda name: debs.fetch(lab, (name,)),
    )


def _packages(lab: Lab) -> dict[str, debian.DebianPackage]:
    """Debian's packages to choose from, by name."""
    if lab.is_foreign:
        return foreign.fetch(lab)
    return debian.installed(find_machine(lab.arch).debian) | debs.fetch(
        lab, generations.of(lab).fetched
    )


def build_group(lab: Lab) -> tuple[str, ...]:
    """What a buildroot is made of."""
    return (*seeds.BUILD_GROUP, *([foreign.EMULATOR] if lab.is_foreign else []))


def _pack(closure: debian.Closure, lab: Lab, fresh: Path) -> None:
    scratch = lab.work / "build"
    debs.unpack(lab, closure.packages)
    makers = _makers(closure, lab.work / "pristine", lab)
    if lab.is_foreign:
        makers.append((1, lambda: foreign.emulator(lab.arch)))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        packages = list(pool.map(lambda pair: (pair[0], pair[1]()), makers))
        provided = {name for _, package in packages for name in package.provides}
        futures = [
            (
                number,
                pool.submit(
                    build_rpm,
                    without_absent_sonames(package, provided),
                    scratch,
                    fresh / str(number),
                    lab.arch,
                ),
            )
            for number, package in packages
        ]
        made = [(number, future.result()) for number, future in futures]
    keys.sign_all(lab, [path for _, path in made])
    renewed = {*seeds.RENEWED, "lab-release"}
    for number, path in made:
        if number == 1 and path.name.rsplit("-", 2)[0] not in renewed:
            os.link(path, fresh / "2" / path.name)


def without_absent_sonames(package: Package, provided: set[str]) -> Package:
    """`package` without required sonames that nothing in `provided` is: Debian recommends those."""
    requires = tuple(
        name for name in package.requires if not name.endswith(")(64bit)") or name in provided
    )
    return replace(package, requires=requires)


def index(release: Path, group: Iterable[str]) -> None:
    """comps with the build groups and createrepo_c's metadata for one release's directory."""
    (release / "comps.xml").write_text(own.comps_xml(group))
    argv = ["createrepo_c", "--quiet", "--no-database", "--checksum", "sha256"]
    argv += ["--workers", str(os.cpu_count() or 1), "--groupfile", "comps.xml", str(release)]
    run(argv, timeout_s=300)

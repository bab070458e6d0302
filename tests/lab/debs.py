# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages that the lab packs without this machine having them installed.

An installed cloud-init would configure this machine anew at its next boot.
"""

from __future__ import annotations

import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from mock_cloud.process import CommandFailed, run
from tests.lab.debian import DebianPackage, parse_control
from tests.lab.layout import Lab, LabError


def fetch(lab: Lab, names: tuple[str, ...]) -> dict[str, DebianPackage]:
    """The packages, downloaded by apt unless the lab has them; `content` is not unpacked yet."""
    place = lab.root / "debs"
    place.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in names:
        archive = next(iter(sorted(place.glob(f"{name}_*.deb"))), None)
        if archive is None:
            try:
                run(["apt-get", "-qq", "download", name], timeout_s=300, cwd=place)
            except CommandFailed as error:
                raise LabError(
                    f"{name} cannot be fetched: {error}", hint="as root: apt-get update"
                ) from error
            (archive,) = place.glob(f"{name}_*.deb")
        found[name] = read(lab, archive)
    return found


def read(lab: Lab, archive: Path) -> DebianPackage:
    """What a package that lies in the lab says of itself; `content` is not unpacked yet."""
    text = run(["dpkg-deb", "-f", str(archive)], timeout_s=60).decode()
    package = parse_control(text)
    package = replace(package, content=lab.work / "fetched" / package.name)
    data = run(["dpkg-deb", "--ctrl-tarfile", str(archive)], timeout_s=60)
    with tarfile.open(fileobj=BytesIO(data)) as control:
        names = [name for name in control.getnames() if name.endswith("/conffiles")]
        stream = control.extractfile(names[0]) if names else None
        conffiles = stream.read().decode().split() if stream else []
    return replace(package, conffiles=tuple((path, "") for path in conffiles))


def unpack(lab: Lab, packages: dict[str, DebianPackage]) -> None:
    """Give every fetched package of `packages` its content, compiled as its scripts would."""
    for package in packages.values():
        if package.content is None:
            continue
        (archive,) = (lab.root / "debs").glob(f"{package.name}_*.deb")
        package.content.mkdir(parents=True)
        run(["dpkg-deb", "-x", str(archive), str(package.content)], timeout_s=300)
        for modules in sorted((package.content / "usr/lib").glob("python3*")):
            # Not this interpreter: the one that the distribution is packed from.
            compile_all = ["/usr/bin/python3", "-m", "compileall", "-q", "-s"]
            run([*compile_all, str(package.content), "-p", "/", str(modules)], timeout_s=300)

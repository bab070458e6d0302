# SPDX-License-Identifier: GPL-2.0-or-later
"""Real upstream sources, fetched through the machine's own package sources."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mock_cloud.process import CommandFailed, run
from tests.lab.layout import Lab, LabError
from tests.lab.prepare import is_debian

_APT = Path("/etc/apt")
_TIMEOUT_S = 300.0


def _codename() -> str:
    match = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.M)
    if match is None:
        raise LabError(
            "no VERSION_CODENAME in /etc/os-release", hint="the lab wants a release of Debian"
        )
    return match[1]


def _source_stanzas(text: str, codename: str) -> Iterator[str]:
    """Stanzas of a deb822 .sources file that name Debian itself, turned to deb-src."""
    for stanza in re.split(r"\n\s*\n", text):
        suites = re.search(r"^Suites:(.*)$", stanza, re.M)
        if suites and codename in suites[1].split():
            narrowed = re.sub(r"^Types:.*$", "Types: deb-src", stanza, flags=re.M)
            yield re.sub(r"^Suites:.*$", f"Suites: {codename}", narrowed, flags=re.M)


def _source_lines(text: str, codename: str) -> Iterator[str]:
    """The same for one-line sources."""
    for line in text.splitlines():
        match = re.match(r"deb\s+((?:\[[^\]]*\]\s+)?\S+)\s+(\S+)\s+(.*)", line)
        if match and match[2] == codename:
            yield f"deb-src {match[1]} {match[2]} {match[3]}"


def _write_sources(parts: Path) -> None:
    codename = _codename()
    stanzas: list[str] = []
    lines: list[str] = []
    for place in sorted((*_APT.glob("sources.list"), *_APT.glob("sources.list.d/*"))):
        if place.suffix == ".sources":
            stanzas += _source_stanzas(place.read_text(), codename)
        elif place.suffix == ".list":
            lines += _source_lines(place.read_text(), codename)
    if not stanzas and not lines:
        raise LabError(f"no apt source of {codename} on this machine")
    (parts / "lab.sources").write_text("\n\n".join(stanzas) + "\n")
    (parts / "lab.list").write_text("\n".join(lines) + "\n")


def _from_source_package(package: str, directory: Path) -> Path:
    """The upstream tarball out of the distribution's own source RPM, as dnf verified it."""
    argv = ["dnf", "-q", "-y", "download", "--source", f"--destdir={directory}", package]
    try:
        run(argv, timeout_s=_TIMEOUT_S)
        (archive,) = directory.glob(f"{package}-*.src.rpm")
        places = [f"--define={name} {directory}" for name in ("_sourcedir", "_specdir")]
        run(["rpm", "-i", *places, str(archive)], timeout_s=60)
        tarball = next(directory.glob(f"{package}-*.tar.*"))
    except (CommandFailed, ValueError, StopIteration) as error:
        raise LabError(
            f"cannot fetch the source of {package}: {error}",
            hint="the machine's repositories must offer its source package, and be reachable",
        ) from error
    match = re.fullmatch(rf"{package}-([\d.]+)\.(tar\.\w+)", tarball.name)
    if match is None:
        raise LabError(f"no version in {tarball.name}")
    return tarball.rename(directory / f"{package}_{match[1]}.orig.{match[2]}")


def _from_debian_source(package: str, top: Path) -> Path:
    """The upstream tarball of a Debian source package; apt's own lists stay as they are."""
    for name in ("parts", "lists/partial", "cache/archives/partial", "download"):
        (top / name).mkdir(parents=True)
    _write_sources(top / "parts")
    options = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": f"{top}/parts",
        "Dir::State::Lists": f"{top}/lists",
        "Dir::Cache": f"{top}/cache",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq"]
    for name, value in options.items():
        apt += ["-o", f"{name}={value}"]
    try:
        run([*apt, "update"], timeout_s=_TIMEOUT_S)
        # What Debian adds is not wanted, and need not be there.
        fetch = [*apt, "--download-only", "--only-source", "--tar-only", "source", package]
        run(fetch, timeout_s=_TIMEOUT_S, cwd=top / "download")
    except CommandFailed as error:
        raise LabError(
            f"cannot fetch the source of {package}: {error}",
            hint="the machine's apt sources must offer deb-src, and be reachable",
        ) from error
    (tarball,) = (
        place
        for place in (top / "download").glob(f"{package}_*.orig.tar.*")
        if place.suffix != ".asc"
    )
    return tarball


def orig_tarball(lab: Lab, package: str) -> Path:
    """The upstream tarball of the distribution's source package, as apt or dnf verified it; cached.

    The machine's own apt configuration and lists stay as they are. Raises `LabError` if the
    sources cannot be had.
    """
    kept = lab.root / "upstream"
    kept.mkdir(parents=True, exist_ok=True)
    found = sorted(kept.glob(f"{package}_*.orig.tar.*"))
    if found:
        return found[0]
    with tempfile.TemporaryDirectory(prefix="lab-source-") as directory:
        fetch = _from_debian_source if is_debian() else _from_source_package
        tarball = fetch(package, Path(directory))
        partial = kept / f".{tarball.name}"
        shutil.copyfile(tarball, partial)
        return partial.rename(kept / tarball.name)


def sdist(lab: Lab, project: str, version: str) -> Path:
    """The source distribution of a Python project, as pip fetches it; cached.

    Raises `LabError` if it cannot be had.
    """
    kept = lab.root / "upstream"
    kept.mkdir(parents=True, exist_ok=True)
    name = f"{project}-{version}.tar.gz"
    if not (kept / name).is_file():
        with tempfile.TemporaryDirectory(prefix=".pip-", dir=kept) as directory:
            argv = [sys.executable, "-m", "pip", "-q", "download", "--no-deps", "--no-binary"]
            try:
                run(
                    [*argv, project, "-d", directory, f"{project}=={version}"],
                    timeout_s=_TIMEOUT_S,
                    extra_env={key: os.environ[key] for key in os.environ if key[:4] == "PIP_"},
                )
            except CommandFailed as error:
                raise LabError(f"cannot fetch the source of {project}: {error}") from error
            (Path(directory) / name).rename(kept / name)
    return kept / name

# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages that peers take from elsewhere, made here under the same names."""

from __future__ import annotations

import shutil
from pathlib import Path

from mock_cloud.process import run
from tests.integration.real_mock import find_source
from tests.lab import keys, srpm
from tests.lab.layout import Lab
from tests.lab.srpm import Recipe
from tests.peers.sides import ROOT

__all__ = ["ROOT", "add_repository", "make"]

_NOARCH = "BuildArch: noarch\n"

_REPOSITORY = '''
# As Fedora's redhat-rpm-config: a package without a program has an empty debuginfo.
config_opts["macros"]["%_empty_manifest_terminate_build"] = "0"
# Of a bootstrap chroot: the lab's packages have Debian's names.
config_opts["dnf_install_command"] = "install dnf dnf-plugins-core rpm"
config_opts["dnf.conf"] += """
[peers]
name=What peers install
baseurl={url}
gpgkey=file://{key}
skip_if_unavailable=False
"""
'''


def add_repository(lab: Lab, chroot: Path, url: str) -> None:
    """Add the repository at `url` to a chroot's configuration file."""
    with chroot.open("a") as stream:
        stream.write(_REPOSITORY.format(url=url, key=lab.package_key))


def make(lab: Lab, place: Path) -> None:
    """Source packages in `place`, and the repository `place`/repo of two binary ones."""
    place.mkdir()
    for recipe in _sources():
        shutil.copy(srpm.build(lab, recipe), place)
    for name in ("ccache", "always-installable", "rpmlint"):
        recipe = _binary(name)
        _build(recipe, place / "repo")
    # Else nothing that is installed in the chroot would be trusted, and no cache be kept.
    keys.sign(lab, sorted((place / "repo").rglob("*.rpm")))
    run(["createrepo_c", "--quiet", str(place / "repo")], timeout_s=60)


def _sources() -> list[Recipe]:
    """What mock's integration tests download, by what they are used for there."""
    suite = find_source()[0].parent.parent / "integration-tests"
    daemon = srpm.toy(
        "daemontest",
        preamble="BuildRequires: gcc\n",
        build="gcc -o daemontest %{SOURCE0}",
        install="install -D daemontest %{buildroot}%{_bindir}/daemontest",
        check="./daemontest",
        files="%{_bindir}/daemontest",
        rest="%post\n%{_bindir}/daemontest\n",
        sources={"daemontest.c": suite / "daemontest.c"},
    )
    generated = srpm.toy(
        "python-copr", preamble=_NOARCH, rest="%generate_buildrequires\necho zlib-devel\n"
    )
    dependent = srpm.toy(
        "dep-on-python-copr-999", preamble=_NOARCH + "BuildRequires: python-copr >= 999\n"
    )
    bump = srpm.toy("mock-test-bump-version", preamble=_NOARCH)
    return [
        _version(daemon, "1", "0"),
        _version(generated, "999", "1"),
        _version(dependent, "1", "0"),
        _version(bump, "1", "0"),
        _version(bump, "2", "0"),
        # Instead of mock itself, whose requirements the lab does not have.
        _version(srpm.toy("mock", preamble=_NOARCH), "6.7", "1"),
    ]


def _version(recipe: Recipe, version: str, release: str) -> Recipe:
    spec = recipe.spec.replace("Version: 1\n", f"Version: {version}\n")
    spec = spec.replace("Release: 1%{?dist}\n", f"Release: {release}%{{?dist}}\n")
    return Recipe(recipe.name, spec, recipe.sources)


def _binary(name: str) -> Recipe:
    return srpm.toy(
        name,
        preamble=_NOARCH,
        install=f"mkdir -p %{{buildroot}}%{{_bindir}}\n"
        f"echo '#!/bin/sh' > %{{buildroot}}%{{_bindir}}/{name}\n"
        f"chmod 755 %{{buildroot}}%{{_bindir}}/{name}",
        files=f"%{{_bindir}}/{name}",
    )


def _build(recipe: Recipe, place: Path) -> None:
    """Build a package without architecture with this machine's rpmbuild."""
    place.mkdir(exist_ok=True)
    top = place.parent / f".{recipe.name}"
    top.mkdir()
    (top / "toy.spec").write_text(recipe.spec)
    argv = ["rpmbuild", "-bb", "--quiet", "--nodeps", "--define", f"_topdir {top}"]
    run([*argv, "--define", f"_rpmdir {place}", str(top / "toy.spec")], timeout_s=60)
    shutil.rmtree(top)

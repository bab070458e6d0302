# SPDX-License-Identifier: GPL-2.0-or-later
"""Source packages with the macros that specs of Fedora use, and what rpmbuild makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.lab.bootable import system
from tests.lab.layout import TODAY, Lab
from tests.lab.srpm import Recipe, toy

_PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "toyscale"
version = "1"

[tool.setuptools]
py-modules = ["toyscale"]
"""
_UNIT = """\
[Unit]
Description=A toy that weighs nothing

[Service]
ExecStart=/usr/bin/sleep infinity

[Install]
WantedBy=multi-user.target
"""
# The chroot's own packages are those that mock installs; all are from the lab's repository.
_RPMBUILD = """\
dnf=$1 root=$2 repository=$3 package=$4 out=$5; shift 5
echo '%_dbpath /var/lib/rpm' > "$root/.rpmmacros"  # Debian's rpm 4 has it below the caller's home
HOME=$root $dnf -y -q --installroot "$root" --repofrompath "lab,file://$repository" --repo lab \\
    --setopt=gpgcheck=0 --setopt=install_weak_deps=False --setopt=reposdir=/dev/null \\
    install "$@" >&2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
cp "$package" "$root/package.src.rpm"
chroot "$root" rpm -i --define "_topdir /builddir/build" /package.src.rpm
chroot "$root" sh -ec 'rpmbuild -bb --target x86_64 --define "_topdir /builddir/build" \\
    --define "dist .lab1" /builddir/build/SPECS/*.spec' >&2
cp "$root"/builddir/build/RPMS/*/*.rpm "$out"
"""


@dataclass(frozen=True, slots=True)
class Example:
    """A recipe, and what its build needs besides the group of all builds."""

    recipe: Recipe
    requires: tuple[str, ...]


def python_package() -> Example:
    """A project with a pyproject.toml: dynamic BuildRequires, wheel, list of files."""
    recipe = toy(
        "python-toyscale",
        preamble="BuildArch: noarch\nBuildRequires: python3\nBuildRequires: pyproject-rpm-macros\n",
        rest="%generate_buildrequires\n%pyproject_buildrequires\n\n"
        "%prep\n%setup -c -T\ncp %{SOURCE0} %{SOURCE1} .\n",
        build="%pyproject_wheel",
        # Byte code has the time of its making in it: pip's is removed, and none is written.
        install="%pyproject_install\nrm -r %{buildroot}%{python3_sitelib}/__pycache__\n"
        "%pyproject_save_files toyscale",
        check="PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=%{buildroot}%{python3_sitelib}"
        " %{python3} -c 'import toyscale'",
        files="%{python3_sitelib}/toyscale*",
        sources={"pyproject.toml": _PROJECT.encode(), "toyscale.py": b"WEIGHT_KG = 0\n"},
    )
    macros = ("pyproject-rpm-macros", "python3", "python3dist(pip)", "python3dist(setuptools)")
    return Example(recipe, (*macros, "python3dist(wheel)"))


def unit_package() -> Example:
    """A service with a unit and the scriptlets that systemd's macros make."""
    scriptlets = "".join(
        f"%{when}\n%systemd_{macro} toyd.service\n\n"
        for when, macro in (
            ("post", "post"),
            ("preun", "preun"),
            ("postun", "postun_with_restart"),
        )
    )
    recipe = toy(
        "toyd",
        preamble="BuildArch: noarch\nBuildRequires: systemd-rpm-macros\n%{?systemd_requires}\n",
        rest=scriptlets,
        install="install -D -m 644 %{SOURCE0} %{buildroot}%{_unitdir}/toyd.service",
        files="%{_unitdir}/toyd.service",
        sources={"toyd.service": _UNIT.encode()},
    )
    return Example(recipe, ("systemd-rpm-macros",))


def rpmbuild(lab: Lab, package: Path, requires: tuple[str, ...], place: Path) -> None:
    """Put what rpmbuild alone makes of a source package into `place`, below the lab. LabError.

    In a chroot of the lab's packages, which its dnf makes, on this machine's own kernel, for the
    target that mock names.
    """
    root = place / "root"
    root.mkdir()
    dnf = "dnf5 --use-host-config" if lab.generation == TODAY else "dnf"
    words = [dnf, root, lab.release(1), package, place, "@buildsys-build", *requires]
    system.run(lab, ["sh", "-ec", _RPMBUILD, "sh", *map(str, words)])

# SPDX-License-Identifier: GPL-2.0-or-later
"""Five real upstream packages, with specs of ours; their sources come from where a user has them.

C with autotools, C++, Python with an extension, one without an architecture, and one with
subpackages and debuginfo.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab import srpm, upstream
from tests.lab.layout import Lab, LabError
from tests.lab.srpm import Recipe

_CHANGELOG: Final = """
%changelog
* Tue Nov 14 2023 Lab <lab@lab.invalid> - 1-1
- Packaged for the lab
"""

_LZIP: Final = """\
Name: lzip
Version: {version}
Release: 1%{{?dist}}
Summary: Compresses files with LZMA
License: GPL-2.0-or-later
Source0: {tarball}
BuildRequires: gcc-c++
BuildRequires: make
%description
A compressor in C++.
%prep
%autosetup
%build
./configure --prefix=%{{_prefix}} CXXFLAGS="%{{optflags}} -g"
%make_build
%install
%make_install
%check
make check
%files
%license COPYING
%{{_bindir}}/lzip
%{{_infodir}}/*
%{{_mandir}}/man1/*
"""

_BZIP2: Final = """\
Name: bzip2
Version: {version}
Release: 1%{{?dist}}
Summary: Compresses files by sorting blocks
License: bzip2-1.0.6
Source0: {tarball}
BuildRequires: gcc
BuildRequires: make
BuildRequires: debugedit
BuildRequires: elfutils
BuildRequires: file
Requires: %{{name}}-libs = %{{version}}-%{{release}}
%description
A program that compresses files.
%package libs
Summary: The library
%description libs
The shared library.
%package devel
Summary: Headers of the library
Requires: %{{name}}-libs = %{{version}}-%{{release}}
%description devel
What programs are compiled with.
%package static
Summary: The library for static programs
%description static
The archive.
%prep
%autosetup
%build
make -f Makefile-libbz2_so CFLAGS="%{{optflags}} -g -fPIC"
%make_build libbz2.a bzip2 bzip2recover CFLAGS="%{{optflags}} -g"
%install
install -D -m 755 libbz2.so.%{{version}} %{{buildroot}}%{{_libdir}}/libbz2.so.%{{version}}
ln -s libbz2.so.%{{version}} %{{buildroot}}%{{_libdir}}/libbz2.so.1.0
ln -s libbz2.so.1.0 %{{buildroot}}%{{_libdir}}/libbz2.so
install -D -m 644 libbz2.a %{{buildroot}}%{{_libdir}}/libbz2.a
install -D -m 644 bzlib.h %{{buildroot}}%{{_includedir}}/bzlib.h
install -D -m 755 bzip2 %{{buildroot}}%{{_bindir}}/bzip2
install -D -m 755 bzip2recover %{{buildroot}}%{{_bindir}}/bzip2recover
%check
make test
%files
%license LICENSE
%{{_bindir}}/*
%files libs
%{{_libdir}}/libbz2.so.1*
%files devel
%{{_includedir}}/*
%{{_libdir}}/libbz2.so
%files static
%{{_libdir}}/libbz2.a
"""

_SIX_VERSION: Final = "1.16.0"
_SIX: Final = """\
Name: python-six
Version: {version}
Release: 1%{{?dist}}
Summary: For programs that run with Python 2 and 3
License: MIT
BuildArch: noarch
Source0: {tarball}
BuildRequires: python3-devel
BuildRequires: python3-setuptools
%description
One module, without anything of an architecture.
%prep
%autosetup -n six-%{{version}}
%build
python3 setup.py build
%install
python3 setup.py install --skip-build --root %{{buildroot}} --prefix %{{_prefix}} \\
    --install-lib %{{_prefix}}/lib/python3/dist-packages
%files
%license LICENSE
%{{_prefix}}/lib/python3/dist-packages/*
"""


def _of_debian(lab: Lab, name: str, spec: str) -> Recipe:
    tarball = upstream.orig_tarball(lab, name)
    match = re.fullmatch(rf"{name}_([\d.]+)\.orig\.(tar\.\w+)", tarball.name)
    if match is None:
        raise LabError(f"no version in {tarball.name}")
    file = f"{name}-{match[1]}.{match[2]}"
    return _recipe(name, spec, match[1], file, tarball)


def _six(lab: Lab) -> Recipe:
    tarball = upstream.sdist(lab, "six", _SIX_VERSION)
    return _recipe("python-six", _SIX, _SIX_VERSION, tarball.name, tarball)


def _recipe(name: str, spec: str, version: str, file: str, tarball: Path) -> Recipe:
    text = spec.format(version=version, tarball=file) + _CHANGELOG.replace("1-1", f"{version}-1")
    return Recipe(name, text, {file: tarball})


def _with_changelog(recipe: Recipe) -> Recipe:
    """With the day that SOURCE_DATE_EPOCH is taken from, if the recipe's own spec has none."""
    has_one = "%changelog" in recipe.spec
    return recipe if has_one else Recipe(recipe.name, recipe.spec + _CHANGELOG, recipe.sources)


@dataclass(frozen=True)
class Upstream:
    """A package: what it stands for, what makes its recipe, and parts of its packages' names.

    `make` raises LabError where its source cannot be had.
    """

    kind: str
    make: Callable[[Lab], Recipe]
    leaves: tuple[str, ...]


UPSTREAM: Final[Mapping[str, Upstream]] = {
    "hello": Upstream("C with autotools", srpm.hello, ("hello-debuginfo-",)),
    "lzip": Upstream(
        "C++", lambda lab: _of_debian(lab, "lzip", _LZIP), ("lzip-debuginfo-",)
    ),
    "python-markupsafe": Upstream(
        "Python with an extension", lambda lab: _with_changelog(srpm.markupsafe(lab)),
        ("python-markupsafe-", "python-markupsafe-debuginfo-"),
    ),
    "python-six": Upstream("without an architecture", _six, (".noarch.rpm",)),
    "bzip2": Upstream(
        "subpackages and debuginfo", lambda lab: _of_debian(lab, "bzip2", _BZIP2),
        tuple(f"bzip2-{part}-" for part in ("libs", "devel", "static", "debuginfo")),
    ),
}  # fmt: skip
"""By name."""

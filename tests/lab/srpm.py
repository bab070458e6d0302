# SPDX-License-Identifier: GPL-2.0-or-later
"""Source packages to build: GNU hello, and small ones that each do one thing to a builder."""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mock_cloud.process import run
from tests.lab import upstream
from tests.lab.layout import Lab, LabError

_EPOCH_S = 1_700_000_000
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Recipe:
    """A spec and its sources (file name → a file to copy, or the bytes)."""

    name: str
    spec: str
    sources: Mapping[str, Path | bytes] = field(default_factory=dict)

    def digest(self) -> str:
        total = hashlib.sha256(self.spec.encode())
        for name, source in sorted(self.sources.items()):
            total.update(name.encode() + b"\0")
            total.update(source if isinstance(source, bytes) else source.read_bytes())
        return total.hexdigest()


def build(lab: Lab, recipe: Recipe) -> Path:
    """The recipe's source RPM, made once: the same recipe gives the same file."""
    place = lab.sources / f"{recipe.name}-{recipe.digest()[:12]}"
    found = sorted(place.glob("*.src.rpm"))
    if found:
        return found[0]
    lab.sources.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=lab.sources) as directory:
        top = Path(directory)
        for name, source in recipe.sources.items():
            if isinstance(source, bytes):
                (top / name).write_bytes(source)
            else:
                shutil.copyfile(source, top / name)
        spec = top / f"{recipe.name}.spec"
        spec.write_text(recipe.spec)
        # The payload is stored, not compressed: every source here is compressed or tiny.
        defines = {
            "_topdir": directory,
            "_sourcedir": directory,
            "_srcrpmdir": f"{directory}/out",
            "_source_payload": "w.ufdio",
            "_source_filedigest_algorithm": "8",
            "_buildhost": "lab.invalid",
            "use_source_date_epoch_as_buildtime": "1",
            "source_date_epoch_from_changelog": "0",
        }
        argv = ["rpmbuild", "-bs", "--quiet", "--nodeps", "--undefine", "dist"]
        for key, value in defines.items():
            argv += ["--define", f"{key} {value}"]
        run([*argv, str(spec)], timeout_s=120, extra_env={"SOURCE_DATE_EPOCH": str(_EPOCH_S)})
        place.mkdir(exist_ok=True)
        (made,) = (top / "out").glob("*.src.rpm")
        return made.rename(place / made.name)


def toy(
    name: str,
    *,
    preamble: str = "",
    build: str = "",
    install: str = "",
    check: str = "",
    files: str = "",
    rest: str = "",
    sources: Mapping[str, Path | bytes] | None = None,
) -> Recipe:
    """A recipe out of the bodies of its sections; the empty ones are left out."""
    listed = "".join(f"Source{i}: {source}\n" for i, source in enumerate(sources or {}))
    spec = (
        f"Name: {name}\nVersion: 1\nRelease: 1%{{?dist}}\nSummary: A toy: {name}\n"
        f"License: CC0-1.0\n{listed}{preamble}\n"
        "%global debug_package %{nil}\n\n"
        f"%description\nA package to test builders with.\n\n"
        f"{rest}\n%build\n{build}\n\n"
        f"%install\nmkdir -p %{{buildroot}}%{{_datadir}}/{name}\n"
        f"echo {name} > %{{buildroot}}%{{_datadir}}/{name}/name\n{install}\n\n"
        f"%check\n{check}\n\n"
        f"%files\n%{{_datadir}}/{name}\n{files}\n"
    )
    return Recipe(name, spec, dict(sources or {}))


_TWELVE: Final = {
    1: (), 2: (), 3: (), 4: (1,), 5: (2,), 6: (3,), 7: (), 8: (4, 5), 9: (6,), 10: (7,),
    11: (8, 9), 12: (10, 11),
}  # fmt: skip
"""Which package of a chain needs which; 7 needs what 3 provides under a name that tells nothing."""


def twelve(build: str = "") -> list[Recipe]:
    """A chain of twelve: each is needed by a later one, but for the last."""
    recipes = []
    for number, needs in _TWELVE.items():
        asked = [f"toy-of-twelve-{one:02}" for one in needs] + ["toy-quality"] * (number == 7)
        preamble = "BuildArch: noarch\n" + "".join(f"BuildRequires: {one}\n" for one in asked)
        preamble += "Provides: toy-quality\n" * (number == 3)
        recipes.append(toy(f"toy-of-twelve-{number:02}", preamble=preamble, build=build))
    return recipes


def plain() -> Recipe:
    """Builds at once, needs nothing, no architecture."""
    return toy("toy-plain", preamble="BuildArch: noarch\n")


def native() -> Recipe:
    """A program that a compiler makes, so of the node's architecture."""
    return toy(
        "toy-native",
        preamble="BuildRequires: gcc\n",
        build="echo 'int main(void) { return 0; }' > native.c\ngcc -o toy-native native.c",
        install="install -D toy-native %{buildroot}%{_bindir}/toy-native",
        files="%{_bindir}/toy-native",
    )


def failing() -> Recipe:
    """%build fails after a line of output."""
    return toy("toy-failing", build="echo about to fail\nfalse\necho not reached")


def missing_requirement() -> Recipe:
    """BuildRequires what no repository has."""
    return toy("toy-missing", preamble="BuildRequires: lab-no-such-package >= 3\n")


def dynamic() -> Recipe:
    """%generate_buildrequires asks for zlib-devel, and %build links with it."""
    return toy(
        "toy-dynamic",
        preamble="BuildRequires: gcc\n",
        rest="%generate_buildrequires\necho zlib-devel\n",
        build="echo '#include <zlib.h>\nint main(void) { return !zlibVersion(); }' > z.c\n"
        "gcc %{optflags} z.c -lz -o z\n./z",
    )


def sleeping(seconds: int) -> Recipe:
    """%build prints a tick each second for `seconds`."""
    ticks = f"for tick in $(seq {seconds}); do echo tick $tick; sleep 1; done"
    return toy(f"toy-sleeping-{seconds}", preamble="BuildArch: noarch\n", build=ticks)


def chain() -> tuple[Recipe, Recipe]:
    """Two recipes: the second's %build runs and links with what the first installs."""
    first = toy(
        "toy-chain-a",
        preamble="BuildRequires: gcc\n",
        build="echo 'int chained(void) { return 42; }' > chain.c\n"
        "gcc %{optflags} -shared -fPIC -Wl,-soname,libchain.so.1 chain.c -o libchain.so.1",
        install="install -D -m 755 libchain.so.1 %{buildroot}%{_libdir}/libchain.so.1\n"
        "ln -s libchain.so.1 %{buildroot}%{_libdir}/libchain.so",
        files="%{_libdir}/libchain.so*",
    )
    second = toy(
        "toy-chain-b",
        preamble="BuildRequires: gcc\nBuildRequires: toy-chain-a\n",
        build="echo 'int chained(void); int main(void) { return chained() != 42; }' > use.c\n"
        # Debian's loader does not search %{_libdir} by itself.
        "gcc %{optflags} use.c -lchain -o use\nLD_LIBRARY_PATH=%{_libdir} ./use",
        install="install -D -m 755 use %{buildroot}%{_bindir}/use-chain",
        files="%{_bindir}/use-chain",
    )
    return first, second


def networkless(host: str, port: int) -> Recipe:
    """%build fails if it sees an interface but lo, or reaches `host`:`port`."""
    return toy(
        f"toy-networkless-{port}",
        preamble="BuildArch: noarch\n",
        build="interfaces=$(tail -n +3 /proc/self/net/dev | cut -d: -f1 | tr -d ' ' | sort)\n"
        'echo "interfaces: $interfaces"\n'
        'test "$interfaces" = lo\n'
        f"if timeout 5 bash -c 'exec 3<>/dev/tcp/{host}/{port}'; then\n"
        "  echo the network is there; exit 1\nfi",
    )


def failing_check() -> Recipe:
    """Only %check fails: --nocheck makes it build."""
    return toy("toy-check", preamble="BuildArch: noarch\n", check="echo checking\nfalse")


def conditional() -> Recipe:
    """--with extra adds a subpackage; %{toy_word} of a --define is stored in it."""
    return toy(
        "toy-conditional",
        preamble="BuildArch: noarch\n%bcond_with extra\n",
        rest="%if %{with extra}\n%package extra\nSummary: More\n%description extra\nMore.\n"
        "%files extra\n%{_datadir}/toy-extra\n%endif\n",
        install="%if %{with extra}\nmkdir -p %{buildroot}%{_datadir}/toy-extra\n"
        "echo %{?toy_word}%{!?toy_word:none} > %{buildroot}%{_datadir}/toy-extra/word\n%endif",
    )


def escaping() -> Recipe:
    """Its log holds a new window title, a cleared screen, colours, and bytes that are not UTF-8."""
    return toy(
        "toy-escaping",
        preamble="BuildArch: noarch\n",
        build=r"printf '\033]0;owned\007\033[2J\033[31mred\033[0m\r\377\376\200 end\n'",
    )


def large(size_mib: int = 200) -> Recipe:
    """One incompressible source of `size_mib` MiB, always the same bytes."""
    generator = random.Random(size_mib)  # noqa: S311 - reproducible, not secret
    data = b"".join(generator.randbytes(_MIB) for _ in range(size_mib))
    return toy(
        f"toy-large-{size_mib}",
        preamble="BuildArch: noarch\n",
        build=f"test $(stat -c %s %{{SOURCE0}}) = {size_mib * _MIB}\nsha256sum %{{SOURCE0}}",
        sources={"noise.bin": data},
    )


_HELLO_SPEC = """\
Name:           hello
Version:        {version}
Release:        1%{{?dist}}
Summary:        Prints a friendly greeting
License:        GPL-3.0-or-later AND GFDL-1.3-or-later
URL:            https://www.gnu.org/software/hello/
Source0:        {tarball}
BuildRequires:  gcc
BuildRequires:  gettext
BuildRequires:  make
BuildRequires:  texinfo

%description
GNU Hello greets the world, and shows how a package of the GNU project is laid out:
options, translations, a manual, and tests.

%prep
%autosetup

%build
%configure
%make_build

%install
%make_install
rm -f %{{buildroot}}%{{_infodir}}/dir
%find_lang %{{name}}

%check
make check

%files -f %{{name}}.lang
%license COPYING
%doc AUTHORS ChangeLog NEWS README THANKS TODO
%{{_bindir}}/hello
%{{_infodir}}/hello.info*
%{{_mandir}}/man1/hello.1*

%changelog
* Tue Nov 14 2023 Lab <lab@lab.invalid> - {version}-1
- Packaged for the lab
"""


def hello(lab: Lab) -> Recipe:
    """GNU hello from its upstream tarball, with a spec of ours. Raises `LabError`."""
    tarball = upstream.orig_tarball(lab, "hello")
    match = re.fullmatch(r"hello_([\d.]+)\.orig\.(tar\.\w+)", tarball.name)
    if match is None:
        raise LabError(f"no version in {tarball.name}")
    name = f"hello-{match[1]}.{match[2]}"
    spec = _HELLO_SPEC.format(version=match[1], tarball=name)
    return Recipe("hello", spec, {name: tarball})


_MARKUPSAFE = ("MarkupSafe", "2.1.5")
_MARKUPSAFE_SPEC = """\
Name:           python-markupsafe
Version:        {version}
Release:        1%{{?dist}}
Summary:        Escapes text for HTML
License:        BSD-3-Clause
URL:            https://palletsprojects.com/p/markupsafe/
Source0:        {tarball}
BuildRequires:  gcc
BuildRequires:  python3-devel

%description
A text object that escapes characters so that it is safe in HTML, sped up in C.

%generate_buildrequires
echo 'python3dist(setuptools)'

%prep
%autosetup -n {project}-%{{version}}

%build
CFLAGS="%{{optflags}}" python3 setup.py build

%install
python3 setup.py install --skip-build --root %{{buildroot}} --prefix %{{_prefix}} \\
    --install-lib %{{_prefix}}/lib/python3/dist-packages

%check
PYTHONPATH=%{{buildroot}}%{{_prefix}}/lib/python3/dist-packages python3 -c \\
    'from markupsafe._speedups import escape; assert escape("<") == "&lt;"'

%files
%license LICENSE.rst
%doc README.rst
%{{_prefix}}/lib/python3/dist-packages/*
"""


def markupsafe(lab: Lab) -> Recipe:
    """A Python project with a C extension and a dynamic BuildRequires. Raises `LabError`."""
    project, version = _MARKUPSAFE
    tarball = upstream.sdist(lab, project, version)
    spec = _MARKUPSAFE_SPEC.format(project=project, version=version, tarball=tarball.name)
    return Recipe("python-markupsafe", spec, {tarball.name: tarball})


def random_toy() -> Recipe:
    """A package that is another one each time: no two builders agree on it."""
    return toy(
        "toy-random",
        preamble="BuildArch: noarch\n",
        install="cat /proc/sys/kernel/random/uuid > %{buildroot}%{_datadir}/toy-random/word",
    )

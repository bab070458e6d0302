# SPDX-License-Identifier: GPL-2.0-or-later
"""A package built on a node is the package that plain rpmbuild makes of the same source."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mock_cloud.process import run
from tests.integration.conftest import User
from tests.lab import chroots, node
from tests.lab.http import FileServer
from tests.lab.layout import Lab
from tests.lab.srpm import Recipe, toy

pytestmark = pytest.mark.lab

_UNSHARE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")
_ENTER = (
    'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" &&'
    ' exec chroot --userspec=1000:135 "$0" /usr/bin/env -i HOME=/builddir HOSTNAME=mock'
    " LANG=C.UTF-8 PATH=/usr/bin:/bin:/usr/sbin:/sbin SHELL=/bin/bash TERM=vt100"
    ' bash --login -c "$1"'
)
# Time and host are all that may differ between two builds; with these they do not.
_SAME = {
    "_buildhost": "lab.invalid",
    "use_source_date_epoch_as_buildtime": "1",
    "source_date_epoch_from_changelog": "1",
    "clamp_mtime_to_source_date_epoch": "1",
}

RICH = """\
Name: toy-rich
Version: 1
Release: 1%{?dist}
Summary: A bit of everything
License: CC0-1.0
Source0: data
BuildRequires: gcc
Requires: bash >= 5
Recommends: toy-plain
%description
Files of each kind, scriptlets, dependencies found by rpm.
%package -n toy-rich-data
Summary: Data
BuildArch: noarch
Provides: toy(data) = %{version}
%description -n toy-rich-data
Data.
%prep
%setup -c -T
cp %{SOURCE0} .
%build
echo 'int main(void) { return 0; }' > rich.c
gcc %{optflags} rich.c -o rich
%install
install -D -m 4755 rich %{buildroot}%{_bindir}/rich
ln -s rich %{buildroot}%{_bindir}/poor
install -D -m 640 data %{buildroot}%{_sysconfdir}/rich.conf
install -d -m 2775 %{buildroot}/var/lib/rich
install -D -m 644 data %{buildroot}%{_datadir}/rich/data
ln %{buildroot}%{_datadir}/rich/data %{buildroot}%{_datadir}/rich/same
%check
./rich
%post
echo installed
%preun -p /bin/bash
echo removed
%files
%attr(4755, root, root) %{_bindir}/rich
%{_bindir}/poor
%config(noreplace) %attr(640, root, mail) %{_sysconfdir}/rich.conf
%dir %attr(2775, root, mail) /var/lib/rich
%ghost /var/lib/rich/state
%license data
%files -n toy-rich-data
%{_datadir}/rich
%changelog
* Tue Nov 14 2023 Lab <lab@lab.invalid> - 1-1
- First
"""


@pytest.fixture(scope="module")
def by_hand(
    lab: Lab, lab_repo: FileServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A chroot made by dnf alone, with a user like mock's."""
    root = tmp_path_factory.mktemp("by-hand") / "root"
    url = f"{lab_repo.url}/dist/1"
    wanted = (*chroots.buildroot_words(lab), "gettext", "texinfo")
    node.install(root, baseurl=url, keys=[lab.package_key], packages=wanted)
    with (root / "etc/passwd").open("a") as stream:
        stream.write("mockbuild:x:1000:135::/builddir:/bin/bash\n")
    with (root / "etc/group").open("a") as stream:
        stream.write("mock:x:135:\n")
    for name in ("BUILD", "BUILDROOT", "RPMS", "SOURCES", "SPECS", "SRPMS"):
        (root / "builddir/build" / name).mkdir(parents=True)
    run(["chown", "-R", "1000:135", str(root / "builddir")], timeout_s=600)
    yield root
    shutil.rmtree(root)


def rebuild_by_hand(root: Path, source: Path) -> dict[str, Path]:
    """rpm -i and rpmbuild -bs, -bb as the user; package file name → file."""
    shutil.copyfile(source, root / "builddir" / source.name)
    defines = {**_SAME, "_topdir": "/builddir/build", "dist": ".lab1",
               "_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"}  # fmt: skip
    options = " ".join(f"--define '{name} {value}'" for name, value in defines.items())
    script = (
        f"set -e; cd /; rpm -i --nodeps --define '_topdir /builddir/build' ~/{source.name}"
        f"; spec=$(echo ~/build/SPECS/*.spec); rpmbuild -bs --target x86_64 {options} $spec"
        f"; rpmbuild -bb --target x86_64 {options} $spec; rm $spec"
    )
    run([*_UNSHARE, "sh", "-c", _ENTER, str(root), f"exec 2>&1; {script}"], timeout_s=300)
    found = sorted((root / "builddir/build").glob("*RPMS/*.rpm"))
    return {path.name: path for path in found}


def without_time_and_host(package: Path) -> str:
    """Everything that the header says, as rpm's XML."""
    return run(["rpm", "-qp", "--nosignature", "--xml", str(package)], timeout_s=600).decode()


def check_same(ours: Path, theirs: Path) -> None:
    mine, other = without_time_and_host(ours), without_time_and_host(theirs)
    tags = re.compile(r'<rpmTag name="(\w+)">(.*?)</rpmTag>', re.DOTALL)
    first, second = dict(tags.findall(mine)), dict(tags.findall(other))
    differing = {
        name for name in first.keys() | second.keys() if first.get(name) != second.get(name)
    }
    values = {name: (first.get(name), second.get(name)) for name in sorted(differing)}
    assert not differing, f"{sorted(differing)} differ: {values}"
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (ours, theirs)]
    assert digests[0] == digests[1], "the headers are equal, the payloads are not"


def check(mock: User, by_hand: Path, source: Path, result: Path) -> set[str]:
    words = [word for name, value in _SAME.items() for word in ("-D", f"{name} {value}")]
    mock.mock(*words, "--resultdir", result, source).expect()
    ours = {path.name: path for path in result.glob("*.rpm")}
    theirs = rebuild_by_hand(by_hand, source)
    assert ours.keys() == theirs.keys()
    for name in sorted(ours):
        check_same(ours[name], theirs[name])
    for path in theirs.values():
        path.unlink()
    return set(ours)


@pytest.mark.slow
def test_a_package_with_a_bit_of_everything(
    mock: User, by_hand: Path, lab_srpm: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    source = lab_srpm(Recipe("toy-rich", RICH, {"data": b"some data\n"}))
    names = check(mock, by_hand, source, tmp_path / "result")
    assert names == {
        "toy-rich-1-1.lab1.src.rpm",
        "toy-rich-1-1.lab1.x86_64.rpm",
        "toy-rich-data-1-1.lab1.noarch.rpm",
        *(name for name in names if "-debug" in name),
    }


@pytest.mark.slow
def test_gnu_hello(mock: User, by_hand: Path, hello_srpm: Path, tmp_path: Path) -> None:
    assert len(check(mock, by_hand, hello_srpm, tmp_path / "result")) >= 2


@pytest.mark.slow
def test_a_difference_is_seen(
    mock: User, lab_srpm: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    """The comparison is no decoration: another Release makes it fail."""
    recipe = toy("toy-differs", preamble="BuildArch: noarch\n")
    other = Recipe(recipe.name, recipe.spec.replace("Summary: A", "Summary: Another"))
    packages = []
    for number, source in enumerate((recipe, other)):
        mock.mock("--resultdir", tmp_path / str(number), lab_srpm(source)).expect()
        packages += list((tmp_path / str(number)).glob("*.noarch.rpm"))
    with pytest.raises(AssertionError, match="Summary"):
        check_same(*packages)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's distribution builds a real package, with no code of ours between dnf and rpmbuild."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mock_cloud.process import CommandFailed, run
from tests.lab import chroots, node, srpm
from tests.lab.http import FileServer
from tests.lab.layout import Lab
from tests.lab.srpm import Recipe

# The end-to-end tests build in the same chroots, through `mock --remote`.
pytestmark = pytest.mark.slow

# A private mount namespace is all that is needed: its mounts end with its last process.
_UNSHARE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")
_MOUNTS = 'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'


@pytest.fixture(scope="module")
def chroot(
    lab: Lab, lab_repo: FileServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("chroot") / "root"
    lab_repo.forget_accesses()
    more = ("gettext", "texinfo", "python3-devel", "python3dist(setuptools)")
    wanted = (*chroots.buildroot_words(lab), *more)
    node.install(root, baseurl=f"{lab_repo.url}/dist/1", keys=[lab.package_key], packages=wanted)
    yield root
    shutil.rmtree(root)


def rebuild(chroot: Path, source: Path, *options: str) -> dict[str, Path]:
    """rpmbuild --rebuild in the chroot, without network; package name → file."""
    results = chroot / "root/rpmbuild/RPMS"
    shutil.rmtree(results, ignore_errors=True)
    shutil.copyfile(source, chroot / "tmp" / source.name)
    login = f"rpmbuild --rebuild {' '.join(options)} /tmp/{source.name} 2>&1"
    inside = ["/bin/bash", "--login", "-c", login]
    run([*_UNSHARE, "sh", "-c", _MOUNTS, str(chroot), *inside], timeout_s=300)
    return {place.name.rsplit("-", 2)[0]: place for place in results.glob("*/*.rpm")}


def test_nothing_is_downloaded_twice(chroot: Path, lab_repo: FileServer) -> None:
    packages = Counter(access.path for access in lab_repo.accesses() if access.status == 200)
    assert sum(path.endswith(".rpm") for path in packages) > 80
    assert [path for path, times in packages.items() if times > 1] == []


def test_file_triggers_ran(chroot: Path) -> None:
    assert (chroot / "etc/ld.so.cache").stat().st_size > 1000


def test_hello(chroot: Path, hello_srpm: Path) -> None:
    made = rebuild(chroot, hello_srpm)
    assert made.keys() == {"hello", "hello-debuginfo"}
    files = run(["rpm", "-qlp", str(made["hello"])], timeout_s=600).decode().splitlines()
    assert {"/usr/bin/hello", "/usr/share/locale/fr/LC_MESSAGES/hello.mo"} <= set(files)
    requires = run(["rpm", "-qp", "--requires", str(made["hello"])], timeout_s=600).decode()
    assert "libc.so.6()(64bit)" in requires


def test_markupsafe(chroot: Path, markupsafe_srpm: Path) -> None:
    assert rebuild(chroot, markupsafe_srpm).keys() == {
        "python-markupsafe",
        "python-markupsafe-debuginfo",
    }


def test_toys_do_what_they_say(
    chroot: Path, lab_srpm: Callable[[Recipe], Path], networkless_srpm: Path
) -> None:
    assert rebuild(chroot, lab_srpm(srpm.plain())).keys() == {"toy-plain"}
    assert rebuild(chroot, networkless_srpm).keys() != set()
    # zlib-devel is there: python3-devel requires it.
    assert rebuild(chroot, lab_srpm(srpm.dynamic())).keys() == {"toy-dynamic"}
    conditional = lab_srpm(srpm.conditional())
    assert rebuild(chroot, conditional).keys() == {"toy-conditional"}
    both = rebuild(chroot, conditional, "--with extra")
    assert both.keys() == {"toy-conditional", "toy-conditional-extra"}
    assert rebuild(chroot, lab_srpm(srpm.failing_check()), "--nocheck").keys() == {"toy-check"}


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (srpm.failing(), "about to fail"),
        (srpm.failing_check(), "checking"),
        (srpm.missing_requirement(), "lab-no-such-package"),
        (srpm.chain()[1], "toy-chain-a"),
    ],
    ids=lambda value: value.name if isinstance(value, Recipe) else None,
)
def test_toys_fail_as_they_say(
    chroot: Path, lab_srpm: Callable[[Recipe], Path], recipe: Recipe, says: str
) -> None:
    with pytest.raises(CommandFailed) as caught:
        rebuild(chroot, lab_srpm(recipe))
    # What rpmbuild said went to stdout; the error's `output` is stderr, else stdout.
    assert says in caught.value.output

# SPDX-License-Identifier: GPL-2.0-or-later
"""Names and lists that a node may offer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_cloud.errors import ResultError
from mock_cloud.results.names import (
    FILE_MAX_BYTES,
    FILES_MAX,
    check_live_log,
    check_manifest,
    check_name,
    is_kind_of_result,
)

SHA = "0" * 64


@dataclass
class File:
    name: str
    size_bytes: int = 1
    sha256: str = SHA


@pytest.mark.parametrize(
    "name",
    ["hello-2.12-1.x86_64.rpm", "hello-2.12-1.src.rpm", "build.log", "hw_info.log", "gtk+~1.rpm",
     "buildroot_lock.json", "chroot_scan.tar.gz"],
)  # fmt: skip
def test_what_mock_leaves_is_accepted(name: str) -> None:
    assert check_name(name) == name


PACKAGES = ("hello-1-1", "a", "x.rpm")
HOSTILE = [
    "", ".", "..", "/etc/passwd", "../x.rpm", "a/../x.rpm", "a/b.rpm", "-rf.rpm", ".bashrc",
    ".x.rpm", "a\nb.rpm", "a\x00.rpm", "a\x1b[2J.rpm", "a\u202egol.rpm", "\ud800.rpm", " a.rpm",
    "a.rpm ", "x" * 300 + ".rpm", "Makefile", "hello.spec", "conftest.py", "a.rpm/", "a.rpmx",
    ".rpm", "build.log\n", "ü" * 130 + ".rpm",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
@pytest.mark.parametrize("chain", [False, True])
def test_hostile_names_are_refused_in_one_safe_line(name: str, chain: bool) -> None:
    if chain and name == "a/b.rpm":
        return
    with pytest.raises(ResultError) as caught:
        check_name(name, packages=PACKAGES if chain else ())
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("hello-1-1/build.log", True),
        ("hello-1-1/success", True),
        ("hello-1-1/fail", True),
        ("repodata/repomd.xml", True),
        (f"repodata/{SHA}-primary.xml.gz", True),
        (f"repodata/{SHA}-filelists.xml.zst", True),
        ("repodata/evil.sh", False),
        ("repodata/x.rpm", False),
        ("success", False),
        ("a/b/c.rpm", False),
        ("/c.rpm", False),
        ("../c.rpm", False),
        (".git/x.rpm", False),
        ("a/Makefile", False),
        ("hello-1-2/build.log", False),
    ],
)
def test_names_of_a_chain(name: str, good: bool) -> None:
    if good:
        assert check_name(name, packages=PACKAGES) == name
        with pytest.raises(ResultError):
            check_name(name)
    else:
        with pytest.raises(ResultError):
            check_name(name, packages=PACKAGES)


@pytest.mark.parametrize(
    "name",
    ["remote_attestation.log", "remote_order.log", "Remote_Attestation.LOG.log", "REMOTE_x.log"],
)
def test_the_controllers_names_are_not_the_nodes(name: str) -> None:
    for offered in (name, f"a/{name}"):
        with pytest.raises(ResultError, match="it is the controller's to write"):
            check_name(offered, packages=PACKAGES)
    check_name("remote_control-1-1.noarch.rpm")


@pytest.mark.parametrize("name", ["root.log", "build.log", "state.log", "a/build.log"])
def test_mocks_three_logs_grow(name: str) -> None:
    assert check_live_log(name, packages=PACKAGES) == name


@pytest.mark.parametrize(
    "name",
    ["hw_info.log", "installed_pkgs.log", "a.rpm", "Build.log", "other/build.log", "a/x.log",
     "repodata/build.log.xml", "remote_attestation.log", "../build.log", "a/b/build.log"],
)  # fmt: skip
def test_no_other_log_grows(name: str) -> None:
    with pytest.raises(ResultError, match="is refused"):
        check_live_log(name, packages=PACKAGES)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.rpm", True), ("../a.rpm", True), ("Makefile", False), ("page.html", False)],
)
def test_a_name_of_mocks_kind_is_not_yet_a_safe_one(name: str, kind: bool) -> None:
    assert is_kind_of_result(name, chain=False) is kind
    with pytest.raises(ResultError):
        check_name(f"../{name}", packages=PACKAGES)


@given(st.one_of(st.text(max_size=60), st.from_regex(r"[^a-z]{0,4}[a-z./\-]{0,8}\.(rpm|log)")))
def test_accepted_names_stay_below_the_directory(name: str) -> None:
    for chain in (False, True):
        try:
            check_name(name, packages=PACKAGES if chain else ())
        except ResultError as error:
            assert error.message.isprintable()
            continue
        parts = PurePosixPath(name).parts
        assert "/".join(parts) == name
        assert len(parts) <= 1 + chain
        assert all(part.isprintable() and part[0] not in "-." for part in parts)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([File("a.rpm"), File("a.rpm")], "twice"),
        ([File("a.rpm"), File("A.rpm")], "twice"),
        ([File("a.rpm", -1)], "size"),
        ([File("a.rpm", FILE_MAX_BYTES + 1)], "size"),
        ([File("a.rpm", sha256="")], "sha256"),
        ([File("a.rpm", sha256="0" * 63 + "A")], "sha256"),
        ([File("a.rpm", sha256=SHA + "\n")], "sha256"),
        ([File("x.rpm/a.rpm"), File("x.rpm")], "directory"),
        ([File(f"{n}.rpm") for n in range(FILES_MAX + 1)], "more than"),
    ],
    ids=lambda it: str(it)[:20],
)
def test_lists_that_are_refused(files: list[File], words: str) -> None:
    with pytest.raises(ResultError, match=words):
        check_manifest(files, packages=PACKAGES)


def test_order_is_kept() -> None:
    names = ["b.rpm", "a.log", "c.rpm"]
    assert [entry.name for entry in check_manifest(map(File, names))] == names

# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages unpacked in memory: what leaves the root is refused, links stay inside."""

from __future__ import annotations

import io
import tarfile
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mock_cloud.errors import InputError
from mock_cloud.toolkit import tree as tree_module
from mock_cloud.toolkit.tree import Tree


def tar_of(*members: tuple[str, str, bytes | str]) -> bytes:
    """Name, type (f, l, h, p), contents or target."""
    kinds = {"l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "p": tarfile.FIFOTYPE}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            data = value if isinstance(value, bytes) else b""
            info.type, info.size = kinds.get(kind, tarfile.REGTYPE), len(data)
            info.linkname = value if isinstance(value, str) else ""
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def cpio_of(*members: tuple[str, int, int, bytes]) -> bytes:
    """Name, mode, inode, contents; with the trailer."""
    out = b""
    for name, mode, inode, data in (*members, ("TRAILER!!!", 0, 0, b"")):
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (head + name.encode() + b"\0", data):
            out += part + bytes(-len(out + part) % 4)
    return out


def tree_of(*members: tuple[str, str, bytes | str]) -> Tree:
    tree = Tree()
    tree.add_tar(tar_of(*members), "x.deb")
    return tree


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("../etc/passwd", "f", b""),
        ("./usr/../../etc/passwd", "f", b""),
        ("/../x", "f", b""),
        ("usr/lib/x", "l", "../../../etc/passwd"),
        ("usr/lib/x", "l", "/../etc/passwd"),
        ("usr/lib/x", "h", "../../x"),
    ],
)
def test_what_leaves_the_root_is_refused(name: str, kind: str, value: bytes | str) -> None:
    with pytest.raises(InputError, match=r"x\.deb.*outside"):
        tree_of((name, kind, value))


def test_cpio_names_that_leave_the_root_are_refused() -> None:
    with pytest.raises(InputError, match="outside"):
        Tree().add_cpio(cpio_of(("./../evil", 0o100644, 1, b"x")), "x.rpm")
    with pytest.raises(InputError, match="outside"):
        Tree().add_cpio(cpio_of(("./usr/l", 0o120777, 1, b"../../evil")), "x.rpm")


def test_an_absolute_link_stays_in_the_tree() -> None:
    tree = tree_of(("etc/alternatives/python", "f", b"code"),
                   ("usr/bin/python", "l", "/etc/alternatives/python"))  # fmt: skip
    assert tree.find("/usr/bin/python") == "etc/alternatives/python"
    assert tree_of(("usr/bin/sh", "l", "/bin/dash")).find("usr/bin/sh") is None


def test_links_that_lead_nowhere_end() -> None:
    tree = tree_of(("a", "l", "b"), ("b", "l", "a"), ("c", "l", "c/c"))
    assert (tree.find("a"), tree.find("c"), tree.find("d")) == (None, None, None)


def test_directories_before_and_after_the_usr_merge_are_the_same() -> None:
    tree = tree_of(("./lib/libz.so.1", "l", "libz.so.1.2"), ("./usr/lib/libz.so.1.2", "f", b"z"),
                   ("bin", "l", "usr/bin"))  # fmt: skip
    assert tree.find("usr/lib/libz.so.1") == tree.find("/lib/libz.so.1") == "usr/lib/libz.so.1.2"


def test_links_to_directories_are_followed() -> None:
    tree = tree_of(("usr/lib/python3.11/os.py", "f", b"os"), ("usr/lib64", "l", "lib"))
    assert tree.find("usr/lib64/python3.11/os.py") == "usr/lib/python3.11/os.py"


def test_devices_and_pipes_are_left_out() -> None:
    assert tree_of(("pipe", "p", b"")).find("pipe") is None


def test_one_file_with_several_names_in_cpio() -> None:
    tree = Tree()
    tree.add_cpio(cpio_of(("./a", 0o100644, 7, b""), ("./b", 0o100644, 7, b"data")), "x.rpm")
    assert (tree.read("a"), tree.read("b")) == (b"data", b"data")


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "TREE_MAX_BYTES", 10)
    with pytest.raises(InputError, match="unpack to more than 10"):
        tree_of(("a", "f", b"123456"), ("b", "f", b"123456"))


@pytest.mark.parametrize("cut", [1, 60, 111, 116])
def test_a_cut_cpio_is_refused(cut: int) -> None:
    with pytest.raises(InputError, match="damaged"):
        Tree().add_cpio(cpio_of(("./a", 0o100644, 1, b"data"))[:cut], "x.rpm")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 200))
@example(noise=b"-", at=134)  # a negative number in a header
def test_no_other_exception_escapes(noise: bytes, at: int) -> None:
    good = cpio_of(("./a", 0o100644, 1, b"data"), ("./b", 0o120777, 2, b"a"))
    for add in (Tree().add_cpio, Tree().add_tar):
        for data in (noise, good[:at] + noise + good[at + len(noise) :]):
            with suppress(InputError):
                add(data, "x")

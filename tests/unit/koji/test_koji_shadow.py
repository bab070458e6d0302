# SPDX-License-Identifier: GPL-2.0-or-later
"""A node's shadow archive is hostile input; changes on this side are found by what is on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_cloud.errors import AttestationRefused, Reason, ResultError
from mock_cloud.koji.shadow import Shadow
from mock_cloud.koji.shadow_directory import ShadowDir
from mock_cloud.koji.shadow_unpack import unpack_shadow
from mock_cloud.wire import shadow_tree
from tests.tree_archives import archive, blob, directory, file, link

NO_CHANGE = json.dumps({"rpmdb": "", "removed": []}).encode()
RPMDB = json.dumps({"rpmdb": "var/lib/rpm", "removed": []}).encode()


def write(path: Path, members: tuple[bytes, ...], facts: bytes = NO_CHANGE) -> Path:
    path.write_bytes(archive(file(b"shadow.json", facts), *members))
    return path


@pytest.fixture
def shadow(tmp_path: Path) -> ShadowDir:
    made = ShadowDir(tmp_path / "name-1-2", "/chroot_tmpdir")
    made.open(fresh=True)
    return made


@pytest.fixture
def apply(shadow: ShadowDir, tmp_path: Path) -> Callable[..., list[str]]:
    def unpack(*members: bytes, facts: bytes = NO_CHANGE) -> list[str]:
        packed = write(tmp_path / "shadow.tree", members, facts)
        return unpack_shadow(packed, shadow.root, shadow.tmpdir)

    return unpack


def everything(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*")}


Apply = Callable[..., list[str]]


def test_what_a_job_changed_arrives(shadow: ShadowDir, apply: Apply) -> None:
    (shadow.shared / "old").mkdir()
    (shadow.shared / "old/file").write_text("x")
    (shadow.root / "var/lib/rpm").mkdir(parents=True)
    (shadow.root / "var/lib/rpm/rpmdb.sqlite-wal").write_text("of an earlier one")
    facts = json.dumps({"rpmdb": "var/lib/rpm", "removed": ["old"]}).encode()
    inside = directory(b"a", file(b".git", b"hidden files are files"), link(b"up", b"../a/.git"))
    left_out = apply(
        directory(b"tmpdir", inside), directory(b"rpmdb", file(b"rpmdb.sqlite")), facts=facts
    )
    assert left_out == []
    assert everything(shadow.shared) == {"a", "a/.git", "a/up"}
    assert os.listdir(shadow.root / "var/lib/rpm") == ["rpmdb.sqlite"]  # noqa: PTH208


@pytest.mark.parametrize(
    "member",
    [
        file(b"x"),
        link(b"tmpdir", b"/etc"),
        directory(b"x"),
        directory(b"tmpdir", file(b"a\nb")),
        directory(b"tmpdir", directory(b"a\x7fb")),
        directory(b"tmpdir", link(b"a\x1bb", b"a")),
        directory(b"tmpdir", blob(b"x")),
        directory(b"rpmdb", directory(b"a")),
        directory(b"rpmdb", link(b"rpmdb.sqlite", b"/etc/shadow")),
        directory(b"rpmdb", file(b"-x")),
        directory(b"rpmdb", *(file(b"%d" % number) for number in range(1001))),
        file(b"shadow.json", NO_CHANGE),
    ],
)
def test_what_a_shadow_does_not_have_is_refused(
    shadow: ShadowDir, apply: Apply, member: bytes, tmp_path: Path
) -> None:
    with pytest.raises(ResultError, match="shadow archive is refused"):
        apply(member, facts=RPMDB)
    assert not [path for path in shadow.base.rglob("*") if path.is_symlink()]
    assert not [path for path in everything(shadow.shared) if "new" not in path]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "target"),
    [("l", "/etc/passwd"), ("l", ".."), ("l", "../x"), ("a/l", "../../x"), ("a/b/l", "../t/../x"),
     ("l", "t/..")],
)  # fmt: skip
def test_links_that_lead_out_are_left_out(
    shadow: ShadowDir, apply: Apply, name: str, target: str
) -> None:
    *parents, last = name.encode().split(b"/")
    member = link(last, target.encode())
    for parent in reversed(parents):
        member = directory(parent, member)
    assert apply(directory(b"tmpdir", member)) == [name]
    assert not any(path.is_symlink() for path in shadow.shared.rglob("*"))


def test_nothing_is_written_through_a_link(shadow: ShadowDir, apply: Apply, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (shadow.shared / "way").symlink_to(outside)
    (shadow.shared / "file").symlink_to(outside / "kept")
    facts = json.dumps({"rpmdb": "", "removed": ["way/kept"]}).encode()
    apply(directory(b"tmpdir", directory(b"way", file(b"new", b"x")), file(b"file")), facts=facts)
    assert everything(outside) == {"kept"}
    assert (outside / "kept").read_text() == "kept"
    assert (shadow.shared / "way/new").read_bytes() == b"x"


@pytest.mark.parametrize(
    "facts",
    [b"", b"[]", b"{}", b'{"rpmdb": "etc", "removed": []}', b'{"rpmdb": "", "removed": [1]}',
     b'{"rpmdb": "", "removed": [".."]}', b'{"rpmdb": "", "removed": [], "more": 1}',
     b'{"rpmdb": "", "removed": ["a//b"]}', b'{"rpmdb": "", "removed": ["\\ud800"]}',
     b"[" * 100_000],
)  # fmt: skip
def test_facts_are_parsed_strictly(apply: Apply, facts: bytes) -> None:
    with pytest.raises(ResultError, match="the node's shadow"):
        apply(directory(b"tmpdir", file(b"x")), facts=facts)


def test_set_id_bits_are_dropped(shadow: ShadowDir, apply: Apply) -> None:
    apply(directory(b"tmpdir", file(b"x", mode=0o6755)))
    assert (shadow.shared / "x").stat().st_mode & 0o7777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make what is root's")
def test_an_empty_directory_of_roots_is_taken_over_and_a_full_one_is_not(
    shadow: ShadowDir, apply: Apply, tmp_path: Path
) -> None:
    for path in (tmp_path, *tmp_path.parents[:2], shadow.base, shadow.root, shadow.shared):
        path.chmod(path.stat().st_mode | 0o755)
    os.chown(shadow.shared, 65534, 65534)
    for name in ("empty", "full"):
        (shadow.shared / name).mkdir()
    (shadow.shared / "full/kojids").write_text("x")
    archives = [
        write(
            tmp_path / f"{name.decode()}.tree",
            (directory(b"tmpdir", directory(name, file(b"new"))),),
        )
        for name in (b"empty", b"full")
    ]
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        unpack_shadow(archives[0], shadow.root, shadow.tmpdir)
        try:
            unpack_shadow(archives[1], shadow.root, shadow.tmpdir)
        except ResultError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert everything(shadow.shared) == {"empty", "empty/new", "full", "full/kojids"}


def test_only_what_changed_goes_to_the_node(shadow: ShadowDir, tmp_path: Path) -> None:
    (shadow.shared / "same").write_text("same")
    (shadow.shared / "gone").write_text("gone")
    first = shadow.changes()
    assert first.whole and set(first.changed) == {"same", "gone"}
    shadow.remember(made=True)
    assert shadow.is_made
    (shadow.shared / "gone").unlink()
    (shadow.shared / "new").write_text("new")
    changes = shadow.changes()
    assert (changes.changed, changes.removed, changes.whole) == (("new",), ("gone",), False)
    shadow.pack(changes, tmp_path / "in.tree")
    node = tmp_path / "node"
    node.mkdir()
    (node / "gone").write_text("gone")
    with (tmp_path / "in.tree").open("rb") as stream:
        owner = (os.geteuid(), os.getegid())
        shadow_tree.place_shadow(stream, str(node), changes.removed, owner, whole=False)
    assert everything(node) == {"new"}
    shadow.begin()  # and the command dies
    again = shadow.changes()
    assert again.whole and set(again.changed) == {"same", "new"} and shadow.is_made
    shadow.open(fresh=True)
    assert not shadow.is_made and everything(shadow.shared) == set()


def test_a_new_chroot_empties_its_logs_in_place(shadow: ShadowDir) -> None:
    log = shadow.log("dnf.log")
    log.write(b"x")
    log.close()
    before = (shadow.root / "var/log/dnf.log").stat()
    shadow.open(fresh=True)
    after = (shadow.root / "var/log/dnf.log").stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, 0)


def test_the_reasons_of_a_refusal_are_in_root_log(shadow: ShadowDir, tmp_path: Path) -> None:
    """Where kojid sends people; the message itself has them no more once they were printed."""
    reason = Reason("file.digest", "/usr/bin/rpm", "41", "69")
    refused = AttestationRefused("the node was refused: the reason above", reasons=(reason,))
    Shadow(shadow, kept=True).note_failure(tmp_path, refused)
    assert (tmp_path / "root.log").read_text() == (
        "ERROR mock-cloud:0:  refused: file.digest: /usr/bin/rpm, expected 41, found 69\n"
        "ERROR mock-cloud:0:  the node was refused: the reason above\n"
    )

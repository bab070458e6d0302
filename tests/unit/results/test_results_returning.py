# SPDX-License-Identifier: GPL-2.0-or-later
"""What a job wrote into the caller's directories: what gets there, and what a node cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_cloud.errors import InputError, ResultError
from mock_cloud.results.returning import Returning, put_back
from tests.tree_archives import END, MAGIC, archive, blob, directory, file, link


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "place"
    (place / "sub").mkdir(parents=True)
    (place / "old").write_text("old")
    (place / "sub/same").write_text("same")
    (place / "away").symlink_to("../outside")
    (tmp_path / "outside").mkdir()
    return place


def put(tmp_path: Path, data: bytes, **places: Returning) -> list[str]:
    path = tmp_path / "archive"
    path.write_bytes(data)
    return put_back(path, {name.removeprefix("_"): place for name, place in places.items()})


def listed(top: Path) -> dict[str, str]:
    return {
        str(path.relative_to(top)): path.read_text()
        for path in sorted(top.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def test_what_is_new_and_what_changed_arrives(tmp_path: Path, place: Path) -> None:
    members = (
        file(b"old", b"new", mode=0o6755), link(b"link", b"/etc/passwd"),
        directory(b"sub", directory(b"deep", file(b"x", b"x")), mode=0o700),
        directory(b"empty", mode=0o755),
    )  # fmt: skip
    before = (place / "sub").stat().st_mode
    assert put(tmp_path, archive(directory(b"0", *members)), _0=Returning(place)) == []
    assert listed(place) == {"old": "new", "sub/same": "same", "sub/deep/x": "x"}
    assert (place / "old").stat().st_mode & 0o7777 == 0o755
    assert (place / "link").readlink() == Path("/etc/passwd")
    assert (place / "empty").is_dir()
    assert (place / "sub").stat().st_mode == before
    assert (place / "sub/deep").stat().st_mode & 0o7777 == 0o755


def test_nothing_goes_through_a_link_and_no_directory_is_lost(tmp_path: Path, place: Path) -> None:
    members = (
        directory(b"away", file(b"x")), file(b"sub"), directory(b"old", file(b"x")),
        link(b"new", b"../outside"), file(b"good", b"good"),
    )  # fmt: skip
    data = archive(directory(b"0", *members))
    assert put(tmp_path, data, _0=Returning(place)) == ["away", "sub", "old"]
    assert listed(place) == {"old": "old", "sub/same": "same", "good": "good"}
    through = archive(directory(b"0", directory(b"new", file(b"x"))))
    assert put(tmp_path, through, _0=Returning(place)) == ["new"]
    replaced = archive(directory(b"0", file(b"away", b"a file now")))
    assert put(tmp_path, replaced, _0=Returning(place)) == []
    assert (place / "away").read_text() == "a file now"
    assert not list((tmp_path / "outside").iterdir())


def test_where_packages_were_asked_for_nothing_else_comes(tmp_path: Path, place: Path) -> None:
    members = (
        file(b"a-1.noarch.rpm", b"a"), file(b".bashrc"), file(b"a.rpm\n"), file(b"-x.rpm"),
        file(b".x.rpm"), link(b"l.rpm", b"/etc/shadow"), directory(b"d.rpm", file(b"b.rpm")),
        directory(b"sub", file(b"c.rpm")),
    )  # fmt: skip
    (place / "old.rpm").write_text("old")
    data = archive(directory(b"7", *members, file(b"old.rpm", b"another")))
    left_out = put(tmp_path, data, _7=Returning(place, packages_only=True))
    assert len(left_out) == 8
    kept = {"old": "old", "sub/same": "same", "old.rpm": "old"}
    assert listed(place) == {**kept, "a-1.noarch.rpm": "a"}


def test_a_new_destination_is_made(tmp_path: Path) -> None:
    data = archive(directory(b"0", file(b"a.rpm", b"a")))
    put(tmp_path, data, _0=Returning(tmp_path / "made", packages_only=True))
    assert listed(tmp_path / "made") == {"a.rpm": "a"}
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="/file"):
        put(tmp_path, data, _0=Returning(tmp_path / "file", packages_only=True))


@pytest.mark.parametrize(
    "data",
    [
        archive(directory(b"1", file(b"x"))),
        archive(directory(b"0"), directory(b"0")),
        archive(file(b"0")),
        archive(directory(b"0", file(b"x")), link(b"0", b"/")),
        archive(directory(b"0", file(b"x"), blob(b"y"))),
        archive(directory(b"0", file(b"x"), file(b".."))),
        archive(directory(b"0", file(b"x"), file(b"a/b"))),
        archive(directory(b"0", file(b"x")))[:-1],
        MAGIC + b"d" + END,
        b"",
    ],
)
def test_what_is_no_such_archive_leaves_nothing(tmp_path: Path, place: Path, data: bytes) -> None:
    before = listed(place)
    with pytest.raises(ResultError, match="archive of what was written"):
        put(tmp_path, data, _0=Returning(place))
    assert listed(place) == before

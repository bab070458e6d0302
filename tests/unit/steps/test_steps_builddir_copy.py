# SPDX-License-Identifier: GPL-2.0-or-later
"""The copy of builddir/build: only of a kept chroot, never a local one's, whatever a node sends."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from mock_cloud.config.paths import COPY_MARK
from mock_cloud.console import Console
from mock_cloud.errors import ResultError
from mock_cloud.remote.download import Fetch
from mock_cloud.remote.trusted import TrustedChannel
from mock_cloud.steps.results import builddir_copy
from mock_cloud.steps.results.builddir_copy import COPIED_MAX, BuilddirCopy
from mock_cloud.wire.job_request import BUILDDIR_ARCHIVE, BuilddirOrder
from mock_cloud.wire.replies import JobEnd, ResultFile
from tests.tree_archives import archive, blob, directory, file, link

KEPT = JobEnd(0, "done", "", {}, ("small",))
GONE = JobEnd(0, "done", "", {}, ())


class Node:
    """What a node lists and sends: one archive, or none. `fetched` counts."""

    def __init__(self, data: bytes | None) -> None:
        self.data = data
        self.fetched = 0

    def results(self, _job: str) -> Sequence[ResultFile]:
        if self.data is None:
            return ()
        digest = hashlib.sha256(self.data).hexdigest()
        return (ResultFile(BUILDDIR_ARCHIVE, len(self.data), digest, 0o644),)

    def fetch(self, _job: str, files: Sequence[Fetch]) -> None:
        assert self.data is not None
        self.fetched += 1
        files[0].write(self.data)


class Place:
    """`root` is where --print-root-path says; `build` is the directory that tools look for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path / "lib/small/root"
        self.build = self.root / "builddir/build"
        self.said = io.StringIO()
        self.bytes_max = 1 << 20

    def command(self, data: bytes | None, end: JobEnd = KEPT) -> Node:
        """One command, whose node sends `data`."""
        node, copy = Node(data), self.copy()
        copy.begin()
        copy.collect(cast(TrustedChannel, node), "job", end)
        return node

    def copy(self) -> BuilddirCopy:
        order = BuilddirOrder("/builddir/build", self.bytes_max, COPIED_MAX)
        return BuilddirCopy(self.root, order, Console(stream=self.said))

    def names(self) -> set[str]:
        return {str(path.relative_to(self.build)) for path in self.build.rglob("*")}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


TREE = archive(
    directory(
        b"BUILD",
        directory(b"toy-1", file(b"COPYING", b"MIT"), link(b"l", b"COPYING")),
    )
)
OTHER = archive(directory(b"BUILD", directory(b"toy-2", file(b"COPYING", b"BSD"))))


def test_what_the_chroot_has_is_here_after_each_command(place: Place) -> None:
    place.command(TREE)
    assert place.names() == {"BUILD", "BUILD/toy-1", "BUILD/toy-1/COPYING", "BUILD/toy-1/l"}
    assert (place.root / COPY_MARK).is_file()
    assert place.command(TREE).fetched == 0
    assert "BUILD/toy-1" in place.names()
    place.command(OTHER)
    assert place.names() == {"BUILD", "BUILD/toy-2", "BUILD/toy-2/COPYING"}
    assert os.listdir(place.root / "builddir") == ["build"]  # noqa: PTH208
    assert set(os.listdir(place.root)) == {COPY_MARK, "builddir"}  # noqa: PTH208
    assert place.said.getvalue() == ""


def test_a_chroot_that_is_gone_leaves_no_copy(place: Place) -> None:
    place.command(TREE)
    place.command(None, GONE)
    assert not place.root.exists() and place.said.getvalue().count("\n") == 1
    assert "its chroot is not kept" in place.said.getvalue()
    place.command(None, GONE)
    assert place.said.getvalue().count("\n") == 1
    place.command(TREE, GONE)  # a node that sends one all the same
    assert not place.build.exists()
    assert place.command(TREE).fetched == 1


def test_a_build_that_is_too_large_leaves_no_copy(place: Place) -> None:
    place.command(TREE)
    place.command(None)  # the node says why
    assert not place.build.exists() and place.said.getvalue() == ""


def test_a_command_that_fails_leaves_no_copy(place: Place) -> None:
    place.command(TREE)
    place.copy().begin()
    assert not place.build.exists()
    place.copy().begin()  # on another node
    assert place.command(TREE).fetched == 0 and "BUILD" in place.names()


@pytest.mark.parametrize("name", ["etc", "builddir", ".initialized"])
def test_a_local_chroot_stays_as_it_is(place: Place, name: str) -> None:
    (place.root / name).mkdir(parents=True)
    assert place.command(TREE).fetched == 0
    assert os.listdir(place.root) == [name]  # noqa: PTH208
    assert "is a local chroot's" in place.said.getvalue()


def test_a_local_chroot_that_came_into_the_copys_place_stays(place: Place) -> None:
    place.command(TREE)
    (place.root / "etc").mkdir()
    assert place.command(OTHER).fetched == 0
    assert "BUILD/toy-1" in place.names() and "local chroot" in place.said.getvalue()


def test_a_place_that_is_a_link_or_not_to_be_written_to_gets_none(place: Place) -> None:
    outside = place.path / "outside"
    outside.mkdir()
    place.root.parent.mkdir(parents=True)
    place.root.symlink_to(outside)
    assert place.command(TREE).fetched == 0
    assert not list(outside.iterdir()) and "no copy of builddir/build" in place.said.getvalue()
    place.root.unlink()
    place.root.write_text("a file")
    assert place.command(TREE).fetched == 0


def test_a_link_in_the_copys_place_is_not_followed(place: Place) -> None:
    outside = place.path / "outside"
    (outside / "build").mkdir(parents=True)
    (outside / "build/file").touch()
    place.command(TREE)
    (place.root / "builddir/build").rename(place.path / "away")
    (place.root / "builddir").rmdir()
    (place.root / "builddir").symlink_to(outside)
    place.command(OTHER)
    assert (outside / "build/file").exists() and "BUILD/toy-2" in place.names()


@pytest.mark.parametrize(
    ("where", "target"),
    [(b"", b"/etc/passwd"), (b"", b".."), (b"BUILD", b"../../x"), (b"BUILD", b"a/../../.."),
     (b"BUILD", b"/builddir/build/BUILD")],
)  # fmt: skip
def test_links_that_lead_out_are_left_out(place: Place, where: bytes, target: bytes) -> None:
    evil = link(b"evil", target)
    place.command(archive(directory(where, evil) if where else evil, file(b"good")))
    assert not any(path.is_symlink() for path in place.root.rglob("*"))
    assert "1 links that lead out of builddir/build" in place.said.getvalue()
    assert "good" in place.names()


def test_set_id_bits_do_not_arrive(place: Place) -> None:
    place.command(
        archive(directory(b"BUILD", file(b"su", mode=0o6755), mode=0o3000), file(b"x", mode=0o7000))
    )
    modes = {name: (place.build / name).stat().st_mode & 0o7777 for name in place.names()}
    assert modes == {"BUILD": 0o700, "BUILD/su": 0o755, "x": 0}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        archive(file(b"a"), file(b"a")),
        archive(directory(b"a"), link(b"a", b"b")),
        archive(link(b"a", b"b"), directory(b"a", file(b"x"))),
        archive(file(b"..")),
        archive(file(b"a/b")),
        archive(directory(b"a", b"u", b"u")),
        archive(blob(b"a")),
        archive(b"c" + file(b"null")[1:]),  # there is no way to say device
        archive(file(b"a"))[:-3],
    ],
)
def test_an_archive_that_no_honest_node_sends_is_refused(place: Place, data: bytes) -> None:
    place.command(TREE)
    with pytest.raises(ResultError):
        place.command(data)
    assert not place.build.exists()
    assert {path.name for path in place.path.iterdir()} == {"lib"}
    assert place.command(TREE).fetched == 1
    assert set(os.listdir(place.root)) == {COPY_MARK, "builddir"}  # noqa: PTH208


def test_more_than_was_asked_for_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builddir_copy, "COPIED_MAX", 10)
    many = archive(*(file(b"%d" % number, b"") for number in range(21)))
    with pytest.raises(ResultError, match="more files"):
        place.command(many)
    place.bytes_max = 10
    monkeypatch.setattr(builddir_copy, "COPIED_MAX", 1)
    large: Any = archive(file(b"a", bytes(10_000)))
    with pytest.raises(ResultError, match="larger than it may be"):
        place.command(large)
    assert not place.build.exists()

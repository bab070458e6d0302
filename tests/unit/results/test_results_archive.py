# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives from a node: what is kept, and everything that must be refused."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from mock_cloud.errors import ResultError
from mock_cloud.results.archive import unpack


def _member(name: str, kind: bytes = tarfile.REGTYPE, **facts: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    for key, value in facts.items():
        setattr(member, key, value)
    return member


def _archive(place: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Path:
    path = place / "archive.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_directories_files_and_links_come_out(tmp_path: Path) -> None:
    members = [
        (_member("tree", tarfile.DIRTYPE, mode=0o750), b""),
        (_member("tree/file", mode=0o640, mtime=1_000_000_000), b"data"),
        (_member("tree/hard", tarfile.LNKTYPE, linkname="tree/file", mode=0o640), b""),
        (_member("tree/soft", tarfile.SYMTYPE, linkname="/usr/lib/somewhere"), b""),
    ]
    unpack(_archive(tmp_path, members), tmp_path / "out")
    tree = tmp_path / "out" / "tree"
    assert (tree / "file").read_bytes() == (tree / "hard").read_bytes() == b"data"
    assert ((tree / "file").stat().st_mode & 0o7777, (tree / "file").stat().st_mtime) == (
        0o640,
        1_000_000_000,
    )
    assert str((tree / "soft").readlink()) == "/usr/lib/somewhere"
    assert tree.stat().st_mode & 0o777 == 0o750


def test_set_id_bits_do_not_come_out(tmp_path: Path) -> None:
    unpack(_archive(tmp_path, [(_member("file", mode=0o6755), b"x")]), tmp_path / "out")
    assert (tmp_path / "out" / "file").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "members",
    [
        [(_member("/etc/evil"), b"x")],
        [(_member("../evil"), b"x")],
        [(_member("a/../../evil"), b"x")],
        [(_member("."), b"x")],
        [(_member("fifo", tarfile.FIFOTYPE), b"")],
        [(_member("null", tarfile.CHRTYPE, devmajor=1, devminor=3), b"")],
        [(_member("hard", tarfile.LNKTYPE, linkname="/etc/passwd"), b"")],
        [(_member("hard", tarfile.LNKTYPE, linkname="../../etc/passwd"), b"")],
        [(_member("hard", tarfile.LNKTYPE, linkname="nowhere"), b"")],
        [(_member("twice"), b"x"), (_member("twice"), b"y")],
        [(_member("file"), b"x"), (_member("file/below"), b"y")],
        [(_member("link", tarfile.SYMTYPE, linkname="/tmp"), b""), (_member("link"), b"x")],
    ],
    ids=lambda members: " ".join(f"{m.name}:{m.type.decode()}" for m, _ in members),
)
def test_what_leads_out_or_is_no_file_is_refused(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    with pytest.raises(ResultError):
        unpack(_archive(tmp_path, members), tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    members = [
        (_member("link", tarfile.SYMTYPE, linkname=str(victim)), b""),
        (_member("link/file"), b"x"),
    ]
    with pytest.raises(ResultError):
        unpack(_archive(tmp_path, members), tmp_path / "out")
    assert list(victim.iterdir()) == []


def test_damage_is_said_so(tmp_path: Path) -> None:
    path = _archive(tmp_path, [(_member("file"), b"x" * 100_000)])
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(ResultError, match="damaged"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_without_measure_is_refused_unread(tmp_path: Path, kind: bytes) -> None:
    header = _member("header", kind, size=1 << 32)
    path = tmp_path / "archive.tar"
    with path.open("wb") as stream:
        stream.write(header.tobuf(tarfile.GNU_FORMAT))
        stream.truncate((1 << 32) + 2048)  # a hole: all that it takes is a look
    with pytest.raises(ResultError, match="header that is too large"):
        unpack(path, tmp_path / "out")


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = _archive(tmp_path, [(_member("file"), bytes(1 << 20))])
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ResultError, match="damaged"):
        unpack(path, tmp_path / "out")

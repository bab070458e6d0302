# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives from a node: what is kept, and everything that must be refused."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_cloud.errors import ResultError
from mock_cloud.results.archive import unpack_archive
from mock_cloud.wire.tree_archive import DEPTH_MAX, MEMBERS_MAX, Reader, TreeError, Writer
from tests.tree_archives import END, MAGIC, UP, archive, blob, directory, file, link


def put(place: Path, data: bytes) -> Path:
    path = place / "archive"
    path.write_bytes(data)
    return path


def make_tree(top: Path) -> None:
    (top / "tree/below").mkdir(parents=True)
    (top / "tree/file").write_bytes(b"data" * 400_000)
    (top / "tree/empty").touch(mode=0o640)
    (top / "tree/soft").symlink_to("/usr/lib/somewhere")
    os.link(top / "tree/file", top / "tree/hard")
    (top / "tree/file").chmod(0o6640)
    for name in ("file", "below"):
        os.utime(top / "tree" / name, ns=(1, 1_000_000_000_123_456_789))
    os.utime(top / "tree/soft", ns=(1, 5_000_000_000), follow_symlinks=False)
    (top / "tree").chmod(0o550)


def packed(top: Path) -> bytes:
    stream = io.BytesIO()
    writer = Writer(stream)
    for path in sorted(top.iterdir()):
        writer.add(path.name, str(path))
    writer.close()
    assert writer.problems == []
    return stream.getvalue()


def test_directories_files_and_links_come_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    make_tree(tmp_path / "in")
    unpack_archive(put(tmp_path, packed(tmp_path / "in")), tmp_path / "out")
    was, tree = tmp_path / "in/tree", tmp_path / "out/tree"
    assert {path.name for path in tree.iterdir()} == {path.name for path in was.iterdir()}
    assert (tree / "file").read_bytes() == (tree / "hard").read_bytes() == b"data" * 400_000
    assert (tree / "soft").readlink() == Path("/usr/lib/somewhere")
    for name in ("file", "hard", "empty", "below", "soft"):
        found, wanted = (tree / name).lstat(), (was / name).lstat()
        assert found.st_mtime_ns == wanted.st_mtime_ns, name
        assert found.st_mode == wanted.st_mode & ~0o7000, name  # no set-id bits
    # Ours to change and to remove, whatever it was there.
    assert tree.stat().st_mode & 0o7777 == 0o750
    (tree / "hard").unlink()
    assert (tree / "file").exists()


@pytest.mark.parametrize(
    "data",
    [
        archive(file(b"../evil")),
        archive(file(b"/etc/evil")),
        archive(file(b"..")),
        archive(file(b".")),
        archive(file(b"")),
        archive(file(b"a\0b")),
        archive(file(b"n" * 256)),
        archive(directory(b"..", file(b"evil"))),
        archive(UP, file(b"evil")),
        archive(directory(b"a"), UP, file(b"evil")),
        archive(link(b"l", b"")),
        archive(link(b"l", b"a\0b")),
        archive(link(b"l", b"x" * 4096)),
        archive(blob(b"b")),
        archive(file(b"f", mode=0o17777)),
        archive(b"p" + file(b"fifo")[1:]),
        archive(b"h" + link(b"hard", b"/etc/passwd")[1:]),
        archive(file(b"twice"), file(b"twice")),
        archive(file(b"file"), directory(b"file")),
        archive(link(b"link", b"/tmp"), file(b"link")),
        archive(link(b"link", b"/tmp"), directory(b"link", file(b"x"))),
        archive(directory(b"d"), link(b"d", b"/tmp")),
        archive(b"f" + file(b"f")[1:10]),
        archive(file(b"f", b"x" * 100))[:60],
        archive() + b"x",
        MAGIC,
        b"",
        b"\x1f\x8b\x08 a compressed one",
        MAGIC + b"d" + directory(b"open")[1:-1] + END,
        archive(*[directory(b"d")[:-1]] * (DEPTH_MAX + 1)),
        archive(file(b"f")[:-12] + struct.pack(">I", (1 << 20) + 1) + bytes((1 << 20) + 1)),
    ],
)  # fmt: skip
def test_what_leads_out_or_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(ResultError):
        unpack_archive(put(tmp_path, data), place / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "place"}
    assert {path.name for path in place.iterdir()} == {"out"}


def test_nothing_is_written_through_a_link_that_was_there_before(tmp_path: Path) -> None:
    """The directory is always a new one, but even if it were not."""
    from mock_cloud.results.archive import open_result_directory
    from mock_cloud.wire.tree_unpack import Unpacker

    victim = tmp_path / "victim"
    victim.mkdir()
    for replace in (False, True):
        place = tmp_path / f"place-{replace}"
        place.mkdir()
        (place / "link").symlink_to(victim)
        data = archive(directory(b"link", file(b"x"), directory(b"y")))
        with open_result_directory(place) as descriptor:
            if replace:  # the link makes way
                Unpacker(replace=True).unpack(Reader(io.BytesIO(data)), descriptor)
                assert not (place / "link").is_symlink()
            else:
                with pytest.raises(FileExistsError):
                    Unpacker().unpack(Reader(io.BytesIO(data)), descriptor)
        assert list(victim.iterdir()) == []


def test_what_cannot_be_packed_is_named_and_the_rest_is_packed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    deep = top / "/".join(["d"] * (DEPTH_MAX + 3))
    deep.mkdir(parents=True)
    (deep / "file").touch()
    (top / "kept").write_text("kept")
    os.mkfifo(top / "pipe")
    stream = io.BytesIO()
    writer = Writer(stream)
    writer.add("top", str(top))
    writer.add("gone", str(tmp_path / "gone"))
    writer.close()
    whys = [(problem.why, problem.special) for problem in writer.problems]
    assert whys == [
        (f"more than {DEPTH_MAX} directories deep", False),
        ("it is a named pipe", True),
        ("No such file or directory", False),
    ]
    unpack_archive(put(tmp_path, stream.getvalue()), tmp_path / "out")
    assert (tmp_path / "out/top/kept").read_text() == "kept"


@pytest.mark.slow
def test_too_many_members_are_refused() -> None:
    data = io.BytesIO(archive(file(b"f", b"") * (MEMBERS_MAX + 1)))
    with pytest.raises(TreeError, match="more than"):
        for _ in Reader(data):
            pass


_PROBE = """
import resource, sys
from pathlib import Path
from mock_cloud.errors import ResultError
from mock_cloud.results.archive import unpack_archive
limit = 1 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert resource.getrlimit(resource.RLIMIT_AS) == (limit, limit)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    unpack_archive(Path(sys.argv[1]), Path(sys.argv[2]))
except ResultError as error:
    print("refused:", error.message)
print("grew", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    "head",
    [
        b"d" + struct.pack(">BHqH", 0, 0, 0, 65535),
        b"l" + struct.pack(">BHqH", 0, 0, 0, 1) + b"l" + struct.pack(">H", 65535),
        b"f" + struct.pack(">BHqH", 0, 0, 0, 1) + b"f" + struct.pack(">I", (1 << 32) - 1),
        b"f" + struct.pack(">BHqH", 0, 0, 0, 1) + b"f" + struct.pack(">I", 1 << 20),
    ],
    ids=["name", "target", "piece", "contents"],
)
def test_no_length_of_the_nodes_costs_memory(tmp_path: Path, head: bytes) -> None:
    path = put(tmp_path, MAGIC + head)
    os.truncate(path, 4 << 30)  # a hole: all that it takes is a look
    root = Path(__file__).parents[3]
    run = subprocess.run(
        [sys.executable, "-c", _PROBE, path, tmp_path / "out"],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": str(root)}, cwd=root,
    )  # fmt: skip
    first, _, grew = run.stdout.partition("\n")
    assert first.startswith("refused: the node's archive")
    assert int(grew.split()[1]) < 16 << 10, run.stdout  # KiB; a piece is 1 MiB
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 1 << 30  # that was the child's


names = st.sampled_from([b"a", b"b", b"..", b"/", b"\xff", b""])
members = st.recursive(
    st.builds(file, names, st.binary(max_size=9), mode=st.integers(0, 0xFFFF))
    | st.builds(link, names, st.sampled_from([b"..", b"/", b"a", b"b/a", b""]))
    | st.builds(blob, names)
    | st.binary(max_size=20),
    lambda below: st.builds(lambda name, inside: directory(name, *inside), names, st.lists(below)),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(members).map(lambda parts: archive(*parts)), st.integers(0, 200))
def test_any_bytes_are_unpacked_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int
) -> None:
    place = tmp_path_factory.mktemp("any")
    with contextlib.suppress(ResultError):
        unpack_archive(
            put(place, data[: max(0, len(data) - cut)] if cut < 100 else data), place / "out"
        )
    assert {path.name for path in place.iterdir()} <= {"archive", "out"}

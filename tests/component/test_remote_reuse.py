# SPDX-License-Identifier: GPL-2.0-or-later
"""What the other end has of a file is not sent: both ways, over a real sshd; and liars."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest

from mock_cloud.remote.download import Fetch
from mock_cloud.remote.trusted import TrustedChannel
from mock_cloud.wire import chunks
from tests.component.remote_parts import (
    MIB,
    HandJob,
    LocalToolkit,
    blob_of,
    random_bytes,
    sha256,
    source_package,
)


@pytest.mark.parametrize("payload", ["w3.zstdio", pytest.param("w1.gzdio", marks=pytest.mark.slow)])
def test_a_spec_of_100_mb_with_another_line(
    channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path, payload: str
) -> None:
    first = source_package(tmp_path / "p", "before", payload)
    second = source_package(tmp_path / "p", "after", payload)
    assert channel.send_blobs([first]) == first.size_bytes
    moved: list[int] = []
    assert channel.send_blobs([second], moved.append) <= 64 * 1024
    stored = toolkit.workspace / "blobs" / second.digest
    assert sha256(stored.read_bytes()) == second.digest


def test_what_was_inserted_and_what_was_moved(
    channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path
) -> None:
    data = random_bytes(2, 12 * MIB)
    changed = data[5 * MIB :] + b"inserted" + data[: 5 * MIB] + b"x"
    channel.send_blobs([blob_of(tmp_path / "a", data)])
    blob = blob_of(tmp_path / "b", changed)
    assert channel.send_blobs([blob]) < 128 * 1024
    assert (toolkit.workspace / "blobs" / blob.digest).read_bytes() == changed


def test_nothing_in_common_costs_little(
    channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path
) -> None:
    channel.send_blobs([blob_of(tmp_path / "a", random_bytes(3, 4 * MIB))])
    blob = blob_of(tmp_path / "b", random_bytes(4, 24 * MIB))
    sent = channel.send_blobs([blob])
    assert blob.size_bytes < sent < blob.size_bytes * 1.01
    assert sha256((toolkit.workspace / "blobs" / blob.digest).read_bytes()) == blob.digest


def test_a_blob_that_was_spoiled_on_the_node_spoils_no_other(
    channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path
) -> None:
    """Its chunks are looked for, found changed, and what is left of it is of no use to a liar."""
    data = random_bytes(5, 4 * MIB)
    first = blob_of(tmp_path / "a", data)
    channel.send_blobs([first])
    kept = toolkit.workspace / "blobs" / first.digest
    kept.write_bytes(bytes(2 * MIB) + data[2 * MIB :])
    second = blob_of(tmp_path / "b", data + b"more")
    assert channel.send_blobs([second]) > 2 * MIB
    assert (toolkit.workspace / "blobs" / second.digest).read_bytes() == data + b"more"


def test_results_that_are_mostly_here(
    channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path
) -> None:
    data = random_bytes(6, 20 * MIB)
    made = b"header" + data[: 9 * MIB] + b"changed" + data[9 * MIB + 3 :]
    job = HandJob(toolkit.workspace, "j1")
    job.append("foo.src.rpm", made)
    job.end(0)
    here = tmp_path / "foo.src.rpm"
    here.write_bytes(data)
    file = next(one for one in channel.results("j1") if one.name == "foo.src.rpm")
    found = channel.find_here("j1", file, [here])
    assert sum(one.end - one.start for one in found) > len(made) - 128 * 1024
    got, moved = bytearray(), []
    channel.fetch("j1", [Fetch(file, got.extend, is_checked=True, here=found)], moved.append)
    assert got == made
    assert sum(moved) == len(made)
    # A line that was lost in between: from where it is.
    at = 10 * MIB + 5
    rest = bytearray(got[:at])
    channel.fetch("j1", [Fetch(file, rest.extend, at, is_checked=True, here=found)])
    assert rest == made


def test_a_file_here_that_changes_meanwhile_is_seen_by_who_checks(
    channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path
) -> None:
    data = random_bytes(7, 3 * MIB)
    job = HandJob(toolkit.workspace, "j1")
    job.append("foo.rpm", data)
    job.end(0)
    here = tmp_path / "foo.rpm"
    here.write_bytes(data)
    file = next(one for one in channel.results("j1") if one.name == "foo.rpm")
    found = channel.find_here("j1", file, [here])
    here.write_bytes(b"short")
    got = bytearray()
    channel.fetch("j1", [Fetch(file, got.extend, is_checked=True, here=found)])
    assert len(got) == len(data) and got != data


def test_both_ends_cut_alike_however_the_bytes_come(tmp_path: Path) -> None:
    data = random_bytes(8, 3 * MIB) + bytes(5 * MIB) + random_bytes(9, MIB)

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 70_001))

    fast = [chunk for chunk, _ in chunks.coarse_chunks(io.BytesIO(data))]
    assert fast == [chunk for chunk, _ in chunks.coarse_chunks(Slow(data))]
    assert fast[0].start == 0 and fast[-1].end == len(data)
    assert all(a.end == b.start for a, b in itertools.pairwise(fast))
    assert all(chunks.COARSE.least < one.end - one.start <= chunks.COARSE.most for one in fast[:-1])

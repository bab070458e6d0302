# SPDX-License-Identifier: GPL-2.0-or-later
import multiprocessing
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.owner import is_same_user, local_owner
from mock_cloud.errors import ConfigError
from tests.unit.cloud.cloud_in_memory import lease_of


def test_two_state_directories_are_two_owners(tmp_path: Path) -> None:
    one, two = Journal(tmp_path / "one").owner, Journal(tmp_path / "two").owner
    assert one != two
    assert one.rpartition("/")[0] == two.rpartition("/")[0]
    assert re.fullmatch(rf".+@{re.escape(socket.gethostname())}:{os.getuid()}/[0-9a-f]{{8}}", one)


def test_one_state_directory_is_one_owner_for_ever(tmp_path: Path) -> None:
    assert Journal(tmp_path).owner == Journal(tmp_path).owner == local_owner(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_of_many_processes_that_begin_one_makes_the_word(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[str] = context.Queue()
    crowd = [context.Process(target=lambda: queue.put(local_owner(tmp_path))) for _ in range(8)]
    for one in crowd:
        one.start()
    owners = {queue.get(timeout=600) for _ in crowd}
    for one in crowd:
        one.join()
    assert len(owners) == 1


@pytest.mark.parametrize("content", ["", "abc", "ABCDEF01", "abcdef012", "../../..", "\xff" * 8])
def test_a_damaged_word_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "owner-id").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match="owner-id"):
        local_owner(tmp_path)


def test_the_way_back_is_a_command_that_works(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    owner, path = journal.owner, tmp_path / "owner-id"
    for lease in ([], [lease_of(owner, "a1")]):
        with journal.transaction() as books:
            for one in lease:
                books.write(one)
        path.write_text("garbage")
        with pytest.raises(ConfigError) as caught:
            local_owner(tmp_path)
        command = (caught.value.hint or "").partition(": ")[2].partition(",")[0]
        subprocess.run(["/bin/sh", "-c", command], check=True)
        assert (local_owner(tmp_path) == owner) is bool(lease)


@pytest.mark.parametrize(
    ("other", "kin"),
    [
        ("me@here:0/11111111", False),  # that is ourselves
        ("me@here:0/22222222", True),
        ("me@here:0", True),
        ("me@renamed:0/11111111", True),
        ("me@elsewhere:0/22222222", False),
        ("me@elsewhere:0", False),
        ("you@here:0/22222222", False),
        ("me@here:00/22222222", False),
        ("", False),
    ],
)
def test_kin_has_the_same_person_or_the_same_word(other: str, kin: bool) -> None:
    assert is_same_user("me@here:0/11111111", other) is kin

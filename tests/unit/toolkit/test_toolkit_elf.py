# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF objects of this machine, slimmed and confined, and bytes that are none."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_cloud.errors import InputError
from mock_cloud.toolkit import elf, origin

PROGRAM = Path(shutil.which("true") or "/bin/true").resolve()


def _dynamic_tags(data: bytes) -> list[int]:
    return [tag for tag, _ in elf._dynamic(data, elf._parse(data, PROGRAM))]


def test_the_loader_of_a_program() -> None:
    assert elf.find_loader(PROGRAM).name.startswith("ld")


def test_libraries_by_the_name_they_are_asked_for() -> None:
    found = elf.list_libraries(elf.find_loader(PROGRAM), PROGRAM)
    assert found["libc.so.6"].is_file()
    assert all("/" not in name for name in found)


def test_what_an_object_asks_for_is_what_the_loader_finds() -> None:
    found = elf.list_libraries(elf.find_loader(PROGRAM), PROGRAM)
    needed = elf.list_needed(PROGRAM.read_bytes(), PROGRAM)
    assert needed
    assert set(needed) <= {*found, elf.find_loader(PROGRAM).name}


def test_a_library_s_name_that_is_none_is_refused() -> None:
    data = PROGRAM.read_bytes()
    name = elf.list_needed(data, PROGRAM)[0].encode()
    with pytest.raises(InputError, match="without a name"):
        elf.list_needed(data.replace(b"\0" + name, b"\0/" + name[1:]), PROGRAM)


def test_a_slimmed_program_still_runs(tmp_path: Path) -> None:
    slimmed = tmp_path / "true"
    slimmed.write_bytes(elf.slim(PROGRAM.read_bytes(), PROGRAM))
    slimmed.chmod(0o755)
    assert slimmed.stat().st_size <= PROGRAM.stat().st_size
    assert subprocess.run([slimmed], check=False).returncode == 0


def test_search_paths_are_removed() -> None:
    python = origin.base_python()
    before = _dynamic_tags(python.read_bytes())
    if not {15, 29} & set(before):
        pytest.skip("needs a python with RPATH or RUNPATH, such as pyenv's")
    after = _dynamic_tags(elf.slim(python.read_bytes(), python))
    assert after == [tag for tag in before if tag not in (15, 29)]


def test_a_confined_loader_names_nothing_of_the_node() -> None:
    loader = elf.find_loader(PROGRAM)
    data = elf.confine_loader(loader.read_bytes(), loader)
    for word in (b"/etc/ld.so.preload", b"/etc/ld.so.cache\0", b"\0/lib/\0", b"\0/usr/lib/\0"):
        assert word not in data
    assert b"/dev/null/.preload\0" in data


def test_a_loader_that_cannot_be_confined_is_refused() -> None:
    with pytest.raises(InputError, match="not a loader that can be confined"):
        elf.confine_loader(PROGRAM.read_bytes(), PROGRAM)


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x01" + bytes(80)])
def test_what_is_no_object(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    assert elf.slim(data, path) == data
    with pytest.raises(InputError, match="not an ELF"):
        elf.find_loader(path)


@settings(max_examples=60, deadline=None)
@given(st.integers(64, 4096))
def test_a_cut_object_is_refused(size: int) -> None:
    data = bytearray(PROGRAM.read_bytes()[:size])
    struct.pack_into("<Q", data, 0x20, size - 8)  # program headers beyond the end
    with pytest.raises(InputError, match="damaged"):
        elf.slim(bytes(data), PROGRAM)

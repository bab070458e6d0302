# SPDX-License-Identifier: GPL-2.0-or-later
"""RPM files read just far enough, and hostile ones refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mock_cloud.invocation.srpm import PackageFacts, SrpmError, read_package_facts

Forge = Callable[..., bytes]


def nvr(facts: PackageFacts) -> str:
    return f"{facts.name}-{facts.version}-{facts.release}"


def test_a_real_source_package(tiny: Mapping[str, Path]) -> None:
    facts = read_package_facts(tiny["source"])
    assert (nvr(facts), facts.arch, facts.source) == ("tiny-1.0-1", "noarch", True)
    assert facts.size_bytes == tiny["source"].stat().st_size


def test_a_real_binary_package_is_not_a_source_package(tiny: Mapping[str, Path]) -> None:
    assert not read_package_facts(tiny["binary"]).source


def test_every_truncation_of_a_real_package_is_refused(
    tiny: Mapping[str, Path], tmp_path: Path
) -> None:
    whole = tiny["source"].read_bytes()
    path = tmp_path / "a.src.rpm"
    for size in (0, 1, 95, 96, 100, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(SrpmError):
            read_package_facts(path)
    path.write_bytes(whole)
    assert read_package_facts(path).name == "tiny"


def test_truncation_has_mocks_exit_code_for_it(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "a.src.rpm"
    path.write_bytes(tiny["source"].read_bytes()[:-10])
    with pytest.raises(SrpmError, match="truncated") as caught:
        read_package_facts(path)
    assert caught.value.exit_code == 40


@pytest.mark.parametrize(
    "name",
    [b"", b"-rf", b"../../etc/passwd", b"a b", b"a\nb", b"a\x1b[2J", b".hidden", b"a/b", b"a;b",
     b"$(id)", b"\xff\xfe", b"a" * 300, "ünï".encode()],
)  # fmt: skip
def test_hostile_header_texts_are_refused_in_one_safe_line(
    name: bytes, forge: Forge, tmp_path: Path
) -> None:
    path = tmp_path / "a.src.rpm"
    for field in ("name", "version", "release", "arch"):
        path.write_bytes(forge(**{field: name}))
        with pytest.raises(SrpmError) as caught:
            read_package_facts(path)
        assert caught.value.exit_code == 1
        assert caught.value.message.isprintable()


def test_a_forged_package_is_read_as_such(forge: Forge, tmp_path: Path) -> None:
    path = tmp_path / "a.src.rpm"
    path.write_bytes(forge(b"gtk+", b"1.0~rc1^git", b"2.fc43"))
    assert nvr(read_package_facts(path)) == "gtk+-1.0~rc1^git-2.fc43"
    path.write_bytes(forge(source=False))
    assert not read_package_facts(path).source
    path.write_bytes(forge(claimed=10_000))
    with pytest.raises(SrpmError, match="truncated"):
        read_package_facts(path)


@pytest.mark.parametrize("count", [0x10000, 0xFFFFFFFF])
def test_absurd_lengths_are_refused_before_memory_is_taken(
    count: int, forge: Forge, tmp_path: Path
) -> None:
    data = bytearray(forge())
    data[96 + 8 : 96 + 12] = count.to_bytes(4, "big")
    path = tmp_path / "a.src.rpm"
    path.write_bytes(data)
    with pytest.raises(SrpmError, match="too large"):
        read_package_facts(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    position=st.integers(0, 400), junk=st.binary(min_size=1, max_size=40), cut=st.integers(0, 500)
)
def test_damaged_packages_are_read_or_refused(
    position: int, junk: bytes, cut: int, forge: Forge, tmp_path: Path
) -> None:
    data = bytearray(forge(payload=b"p" * 200))
    data[position : position + len(junk)] = junk
    path = tmp_path / "a.src.rpm"
    path.write_bytes(data[: len(data) - cut])
    try:
        facts = read_package_facts(path)
    except SrpmError as error:
        assert error.message.isprintable()
    else:
        assert nvr(facts).isascii()

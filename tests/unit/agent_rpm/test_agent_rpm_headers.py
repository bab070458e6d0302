# SPDX-License-Identifier: GPL-2.0-or-later
"""RPM headers and package files: what they say, and that damaged ones are refused."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mock_cloud.agent.engine import packages
from mock_cloud.signed.rpmfile import read_unverified
from mock_cloud.wire import rpmfile
from mock_cloud.wire.rpmheader import Header, HeaderError, Tag, Type, split
from tests.unit.agent_rpm import oracle


def header(*tags: tuple[int, int, int, bytes]) -> bytes:
    """An RPM header blob of (tag, type, count, data), without a region."""
    index, data = b"", b""
    for tag, kind, count, value in tags:
        data += b"\0" * (-len(data) % {4: 4, 5: 8}.get(kind, 1))
        index += struct.pack(">IIII", tag, kind, len(data), count)
        data += value
    return struct.pack(">II", len(tags), len(data)) + index + data


def parsed(blob: bytes) -> Header:
    return split(blob).region


def integers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def test_requirements_of_a_header() -> None:
    found = parsed(
        header(
            (Tag.REQUIREFLAGS, 4, 4, integers(0, 12, 1 << 24 | 10, 2)),
            (Tag.REQUIRENAME, 8, 4, b"make\0gcc\0rpmlib(X)\0old\0"),
            (Tag.REQUIREVERSION, 8, 4, b"\0" + b"9\0" + b"4.0\0" + b"2\0"),
        )
    )
    assert rpmfile.requirements(found) == ["gcc >= 9", "make", "old < 2"]
    assert "rpmlib(X) <= 4.0" in rpmfile.requirements(found, internal=True)


def test_requirements_that_do_not_fit_together_are_refused() -> None:
    found = parsed(
        header((Tag.REQUIREFLAGS, 4, 1, integers(0)), (Tag.REQUIRENAME, 8, 1, b"make\0"))
    )
    with pytest.raises(HeaderError, match="REQUIREVERSION"):
        rpmfile.requirements(found)


def test_identity_of_a_header() -> None:
    found = parsed(
        header(
            (Tag.EPOCH, 4, 1, integers(2)),
            (Tag.NAME, 6, 1, b"a\0"),
            (Tag.VERSION, 6, 1, b"1\0"),
            (Tag.RELEASE, 6, 1, b"3\0"),
            (Tag.ARCH, 6, 1, b"noarch\0"),
            (Tag.BASENAMES, 8, 2, b"x.tar\0odd\0"),
        )
    )
    assert rpmfile.nevra(found) == "a-2:1-3.noarch"
    assert not rpmfile.is_source(found)
    assert rpmfile.spec_names(found) == []


SOURCE, BINARY = (Tag.SOURCEPACKAGE, 4, 1, integers(1)), (Tag.SOURCERPM, 6, 1, b"a-1-1.src.rpm\0")
NO_DIRECTORY, DIRECTORY = (Tag.DIRNAMES, 8, 1, b"\0"), (Tag.DIRNAMES, 8, 1, b"/usr/\0")


@pytest.mark.parametrize(
    ("tag", "source"),
    [(SOURCE, True), (BINARY, False), (NO_DIRECTORY, True), (DIRECTORY, False),
     ((Tag.DIRNAMES, 8, 2, b"\0/\0"), False)],
)  # fmt: skip
def test_what_a_source_package_is(tag: tuple[int, int, int, bytes], source: bool) -> None:
    """rpm before 4.14 writes no SOURCEPACKAGE: what has no directories is a source package."""
    assert rpmfile.is_source(parsed(header(tag))) == source


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        header((1000, 6, 1, b"x\0"))[:-1],
        struct.pack(">II", 0, 0),
        struct.pack(">II", 1 << 30, 4),
        struct.pack(">IIIIII", 1, 0, 1000, 6, 9, 1),
        header((1000, 6, 1, b"x\0"), (1000, 6, 1, b"x\0")),
        header((1000, 4, 2, integers(1))),
    ],
)
def test_a_broken_header_is_refused(blob: bytes) -> None:
    with pytest.raises(HeaderError):
        parsed(blob)


@pytest.mark.parametrize("tag", [(1000, 6, 1, b"no end"), (1000, 4, 1, b"\0\0\0\1")])
def test_a_broken_string_is_refused(tag: tuple[int, int, int, bytes]) -> None:
    with pytest.raises(HeaderError):
        parsed(header(tag)).string(1000)


# Damage


def read_all(found: Header) -> None:
    """Every value, and all that is made of the values."""
    for tag, entry in found.entries.items():
        found.value(tag)
        if entry.type in (Type.INT8, Type.INT16, Type.INT32, Type.INT64):
            found.integers(tag, entry.type)
    for read in (rpmfile.nevra, rpmfile.is_source, rpmfile.spec_names, rpmfile.requirements):
        read(found)
    packages.installed(found)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_damaged_package_is_refused_or_read_as_rpm_reads_it(
    tiny: Mapping[str, Path], data: st.DataObject
) -> None:
    """No other exception than HeaderError, and what is read is what rpm reads."""
    spoilt = bytearray(tiny["source"].read_bytes())
    whole = rpmfile.read_file(io.BytesIO(spoilt))
    # Half of the changes in the header's index, where offsets, counts and types are.
    index = st.integers(whole.header_at + 8, whole.header_at + 16 + 16 * len(whole.blob.index))
    places = index | st.integers(0, len(spoilt) - 1)
    for at in data.draw(st.lists(places, min_size=1, max_size=4)):
        spoilt[at] = data.draw(st.integers(0, 255))
    try:
        file = rpmfile.read_file(io.BytesIO(spoilt))
        _ = file.whole_bytes
        read_all(file.header)
        read_unverified(bytes(spoilt))
    except HeaderError:
        return
    rpm = oracle.find_rpm()
    if rpm is None:
        return
    try:
        theirs = rpm.hdr(bytes(spoilt[file.header_at + 8 : file.payload_at]))
    except rpm.error:
        # rpm knows the type of each of its tags; we only of those that we read.
        assert types(file.header) != types(whole.header)
        return
    oracle.check_tags(rpm, file.header, theirs)


def types(found: Header) -> list[tuple[int, int]]:
    return [(tag, entry.type) for tag, entry in found.entries.items()]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(HeaderError):
        split(noise)
    with pytest.raises(HeaderError):
        rpmfile.read_file(io.BytesIO(noise))


# Sizes of formats 4 and 6

Forge = Callable[..., bytes]


def test_the_sizes_of_format_4(forge: Forge) -> None:
    data = forge(payload=b"p" * 1000)
    file = rpmfile.read_file(io.BytesIO(data))
    assert (file.whole_bytes, file.payload_at) == (len(data), len(data) - 1000)


@pytest.mark.parametrize(
    ("payload", "sizes"), [(b"\x1f\x8bzipped", (8, 50)), (b"07070X" + b"x" * 44, (8, 50))]
)
def test_the_sizes_of_format_6(forge: Forge, payload: bytes, sizes: tuple[int, int]) -> None:
    """The header has both the compressed payload's and the uncompressed one's: either may be there.

    A signature header of format 6 has no sizes, and what stands there is not read.
    """
    data = forge(payload=payload, payload_sizes=sizes, claimed=10_000)
    assert rpmfile.read_file(io.BytesIO(data)).whole_bytes == len(data)


def test_a_file_with_entries_outside_of_its_regions_is_refused(tiny: Mapping[str, Path]) -> None:
    """Only a database adds some. rpm refuses such a file (hdrblobVerifyRegion), and so do we."""
    whole = tiny["source"].read_bytes()
    file = rpmfile.read_file(io.BytesIO(whole))
    added = struct.pack(">IIII", 5200, Type.STRING, len(file.blob.data), 1)
    counts = struct.pack(">II", len(file.blob.index) + 1, len(file.blob.data) + 5)
    index_end = file.header_at + 16 + 16 * len(file.blob.index)
    start = whole[: file.header_at + 8]
    index, data = whole[file.header_at + 16 : index_end], file.blob.data + b"evil\0"
    spoilt = start + counts + index + added + data + whole[file.payload_at :]
    with pytest.raises(HeaderError, match="region"):
        rpmfile.read_file(io.BytesIO(spoilt))


@pytest.mark.parametrize("part", ["signature", "header"])
def test_the_regions_of_a_file_are_those_of_their_place(
    tiny: Mapping[str, Path], part: str
) -> None:
    spoilt = bytearray(tiny["source"].read_bytes())
    at = 96 if part == "signature" else rpmfile.read_file(io.BytesIO(spoilt)).header_at
    spoilt[at + 19] = Tag.HEADERIMAGE
    with pytest.raises(HeaderError, match="region"):
        rpmfile.read_file(io.BytesIO(spoilt))

# SPDX-License-Identifier: GPL-2.0-or-later
"""RPM headers: what is read from real ones, and that no hostile one gets further."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_cloud.attest.packages import FileFlag, Package, PackageFile, verify_package
from mock_cloud.errors import ConfigError
from mock_cloud.signed.header import parse_signed_header
from mock_cloud.signed.keys import PackageKeys, UnsignedError
from mock_cloud.wire.rpmheader import HeaderError, Tag, Type
from tests.unit.attest.attest_builder import DATA, blob, keys, sha256

Entry = tuple[int, int, int, int]
OTHER = 299
"""A tag that means nothing, to hide another's data under."""


def split(data: bytes) -> tuple[list[Entry], bytes]:
    count, _ = struct.unpack_from(">II", data)
    index = list(struct.iter_unpack(">iIii", data[8 : 8 + 16 * count]))
    return index, data[8 + 16 * count :]


def join(index: list[Entry], data: bytes) -> bytes:
    packed = b"".join(struct.pack(">iIii", *entry) for entry in index)
    return struct.pack(">II", len(index), len(data)) + packed + data


def with_entry(number: int, **facts: int) -> bytes:
    """The tools package with one index entry changed."""
    index, data = split(blob("tools"))
    names = ("tag", "type", "offset", "count")
    entry = dict(zip(names, index[number], strict=True)) | facts
    index[number] = (entry["tag"], entry["type"], entry["offset"], entry["count"])
    return join(index, data)


def file_of(package: Package, path: str) -> PackageFile:
    return next(file for file in package.files if file.directory + file.name == path)


def test_a_signed_header_tells_its_package() -> None:
    package = verify_package(blob("tools"), keys())
    assert package.nevra == "tools-1.0-1.noarch"
    assert package.sha256 == parse_signed_header(blob("tools")).sha256
    assert package.signer in keys().certificates


def test_the_facts_of_files_are_those_of_the_build() -> None:
    package = verify_package(blob("tools"), keys())
    bash = file_of(package, "/bin/bash")
    assert (bash.type, bash.mode, bash.value) == ("f", 0o755, sha256("bash 1.0\n"))
    assert file_of(package, "/bin/sh").value == "bash"
    assert file_of(package, "/usr/bin/su").mode == 0o4755
    assert file_of(package, "/var/lib/tools").group == "mail"
    assert file_of(package, "/var/lib/tools").mode == 0o2750
    assert file_of(package, "/usr/share/locale/de/tools.mo").language == "de"
    assert file_of(package, "/usr/bin/egrep").value == sha256("grep\n")


def test_flags_capabilities_and_ghosts() -> None:
    package = verify_package(blob("tools"), keys())
    assert file_of(package, "/etc/tools.conf").flags & FileFlag.CONFIG
    assert file_of(package, "/usr/share/doc/tools.txt").flags & FileFlag.DOC
    assert file_of(package, "/usr/share/doc/licence.txt").flags & FileFlag.LICENSE
    ghost = file_of(package, "/var/lib/tools/state")
    assert ghost.flags & FileFlag.GHOST
    assert ghost.value is None
    ((name, value),) = file_of(package, "/usr/bin/ping").xattrs
    # struct vfs_cap_data: revision 2, effective; CAP_NET_RAW is 13.
    assert (name, value) == ("security.capability", "0100000200200000" + "00" * 12)


def test_an_imported_key_passes_unsigned_but_is_no_signed_package() -> None:
    package = verify_package(blob("gpg-pubkey"), keys())
    assert package.signer == ""
    assert package.files == ()


def test_a_signature_of_rpm_6_is_found() -> None:
    """The OPENPGP tag has what RSAHEADER and DSAHEADER had, in base64."""
    index, data = split(blob("tools"))
    number = next(at for at, entry in enumerate(index) if entry[0] == Tag.DSAHEADER)
    _, kind, offset, count = index[number]
    index[number] = (OTHER, kind, offset, count)
    text = base64.b64encode(data[offset : offset + count]) + b"\0"
    index.append((Tag.OPENPGP, Type.STRING_ARRAY, len(data), 1))
    assert verify_package(join(index, data + text), keys()).signer


def test_what_stands_outside_of_the_signature_is_not_believed() -> None:
    """A dribble of the tag FILEDIGESTS changes nothing."""
    index, data = split(blob("tools"))
    index.append((1035, Type.STRING_ARRAY, len(data), 1))
    package = verify_package(join(index, data + b"evil\0"), keys())
    assert package.files == verify_package(blob("tools"), keys()).files


def test_an_rsa_signature_is_verified_too() -> None:
    """gpg signs with RSA under the tag RSAHEADER."""
    theirs = PackageKeys.parse([(DATA / "stranger.asc").read_bytes()])
    assert verify_package(blob("tools-stranger"), theirs).nevra == "tools-1.0-1.noarch"


@pytest.mark.parametrize("name", ["tools-unsigned", "tools-stranger"])
def test_a_header_that_no_pinned_key_signed_is_refused(name: str) -> None:
    with pytest.raises(UnsignedError):
        verify_package(blob(name), keys())


def test_one_changed_bit_in_the_signed_region_is_refused() -> None:
    index, data = split(blob("tools"))
    at = data.index(b"bash")
    with pytest.raises(HeaderError, match="SHA256HEADER"):
        parse_signed_header(join(index, data[:at] + b"cash" + data[at + 4 :]))


def test_a_changed_region_with_a_matching_digest_is_still_unsigned() -> None:
    index, data = split(blob("tools"))
    at = data.index(b"bash")
    evil = data[:at] + b"cash" + data[at + 4 :]
    without_digest = [(OTHER if tag == Tag.SHA256HEADER else tag, *rest) for tag, *rest in index]
    with pytest.raises(UnsignedError):
        verify_package(join(without_digest, evil), keys())


def test_a_signature_of_another_header_is_refused() -> None:
    index, data = split(blob("tools"))
    other_index, other_data = split(blob("other"))
    _, _, offset, count = next(entry for entry in other_index if entry[0] == Tag.DSAHEADER)
    number = next(at for at, entry in enumerate(index) if entry[0] == Tag.DSAHEADER)
    _, *mine = index[number]
    index[number] = (OTHER, *mine)
    index.append((Tag.DSAHEADER, Type.BIN, len(data), count))
    with pytest.raises(UnsignedError):
        verify_package(join(index, data + other_data[offset : offset + count]), keys())


HOSTILE: list[tuple[str, Callable[[], bytes]]] = [
    ("nothing", lambda: b""),
    ("cut short", lambda: blob("tools")[:-1]),
    ("more than the counts say", lambda: blob("tools") + b"\0"),
    ("no region", lambda: with_entry(0, tag=62)),
    ("a region of the old kind", lambda: with_entry(0, tag=61)),
    ("a trailer before the data", lambda: with_entry(0, offset=-16)),
    ("a trailer after the data", lambda: with_entry(0, offset=1 << 30)),
    ("a trailer elsewhere", lambda: with_entry(0, offset=16)),
    ("a reserved tag inside", lambda: with_entry(3, tag=Tag.HEADERIMMUTABLE)),
    ("a tag twice", lambda: with_entry(3, tag=1000)),
    ("an unknown type", lambda: with_entry(3, type=77)),
    ("a negative offset", lambda: with_entry(3, offset=-1)),
    ("an offset past the region", lambda: with_entry(3, offset=1 << 20)),
    ("entries out of order", lambda: with_entry(3, offset=0)),
    ("a shared offset", lambda: with_entry(3, offset=split(blob("tools"))[0][2][2])),
    ("a count of zero", lambda: with_entry(3, count=0)),
    ("a negative count", lambda: with_entry(3, count=-5)),
    ("a huge count", lambda: with_entry(3, count=(1 << 31) - 1)),
    ("two single strings", lambda: with_entry(2, type=6, count=2)),
]


@pytest.mark.parametrize(("what", "make"), HOSTILE, ids=[what for what, _ in HOSTILE])
def test_a_malformed_header_is_refused(what: str, make: Callable[[], bytes]) -> None:
    with pytest.raises(HeaderError):
        parse_signed_header(make())


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_other_exception_escapes(data: st.DataObject) -> None:
    """Whatever bytes of a real header are changed, it is refused or read as it was."""
    original = blob(data.draw(st.sampled_from(["tools", "base", "gpg-pubkey", "tools-stranger"])))
    spoilt = bytearray(original)
    index_end = 8 + 16 * struct.unpack_from(">I", original)[0]
    # Half of the changes in the index, where offsets, counts and types are.
    places = st.integers(0, index_end - 1) | st.integers(0, len(original) - 1)
    for at in data.draw(st.lists(places, min_size=1, max_size=6)):
        spoilt[at] = data.draw(st.integers(0, 255))
    try:
        package = verify_package(bytes(spoilt), keys())
    except (HeaderError, UnsignedError):
        return
    if package.signer:
        assert package == verify_package(original, keys())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_no_other_exception_escapes_from_noise(noise: bytes) -> None:
    with pytest.raises(HeaderError):
        parse_signed_header(noise)


def region(entries: list[tuple[int, int, bytes, int]]) -> bytes:
    """A blob whose region has exactly these (tag, type, data, count)."""
    index, data = [], b""
    for tag, kind, value, count in entries:
        data += b"\0" * (-len(data) % 8)
        index.append((tag, kind, len(data), count))
        data += value
    trailer = struct.pack(">iIii", Tag.HEADERIMMUTABLE, 7, -16 * (len(index) + 1), 16)
    return join([(Tag.HEADERIMMUTABLE, 7, len(data), 16), *index], data + trailer)


STRING_TAGS = (1035, 1036, 1039, 1040, 1097, 1117, 1118, 5010)
NUMBER_TAGS = {1028: 4, 1030: 3, 1033: 3, 1037: 4, 1045: 4, 1116: 4, 5008: 5, 5011: 4}
WORDS = ("a", "", "/", "/usr/", "..", "/a//", "=ep", "cap_net_raw=ep", "x=", "root", "0" * 64)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_other_exception_escapes_from_well_formed_nonsense(data: st.DataObject) -> None:
    """Regions that hold together, with file tags of any contents; mostly as many as files.

    A key's header is read without a signature, so that this gets to the file tags.
    """
    count = data.draw(st.integers(1, 3))
    odd_count = st.just(count) | st.integers(1, 4)
    entries = [(1000, 6, b"gpg-pubkey\0", 1), (1001, 6, b"1\0", 1), (1002, 6, b"1\0", 1)]
    for tag in STRING_TAGS:
        number = data.draw(odd_count)
        words = data.draw(st.lists(st.sampled_from(WORDS), min_size=number, max_size=number))
        entries.append((tag, 8, b"".join(word.encode() + b"\0" for word in words), number))
    for tag, kind in NUMBER_TAGS.items():
        number = data.draw(odd_count)
        size = number * {3: 2, 4: 4, 5: 8}[kind]
        likely = st.just(bytes(size)) | st.just(b"\x81\xa4" * (size // 2))
        entries.append(
            (tag, kind, data.draw(likely | st.binary(min_size=size, max_size=size)), number)
        )
    kept = data.draw(st.sets(st.sampled_from(range(3, len(entries))), max_size=2))
    blob_ = region([entry for at, entry in enumerate(entries) if at not in kept])
    try:
        package = verify_package(blob_, keys())
    except HeaderError:
        return
    assert (package.signer, package.files) == ("", ())


def test_a_cache_is_kept_apart_by_key_set() -> None:
    """What one set of keys vouched for says nothing under another."""
    cache: dict[tuple[str, str], Package] = {}
    verify_package(blob("tools"), keys(), cache)
    verify_package(blob("tools"), keys(), cache)
    assert len(cache) == 1
    others = PackageKeys.parse([(DATA / "stranger.asc").read_bytes()])
    with pytest.raises(UnsignedError):
        verify_package(blob("tools"), others, cache)


@pytest.mark.parametrize(
    "armoured",
    [[], [b""], [b"not a key"], [b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n"]],
)
def test_unusable_package_keys_are_an_error_of_configuration(armoured: list[bytes]) -> None:
    with pytest.raises(ConfigError):
        PackageKeys.parse(armoured)

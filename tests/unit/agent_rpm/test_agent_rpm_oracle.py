# SPDX-License-Identifier: GPL-2.0-or-later
"""What we read of RPM headers is what rpm itself reads: of new, old, real and damaged ones."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from mock_cloud.agent.measure.headers import iter_headers
from mock_cloud.invocation.srpm import SrpmError, read_package_facts
from mock_cloud.signed.header import parse_signed_header as parse_signed
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.signed.rpmfile import verify_rpm
from mock_cloud.wire.rpmfile import read_file
from mock_cloud.wire.rpmheader import HeaderError, Tag, split
from tests.unit.agent_rpm import oracle
from tests.unit.agent_rpm.oracle import REGIONS
from tests.unit.attest.attest_builder import DATA

NEW = {
    Tag.OPENPGP, Tag.SHA3_256HEADER, Tag.PAYLOADSHA256, Tag.PAYLOADSHA256ALGO,
    Tag.PAYLOADSHA256ALT, Tag.PAYLOADSIZE, Tag.PAYLOADSIZEALT, Tag.RPMFORMAT, Tag.PAYLOADSHA512,
    Tag.PAYLOADSHA512ALT, Tag.PAYLOADSHA3_256, Tag.PAYLOADSHA3_256ALT, Tag.SOURCESIGMD5,
}  # fmt: skip
"""Tags that rpm before 6 knows by another name, or not at all."""
INSTALLTIME = 1008
GIVEN = oracle.given_packages()


def test_tags_have_rpms_own_names_and_numbers() -> None:
    rpm = oracle.import_rpm()
    known = {tag: getattr(rpm, f"RPMTAG_{tag.name}", None) for tag in Tag}
    assert {tag for tag, number in known.items() if number not in (tag, None)} == set()
    unknown = {tag for tag, number in known.items() if number is None}
    assert unknown - REGIONS <= NEW


@pytest.mark.parametrize("name", ["source", "binary"])
def test_packages_of_this_machines_rpm(tiny: Mapping[str, Path], name: str) -> None:
    oracle.check_package(oracle.import_rpm(), tiny[name])


@pytest.mark.skipif(not GIVEN, reason="no real packages ($MOCK_CLOUD_TEST_PACKAGES)")
@pytest.mark.parametrize("path", GIVEN, ids=lambda path: path.name)
def test_real_packages(path: Path) -> None:
    rpm = oracle.import_rpm()
    if path.suffix == ".rpm":
        oracle.check_package(rpm, path)
    else:
        check_blob(oracle.read_blob(path))


@pytest.mark.parametrize("path", sorted(DATA.glob("*.hdr")), ids=lambda path: path.name)
def test_headers_of_a_database(path: Path) -> None:
    check_blob(path.read_bytes())


def check_blob(blob: bytes) -> None:
    rpm = oracle.import_rpm()
    ours, theirs = split(blob).region, rpm.hdr(blob)
    assert set(ours.entries) <= set(theirs.keys())
    oracle.check_facts(rpm, ours, theirs)


PACKAGES = [path for path in GIVEN if path.suffix == ".rpm"]


@pytest.mark.skipif(not PACKAGES, reason="no real packages ($MOCK_CLOUD_TEST_PACKAGES)")
@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.name)
def test_a_real_package_that_lacks_a_byte_is_truncated(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cut.src.rpm"
    copy.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SrpmError, match="truncated") as caught:
        read_package_facts(copy)
    assert caught.value.exit_code == 40


def test_what_this_machines_rpm_has_in_its_database(
    tiny: Mapping[str, Path], tmp_path: Path
) -> None:
    """What rpm adds at install stands outside of the region, and is sound too."""
    place = tmp_path / "var/lib/rpm"
    place.mkdir(parents=True)
    subprocess.run(
        ["rpm", "-i", "--justdb", "--nodeps", "--dbpath", str(place),
         "--define", "_db_backend sqlite", str(tiny["binary"])],
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    (blob,) = iter_headers(str(tmp_path))
    check_blob(blob)
    added = split(blob).outside.entries
    assert INSTALLTIME in added
    header = parse_signed(blob)  # the digest is checked
    with tiny["binary"].open("rb") as stream:
        assert header.signed == read_file(stream).blob.image


def test_a_signed_package_of_format_6_is_verified_payload_included() -> None:
    """By an OpenPGP v6 key, in the tag OPENPGP; the payload's digest has no algorithm beside it."""
    path = next((one for one in PACKAGES if one.name == "rpm-basic-v6-ed25519.noarch.rpm"), None)
    if path is None:
        pytest.skip("needs rpm-basic-v6-ed25519.noarch.rpm in $MOCK_CLOUD_TEST_PACKAGES")
    (key,) = path.parent.glob("*testkey-v6-ed25519.asc")
    keys = PackageKeys.parse([key.read_bytes()])
    data = path.read_bytes()
    assert verify_rpm(data, keys).name == "rpm-basic"
    for spoilt in (data[:-1], data[:-1] + b"x", data + b"\0"):
        with pytest.raises(HeaderError, match="payload"):
            verify_rpm(spoilt, keys)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Signatures checked while a node is measured: a guess that decides nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.steps.attest.attesting import Archive, checked_ahead
from mock_cloud.steps.attest.known_good_sets import KnownGood
from tests.unit.attest.attest_builder import DATA, blob, keys, packages

KNOWN = KnownGood(ImageManifest("node", "x86_64", "now", (), ()), keys())
MANIFEST = KNOWN.manifest.sha256


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """One whose last trusted node had both packages."""
    archive = Archive(tmp_path / "cache", tmp_path / "state")
    for name in ("base", "tools"):
        archive.write_header(sha256(blob(name)), blob(name))
    archive.note_headers(MANIFEST, [sha256(blob(name)) for name in ("base", "tools")])
    return archive


def test_what_the_last_trusted_node_had_is_checked(archive: Archive) -> None:
    with checked_ahead(archive, KNOWN) as found:
        pass
    assert tuple(found.values()) == packages()
    assert set(found) == {(sha256(blob(name)), keys().fingerprint) for name in ("base", "tools")}


def test_without_an_earlier_node_nothing_is_guessed(tmp_path: Path) -> None:
    with checked_ahead(Archive(tmp_path, tmp_path), KNOWN) as found:
        pass
    assert found == {}


def test_a_guess_for_another_manifest_is_none(archive: Archive) -> None:
    other = KnownGood(ImageManifest("another", "x86_64", "now", (), ()), keys())
    with checked_ahead(archive, other) as found:
        pass
    assert found == {}


def test_a_header_that_is_unsigned_or_damaged_is_never_found(archive: Archive) -> None:
    bad = [blob("tools-unsigned"), blob("tools-stranger"), blob("base")[:-1]]
    for data in bad:
        archive.write_header(sha256(data), data)
    changed = archive.cache_dir / "headers" / sha256(blob("tools"))[:2] / sha256(blob("tools"))
    changed.write_bytes(blob("base"))
    archive.note_headers(MANIFEST, [*map(sha256, bad), sha256(blob("tools")), "ab" * 32])
    with checked_ahead(archive, KNOWN) as found:
        pass
    assert found == {}


def test_what_others_signed_is_not_found(archive: Archive) -> None:
    other = next(path for path in sorted(DATA.glob("*.asc")) if path.stem != "distribution")
    known = KnownGood(KNOWN.manifest, PackageKeys.parse([other.read_bytes()]))
    with checked_ahead(archive, known) as found:
        pass
    assert found == {}


@pytest.mark.parametrize("text", ["", "\n\n", "../../etc/passwd\n", "\0" * 64 + "\n", "x" * 64])
def test_a_damaged_note_is_no_more_than_a_bad_guess(archive: Archive, text: str) -> None:
    (archive.cache_dir / "headers/sets" / MANIFEST).write_text(text)
    with checked_ahead(archive, KNOWN) as found:
        pass
    assert found == {}


def test_a_failure_meanwhile_is_what_is_raised(archive: Archive) -> None:
    with pytest.raises(ConnectionError, match="gone"), checked_ahead(archive, KNOWN):
        raise ConnectionError("gone")


def test_a_guess_that_cannot_be_noted_is_no_failure(archive: Archive) -> None:
    place = archive.cache_dir / "headers" / "sets"
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    place.write_text("")
    archive.note_headers(MANIFEST, ["ab" * 32])
    assert archive.find_headers(MANIFEST) == []

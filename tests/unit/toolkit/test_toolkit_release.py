# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's release files and indices: the good one, and every way to be another."""

from __future__ import annotations

import hashlib
import math
import time
from datetime import datetime, timezone
from email.utils import formatdate
from pathlib import Path

import pytest
from pysequoia import SignatureMode, Tsk, sign

from mock_cloud.errors import ConfigError
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.toolkit.machines import MACHINES, find_machine
from mock_cloud.toolkit.packages import PackagesRefused, check_dates, read_keys
from mock_cloud.toolkit.release import check_index, find_package, verify_release

ARM = MACHINES["aarch64"]
INDEX_PATH = "main/binary-arm64/Packages"
DEB = hashlib.sha256(b"deb").hexdigest()
INDEX = (
    f"Package: libother\nArchitecture: arm64\nSize: 9\nSHA256: {'0' * 64}\n\n"
    f"Package: python3\nArchitecture: arm64\nSize: 3\nSHA256: {DEB}\n\n"
).encode()
KEY = Tsk.generate("archive <archive@lab.invalid>")
NOW = time.time()


def keys(key: Tsk = KEY) -> PackageKeys:
    return PackageKeys.parse([bytes(key.extract_certificate())])


def text(date: float = NOW - 60, **fields: str) -> bytes:
    digest = hashlib.sha256(INDEX).hexdigest()
    given = {
        "Origin": "Lab",
        "Codename": "lab",
        "Date": formatdate(date, usegmt=True),
        **fields,
        "SHA256": f"\n {digest} {len(INDEX)} {INDEX_PATH}",
    }
    return "".join(f"{name}: {value}\n" for name, value in given.items()).encode()


def signed(body: bytes, key: Tsk = KEY) -> bytes:
    return bytes(sign(key.signer(), body, mode=SignatureMode.CLEAR))


def test_a_signed_release_and_its_index_are_taken() -> None:
    release = verify_release(signed(text()), keys(), NOW)
    assert (release.name, release.signer) == ("Lab lab", KEY.extract_certificate().fingerprint)
    check_index(release, INDEX_PATH, INDEX)
    assert find_package(INDEX, DEB, 3, ARM) == "python3"


def test_one_changed_letter_is_refused() -> None:
    with pytest.raises(PackagesRefused, match="no pinned key"):
        verify_release(signed(text()).replace(b"Lab", b"Lub"), keys(), NOW)


def test_a_key_that_is_not_pinned_is_refused() -> None:
    stranger = Tsk.generate("archive <archive@lab.invalid>")
    with pytest.raises(PackagesRefused, match="no pinned key"):
        verify_release(signed(text(), stranger), keys(), NOW)


def test_a_key_that_had_expired_is_refused() -> None:
    key = Tsk.generate("archive <archive@lab.invalid>")
    end = datetime.fromtimestamp(math.ceil(time.time()), tz=timezone.utc)
    brief = key.extract_certificate().set_expiration(end, key.certifier())
    time.sleep(max(0.0, end.timestamp() + 0.1 - time.time()))
    message = signed(text(), key)
    assert verify_release(message, keys(key), NOW).name == "Lab lab"
    with pytest.raises(ConfigError, match=r"nothing can be verified with it: .* expired at"):
        PackageKeys.parse([bytes(brief)])


def test_a_release_without_a_signature_is_refused() -> None:
    with pytest.raises(PackagesRefused, match="no pinned key"):
        verify_release(text(), keys(), NOW)


def test_what_stands_around_the_signed_text_does_not_count() -> None:
    evil = text(Origin="Evil") + b"\n" + signed(text())
    assert verify_release(evil, keys(), NOW).name == "Lab lab"


def test_an_old_release_is_refused() -> None:
    old = signed(text(**{"Valid-Until": formatdate(NOW - 1, usegmt=True)}))
    with pytest.raises(PackagesRefused, match="expired"):
        verify_release(old, keys(), NOW)
    assert verify_release(old, keys(), NOW - 30).name == "Lab lab"


def test_a_release_of_the_future_or_without_a_date_is_refused() -> None:
    with pytest.raises(PackagesRefused, match="future"):
        verify_release(signed(text(NOW + 3 * 86400)), keys(), NOW)
    with pytest.raises(PackagesRefused, match="no date"):
        verify_release(signed(text(Date="yesterday")), keys(), NOW)


def test_an_older_release_than_the_last_is_refused() -> None:
    first = verify_release(signed(text()), keys(), NOW)
    older = verify_release(signed(text(NOW - 5000)), keys(), NOW)
    seen = {first.name: first.date}
    check_dates({first.name: first.date, "Lab other": 1}, seen)
    with pytest.raises(PackagesRefused, match="Lab lab is 4940 s older"):
        check_dates({older.name: older.date}, seen)


@pytest.mark.parametrize("index", [INDEX[:-1], INDEX.replace(b"python3", b"python4"), b""])
def test_another_index_is_refused(index: bytes) -> None:
    release = verify_release(signed(text()), keys(), NOW)
    with pytest.raises(PackagesRefused, match="not what the release file says"):
        check_index(release, INDEX_PATH, index)


def test_an_index_that_the_release_does_not_name_is_refused() -> None:
    release = verify_release(signed(text()), keys(), NOW)
    with pytest.raises(PackagesRefused, match="does not name"):
        check_index(release, "contrib/binary-arm64/Packages", INDEX)


def test_a_package_that_is_in_no_index() -> None:
    assert find_package(INDEX, hashlib.sha256(b"deb ").hexdigest(), 4, ARM) is None
    assert find_package(INDEX, DEB, 4, ARM) is None


def test_a_package_of_another_architecture_is_refused() -> None:
    with pytest.raises(PackagesRefused, match="python3 is of arm64, not of s390x"):
        find_package(INDEX, DEB, 3, MACHINES["s390x"])


def test_unusable_keyrings_name_their_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        read_keys([tmp_path / "nowhere"])
    (tmp_path / "junk.gpg").write_bytes(b"junk")
    with pytest.raises(ConfigError, match=r"junk\.gpg"):
        read_keys([tmp_path / "junk.gpg"])


def test_words_of_both_families_name_a_machine() -> None:
    assert find_machine("arm64") == find_machine("aarch64")
    assert find_machine("ppc64el").name == "ppc64le"
    with pytest.raises(ConfigError, match="'vax'"):
        find_machine("vax")

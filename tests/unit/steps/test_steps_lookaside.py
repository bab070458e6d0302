# SPDX-License-Identifier: GPL-2.0-or-later
"""Which inputs a lookaside cache has, by the file `sources`, and where."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from mock_cloud.config.toml_values import Refused, lookaside
from mock_cloud.invocation.hostfiles import HostFile
from mock_cloud.steps.check.packing import pack_file, packed_sources
from mock_cloud.steps.send.lookaside import find_in_cache, read_sources_file, source_url

HASH: Final = "ab" * 64
TEMPLATE: Final = "http://cache/rpms/%(name)s/%(filename)s/%(hashtype)s/%(hash)s/%(filename)s"
_SPEC: Final = """\
Name: big
Version: 1
Release: 1
Summary: x
License: MIT
Source0: big-1.tar.xz
Source1: small.txt
BuildArch: noarch
%description
%files
"""


def work(*packed: Any, spec: str = "") -> Any:
    """What of a Work is read."""
    return SimpleNamespace(packed=packed, spec=spec)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A package's git repository with its archive."""
    place = tmp_path / "git"
    place.mkdir()
    (place / "big.spec").write_text(_SPEC)
    (place / "big-1.tar.xz").write_bytes(os.urandom(3 << 20))
    (place / "small.txt").write_text("small")
    (place / "sources").write_text(
        f"SHA512 (big-1.tar.xz) = {HASH}\nSHA512 (small.txt) = {HASH}\nSHA512 (else) = {HASH}\n"
    )
    return place


@pytest.fixture
def source_package(checkout: Path) -> Path:
    if shutil.which("rpmbuild") is None:
        pytest.skip("needs rpmbuild")
    defines = {"_sourcedir": checkout, "_srcrpmdir": checkout, "_source_filedigest_algorithm": 8}
    words = [word for name, value in defines.items() for word in ("-D", f"{name} {value}")]
    subprocess.run(["rpmbuild", "-bs", "--quiet", *words, checkout / "big.spec"], check=True)
    return checkout / "big-1-1.src.rpm"


def test_the_large_files_of_a_source_package(source_package: Path) -> None:
    item, blob = pack_file(HostFile(source_package.name, "srpm", source_package))
    found, problems = find_in_cache(work((item, blob)), TEMPLATE)
    (file,) = found.pop(blob.digest)
    archive, _ = pack_file(HostFile("", "content", source_package.parent / "big-1.tar.xz"))
    assert (file.name, file.digest, file.size_bytes) == ("big-1.tar.xz", archive.digest, 3 << 20)
    assert file.url == f"http://cache/rpms/big/big-1.tar.xz/sha512/{HASH}/big-1.tar.xz"
    assert not found and not problems


def test_sources_beside_the_package_or_in_the_current_directory(
    source_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = source_package.rename(tmp_path / source_package.name)
    packed = pack_file(HostFile(moved.name, "srpm", moved))
    assert find_in_cache(work(packed), TEMPLATE) == ({}, [])
    monkeypatch.chdir(source_package.parent)
    found, _ = find_in_cache(work(packed), TEMPLATE)
    assert [file.name for file in found[packed[1].digest]] == ["big-1.tar.xz"]
    (tmp_path / "sources").write_text("")  # the package's own comes first
    assert find_in_cache(work(packed), TEMPLATE) == ({}, [])


def test_a_directory_of_sources(checkout: Path) -> None:
    spec = pack_file(HostFile("big.spec", "spec", checkout / "big.spec"))
    directory = HostFile("sources", "sources", checkout)
    with packed_sources(directory, [], follow=False) as packed:
        found, problems = find_in_cache(work(spec, *packed, spec="big.spec"), TEMPLATE)
    ((digest, (file,)),) = found.items()
    assert (file.name, file.digest) == ("big-1.tar.xz", digest)
    assert "/rpms/big/big-1.tar.xz/" in file.url and not problems


def test_md5_is_said_and_not_used(source_package: Path) -> None:
    packed = pack_file(HostFile(source_package.name, "srpm", source_package))
    for line in (f"{'ab' * 16}  big-1.tar.xz", f"MD5 (big-1.tar.xz) = {'ab' * 16}"):
        (source_package.parent / "sources").write_text(f"{line}\n")
        found, problems = find_in_cache(work(packed), TEMPLATE)
        assert not found
        assert problems == ["big-1.tar.xz: its line in `sources` has no SHA512"]


def test_what_is_no_package_has_no_sources(checkout: Path) -> None:
    (checkout / "x.src.rpm").write_bytes(bytes(2 << 20))
    packed = pack_file(HostFile("x.src.rpm", "srpm", checkout / "x.src.rpm"))
    assert find_in_cache(work(packed), TEMPLATE) == ({}, [])


@pytest.mark.parametrize(
    "line",
    [
        f"SHA512 (../../../etc/passwd) = {HASH}",
        f"SHA512 (..) = {HASH}",
        f"SHA512 (.hidden) = {HASH}",
        f"SHA512 (/etc/passwd) = {HASH}",
        f"SHA512 (a/b) = {HASH}",
        f"SHA512 () = {HASH}",
        f"SHA512 (a) (b) = {HASH}",
        f"SHA512 (a) = {HASH}/../..",
        f"SHA512 (a) = {HASH.upper()}",
        f"SHA512 (a) = {HASH[:-1]}",
        f"SHA256 (a) = {'ab' * 32}",
        "SHA512 (a) = %(hash)s",
        "",
    ],
)
def test_lines_that_are_none(tmp_path: Path, line: str) -> None:
    (tmp_path / "sources").write_text(f"{line}\nSHA512 (good) = {HASH}\n")
    assert read_sources_file([tmp_path]) == {"good": HASH}


def test_a_sources_file_that_is_none(tmp_path: Path) -> None:
    """Neither a pipe, where one would wait, nor a link out of the directory, nor other bytes."""
    place = tmp_path / "sources"
    os.mkfifo(place)
    assert read_sources_file([tmp_path]) == {}
    place.unlink()
    (tmp_path / "else").write_text(f"SHA512 (a) = {HASH}\n")
    place.symlink_to("else")
    assert read_sources_file([tmp_path]) == {}
    place.unlink()
    place.write_bytes(b"\0\xff" * 1000 + f"\nSHA512 (a) = {HASH}\n".encode())
    assert read_sources_file([tmp_path]) == {"a": HASH}


@pytest.mark.parametrize(
    "name", ["a?b#c.tar", "a%2e%2e%2fb", "a;b", "a\\..\\b", "a@evil:80", "ü.tar", "a\x00b", "a\nb"]
)
def test_names_choose_no_other_place(name: str) -> None:
    url = source_url(TEMPLATE, name, name, HASH)
    parts = urlsplit(url)
    assert (parts.netloc, parts.query, parts.fragment) == ("cache", "", "")
    assert parts.path.split("/")[1::3] == ["rpms", "sha512"] and parts.path.count("/") == 6
    assert url.isascii() and url.isprintable() and " " not in url


@pytest.mark.parametrize(
    "value",
    [
        "Lookaside", "", 1, "ftp://cache/%(hash)s", "http://cache/", "http://%(name)s/%(hash)s",
        "http://user:word@cache/%(hash)s", "http://cache/%(branch)s", "http://cache/%(hash)d",
        "http://cache/%(hash)s?x=%(name)s", "http://cache/%(hash)s#x", "http://cache/%s",
    ],
)  # fmt: skip
def test_settings_that_are_refused(value: Any) -> None:
    with pytest.raises(Refused):
        lookaside(value, Path())


def test_settings() -> None:
    assert lookaside("lookaside", Path()) == "lookaside"
    assert lookaside(TEMPLATE, Path()) == TEMPLATE

# SPDX-License-Identifier: GPL-2.0-or-later
"""How far two packages agree, and what is named if they do not: real ones, made by rpmbuild."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_cloud.comparison import unpacking
from mock_cloud.comparison.levels import (
    TOLD_TAGS,
    VOLATILE_TAGS,
    Level,
    Sameness,
    compare_packages,
)
from mock_cloud.wire.rpmheader import HeaderError

pytestmark = pytest.mark.skipif(not shutil.which("rpmbuild"), reason="needs rpmbuild")

SPEC = """\
Name: same
Version: 1
Release: {release}
Summary: {summary}
License: CC0-1.0
BuildArch: noarch
{requires}

%description
Built twice.

%install
mkdir -p %{{buildroot}}/usr/share/same
echo {word} > %{{buildroot}}/usr/share/same/word
ln -s {target} %{{buildroot}}/usr/share/same/link

%post
{script}

%triggerin -- bash
{trigger}

%files
%attr({mode},root,root) {caps} /usr/share/same/word
/usr/share/same/link
"""
GIVEN = {
    "release": "1",
    "summary": "A package",
    "requires": "Requires: bash",
    "word": "content",
    "target": "word",
    "script": "echo installed",
    "trigger": "echo triggered",
    "mode": "0755",
    "caps": "%caps(cap_net_raw=ep)",
}

Build = Callable[..., bytes]


def compare(left: bytes, right: bytes) -> Sameness:
    return compare_packages(io.BytesIO(left), io.BytesIO(right))


def find_differences(left: bytes, right: bytes) -> tuple[str, ...]:
    return compare(left, right).differences


@pytest.fixture(scope="module", params=["4", "6"], ids=["format 4", "format 6"])
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the spec on a machine and at a time of its own, into a package of one format."""
    written = subprocess.check_output(["rpmbuild", "--eval", "%{?_rpmformat}"], text=True)
    if request.param not in ("4", written.strip()):
        pytest.skip("needs an rpmbuild that writes format 6")
    count = 0

    def make(payload: str = "w9.gzdio", **changed: str) -> bytes:
        nonlocal count
        count += 1
        top = tmp_path_factory.mktemp("build")
        (top / "same.spec").write_text(SPEC.format(**{**GIVEN, **changed}))
        # No clock is as coarse as a build is fast: each build is an hour after the last.
        defines = {
            "_topdir": str(top),
            "_buildhost": f"host{count}.invalid",
            "_binary_payload": payload,
            "_rpmformat": request.param,
            "use_source_date_epoch_as_buildtime": "1",
            "source_date_epoch_from_changelog": "0",
            "clamp_mtime_to_source_date_epoch": "1",
        }
        argv = ["rpmbuild", "-bb", "--quiet", "--nodeps"]
        for name, value in defines.items():
            argv += ["--define", f"{name} {value}"]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(1_600_000_000 + 3600 * count)}
        subprocess.run(
            [*argv, str(top / "same.spec")], check=True, env=environment, capture_output=True
        )
        (made,) = Path(top, "RPMS").rglob("*.rpm")
        return made.read_bytes()

    return make


@pytest.fixture(scope="module")
def package(build: Build) -> bytes:
    return build()


def test_other_hosts_and_times_agree(build: Build, package: bytes) -> None:
    again = build()
    assert package != again
    found = compare(package, again)
    assert (found.level, found.differences) == (Level.SAME_BUILD, ())
    assert {"BUILDTIME (1006)", "BUILDHOST (1007)"} <= set(found.volatile)


@pytest.mark.parametrize("payload", ["w2.xzdio", "w2.bzdio", "w.ufdio"])
def test_other_payloads_can_be_looked_into_too(build: Build, payload: str) -> None:
    assert find_differences(build(payload), build(payload)) == ()


def test_a_file_agrees_with_itself(package: bytes) -> None:
    assert compare(package, package) == Sameness(Level.SAME_FILE)


def test_other_texts_alone_are_level_2(build: Build, package: bytes) -> None:
    found = compare(package, build(summary="Another"))
    assert (found.level, found.differences) == (Level.SAME_CONTENTS, ("SUMMARY (1004)",))
    assert not found.level.agrees


@pytest.mark.parametrize(
    "name", ["requires", "target", "script", "trigger", "mode", "caps", "word"]
)
def test_what_is_installed_required_or_run_is_no_level_2(
    build: Build, package: bytes, name: str
) -> None:
    text = CHANGED[name][0] if name in CHANGED else "CONTENT"
    assert compare(package, build(**{name: text})).level is Level.DIFFERENT


def test_a_tag_nobody_knows_counts(package: bytes) -> None:
    """A number that rpm may give to a new kind of scriptlet tomorrow: it is no text for people."""
    changed = package.replace((1024).to_bytes(4, "big") + (6).to_bytes(4, "big"),
                              (9024).to_bytes(4, "big") + (6).to_bytes(4, "big"))  # fmt: skip
    found = compare(package, changed)
    assert (found.level, found.differences) == (Level.DIFFERENT, ("POSTIN (1024)", "tag 9024"))


CHANGED = {
    "release": ("2", "RELEASE (1002)"),
    "summary": ("Another", "SUMMARY (1004)"),
    "requires": ("Requires: dash", "REQUIRENAME (1049)"),
    "target": ("elsewhere", "FILELINKTOS (1036)"),
    "script": ("echo owned", "POSTIN (1024)"),
    "trigger": ("echo owned", "TRIGGERSCRIPTS (1065)"),
    "mode": ("04755", "FILEMODES (1030)"),
    "caps": ("%caps(cap_sys_admin=ep)", "FILECAPS (5010)"),
}


def test_all_that_changed_is_named(build: Build, package: bytes) -> None:
    changed = build(**{name: text for name, (text, _) in CHANGED.items()})
    named = {tag for _, tag in CHANGED.values()}
    assert {*named, "payload"} <= set(find_differences(package, changed))


def test_other_content_of_the_same_size_is_named(build: Build, package: bytes) -> None:
    assert find_differences(package, build(word="CONTENT")) == (
        "FILEDIGESTS (1035)", "payload", "/usr/share/same/word",
    )  # fmt: skip


def test_lost_capabilities_are_named(build: Build, package: bytes) -> None:
    assert "FILECAPS (5010)" in find_differences(package, build(caps=""))


@pytest.mark.parametrize("change", ["content", "cut", "more"])
def test_a_payload_is_not_believed_to_be_what_the_header_says(package: bytes, change: str) -> None:
    """The header is the same, its own digest included; the payload is not."""
    changed = bytearray(package)
    if change == "content":
        changed[-6] ^= 1  # in gzip's checksum
    elif change == "cut":
        del changed[-20:]
    else:
        changed += b"more"
    with pytest.raises(HeaderError, match="unpacked"):
        find_differences(package, bytes(changed))


def test_zstd_is_looked_into(build: Build) -> None:
    if unpacking.zstd is None:
        pytest.skip("needs Python 3.14 or backports.zstd")
    left, right, other = build("w1.zstdio"), build("w1.zstdio"), build("w1.zstdio", word="CONTENT")
    assert find_differences(left, right) == ()
    assert find_differences(left, other)[1:] == ("payload", "/usr/share/same/word")
    with pytest.raises(HeaderError, match="unpacked"):
        find_differences(left, left[:-20])


def test_a_compression_that_nobody_knows_is_said(package: bytes) -> None:
    at = package.index(b"gzip\x00")
    odd = package[:at] + b"gzap\x00" + package[at + 5 :]
    with pytest.raises(unpacking.CannotUnpack, match="gzap"):
        compare(odd, odd[:-8] + bytes(8))


def test_no_package_is_refused(package: bytes) -> None:
    for broken in (b"", b"text", package[:200], package[4:]):
        with pytest.raises(HeaderError):
            find_differences(package, broken)


def test_a_cpio_size_that_leads_back_is_refused(build: Build) -> None:
    """A name or size below zero would have the comparison read the same place for ever."""
    package = build("w.ufdio")
    if b"07070X" in package:
        pytest.skip("format 6 has no sizes in its payload")
    at = package.index(b"070701")
    for place, evil in ((54, b"-0000100"), (94, b"-000006e"), (54, b" 0000001"), (94, b"+0000001")):
        changed = package[: at + place] + evil + package[at + place + 8 :]
        with pytest.raises(HeaderError, match="cpio"):
            find_differences(package, changed)


def test_every_volatile_tag_has_a_reason() -> None:
    assert all(VOLATILE_TAGS.values())
    assert TOLD_TAGS.isdisjoint(VOLATILE_TAGS)

# SPDX-License-Identifier: GPL-2.0-or-later
"""rpm's own reading of headers, to compare ours with: every tag, and what is made of them.

Where both disagree, rpm is right.
"""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mock_cloud.agent.engine import packages
from mock_cloud.attest.packages import SHA256, PackageFile, read_files
from mock_cloud.rpm_bindings import HINT, find_rpm
from mock_cloud.signed.rpmfile import read_unverified
from mock_cloud.wire import rpmfile
from mock_cloud.wire.rpmheader import Header, HeaderError, Tag, Type
from tests.lab.layout import repository_root

REGIONS = {Tag.HEADERIMAGE, Tag.HEADERSIGNATURES, Tag.HEADERIMMUTABLE}
MERGED = {*range(257, 300), 1046, 5090, 5091}
"""Tags that rpm adds to a file's header from its signature header (rpm's lib/package.cc)."""
FILECLASS = 1141  # rpm answers with its texts
NO_DIGEST = "0" * 64  # of %ghost files
RETROFITTED = {Tag.SOURCERPM, Tag.SOURCEPACKAGE}


def import_rpm() -> ModuleType:
    """rpm's bindings; the test is skipped without them."""
    rpm = find_rpm()
    if rpm is None:
        pytest.skip(f"rpm's Python bindings are missing: {HINT}")
    return rpm


def given_packages() -> list[Path]:
    """Real packages beside this repository or in $MOCK_CLOUD_TEST_PACKAGES, and header blobs."""
    default = repository_root().parent / "shared" / "real"
    place = Path(os.environ.get("MOCK_CLOUD_TEST_PACKAGES", default))
    patterns = ("*.rpm", "*.hdr", "*.hdr.gz")
    return sorted(path for pattern in patterns for path in place.glob(pattern))


def read_blob(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def open_header(rpm: ModuleType, path: Path) -> Any:
    """rpm's header of the package file at `path`, as mock reads it (its util.yieldSrpmHeaders)."""
    transactions = rpm.TransactionSet("/")
    transactions.setVSFlags(rpm._RPMVSF_NOSIGNATURES | rpm._RPMVSF_NODIGESTS)
    with path.open("rb") as stream:
        return transactions.hdrFromFdno(stream.fileno())


def check_package(rpm: ModuleType, path: Path) -> None:
    """All that is read of the package file at `path`."""
    theirs = open_header(rpm, path)
    with path.open("rb") as stream:
        file = rpmfile.read_file(stream)
    ours = file.header
    check_tags(rpm, ours, theirs)
    check_facts(rpm, ours, theirs)
    assert rpmfile.is_source(ours) == theirs.isSource()
    assert file.whole_bytes == path.stat().st_size
    signed, payload = read_unverified(path.read_bytes())
    assert theirs[Tag.SHA256HEADER] in (None, signed.sha256)
    assert len(payload) == path.stat().st_size - file.payload_at
    assert theirs["longsigsize"] in (None, path.stat().st_size - file.header_at)


def check_tags(rpm: ModuleType, ours: Header, theirs: Any) -> None:
    """Each tag of the region has rpm's value, and rpm sees none that we do not."""
    tags = set(ours.entries)
    assert set(theirs.keys()) - REGIONS - MERGED - RETROFITTED <= tags
    for tag in tags - {FILECLASS}:
        found, expected = _values(ours, tag), _list(theirs[tag])
        if ours.entries[tag].type == Type.I18NSTRING or tag not in rpm.tagnames:
            found, expected = (
                found[:1],
                expected[:1],
            )  # of what it does not know rpm gives the first
        assert (tag, found) == (tag, expected)


def check_facts(rpm: ModuleType, ours: Header, theirs: Any) -> None:
    """What the product makes of the tags."""
    assert rpmfile.nevra(ours) == theirs["nevra"]
    line = f"{theirs['nevra']} {theirs['buildtime']} {theirs.format('%{size}')} installed\n"
    assert packages.installed(ours).log_line == line
    needs = {one.DNEVR()[2:] for one in rpm.ds(theirs, "requires")}
    assert set(rpmfile.requirements(ours, internal=True)) == needs
    assert set(rpmfile.requirements(ours)) == {n for n in needs if not n.startswith("rpmlib(")}
    if theirs.isSource():
        named = [name for name in theirs["filenames"] if name.endswith(".spec")]
        assert rpmfile.spec_names(ours) == named
        return
    try:
        files = read_files(ours)
    except HeaderError as error:
        # Files that no sha256 describes cannot be vouched for: the only reason to refuse one.
        assert theirs[Tag.FILEDIGESTALGO] != SHA256, error
        return
    for mine, other in zip(files, rpm.files(theirs), strict=True):
        assert _facts(mine) == _expected(other)


def _facts(file: PackageFile) -> tuple[object, ...]:
    return (
        file.directory + file.name, file.mode, file.user, file.group, file.flags,
        file.verify_flags, file.value if file.type in "fl" else None, file.language,
        bool(file.xattrs), file.size_bytes if file.type == "f" else None,
    )  # fmt: skip


def _expected(file: Any) -> tuple[object, ...]:
    kind = stat.S_IFMT(file.mode)
    value = {stat.S_IFREG: file.digest, stat.S_IFLNK: file.linkto}.get(kind)
    return (
        file.name, file.mode & 0o7777, file.user, file.group, file.fflags,
        file.vflags & 0xFFFFFFFF, None if value == NO_DIGEST else value or None, file.langs,
        file.caps != "", file.size if kind == stat.S_IFREG else None,
    )  # fmt: skip


def _values(header: Header, tag: int) -> list[object]:
    """A tag's values by the getter for its type."""
    entry = header.entries.get(tag)
    if entry is None:
        return []
    if entry.type in (Type.STRING, Type.I18NSTRING):
        return [header.string(tag)]
    if entry.type == Type.STRING_ARRAY:
        return [*header.strings(tag)]
    if entry.type == Type.BIN:
        return [header.binary(tag)]
    return [*header.integers(tag, entry.type)]


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]

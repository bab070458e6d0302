# SPDX-License-Identifier: GPL-2.0-or-later
"""What we say of each real key, header and package, and what rpm says.

The data are others' and stay where they are: `$MOCK_CLOUD_TEST_PACKAGES`, or beside the checkout.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from mock_cloud.agent.measure import headers
from mock_cloud.attest.check_packages import READABLE
from mock_cloud.attest.packages import read_files
from mock_cloud.errors import ConfigError
from mock_cloud.rpm_bindings import find_rpm, import_key, split_armour
from mock_cloud.signed.header import SignedHeader, parse_signed_header
from mock_cloud.signed.keys import PackageKeys, UnsignedError
from mock_cloud.signed.openpgp import OpenPgpError, parse_signature, read_packets
from mock_cloud.signed.rpmfile import read_unverified
from mock_cloud.wire import rpmfile
from tests.lab.layout import repository_root

GOOD, NO_KEY, UNSIGNED, REFUSED = "good", "no key", "unsigned", "refused"
_SUMMARY: Final = 1004
_BEGIN: Final = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"


class Row(NamedTuple):
    """One datum. `ours` and `theirs` are words of this module, with more behind a colon."""

    what: str
    kind: str
    ours: str
    theirs: str
    agrees: bool


def find_place() -> Path | None:
    """The directory of real data, if there is one."""
    default = repository_root().parent / "shared" / "real"
    place = Path(os.environ.get("MOCK_CLOUD_TEST_PACKAGES") or default)
    return place if place.is_dir() else None


def read_rows(place: Path) -> list[Row]:
    """All rows; rpm's word is empty, and agrees, where there is no rpm for this Python."""
    files = {path.name: _read(path) for path in sorted(place.iterdir())}
    keys = {name: data for name, data in files.items() if _BEGIN in data}
    pinned = _pin(keys)
    judge = Rpm(keys)
    rows = [_key_row(name, data, judge) for name, data in keys.items()]
    for name, data in files.items():
        stem = name.removesuffix(".gz")
        if stem.endswith(".hdr"):
            rows += _header_rows(name, data, pinned, judge)
        elif stem.endswith(".rpm"):
            rows += _package_rows(name, data, pinned, judge)
        elif stem.endswith((".db", ".bdb")):
            rows += _database_rows(name, data, pinned, judge)
    return rows


class Pinned(NamedTuple):
    """The keys in all key files, and in which of those each certificate is."""

    keys: PackageKeys
    files: dict[str, list[str]]

    def is_new(self, header: SignedHeader, judge: Rpm) -> bool:
        """Whether rpm could not read a file with the key that signed."""
        return any(judge.keys[name] != GOOD for name in self.files[self.keys.verify(header)])


def _pin(keys: dict[str, bytes]) -> Pinned:
    files: dict[str, list[str]] = {}
    for name, data in keys.items():
        for certificate in PackageKeys.parse([data]).certificates:
            files.setdefault(certificate, []).append(name)
    return Pinned(PackageKeys.parse(list(keys.values()), list(keys)), files)


def _read(path: Path) -> bytes:
    data = path.read_bytes() if path.is_file() else b""
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _key_row(name: str, data: bytes, judge: Rpm) -> Row:
    try:
        keys = PackageKeys.parse([data])
        ours = f"{GOOD}: {len(keys.pinned)} keys"
    except ConfigError as error:
        ours = f"{REFUSED}: {error.message}"
    theirs = judge.keys[name]
    # An rpm of before version 6 knows less; one that takes what we refuse would be news.
    return Row(name, "key file", ours, theirs, ours.startswith(GOOD) or theirs != GOOD)


def _header_rows(name: str, blob: bytes, pinned: Pinned, judge: Rpm) -> Iterator[Row]:
    yield _row(name, parse_signed_header(blob), pinned, judge.header(blob), judge)
    evil = _spoil(blob, parse_signed_header(blob))
    yield _twin(name, _judge(parse_signed_header(evil), pinned), judge.header(evil))


def _package_rows(name: str, data: bytes, pinned: Pinned, judge: Rpm) -> Iterator[Row]:
    header, _ = read_unverified(data)
    yield _row(name, header, pinned, judge.package(data), judge)
    evil = _spoil(data, header)
    yield _twin(name, _judge(read_unverified(evil)[0], pinned), judge.package(evil))


def _spoil(data: bytes, header: SignedHeader) -> bytes:
    """One bit of the summary is changed, and the digest that nobody signs is made to fit."""
    at = header.entries[_SUMMARY].offset
    signed = header.signed
    place = len(signed) - len(header.data) + at
    evil = signed[:place] + bytes((signed[place] ^ 1,)) + signed[place + 1 :]
    start = data.find(signed)
    # In a database's blob the index has more than the region's.
    start = data.index(header.data) + at if start < 0 else start + place
    data = data[:start] + evil[place : place + 1] + data[start + 1 :]
    return data.replace(header.sha256.encode(), hashlib.sha256(evil).hexdigest().encode())


def _twin(name: str, ours: str, theirs: str) -> Row:
    is_refused = not ours.startswith(GOOD) and not theirs.startswith(GOOD)
    return Row(name, "one bit changed", ours, theirs, is_refused)


def _database_rows(name: str, data: bytes, pinned: Pinned, judge: Rpm) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        place = root / headers.RPMDB_DIRS[0].lstrip("/")
        place.mkdir(parents=True)
        backend = "bdb" if ".bdb" in name else "ndb"
        (place / headers.BACKENDS[backend]).write_bytes(data)
        (found,) = headers.find_databases(str(root))
        blobs = list(headers.read_database(str(root), found))
    if not blobs:
        is_named = backend not in READABLE
        yield Row(name, "database", f"{REFUSED}: a {backend} is not read", "", is_named)
    rows = [_row(name, parse_signed_header(one), pinned, judge.header(one), judge) for one in blobs]
    for row, count in Counter(rows).items():
        yield row._replace(kind=f"{count} headers in {backend}, {row.kind}")


def _row(name: str, header: SignedHeader, pinned: Pinned, theirs: str, judge: Rpm) -> Row:
    ours = _judge(header, pinned)
    mine, rpms = (word.partition(":")[0] for word in (ours, theirs))
    # An rpm that can't read a key file has not its keys, and one of before 6 no tag OPENPGP.
    is_lacking = mine == GOOD and rpms in (NO_KEY, UNSIGNED) and pinned.is_new(header, judge)
    return Row(name, _kind(header), ours, theirs, mine == rpms or not theirs or is_lacking)


def _kind(header: SignedHeader) -> str:
    kinds = []
    for packet in header.signatures:
        try:
            one = parse_signature(next(read_packets(packet))[1])
            kinds.append(f"V{one.version} {one.algorithm}/{one.hash}")
        except OpenPgpError as error:
            kinds.append(str(error))
    return ", ".join(kinds) or "no signature"


def _judge(header: SignedHeader, pinned: Pinned) -> str:
    try:
        signer = pinned.keys.verify(header)
    except UnsignedError as error:
        why = str(error)
        word = UNSIGNED if why == "no signature" else REFUSED
        return f"{NO_KEY if 'not pinned' in why else word}: {why}"
    if rpmfile.is_source(header):
        return f"{GOOD}: {signer[-16:]}"
    return f"{GOOD}: {signer[-16:]}, {len(read_files(header))} files"


class Rpm:
    """rpm with all the keys that it takes, or nobody: then each word is empty."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._rpm = find_rpm()
        self.keys = dict.fromkeys(keys, "")
        if self._rpm is None:
            return
        ring = self._rpm.keyring()
        for name, data in keys.items():
            taken = [import_key(self._rpm, ring, one) for one in split_armour(data)]
            self.keys[name] = GOOD if any(taken) else REFUSED
        self._transactions = self._rpm.TransactionSet("/")
        self._transactions.setKeyring(ring)

    def header(self, blob: bytes) -> str:
        """Of a header as a database has it."""
        return self._ask(lambda: self._transactions.hdrCheck(blob))

    def package(self, data: bytes) -> str:
        """Of a package file: of its header, since what covers the payload too is not looked at."""

        def read() -> Any:
            with tempfile.TemporaryFile() as stream:
                stream.write(data)
                stream.seek(0)
                return self._transactions.hdrFromFdno(stream.fileno())

        return self._ask(read)

    def _ask(self, act: Any) -> str:
        if self._rpm is None:
            return ""
        try:
            found = act()
        except self._rpm.error as error:
            word = NO_KEY if "not available" in str(error) else REFUSED
            return f"{word}: {str(error).strip().partition(chr(10))[0]}"
        tags = ("rsaheader", "dsaheader")
        is_signed = found is None or any(found[tag] for tag in tags)
        return GOOD if is_signed else UNSIGNED

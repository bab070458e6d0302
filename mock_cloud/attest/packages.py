# SPDX-License-Identifier: GPL-2.0-or-later
"""Installed packages: what a signed RPM header says of itself and its files.

Tags and flags: rpm's include/rpm/rpmtag.h and rpmfiles.h. Every fact is read from the signed
region; relocation, file states and anything else that was added at install is not looked at.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Container, MutableMapping
from dataclasses import field
from enum import IntFlag
from typing import Final, NamedTuple

from mock_cloud.attest.capabilities import xattr_of_text
from mock_cloud.attest.files import CAPABILITY, PATH_MAX, Xattrs, is_normal
from mock_cloud.signed.header import SignedHeader, parse_signed_header
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.rpmfile import nevra
from mock_cloud.wire.rpmheader import Header, HeaderError, Tag, Type

SHA256: Final = 8
"""FILEDIGESTALGO, numbered as in RFC 4880 9.4."""
_MD5: Final = 1
"""What a header without FILEDIGESTALGO has."""
_DIGESTS: Final = {_MD5: "MD5", 2: "SHA-1", 9: "SHA-384", 10: "SHA-512"}
KEY_PACKAGE: Final = "gpg-pubkey"
"""rpm keeps imported keys as headers of this name; nobody signs those."""
_TYPES: Final = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}


class DigestError(HeaderError):
    """A package whose files have digests, and of another kind than is compared."""


class FileFlag(IntFlag):
    """RPMFILE_*, those that matter here."""

    CONFIG = 1 << 0
    DOC = 1 << 1
    MISSING_OK = 1 << 3
    GHOST = 1 << 6
    LICENSE = 1 << 7
    ARTIFACT = 1 << 12


class VerifyFlag(IntFlag):
    """RPMVERIFY_*: what a package wants to be compared with it."""

    DIGEST = 1 << 0


class PackageFile(NamedTuple):
    """A file as its package was built: owner and group are names; `flags` as FileFlag.

    `value` is the sha256 (f), target (l), MAJOR:MINOR (c, b); None for directories and
    for %ghost files, which have no contents.
    """

    directory: str
    name: str
    type: str
    mode: int
    user: str
    group: str
    size_bytes: int
    value: str | None
    xattrs: Xattrs
    flags: int
    verify_flags: int
    language: str


@dataclass(frozen=True, slots=True)
class Package:
    """A package whose header was parsed and, unless `signer` is empty, verified.

    `nevra` is ``name-[epoch:]version-release.arch``; `sha256` is of the signed region;
    `signer` is the fingerprint of the certificate that signed it.
    """

    name: str
    evr: str
    arch: str
    sha256: str
    signer: str
    files: tuple[PackageFile, ...] = field(repr=False)

    @property
    def nevra(self) -> str:
        return f"{self.name}-{self.evr}.{self.arch}"


HeaderCache = MutableMapping[tuple[str, str], Package]
"""Packages by (sha256 of the blob, fingerprint of the key set), kept by the caller."""


def verify_package(
    blob: bytes,
    keys: PackageKeys,
    cache: HeaderCache | None = None,
    *,
    wanted: Container[str] | None = None,
) -> Package:
    """A signed package from its rpmdb blob. HeaderError; UnsignedError (see `PackageKeys`).

    A ``gpg-pubkey`` header passes unsigned, with an empty `signer` and no files: the image
    manifest must name it by its digest. Pure, so that a cache needs no expiry. If the signed
    region's sha256 is not `wanted`, its files are not read: a distribution has signed more of
    them than fit into memory.
    """
    place = (hashlib.sha256(blob).hexdigest(), keys.fingerprint)
    if cache is not None and place in cache:
        return cache[place]
    header = parse_signed_header(blob)
    if _text(header, Tag.NAME) == KEY_PACKAGE and not header.signatures:
        if not header.entries.keys().isdisjoint((Tag.BASENAMES, Tag.OLDFILENAMES)):
            raise HeaderError(f"{KEY_PACKAGE} has files")
        package = _package(header, "")
    else:
        signer = keys.verify(header)
        if wanted is not None and header.sha256 not in wanted:
            return _package(header, signer, with_files=False)
        package = _package(header, signer)
    if cache is not None:
        cache[place] = package
    return package


def _package(header: SignedHeader, signer: str, *, with_files: bool = True) -> Package:
    epoch = header.integers(Tag.EPOCH, Type.INT32)
    evr = f"{_text(header, Tag.VERSION)}-{_text(header, Tag.RELEASE)}"
    if epoch:
        evr = f"{epoch[0]}:{evr}"
    arch = header.string(Tag.ARCH) or "(none)"
    files = tuple(read_files(header)) if with_files else ()
    return Package(_text(header, Tag.NAME), evr, arch, header.sha256, signer, files)


def _text(header: Header, tag: int) -> str:
    text = header.string(tag)
    if not text or not text.isprintable() or len(text) > 256:
        raise HeaderError(f"tag {tag}: no printable text")
    return text


def read_files(header: Header) -> list[PackageFile]:
    """The package's files, in its order. HeaderError."""
    names = header.strings(Tag.BASENAMES)
    if Tag.OLDFILENAMES in header.entries:
        raise HeaderError("OLDFILENAMES: a package older than rpm 4")
    if not names:
        return []
    count = len(names)
    directories = header.strings(Tag.DIRNAMES)
    for path in directories:
        if not path.endswith("/") or not is_normal(path[:-1] or "/") or len(path) > PATH_MAX:
            raise HeaderError(f"a directory name is not normalised: {path[:80]!a}")
    where = _integers(header, Tag.DIRINDEXES, Type.INT32, count)
    if max(where) >= len(directories):
        raise HeaderError("DIRINDEXES points past DIRNAMES")
    modes = _integers(header, Tag.FILEMODES, Type.INT16, count)
    digests = _strings(header, Tag.FILEDIGESTS, count)
    if any(digests) and header.integers(Tag.FILEDIGESTALGO, Type.INT32) != (SHA256,):
        algorithm = next(iter(header.integers(Tag.FILEDIGESTALGO, Type.INT32)), _MD5)
        kind = _DIGESTS.get(algorithm, f"of the kind {algorithm}")
        raise DigestError(f"{nevra(header)}: its file digests are {kind}, not SHA-256")
    sizes = header.integers(Tag.LONGFILESIZES, Type.INT64) or header.integers(
        Tag.FILESIZES, Type.INT32
    )
    if len(sizes) != count:
        raise HeaderError("FILESIZES: another number than files")
    rows = zip(
        [directories[index] for index in where],
        names,
        modes,
        _strings(header, Tag.FILEUSERNAME, count),
        _strings(header, Tag.FILEGROUPNAME, count),
        sizes,
        digests,
        _strings(header, Tag.FILELINKTOS, count),
        _integers(header, Tag.FILERDEVS, Type.INT16, count),
        _integers(header, Tag.FILEFLAGS, Type.INT32, count),
        _integers(header, Tag.FILEVERIFYFLAGS, Type.INT32, count),
        _strings(header, Tag.FILELANGS, count, default=""),
        _strings(header, Tag.FILECAPS, count, default=""),
        strict=True,
    )
    return [_file(*row) for row in rows]


def _integers(header: Header, tag: int, kind: int, count: int) -> tuple[int, ...]:
    found = header.integers(tag, kind)
    if len(found) != count:
        raise HeaderError(f"tag {tag}: {len(found)} values for {count} files")
    return found


def _strings(header: Header, tag: int, count: int, default: str | None = None) -> list[str]:
    found = header.strings(tag)
    if not found and default is not None:
        return [default] * count
    if len(found) != count:
        raise HeaderError(f"tag {tag}: {len(found)} texts for {count} files")
    return found


_HEX = frozenset("0123456789abcdef")


def _file(  # noqa: PLR0913, PLR0917 - one parameter a parallel array of the header
    directory: str,
    name: str,
    mode: int,
    user: str,
    group: str,
    size: int,
    digest: str,
    target: str,
    rdev: int,
    flags: int,
    verify_flags: int,
    language: str,
    caps: str,
) -> PackageFile:
    kind = _TYPES.get(stat.S_IFMT(mode))
    if kind is None or "/" in name or name in (".", "..") or not (name or directory == "/"):
        raise HeaderError(f"a file of no known type or a bad name: {directory + name!a:.200}")
    value: str | None = None
    if kind == "f":
        if len(digest) == 64 and _HEX.issuperset(digest):
            value = digest
        elif digest or not flags & FileFlag.GHOST:
            raise HeaderError(f"not a sha256: {directory + name!a:.200}")
    elif kind == "l":
        value = target or None
        if value is None and not flags & FileFlag.GHOST:
            raise HeaderError(f"a link without a target: {directory + name!a:.200}")
    elif kind in "cb":
        value = f"{rdev >> 8}:{rdev & 0xFF}"
    return PackageFile(
        directory,
        name,
        kind,
        mode & 0o7777,
        user,
        group,
        size if kind == "f" else 0,
        value,
        _capability(caps) if caps else (),
        flags,
        verify_flags,
        language,
    )


def _capability(text: str) -> Xattrs:
    try:
        xattr = xattr_of_text(text)
    except ValueError as error:
        raise HeaderError(str(error)) from error
    return ((CAPABILITY, xattr),)

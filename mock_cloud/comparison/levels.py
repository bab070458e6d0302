# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether two package files are the same build, and how much so: levels L0, L1 and L2.

Nothing is believed that a header says of its payload: both payloads are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import BinaryIO, Final

from mock_cloud.comparison.contents import PayloadContents, PayloadMember, read_contents
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.files import digest_of
from mock_cloud.wire.rpmfile import is_source, nevra, read_file
from mock_cloud.wire.rpmheader import Header, SignatureTag, Tag

VOLATILE_TAGS: Final[Mapping[Tag, str]] = {
    Tag.BUILDTIME: "when it was built, unless use_source_date_epoch_as_buildtime is set",
    Tag.BUILDHOST: "where it was built, unless _buildhost is set",
    Tag.FILEMTIMES: "when the build wrote a file, unless mtimes are clamped to SOURCE_DATE_EPOCH",
    Tag.COOKIE: "build host and time once more",
    Tag.SOURCESIGMD5: "digest of the source package, which has a build time itself",
    Tag.PAYLOADSHA256: "over mtimes too; the payloads themselves are compared",
    Tag.PAYLOADSHA256ALT: "the same, uncompressed",
    Tag.PAYLOADSIZE: "of the payload as it is compressed; the payloads themselves are compared",
    Tag.PAYLOADSHA512: "as PAYLOADSHA256",
    Tag.PAYLOADSHA512ALT: "as PAYLOADSHA256ALT",
    Tag.PAYLOADSHA3_256: "as PAYLOADSHA256",
    Tag.PAYLOADSHA3_256ALT: "as PAYLOADSHA256ALT",
}
"""Tag → why two builds of one source differ in it.

Signatures and the digests of header and payload (SIGMD5, SHA1HEADER, SHA256HEADER, …) stand
outside of the immutable header.
"""

TOLD_TAGS: Final = frozenset({
    Tag.SUMMARY, Tag.DESCRIPTION, Tag.SIZE, Tag.DISTRIBUTION, Tag.VENDOR, Tag.LICENSE, Tag.PACKAGER,
    Tag.GROUP, Tag.URL, Tag.RPMVERSION, Tag.CHANGELOGTIME, Tag.CHANGELOGNAME, Tag.CHANGELOGTEXT,
    Tag.FILEDEVICES, Tag.FILEINODES, Tag.OPTFLAGS, Tag.DISTURL, Tag.PAYLOADFORMAT,
    Tag.PAYLOADCOMPRESSOR, Tag.PAYLOADFLAGS, Tag.PLATFORM, Tag.FILECOLORS, Tag.FILECLASS,
    Tag.CLASSDICT, Tag.DISTTAG, Tag.BUGURL, Tag.ENCODING, Tag.VCS, Tag.TRANSLATIONURL,
    Tag.UPSTREAMRELEASES, Tag.PAYLOADSIZEALT,
})  # fmt: skip
"""What a header tells people, and how it was packed: nothing of it is installed, run or required.

Tags that are not here count at L2, those too that rpm will have tomorrow.
"""

SIGNATURE_TAGS: Final[tuple[int, ...]] = (
    Tag.DSAHEADER, Tag.RSAHEADER, Tag.OPENPGP, SignatureTag.PGP, SignatureTag.GPG,
)  # fmt: skip
"""Where signatures stand in the signature header, which is not part of the immutable header."""

_FILES_SHOWN: Final = 20


class Level(Enum):
    """How far two packages are the same; only L0 and L1 count as agreement."""

    SAME_FILE = "L0"
    SAME_BUILD = "L1"
    """The same payload and immutable header, but for `VOLATILE_TAGS`. Signatures may differ."""
    SAME_CONTENTS = "L2"
    """The same files, dependencies, scriptlets and triggers; what `TOLD_TAGS` say differs."""
    DIFFERENT = "differ"

    @property
    def agrees(self) -> bool:
        return self in (Level.SAME_FILE, Level.SAME_BUILD)


@dataclass(frozen=True, slots=True)
class Sameness:
    """The level, what keeps it from a better one, and what two builds may differ in.

    `differences` are names of tags and of files in their order, `volatile` those of tags that
    differ and do not count at L1.
    """

    level: Level
    differences: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Opened:
    """A package file, open at `payload_at`."""

    stream: BinaryIO
    header: Header
    signatures: list[tuple[int, tuple[bytes, ...]] | None]
    payload_at: int

    def contents(self) -> PayloadContents:
        self.stream.seek(self.payload_at)
        return read_contents(self.header, self.stream)


def identify(stream: BinaryIO) -> str:
    """What package the file is: NEVRA, with ``src`` for a source package's arch. HeaderError."""
    stream.seek(0)
    header = read_file(stream).header
    name = nevra(header)
    return f"{name.rpartition('.')[0]}.src" if is_source(header) else name


def compare_packages(left: BinaryIO, right: BinaryIO) -> Sameness:
    """How far the package files at the start of both streams are the same.

    HeaderError if one is not a package file, or has a damaged payload; CannotUnpack where Python
    lacks what unpacks it, and the packed payloads differ. OSError.
    """
    ours, theirs = _open(left), _open(right)
    same_payload = _digest(ours, ours.payload_at) == _digest(theirs, theirs.payload_at)
    tags = [tag for tag in sorted(ours.header.entries.keys() | theirs.header.entries.keys())
            if ours.header.value(tag) != theirs.header.value(tag)]  # fmt: skip
    if same_payload and not tags and _digest(ours, 0) == _digest(theirs, 0):
        return Sameness(Level.SAME_FILE)
    volatile = [_named(tag) for tag in tags if tag in VOLATILE_TAGS]
    if ours.signatures != theirs.signatures:
        volatile.append("signatures")
    found = [_named(tag) for tag in tags if tag not in VOLATILE_TAGS]
    counts = any(tag not in VOLATILE_TAGS and tag not in TOLD_TAGS for tag in tags)
    if not same_payload:
        mine, other = ours.contents(), theirs.contents()
        files = _file_differences(mine.files, other.files)
        if mine.digest != other.digest:
            found += ["payload", *files]
            counts |= bool(files)
    level = Level.SAME_BUILD
    if found:
        level = Level.DIFFERENT if counts else Level.SAME_CONTENTS
    return Sameness(level, tuple(found), tuple(volatile))


def _open(stream: BinaryIO) -> _Opened:
    stream.seek(0)
    file = read_file(stream)
    places = (file.signature.region, file.signature.outside)
    signatures = [one.value(tag) for one in places for tag in SIGNATURE_TAGS if tag in one.entries]
    return _Opened(stream, file.header, signatures, file.payload_at)


def _digest(package: _Opened, at: int) -> str:
    package.stream.seek(at)
    return digest_of(package.stream)[0]


def _named(tag: int) -> str:
    try:
        return f"{Tag(tag).name} ({tag})"
    except ValueError:
        return f"tag {tag}"


def _file_differences(
    ours: Mapping[str, PayloadMember], theirs: Mapping[str, PayloadMember]
) -> list[str]:
    paths = [path for path in sorted(ours.keys() | theirs.keys())
             if path not in ours or not ours[path].is_like(theirs.get(path))]  # fmt: skip
    more = len(paths) - _FILES_SHOWN
    return paths[:_FILES_SHOWN] + ([f"{more} more files"] if more > 0 else [])

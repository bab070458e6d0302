# SPDX-License-Identifier: GPL-2.0-or-later
"""What a repository's own metadata says that it has: each file's place, size and checksum.

The metadata is its repository's word, and as good as that: what it lists is what dnf would ask for.
Its size is bounded, and nothing of it is evaluated.
"""

from __future__ import annotations

import bz2
import html
import importlib
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import IO, Any, Final
from urllib.parse import quote, urljoin, urlsplit

from mock_cloud.wire.dataclass import dataclass

REPOMD: Final = "repodata/repomd.xml"
REPOMD_MAX_BYTES: Final = 16 << 20
_PRIMARY_MAX_BYTES: Final = 4 << 30
_PACKAGE_MAX_BYTES: Final = 4 << 20
"""One package's part of the primary metadata, unpacked."""
LISTED_MAX: Final = 1_000_000
_BLOCK_BYTES: Final = 1 << 20

KINDS: Final = {"sha": "sha1"} | {f"sha{bits}": f"sha{bits}" for bits in (1, 224, 256, 384, 512)}
"""Kinds of checksums as metadata calls them, and hashlib."""

# Bounded, and none passes the next "<": otherwise each would be tried from each place to the end.
_DATA: Final = re.compile(rb"<data\b([^<>]{0,4096})>")
_DATA_END: Final = b"</data"
_PACKAGE_END: Final = b"</package>"
_CHECKSUM: Final = re.compile(
    rb'<checksum\b[^<>]{0,256}?\btype="(\w{1,16})"[^<>]{0,256}>\s{0,99}([0-9a-fA-F]{32,128})\s{0,99}<'
)
_LOCATION: Final = re.compile(rb"<location\b([^<>]{0,4096})>")
_ATTRIBUTE: Final = re.compile(rb'([\w:.-]{1,64})\s{0,9}=\s{0,9}(?:"([^"]*)"|\'([^\']*)\')')
_SIZE: Final = re.compile(rb"<size>\s{0,99}(\d{1,15})\s{0,99}</size>")
_PACKAGE_SIZE: Final = re.compile(rb'<size\b[^<>]{0,256}?\bpackage="(\d{1,15})"')
_METALINK_HASH: Final = re.compile(r'<hash\s+type="sha256"\s*>\s*([0-9a-fA-F]{64})\s*<')
_METALINK_URL: Final = re.compile(r"<url\b[^<>]*>\s*([^<>\s]+)\s*</url>")


class Unfetched(OSError):
    """What this machine cannot have of a repository, and why.

    `status` is what a client is told, unless `cut`: then it has part of an answer already.
    """

    def __init__(
        self, text: str, status: int = HTTPStatus.BAD_GATEWAY, *, cut: bool = False
    ) -> None:
        super().__init__(text)
        self.status = status
        self.cut = cut


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file that metadata names: `href`, relative or not, at `base` if it has one.

    `digest` is hex in lower case, `kind` is hashlib's name. `size` is in bytes, None if not said.
    """

    href: str
    base: str
    kind: str
    digest: str
    size: int | None

    @property
    def is_elsewhere(self) -> bool:
        """Whether it names a server, be it the repository's own."""
        return any(urlsplit(one).scheme or urlsplit(one).netloc for one in (self.base, self.href))

    @property
    def is_below(self) -> bool:
        """Whether it is in the repository's own directory: what it lists there is its own."""
        parts = [*self.base.split("/"), *self.href.split("/")]
        is_rooted = self.base.startswith("/") or self.href.startswith("/")
        return not self.is_elsewhere and not is_rooted and ".." not in parts

    def url(self, repository: str) -> str:
        """Its URL, where `repository` is the repository's, with a slash at its end."""
        base = urljoin(repository, self.base.rstrip("/") + "/") if self.base else repository
        return urljoin(base, self.href)


def parse_repomd(data: bytes) -> dict[str, ListedFile]:
    """By type, what a repomd.xml lists. Unfetched."""
    if b"<repomd" not in data[:4096]:
        raise Unfetched("repodata/repomd.xml is not repository metadata")
    found = {}
    for part in data.split(_DATA_END):
        head = _DATA.search(part)
        listed = _listed(part[head.end() :], _SIZE) if head else None
        kind = _attributes(head[1]).get("type", "") if head else ""
        if kind and listed is not None:
            found[kind] = listed
    return found


def read_primary(stream: IO[bytes], name: str) -> Iterator[ListedFile]:
    """The packages of primary metadata whose file is called `name`. Unfetched, OSError."""
    held, total, count = b"", 0, 0
    for block in _unpacked(stream, name):
        total += len(block)
        held += block
        *packages, held = held.split(_PACKAGE_END)
        if total > _PRIMARY_MAX_BYTES or len(held) > _PACKAGE_MAX_BYTES:
            raise Unfetched("its primary metadata is too large")
        for package in packages:
            listed = _listed(package, _PACKAGE_SIZE)
            if listed is not None:
                count += 1
                if count > LISTED_MAX:
                    raise Unfetched("its primary metadata has too many packages")
                yield listed


def parse_mirrors(option: str, text: str) -> tuple[list[str], frozenset[str]]:
    """Base URLs of a ``mirrorlist`` or ``metalink``, and what sha256 its repomd.xml may have."""
    if option == "metalink":
        urls = (html.unescape(one) for one in _METALINK_URL.findall(text))
        bases = [url.removesuffix(REPOMD) for url in urls if url.endswith(f"/{REPOMD}")]
        return bases, frozenset(one.lower() for one in _METALINK_HASH.findall(text))
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if "://" in line and not line.startswith("#")], frozenset()


def _listed(text: bytes, size: re.Pattern[bytes]) -> ListedFile | None:
    checksum, location = _CHECKSUM.search(text), _LOCATION.search(text)
    if checksum is None or location is None:
        return None
    attributes = _attributes(location[1])
    kind = KINDS.get(checksum[1].decode().lower(), "")
    href, named = _plain(attributes.get("href", "")), attributes.get("xml:base", "")
    base = _plain(named)
    if not kind or not href or (named and not base):
        return None
    found = size.search(text)
    return ListedFile(
        href, base, kind, checksum[2].decode().lower(), int(found[1]) if found else None
    )


def _attributes(text: bytes) -> dict[str, str]:
    return {
        match[1].decode(): html.unescape((match[2] or match[3] or b"").decode("utf-8", "replace"))
        for match in _ATTRIBUTE.finditer(text)
    }


def _plain(text: str) -> str:
    """As a URL has it, percent escapes as they are; empty if it is none."""
    if any(ord(one) < 33 and one != " " for one in text):
        return ""
    url = quote(text, safe="%/:@!$&'()*+,;=~?[]")
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    is_half = bool(parts.netloc) and not parts.scheme  # "//host/path": whose scheme is not said
    return "" if parts.query or parts.username is not None or is_half else url


class _Gzip:
    """zlib's with the others' ways."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(31)

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail


def _unpacked(stream: IO[bytes], name: str) -> Iterator[bytes]:
    make: dict[str, Callable[[], object]] = {
        ".gz": _Gzip, ".bz2": bz2.BZ2Decompressor, ".xz": lzma.LZMADecompressor,
        ".zst": _zstd, ".xml": lambda: None,
    }  # fmt: skip
    ending = next((one for one in make if name.endswith(one)), "")
    if not ending:
        raise Unfetched(f"its primary metadata is packed in a way that is unknown here: {name}")
    unpacker: Any = make[ending]()
    if unpacker is None:
        while data := stream.read(_BLOCK_BYTES):
            yield data
        return
    try:
        while not unpacker.eof:
            data = stream.read(_BLOCK_BYTES) if unpacker.needs_input else b""
            block = unpacker.decompress(data, _BLOCK_BYTES)
            if not (data or block or unpacker.eof):
                raise Unfetched("its primary metadata ends too early")
            yield block
    except (zlib.error, lzma.LZMAError, ValueError, EOFError) as error:
        raise Unfetched(f"its primary metadata cannot be unpacked: {error}") from error


def _zstd() -> object:
    module = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        return importlib.import_module(module).ZstdDecompressor()
    except ImportError as error:
        raise Unfetched(f"{module} is missing, for metadata packed by zstd") from error

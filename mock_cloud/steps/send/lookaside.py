# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives of sources that a lookaside cache has as well: the node fetches them from there.

A package's git repository has its spec and patches, and a file `sources` which names archives, by
their digests, that a web server keeps for it. That file, and the server, only say where to look:
what the node fetched must have the sha256 of what is here, or it is sent as ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mock_cloud.remote.reuse import Elsewhere
from mock_cloud.settings import LOOKASIDE
from mock_cloud.steps.check.request import Work
from mock_cloud.steps.context import Build
from mock_cloud.wire.chunks import WORTH_BYTES, open_plain
from mock_cloud.wire.rpmfile import read_package
from mock_cloud.wire.rpmheader import HeaderError, Tag, Type

_FEDORAS: Final = (
    "https://src.fedoraproject.org/repo/pkgs/rpms/"
    "%(name)s/%(filename)s/%(hashtype)s/%(hash)s/%(filename)s"
)
_SHA256: Final = 8  # PGPHASHALGO_SHA256 of rpm's rpmpgp.h
_LINE: Final = re.compile(r"SHA512 \(([^ ()/.][^ ()/]*)\) = ([0-9a-f]{128})")
_OLD_LINE: Final = re.compile(r"[0-9a-f]{32}  (\S+)|MD5 \((\S+)\) = [0-9a-f]{32}")
_FILE_MAX_BYTES: Final = 1 << 20


def fetch_sources(build: Build) -> None:
    """Have the node fetch what it can of the inputs that it lacks. TransportError."""
    setting, remote, console = build.remote.build.sources, build.remote.name, build.console
    files, problems = find_in_cache(build.planned, _FEDORAS if setting == LOOKASIDE else setting)
    if files:
        problems += build.connection.lasting(
            lambda channel: channel.fetch_elsewhere(
                files, lambda name: console.phase(f"remote {remote}: the node fetches {name}")
            )
        )
    for problem in problems:
        console.info(f"remote {remote}: sent from here: {problem}")


def find_in_cache(work: Work, template: str) -> tuple[dict[str, list[Elsewhere]], list[str]]:
    """What a cache at `template` has, by the input that it is, or is in; and what is to be said."""
    found: dict[str, list[Elsewhere]] = {}
    problems = []
    specs = [blob.source for item, blob in work.packed if item.role == "spec"]
    for item, blob in work.packed:
        if not isinstance(blob.source, Path) or blob.size_bytes < WORTH_BYTES:
            continue
        places = [blob.source.parent, *(x.parent for x in specs if isinstance(x, Path)), Path()]
        if item.name.endswith(".src.rpm"):
            name, parts = _read_source_package(blob.source)
        elif item.role == "content" and specs:
            name, parts = Path(work.spec).stem, [(blob.source.name, blob.digest, blob.size_bytes)]
        else:
            continue
        named = read_sources_file(places)
        for filename, digest, size in parts:
            if size < WORTH_BYTES or filename not in named:
                continue
            if not named[filename]:
                problems.append(f"{filename}: its line in `sources` has no SHA512")
            else:
                url = source_url(template, name, filename, named[filename])
                found.setdefault(blob.digest, []).append(Elsewhere(filename, digest, size, url))
    return found, problems


def source_url(template: str, name: str, filename: str, sha512: str) -> str:
    """Where a lookaside cache has a file of the package `name`."""
    words = {"name": name, "filename": filename, "hashtype": "sha512", "hash": sha512}
    return template % {word: quote(value, safe="+") for word, value in words.items()}


def read_sources_file(places: Sequence[Path]) -> dict[str, str]:
    """SHA512 (hex) of files by name, of the first `sources` file in one of the directories.

    Empty for a file that is named by MD5, as of old. What is no line of it is left out.
    """
    for place in places:
        try:
            with open_plain(str(place / "sources")) as stream:
                text = stream.read(_FILE_MAX_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        return dict(chain.from_iterable(map(_parse_line, text.splitlines())))
    return {}


def _parse_line(line: str) -> Iterator[tuple[str, str]]:
    if found := _LINE.fullmatch(line.strip()):
        yield found[1], found[2]
    elif found := _OLD_LINE.fullmatch(line.strip()):
        yield found[1] or found[2], ""


def _read_source_package(path: Path) -> tuple[str, list[tuple[str, str, int]]]:
    """Its name, and of each of its files name, sha256 (hex) and size; none with other digests."""
    try:
        header = read_package(path)
        sizes = header.integers(Tag.FILESIZES, Type.INT32)
        sizes = sizes or header.integers(Tag.LONGFILESIZES, Type.INT64)
        algorithm = header.integers(Tag.FILEDIGESTALGO, Type.INT32)
        names, digests = header.strings(Tag.BASENAMES), header.strings(Tag.FILEDIGESTS)
        name = header.string(Tag.NAME) or ""
    except (OSError, HeaderError):
        return "", []
    if algorithm != (_SHA256,) or not len(names) == len(digests) == len(sizes):
        return "", []
    return name, list(zip(names, digests, sizes, strict=True))

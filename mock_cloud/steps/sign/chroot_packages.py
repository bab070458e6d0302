# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in a provenance of the packages in the build chroot, and of their repositories."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode, urlsplit

from mock_cloud.config.tunnel import Repositories, read_sources
from mock_cloud.errors import ResultError
from mock_cloud.file_owner import as_owner
from mock_cloud.provenance.statement import Descriptor
from mock_cloud.steps.context import Build
from mock_cloud.wire.chroot_packages import (
    CHROOT_PACKAGES,
    CHROOT_PACKAGES_MAX,
    ChrootPackage,
    ChrootPackages,
)
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Limits, Malformed, decode_bytes
from mock_cloud.wire.replies import ResultFile

if TYPE_CHECKING:
    from mock_cloud.remote.trusted import TrustedChannel

HEADER_DIGEST: Final = "rpmHeaderSha256"
"""sha256 of a package's immutable header. in-toto leaves it open what digests are called."""

_LOG: Final = "installed_pkgs.log"
_LOG_MAX: Final = 16 << 20
_NEVRA: Final = re.compile(
    r"(?P<name>.+)-(?:(?P<epoch>\d+):)?(?P<evr>[^-]+-[^-]+?)(?:\.(?P<arch>[^.-]+))?"
)
_LIMITS: Final = Limits(text=1000, items=50_000, surrogates=False)
_UNPROVED: Final = "the packages of the build chroot: the node listed them"
_NAMES_ONLY: Final = f"{_UNPROVED}, by names, without digests and repositories"


@dataclass(frozen=True, slots=True)
class ListedPackages:
    """The packages of the build chroot, and what is not proved of them."""

    packages: tuple[Descriptor, ...]
    not_proved: str


def describe_repositories(
    repositories: Repositories, hide: Callable[[str], str]
) -> Iterator[Descriptor]:
    """Those that packages may come from, without what a URL says of a user. ConfigError."""
    for source in read_sources(repositories):
        url = next(iter(source.urls), "")
        yield Descriptor(hide(source.id), hide(_public(url)), {}, {"role": "repository"})


def _public(url: str) -> str:
    """Without a user's name, password, and what may be a token; nothing of a local path."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "ftp"):
        return ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def list_chroot_packages(build: Build, place: Path, names: Iterable[str]) -> ListedPackages:
    """As the node described them; where it did not, by the logs among `names`, below `place`.

    ResultError for a description that is none; TransportError, OSError.
    """
    found = _fetch(build)
    if found:
        return ListedPackages(tuple(_describe(found)), _UNPROVED)
    with as_owner():
        return ListedPackages(tuple(_read_logs(place, names)), _NAMES_ONLY)


def _fetch(build: Build) -> list[ChrootPackage]:
    wanted = [one for one in build.connection.lasting(lambda channel: channel.results(build.job))
              if Path(one.name).name == CHROOT_PACKAGES]  # fmt: skip
    packages: list[ChrootPackage] = []
    for file in wanted:
        if file.size_bytes > CHROOT_PACKAGES_MAX:
            raise ResultError(f"{file.size_bytes} bytes about a chroot's packages")
        data = _fetch_bytes(build, file)
        try:
            packages += decode_bytes(ChrootPackages, data, file.name, limits=_LIMITS).packages
        except Malformed as error:
            raise ResultError(f"the node's list of a chroot's packages: {error}") from error
    return packages


def _fetch_bytes(build: Build, file: ResultFile) -> bytes:
    from mock_cloud.remote.download import Fetch  # see `mock_cloud.session`

    def fetch(channel: TrustedChannel) -> bytes:
        data = bytearray()
        channel.fetch(build.job, [Fetch(file, data.extend)])
        return bytes(data)

    return build.connection.lasting(fetch)


def _describe(packages: Iterable[ChrootPackage]) -> Iterator[Descriptor]:
    seen = set()
    for one in packages:
        match = _NEVRA.fullmatch(one.nevra)
        if match is None or one in seen or not f"{one.nevra}{one.repository}".isprintable():
            continue
        seen.add(one)
        further = {"sigmd5": one.sigmd5, "repository": one.repository}
        yield Descriptor(
            one.nevra,
            _purl(match),
            {HEADER_DIGEST: one.header} if one.header else {},
            {"installed": True, "buildtime": str(one.buildtime)}
            | {name: text for name, text in further.items() if text},
        )


def _read_logs(place: Path, names: Iterable[str]) -> Iterator[Descriptor]:
    """OSError."""
    seen = set()
    for name in names:
        if Path(name).name != _LOG:
            continue
        with (place / name).open("rb") as stream:
            text = stream.read(_LOG_MAX).decode("ascii", "replace")
        for line in text.splitlines():
            words = line.split()
            match = _NEVRA.fullmatch(words[0]) if words else None
            if match is None or words[0] in seen or not words[0].isprintable():
                continue
            seen.add(words[0])
            built = {"buildtime": words[1]} if len(words) > 1 and words[1].isdecimal() else {}
            yield Descriptor(words[0], _purl(match), {}, {"installed": True, **built})


def _purl(match: re.Match[str]) -> str:
    """https://github.com/package-url/purl-spec, type rpm; the namespace is not known here."""
    found = {name: match[name] for name in ("arch", "epoch") if match[name]}
    name, version = quote(match["name"], safe=""), quote(match["evr"], safe="")
    return f"pkg:rpm/{name}@{version}" + (f"?{urlencode(found)}" if found else "")

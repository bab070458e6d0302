# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether an RPM file is a usable source package, and which; in mock's exit codes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from mock_cloud.errors import InputError
from mock_cloud.wire import rpmfile
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.rpmheader import Header, HeaderError, Tag
from mock_cloud.wire.terminal_text import printable

# What rpmbuild itself accepts in these tags (rpm's build/parsePreamble.c), + for %{…} none.
_SANE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~^-]*")


class SrpmError(InputError):
    """The file is no usable package. mock's exit code for it is 1."""

    exit_code = 1


class TruncatedSrpm(SrpmError):
    """The payload ends early. mock notices when it installs it: exit code 40."""

    exit_code = 40


class ChainError(InputError):
    """A package of --chain cannot be built. mock's exit code for it is 4, as for one that fails."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What a package's header says. `source` tells a source package from a binary one."""

    name: str
    version: str
    release: str
    arch: str
    source: bool
    size_bytes: int


def read_package_facts(path: Path) -> PackageFacts:
    """The facts of the RPM file at `path`.

    Raises SrpmError in one line for anything but a whole RPM with a sane name, version,
    release and architecture. The payload is not read; digests are left to rpm.
    """
    shown = printable(str(path))
    try:
        with path.open("rb") as stream:
            size_bytes = os.fstat(stream.fileno()).st_size
            file = rpmfile.read_file(stream)
        whole_bytes = file.whole_bytes
        header = file.header
        if whole_bytes is not None and whole_bytes > size_bytes:
            raise TruncatedSrpm(
                f"{shown} is truncated: {size_bytes} of {whole_bytes} bytes",
                hint="copy or download it again",
            )
        return PackageFacts(
            name=_sane(header, Tag.NAME, shown),
            version=_sane(header, Tag.VERSION, shown),
            release=_sane(header, Tag.RELEASE, shown),
            arch=_sane(header, Tag.ARCH, shown),
            source=rpmfile.is_source(header),
            size_bytes=size_bytes,
        )
    except HeaderError as error:
        raise SrpmError(
            f"{shown} is not an RPM package, or is damaged: {error}",
            hint="copy or download it again",
        ) from error
    except OSError as error:
        raise SrpmError(f"cannot read {shown}: {error.strerror}") from error


def _sane(header: Header, tag: Tag, shown: str) -> str:
    word = tag.name.lower()
    value = header.string(tag)
    if value is None:
        raise SrpmError(f"{shown} has no {word} in its header")
    if len(value) > 255 or not _SANE.fullmatch(value):
        raise SrpmError(f"{shown}: the header's {word} {printable(value[:80])!r} is refused")
    return value

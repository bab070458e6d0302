# SPDX-License-Identifier: GPL-2.0-or-later
"""A toolkit's archive and the index beside it, in the user's cache."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mock_cloud.errors import ConfigError
from mock_cloud.model import Toolkit, ToolkitFile
from mock_cloud.toolkit import origin
from mock_cloud.wire.decode import load_json
from mock_cloud.wire.files import digest_of, replace_file

if TYPE_CHECKING:
    from mock_cloud.toolkit.contents import Contents

_FORMAT: Final = "mock-cloud/toolkit/3"
_GZIP_LEVEL: Final = 6


def keep(gathered: Contents, index: Path, more: Mapping[str, Any]) -> Toolkit:
    """Write the archive beside `index`, and the index with `more` facts. ConfigError."""
    archive = pack_tar(gathered.members)
    toolkit = _describe(index.parent, gathered, archive)
    facts = {
        **more,
        "format": _FORMAT,
        "build": gathered.build,
        "origin": origin.describe_origin(gathered.inputs, gathered.listed, gathered.absent),
        "digest": toolkit.digest,
        "arch": toolkit.arch,
        "python_version": toolkit.python_version,
        "archive_bytes": len(archive),
        "files": {
            name: [one.mode, one.size_bytes, one.sha256] for name, one in toolkit.files.items()
        },
    }
    write_with_index(toolkit.archive, archive, index, facts)
    return toolkit


def write_with_index(
    path: Path, data: bytes, index: Path, facts: Mapping[str, Any], what: str = "the toolkit"
) -> None:
    """Write what was packed, and then the index that makes it count. ConfigError."""
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data, 0o600)
        replace_file(index, json.dumps(facts).encode(), 0o600)
    except OSError as error:
        raise ConfigError(
            f"{what} cannot be kept in {index.parent}: {error.strerror}",
            hint="choose a cache directory that you can write to",
        ) from error


def find(
    index: Path, *, whole: bool = False, build: str = ""
) -> tuple[Toolkit, dict[str, Any]] | None:
    """The toolkit that `index` describes and its facts; None if none or out of date.

    The archive's size is compared, and with `whole` its digest; `build` is what the interpreter
    says of itself, where that is known.
    """
    try:
        facts: dict[str, Any] = load_json(index.read_bytes())
        archive = index.with_name(f"{facts['digest']}.tar.gz")
        if facts["format"] != _FORMAT or not origin.is_current(facts["origin"]):
            return None
        if build not in ("", facts["build"]) or archive.stat().st_size != facts["archive_bytes"]:
            return None
        if whole:
            with archive.open("rb", buffering=0) as stream:
                if digest_of(stream)[0] != facts["digest"]:
                    return None
        files = {name: ToolkitFile(*values) for name, values in facts["files"].items()}
        toolkit = Toolkit(facts["digest"], archive, facts["arch"], facts["python_version"], files)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there yet, or not ours: packed anew
    return toolkit, facts


def pack_tar(members: dict[str, tuple[int, bytes]]) -> bytes:
    """A gzipped tar of `members` (mode and bytes by name): the same ones, the same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (mode, data) in sorted(members.items()):
            member = tarfile.TarInfo(name)
            member.mode, member.size = mode, len(data)
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), _GZIP_LEVEL, mtime=0)


def _describe(directory: Path, gathered: Contents, archive: bytes) -> Toolkit:
    digest = hashlib.sha256(archive).hexdigest()
    return Toolkit(
        digest=digest,
        archive=directory / f"{digest}.tar.gz",
        arch=gathered.arch,
        python_version=gathered.python_version,
        files={
            name: ToolkitFile(mode, len(data), hashlib.sha256(data).hexdigest())
            for name, (mode, data) in sorted(gathered.members.items())
        },
    )

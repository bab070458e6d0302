# SPDX-License-Identifier: GPL-2.0-or-later
"""Packing the toolkit, once for each interpreter and version of the agent.

The same inputs make the same archive, byte for byte. A small index beside it says which
files of the controller it was made of, so that a later call only compares their times.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

from mock_cloud import __version__
from mock_cloud.errors import ConfigError
from mock_cloud.model import Toolkit, ToolkitFile
from mock_cloud.toolkit import contents

_FORMAT: Final = "mock-cloud/toolkit/1"
_GZIP_LEVEL: Final = 6


def pack(cache_dir: Path, python: Path | None = None) -> Toolkit:
    """The toolkit of `python`, from `cache_dir` if nothing it is made of has changed.

    By default the interpreter is the one behind the running one. `cache_dir` is made if need
    be; packing at the same time in another process is harmless. Raises ConfigError if the
    cache cannot be written, InputError for an interpreter that cannot be packed.
    """
    python = python.resolve() if python is not None else contents.base_python()
    index = cache_dir / f"toolkit-{hashlib.sha256(os.fsencode(python)).hexdigest()[:16]}.json"
    cached = _find_cached(index)
    if cached is not None:
        return cached
    gathered = contents.gather(python)
    archive = _archive(gathered.members)
    toolkit = _describe(cache_dir, gathered, archive)
    facts = {
        "format": _FORMAT,
        "version": __version__,
        "digest": toolkit.digest,
        "arch": toolkit.arch,
        "python_version": toolkit.python_version,
        "archive_bytes": len(archive),
        "inputs": [[str(path), *_stamp(path)] for path in sorted(set(gathered.inputs))],
        "agent": [str(path) for path in contents.agent_sources()],
        "files": {
            name: [one.mode, one.size_bytes, one.sha256] for name, one in toolkit.files.items()
        },
    }
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        _replace(toolkit.archive, archive)
        _replace(index, json.dumps(facts).encode())
    except OSError as error:
        raise ConfigError(
            f"the toolkit cannot be kept in {cache_dir}: {error.strerror}",
            hint="choose a cache directory that you can write to",
        ) from error
    return toolkit


def _archive(members: dict[str, tuple[int, bytes]]) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (mode, data) in sorted(members.items()):
            member = tarfile.TarInfo(name)
            member.mode, member.size = mode, len(data)
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), _GZIP_LEVEL, mtime=0)


def _describe(cache_dir: Path, gathered: contents.Contents, archive: bytes) -> Toolkit:
    digest = hashlib.sha256(archive).hexdigest()
    return Toolkit(
        digest=digest,
        archive=cache_dir / f"{digest}.tar.gz",
        arch=gathered.arch,
        python_version=gathered.python_version,
        files={
            name: ToolkitFile(mode, len(data), hashlib.sha256(data).hexdigest())
            for name, (mode, data) in sorted(gathered.members.items())
        },
    )


def _find_cached(index: Path) -> Toolkit | None:
    """The toolkit that `index` describes; None if there is none or it is out of date."""
    try:
        facts: dict[str, Any] = json.loads(index.read_bytes())
        if (facts["format"], facts["version"]) != (_FORMAT, __version__):
            return None
        archive = index.with_name(f"{facts['digest']}.tar.gz")
        if archive.stat().st_size != facts["archive_bytes"]:
            return None
        if facts["agent"] != [str(path) for path in contents.agent_sources()]:
            return None  # a module was added or removed
        if any(stamp != _stamp(path) for path, *stamp in facts["inputs"]):
            return None
        files = {name: ToolkitFile(*values) for name, values in facts["files"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there yet, or not ours: packed anew
    return Toolkit(
        digest=facts["digest"],
        archive=archive,
        arch=facts["arch"],
        python_version=facts["python_version"],
        files=files,
    )


def _stamp(path: Path | str) -> list[int]:
    """What changes when a file is replaced or written."""
    facts = Path(path).stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ino]


def _replace(path: Path, data: bytes) -> None:
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise

# SPDX-License-Identifier: GPL-2.0-or-later
"""Signs a provenance anew, after mock's own plugins have signed packages and packed logs here."""

from __future__ import annotations

import bz2
import gzip
import lzma
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mock_cloud.console import Console
from mock_cloud.errors import MockCloudError, ResultError
from mock_cloud.file_owner import as_owner
from mock_cloud.ledger.entries import EventKind, LedgerEvent, noted_files
from mock_cloud.provenance.files import digest_file, digest_package, find_result_files, read_sizes
from mock_cloud.provenance.statement import (
    PROVENANCE_NAME,
    Agreement,
    Provenance,
    open_provenance,
    sign_provenance,
)
from mock_cloud.results.ownlog import remove_own_file, write_own_file
from mock_cloud.settings import Remote
from mock_cloud.steps.lease.builders import note
from mock_cloud.steps.sign.signers import find_signer
from mock_cloud.wire.files import digest_of
from mock_cloud.wire.rpmheader import HeaderError

_OPENERS: Final[dict[str, Callable[[Any], Any]]] = {
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
"""What mock's plugin compress_logs packs with."""
_REPODATA: Final = "repodata/"


def renew_provenance(place: Path, remote: Remote, console: Console) -> None:
    """Sign for the files in `place` as they are now, if they are still what was built.

    A package may have another signature: its header and payload are as they were. A log may have
    been packed: what is in it is as it was. createrepo may have written its files anew. Anything
    else is no provenance any more: it is removed, and a warning says why. Nothing is done where
    there is none.
    """
    path = place / PROVENANCE_NAME
    if not path.exists():
        return
    try:
        signer = find_signer(remote, console)
        with as_owner():
            signed = open_provenance(path.read_bytes(), [signer.public])
            before = signed.provenance
            now = _renewed(place, before)
        if now.results != before.results:
            builder, files = now.used.node.builder, noted_files(now.results)
            event = LedgerEvent(
                EventKind.RESIGNED, builder, int(time.time()), job=now.job, files=files
            )
            note(console, event)
        write_own_file(path, sign_provenance(now, signer))
    except (MockCloudError, HeaderError, OSError, EOFError) as error:
        why = error.message if isinstance(error, MockCloudError) else str(error)
        console.warning(f"the provenance was removed: {why}")
        remove_own_file(path)


def sign_agreed(
    place: Path, remote: Remote, agreed: tuple[Agreement, ...], console: Console
) -> None:
    """Sign the provenance in `place` anew, with who built the same.

    Where that fails it is as it was, and a warning says why: it is true all the same.
    """
    path = place / PROVENANCE_NAME
    try:
        signer = find_signer(remote, console)
        with as_owner():
            built = open_provenance(path.read_bytes(), [signer.public]).provenance
        now = replace(built, used=replace(built.used, agreed=agreed))
        write_own_file(path, sign_provenance(now, signer))
    except (MockCloudError, OSError) as error:
        why = error.message if isinstance(error, MockCloudError) else str(error)
        console.warning(f"the provenance does not say who built the same: {why}")


def _renewed(place: Path, built: Provenance) -> Provenance:
    """The same of the files as they are. ResultError, HeaderError, OSError."""
    results = {}
    for name in built.results:
        if digest_package(place / name) != built.used.packages[name]:
            raise ResultError(f"{name} is not what was built")
        results[name] = digest_file(place / name)
    there = find_result_files(place)
    logs = {name: digest_file(place / name) for name in there if name.startswith(_REPODATA)}
    for name, digest in built.logs.items():
        if not name.startswith(_REPODATA):
            found = _find_log(place, name, digest, there)
            logs[found] = digest_file(place / found)
    used = replace(built.used, sizes=read_sizes(place, (*results, *logs)))
    return replace(built, results=results, logs=logs, used=used)


def _find_log(place: Path, name: str, digest: str, there: Sequence[str]) -> str:
    """What the log is called now. ResultError if what is in it has changed."""
    for suffix, unpack in _OPENERS.items():
        packed = f"{name}{suffix}"
        if name not in there and packed in there:
            with (place / packed).open("rb") as stream, unpack(stream) as text:
                if digest_of(text)[0] == digest:
                    return packed
    if name not in there or digest_file(place / name) != digest:
        raise ResultError(f"{name} has changed or is gone")
    return name

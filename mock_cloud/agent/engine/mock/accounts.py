# SPDX-License-Identifier: GPL-2.0-or-later
"""The passwd and group that mock sees: the node's own, with a build user and the group `mock`.

mock looks its user up, and reads configuration in the user's home: it gets an empty one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Final

USER: Final = "mock-cloud-build"
GROUP: Final = "mock"
_USUAL_GID: Final = 135  # Fedora's uidgid list, as in mock's package


def write_accounts(directory: str, uid: int, home: str, etc: str = "/etc") -> int:
    """Write `directory`/passwd and group for the build user `uid`; the group's id. OSError."""
    users = [line for line in _read(etc, "passwd") if _name(line) != USER and _id(line) != uid]
    groups = _read(etc, "group")
    found = [_id(line) for line in groups if _name(line) == GROUP]
    gid: int | None = found[0] if found else None
    if gid is None:
        gid = _free_id({_id(line) for line in groups})
        groups.append(f"{GROUP}:x:{gid}:")
    users.append(f"{USER}:x:{uid}:{gid}::{home}:/sbin/nologin")
    _write(os.path.join(directory, "passwd"), users)
    _write(os.path.join(directory, "group"), groups)
    return gid


def _free_id(taken: Collection[int | None]) -> int:
    candidates = [_USUAL_GID, *range(999, 99, -1)]
    free: list[int] = [gid for gid in candidates if gid not in taken]
    return free[0]


def _name(line: str) -> str:
    return line.partition(":")[0]


def _id(line: str) -> int | None:
    """The third field of a line of passwd(5) or group(5)."""
    fields = line.split(":")
    return int(fields[2]) if len(fields) > 2 and fields[2].isdecimal() else None


def _read(etc: str, name: str) -> list[str]:
    try:
        with open(os.path.join(etc, name), encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read().splitlines()
    except FileNotFoundError:
        return []


def _write(path: str, lines: Iterable[str]) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write("".join(f"{line}\n" for line in lines))
    os.chmod(path, 0o644)

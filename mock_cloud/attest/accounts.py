# SPDX-License-Identifier: GPL-2.0-or-later
"""User and group names, which RPM headers carry, to the numbers that files have."""

from __future__ import annotations

import re

from mock_cloud.wire.dataclass import dataclass

_FILE_MAX_BYTES = 4 << 20
_NUMBER = re.compile(r"[0-9]{1,10}")  # int() takes more: signs, underscores, other scripts


@dataclass(frozen=True, slots=True)
class Accounts:
    """Pairs of name and number. root is always 0, whatever is given. ValueError otherwise."""

    users: tuple[tuple[str, int], ...] = ()
    groups: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        for pairs in (self.users, self.groups):
            names = dict(pairs)
            if len(names) != len(pairs) or names.get("root", 0) != 0:
                raise ValueError("an account stands twice, or root is not 0")

    def uid(self, name: str) -> int | None:
        return 0 if name == "root" else dict(self.users).get(name)

    def gid(self, name: str) -> int | None:
        return 0 if name == "root" else dict(self.groups).get(name)


def parse_accounts(passwd: bytes, group: bytes) -> Accounts:
    """From the bytes of an image's /etc/passwd and /etc/group. ValueError."""
    return Accounts(_pairs(passwd), _pairs(group))


def _pairs(data: bytes) -> tuple[tuple[str, int], ...]:
    if len(data) > _FILE_MAX_BYTES:
        raise ValueError("an account file of more than 4 MiB")
    found: dict[str, int] = {}
    for line in data.decode("utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(":")
        if len(words) < 4 or words[0] in found or not _NUMBER.fullmatch(words[2]):
            raise ValueError(f"not a line of passwd or group: {line[:80]!a}")
        found[words[0]] = int(words[2])
    return tuple(found.items())

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a bare file name may look like, wherever it came from."""

from __future__ import annotations

import os

from mock_cloud.wire.files import NAME_MAX_BYTES


def find_name_problem(name: str) -> str | None:
    """Why `name` is no acceptable bare file name, in a few words; None if it is one.

    Refused: empty, longer than NAME_MAX_BYTES in UTF-8, a slash, a leading dash (it would be
    an option to a command) or dot (hidden; `.` and `..`), control, format and unassigned
    characters, a leading or trailing space.
    """
    if not name:
        return "it is empty"
    for character in name:
        # Not printable: controls, formats (bidirectional overrides), private use, unassigned, lone
        # surrogates, spaces other than the plain one. What could trick a reader.
        if character == "/" or not character.isprintable():
            return f"it has the character {character!a}"
    if name[0] in "-.":
        return f"it starts with {name[0]!r}"
    if name != name.strip():
        return "it starts or ends with a space"
    if len(name.encode()) > NAME_MAX_BYTES:
        return f"it is longer than {NAME_MAX_BYTES} bytes"
    return None


def expand_home(text: str) -> str:
    """`~` and `~user` expanded as mock does: what can't be expanded stays as it is."""
    return os.path.expanduser(text)  # noqa: PTH111  Path's raises for an unknown user

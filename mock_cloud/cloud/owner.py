# SPDX-License-Identifier: GPL-2.0-or-later
"""Who leases from here: a user of a machine, with one state directory.

Two containers or two state directories may have user, host name and uid in common; the random
word tells them apart, so that neither takes the other's nodes for its own.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shlex
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mock_cloud.errors import ConfigError
from mock_cloud.wire.files import create_file

JOURNAL: Final = "leases.sqlite"
"""The journal's file in the state directory."""
_FILE: Final = "owner-id"
_ID: Final = re.compile(r"[0-9a-f]{8}")


def local_owner(state_dir: Path) -> str:
    """``USER@HOST:UID/RANDOM8``; the random word is made once and kept in `state_dir`. ConfigError.

    User and host are those of now: on a machine that shares this home, the owner is another one.
    """
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return f"{name}@{socket.gethostname()}:{uid}/{_find_id(state_dir)}"


def is_same_user(owner: str, other: str) -> bool:
    """Whether `other` is most likely the same person, with a state that was lost or moved.

    The user, host and uid are the same, or the random word is: after the host was renamed.
    """
    person, _, word = owner.partition("/")
    other_person, _, other_word = other.partition("/")
    return owner != other and (person == other_person or (word != "" and word == other_word))


def _find_id(state_dir: Path) -> str:
    path = state_dir / _FILE
    try:
        if not path.exists():
            create_file(path, f"{secrets.token_hex(4)}\n".encode())
        word = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise ConfigError(
            f"cannot use {path}: {error.strerror}",
            hint="it says which nodes are yours; set XDG_STATE_HOME to a directory of yours",
        ) from error
    if not _ID.fullmatch(word):
        raise ConfigError(
            f"{path} does not hold 8 hexadecimal digits", hint=_way_back(state_dir, path)
        )
    return word


def _way_back(state_dir: Path, path: Path) -> str:
    """What to do about a damaged word: the leases in the journal beside it have it too."""
    try:
        uri = f"file:{quote(str(state_dir))}/{JOURNAL}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            owners = [str(row[0]) for row in db.execute("SELECT DISTINCT owner FROM lease")]
    except sqlite3.Error:
        owners = []
    words = sorted({word for word in (owner.rpartition("/")[2] for owner in owners)
                    if _ID.fullmatch(word)})  # fmt: skip
    if not words:
        return f"no lease has it: rm {shlex.quote(str(path))}, and a new word is made"
    return f"your leases have it: echo {' or '.join(words)} >{shlex.quote(str(path))}"

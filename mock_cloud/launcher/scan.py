# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a mock configuration could choose a remote, from its text alone.

mock's configuration files are Python. Reading them properly takes longer than all else that the
launcher does before a local build, and nearly none of them has the word remote in it.
"""

from __future__ import annotations

import os
import pwd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CONFIG_DIR = "/etc/mock"
# The option itself, and the ways by which a file gets at text that is not in it.
_TELLING = (b"remote", b"import", b"open(", b"read_text", b"exec(", b"eval(")
_DEPTH_MAX = 50


def configuration_may_choose(words: Sequence[str]) -> bool:
    """Whether a file that mock could read for `words` says, or may say, `remote`.

    More files are looked at than mock would read: every word that could name a chroot does.
    A file that cannot be understood or read says so too.
    """
    home = _home()
    seen: set[str] = set()
    for directory in _config_dirs(words):
        names = {part for word in words for part in _parts(word)} | {"default", "hermetic-build"}
        files = [name for name in names if name.endswith(".cfg")]
        files += [
            f"{place}/{name}.cfg" for name in names for place in (directory, f"{home}/.config/mock")
        ]
        files += [f"{directory}/site-defaults.cfg", f"{directory}/chroot-aliases.cfg"]
        files += [f"{home}/.mock/user.cfg", f"{home}/.config/mock.cfg"]
        if any(_may_choose(file, directory, seen, 0) for file in files):
            return True
    return False


def _home() -> str:
    """Where mock looks for the user's files: sudo's caller's, and never $HOME."""
    uid = os.getuid()
    caller = os.environ.get("USERHELPER_UID", "") or os.environ.get("SUDO_UID", "")
    if uid == 0 and caller.isdecimal():
        uid = int(caller)
    try:
        return pwd.getpwuid(uid).pw_dir
    except (KeyError, OverflowError):
        return os.environ.get("HOME", "/nonexistent")


def _config_dirs(words: Sequence[str]) -> Iterator[str]:
    given = False
    for number, word in enumerate(words):
        if word.startswith("--configd"):
            given = True
            _, equals, value = word.partition("=")
            yield from [value] if equals else words[number + 1 : number + 2]
    if not given:
        yield _CONFIG_DIR


def _parts(word: str) -> tuple[str, ...]:
    """What of a word may be a chroot's name: `-r X`, `-rX`, `-qrX`, `--root=X`."""
    if word.startswith("--"):
        return (word.partition("=")[2],)
    if word.startswith("-"):
        return (word.partition("r")[2], word.partition("r")[2].removeprefix("="))
    return (word,)


def _may_choose(file: str, directory: str, seen: set[str], depth: int) -> bool:
    path = os.path.join(directory, file) if depth else file
    if path in seen:
        return False
    seen.add(path)
    try:
        lines = _telling_lines(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except (OSError, ValueError):
        return True
    return any(
        any(word in line for word in _TELLING) or _included_may_choose(line, directory, seen, depth)
        for line in lines
    )


def _telling_lines(path: str) -> list[bytes]:
    """The lines that choose a remote or include a file, or may; comments do not."""
    with open(path, "rb") as stream:
        data = stream.read()
    if not any(word in data for word in (*_TELLING, b"include")):
        return []
    lines = [line.strip() for line in data.splitlines()]
    return [
        line
        for line in lines
        if line.startswith(b"include(")
        or (any(word in line for word in _TELLING) and not line.startswith(b"#"))
    ]


def _included_may_choose(line: bytes, directory: str, seen: set[str], depth: int) -> bool:
    """`line` is mock's include('PATH'); another expression may name any file."""
    argument = line.removeprefix(b"include(").rpartition(b")")[0].strip()
    quote, path = argument[:1], argument[1:-1]
    plain = quote in (b"'", b'"') and argument.endswith(quote) and len(argument) > 2
    if not plain or any(mark in path for mark in (b"'", b'"', b"\\")) or depth > _DEPTH_MAX:
        return True
    return _may_choose(os.fsdecode(path), directory, seen, depth + 1)

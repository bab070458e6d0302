# SPDX-License-Identifier: GPL-2.0-or-later
"""What a value in a remote's file may be: one small check a kind, each says what it wants."""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from mock_cloud.invocation.names import expand_home
from mock_cloud.model import HostKey, Secret
from mock_cloud.settings import (
    LOOKASIDE,
    LOOKASIDE_WORDS,
    NOTIFY_WORDS,
    POLICIES,
    REACH_WORDS,
    Scalar,
)

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_UNIT_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

# The filesystem package's and mock's own: what is in them is no copy of anything here.
_SYSTEM: Final = frozenset({
    "afs", "bin", "boot", "builddir", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt",
    "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var",
})  # fmt: skip

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_E = TypeVar("_E", bound=Enum)


class Refused(ValueError):
    """A value is not acceptable; the message says what would be."""


ValueCheck = Callable[[Any, Path], Any]
"""(raw value, directory that relative paths are relative to) → parsed value, or Refused."""


def text(raw: Any, _: Path) -> str:
    """A non-empty string without control characters."""
    if not isinstance(raw, str) or not raw:
        raise Refused(f"a string is wanted, not {raw!r}")
    if _CONTROL.search(raw):
        raise Refused(f"a control character is in {raw[:80]!r}")
    return raw


def words(raw: Any, base: Path) -> tuple[str, ...]:
    """A non-empty list of words of lower-case letters, digits and underscores."""
    found = tuple(text(item, base) for item in _list(raw))
    for word in found:
        if not re.fullmatch(r"[a-z0-9_]+", word):
            raise Refused(f"{word!r} is not a plain word")
    return found


def strings(raw: Any, base: Path) -> tuple[str, ...]:
    """A non-empty list of non-empty strings."""
    return tuple(text(item, base) for item in _list(raw))


def reach_command(raw: Any, base: Path) -> tuple[str, ...]:
    """A command as a list, in whose words the words of REACH_WORDS may stand in braces."""
    return _command(strings(raw, base), REACH_WORDS)


def notify_command(raw: Any, base: Path) -> tuple[str, ...]:
    """The same with NOTIFY_WORDS."""
    return _command(strings(raw, base), NOTIFY_WORDS)


def _command(words: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    for name in re.findall(r"\{(\w*)\}", " ".join(words)):
        if name not in known:
            raise Refused(f"{{{name}}} is none of {', '.join(f'{{{word}}}' for word in known)}")
    return words


def flag(raw: Any, _: Path) -> bool:
    """true or false."""
    if not isinstance(raw, bool):
        raise Refused(f"true or false is wanted, not {raw!r}")
    return raw


def number(least: float, most: float) -> ValueCheck:
    """A number within bounds."""

    def check(raw: Any, _: Path) -> float:
        if not isinstance(raw, (int, float)) or isinstance(raw, bool):
            raise Refused(f"a number is wanted, not {raw!r}")
        if not least <= raw <= most:  # false for nan too
            raise Refused(f"{raw} is not between {least:g} and {most:g}")
        return float(raw)

    return check


def plain_word(raw: Any, base: Path) -> str:
    """A word of lower-case letters, digits, underscores and hyphens, a letter first."""
    word = text(raw, base)
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", word):
        raise Refused(f"{word!r} is not a plain word")
    return word


def url(raw: Any, base: Path) -> str:
    """An http or https URL with a host and without a password in it."""
    parts = urlsplit(text(raw, base))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused(f"{raw!r} is not an http or https URL")
    if parts.username or parts.password:
        raise Refused("a URL with a password in it ends up in logs")
    return str(raw)


def lookaside(raw: Any, base: Path) -> str:
    """`LOOKASIDE`, or such a URL, in whose path rpkg's words for a file stand as rpkg has them."""
    if raw == LOOKASIDE:
        return LOOKASIDE
    parts = urlsplit(url(raw, base))
    rest = re.sub(rf"%\(({'|'.join(LOOKASIDE_WORDS)})\)s", "", parts.path)
    if rest == parts.path or "%" in rest + parts.netloc or parts.query or parts.fragment:
        words = ", ".join(f"%({word})s" for word in LOOKASIDE_WORDS)
        raise Refused(f"{raw!r} is not lookaside, or a URL that ends with a path of {words}")
    return str(raw)


def secret(raw: Any, base: Path) -> Secret:
    """A secret; what reads the document refuses a file that others can read."""
    if not isinstance(raw, str) or not raw:
        raise Refused("a string is wanted")  # never shown
    return Secret(raw.encode())


def public_key(raw: Any, base: Path) -> HostKey:
    """An OpenSSH public key line."""
    try:
        return HostKey.parse(text(raw, base))
    except ValueError as error:
        raise Refused(f"an OpenSSH public key is wanted, ssh-ed25519 AAAA…, not {raw!r}") from error


def scalars(raw: Any, base: Path) -> dict[str, Scalar]:
    """A table of strings, numbers and booleans."""
    if not isinstance(raw, dict):
        raise Refused(f"a table is wanted, not {raw!r}")
    for name, value in raw.items():
        if not isinstance(value, (str, int, float, bool)):
            raise Refused(f"{name}: a string, a number, true or false is wanted")
    return dict(raw)


def ex_arguments(raw: Any, _: Path) -> dict[str, object]:
    """A table of ``ex_`` arguments, as libcloud calls what only one of its drivers has."""
    if not isinstance(raw, dict):
        raise Refused(f"a table of ex_ arguments is wanted, not {raw!r}")
    for name in raw:
        if not name.startswith("ex_"):
            raise Refused(f"{name!r} does not begin with ex_")
    return dict(raw)


def choice(kind: type[_E]) -> ValueCheck:
    """One of the values of an enum."""

    def check(raw: Any, _: Path) -> _E:
        for member in kind:
            if raw == member.value:
                return member
        known = ", ".join(repr(member.value) for member in kind)
        raise Refused(f"{raw!r} is none of {known}")

    return check


def integer(least: int, most: int) -> ValueCheck:
    """An integer within bounds."""

    def check(raw: Any, _: Path) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise Refused(f"an integer is wanted, not {raw!r}")
        if not least <= raw <= most:
            raise Refused(f"{raw} is not between {least} and {most}")
        return raw

    return check


def duration(least_s: float, most_s: float) -> ValueCheck:
    """Seconds as a number, or a string such as "90s", "10m", "4h", "7d"; within bounds."""

    def check(raw: Any, _: Path) -> float:
        found = _DURATION.fullmatch(raw.strip()) if isinstance(raw, str) else None
        if found:
            seconds = float(found[1]) * _UNIT_S[found[2]]
        elif isinstance(raw, (int, float)) and not isinstance(raw, bool):
            seconds = float(raw)
        else:
            raise Refused(f'a duration is wanted, such as "90s", "10m" or "4h", not {raw!r}')
        if not least_s <= seconds <= most_s:  # false for nan too
            raise Refused(f"{raw!r} is not between {least_s:g} and {most_s:g} seconds")
        return seconds

    return check


def loopback(raw: Any, base: Path) -> str:
    """A numeric loopback address, or an empty string."""
    if raw == "":
        return ""
    try:
        if ipaddress.ip_address(text(raw, base)).is_loopback:
            return str(raw)
    except ValueError as error:
        raise Refused(f"{raw!r} is not an IP address") from error
    raise Refused(f"{raw!r} is not a loopback address")


def machine_address(raw: Any, base: Path) -> str:
    """A machine's name or address, as ssh's HostName: without the user and the port of a URL."""
    address = text(raw, base)
    user, _, host = address.rpartition("@")
    name, colon, port = host.partition(":")
    if user:
        raise Refused(f"{raw!r} has a user: that is `user`, and the address is {host!r}")
    if colon and port.isdecimal():
        raise Refused(f"{raw!r} has a port: that is `port = {port}`, and the address is {name!r}")
    return address


def top_directory(raw: Any, base: Path) -> str:
    """The path of a directory right below the root of a chroot, and none that a system has."""
    path = text(raw, base)
    if not re.fullmatch(r"/[A-Za-z0-9_][A-Za-z0-9_.-]*", path) or path[1:] in _SYSTEM:
        raise Refused(f"a directory of its own right below / is wanted, not {raw!r}")
    return path


def directory(raw: Any, base: Path) -> Path:
    """An existing directory; relative to the file."""
    path = base / expand_home(text(raw, base))
    if not path.is_dir():
        raise Refused(f"there is no directory {path}")
    return path


def file(raw: Any, base: Path) -> Path:
    """An existing, readable file that not everybody may write to; relative to the TOML file."""
    path = base / expand_home(text(raw, base))
    try:
        with path.open("rb"):
            mode = path.stat().st_mode
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise Refused(f"{path} is not a regular file")
    if mode & stat.S_IWOTH:
        raise Refused(f"{path} is writable by everybody")
    return path


def policy(raw: Any, base: Path) -> str:
    """The name of a policy that every installation has, or the path of such a file."""
    return raw if raw in POLICIES else str(file(raw, base))


def files(raw: Any, base: Path) -> tuple[Path, ...]:
    """A non-empty list of such files."""
    return tuple(file(item, base) for item in _list(raw))


def path(raw: Any, base: Path) -> Path:
    """A path, whatever is there; relative to the TOML file."""
    return base / expand_home(text(raw, base))


def paths(raw: Any, base: Path) -> tuple[Path, ...]:
    """A non-empty list of such paths."""
    return tuple(path(item, base) for item in _list(raw))


def _list(raw: Any) -> list[Any]:
    if not isinstance(raw, list) or not raw:
        raise Refused(f"a list with at least one entry is wanted, not {raw!r}")
    return raw

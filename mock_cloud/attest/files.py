# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of one file: the row that evidence, manifests and headers share.

Rows are plain tuples so that 30,000 of them are parsed and compared in tens of milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, NamedTuple

from mock_cloud.wire.decode import By, Malformed

_TEXT_MAX: Final = 1 << 16
"""Characters in one text: above PATH_MAX and the longest kernel command line."""

PATH_MAX = 4096
"""Linux's own (include/uapi/linux/limits.h)."""
_FILES_MAX = 2_000_000
SELINUX = "security.selinux"
CAPABILITY = "security.capability"

Xattrs = tuple[tuple[str, str], ...]


class FileFact(NamedTuple):
    """One file. `type` is one of f d l c b p s; `mode` the permission bits (0o7777).

    `size_bytes` is 0 unless f. `value` is the sha256 in hex (f), the target (l),
    MAJOR:MINOR (c, b) or None. `xattrs` is sorted pairs of name and hex.
    """

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    size_bytes: int
    value: str | None
    xattrs: Xattrs

    def without_label(self) -> FileFact:
        """The same without its SELinux label."""
        kept = tuple(pair for pair in self.xattrs if pair[0] != SELINUX)
        return self if kept == self.xattrs else self._replace(xattrs=kept)


_DEVICE = re.compile(r"[0-9]{1,7}:[0-9]{1,7}")
_HEX = re.compile(r"(?:[0-9a-f]{2}){0,65536}")
_LOWER_HEX = re.compile(r"[0-9a-f]*")
# In paths joined by NUL, each led and followed by one: an empty, "." or ".." component, a
# slash at the end, or a path that is not absolute.
_BAD_PATHS = re.compile(r"//|/\.{1,2}[/\0]|/\0|\0[^/]")
_UID_MAX = (1 << 32) - 1
_SIZE_MAX = (1 << 63) - 1


def check_paths(paths: list[str]) -> None:
    """All absolute, normalised, bounded, distinct, and the one text for their bytes."""
    blob = "\0" + "\0".join(path for path in paths if path != "/") + "\0"
    plain = len(paths) - ("/" in paths)
    if plain and (blob.count("\0") != plain + 1 or _BAD_PATHS.search(blob)):
        bad = next((path for path in paths if not is_normal(path)), "")
        raise Malformed(f"files: not an absolute, normalised path: {bad[:200]!a}")
    if len(set(paths)) != len(paths):
        raise Malformed("files: a path stands twice")
    if paths and max(map(len, paths)) > PATH_MAX:
        raise Malformed(f"files: a path is longer than {PATH_MAX}")
    if not blob.isascii():
        for path in paths:
            if not path.isascii():
                canonical(path)


def canonical(text: str) -> None:
    """Refuse a text that surrogateescape would not have made: two texts for the same bytes."""
    try:
        again = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeError as error:
        raise Malformed("not text decoded with surrogateescape") from error
    if again != text:
        raise Malformed("not the one way to write these bytes")


def parse_text(value: object) -> str:
    """A text without NUL, with no surrogates but those of undecodable bytes. Malformed."""
    if type(value) is not str or len(value) > _TEXT_MAX or "\0" in value:
        raise Malformed(f"not a text of at most {_TEXT_MAX} characters without NUL")
    if not value.isascii():
        canonical(value)
    return value


def parse_path(value: object) -> str:
    """Such a text that is an absolute, normalised path. Malformed."""
    path = parse_text(value)
    if not is_normal(path):
        raise Malformed(f"not an absolute, normalised path: {path[:200]!a}")
    return path


Text = Annotated[str, By(parse_text)]
PathText = Annotated[str, By(parse_path)]


def is_normal(path: str) -> bool:
    """Whether `path` is absolute with no empty, dot or dot-dot component and no NUL."""
    if path == "/":
        return True
    return "\0" not in path and not _BAD_PATHS.search(f"\0{path}\0")


def parse_files(rows: object) -> tuple[FileFact, ...]:
    """Rows of eight values as the protocol has them. Malformed on anything else."""
    if not isinstance(rows, list) or len(rows) > _FILES_MAX:
        raise Malformed(f"files: not a list of at most {_FILES_MAX}")
    facts: list[FileFact] = []
    digests: list[str] = []
    make = FileFact._make
    for one in rows:
        try:
            path, kind, mode, uid, gid, size, value, xattrs = one
        except (TypeError, ValueError) as error:
            raise Malformed("files: a row is not a list of eight") from error
        if (
            type(one) is not list
            or type(path) is not str
            or not type(mode) is type(uid) is type(gid) is type(size) is int
            or not (0 <= mode <= 0o7777 and 0 <= uid <= _UID_MAX and 0 <= gid <= _UID_MAX)
        ):
            raise Malformed("files: a row's path, mode, uid, gid or size is wrong")
        if kind == "f":
            if type(value) is not str or len(value) != 64 or not 0 <= size <= _SIZE_MAX:
                raise Malformed(f"files: wrong digest or size: {path[:200]!a}")
            digests.append(value)
        elif size or not _value_fits(kind, value):
            raise Malformed(f"files: wrong type, size or value: {path[:200]!a}")
        one[7] = () if not xattrs else parse_xattrs(xattrs, path)
        facts.append(make(one))
    if not _LOWER_HEX.fullmatch("".join(digests)):
        raise Malformed("files: a digest is not lower-case hex")
    check_paths([fact.path for fact in facts])
    return tuple(facts)


def _value_fits(kind: object, value: object) -> bool:
    if kind in ("d", "p", "s"):
        return value is None
    if type(value) is not str:
        return False
    if kind == "l":
        if not 0 < len(value) <= PATH_MAX or "\0" in value:
            return False
        if not value.isascii():
            canonical(value)
        return True
    return kind in ("c", "b") and bool(_DEVICE.fullmatch(value))


def parse_xattrs(value: object, path: str) -> Xattrs:
    """Sorted pairs of name and hex; None and an empty object are no pairs."""
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > 64:
        raise Malformed(f"files: xattrs are not a small object: {path[:200]!a}")
    for name, data in value.items():
        if len(name) > 255 or type(data) is not str or not _HEX.fullmatch(data):
            raise Malformed(f"files: an xattr is not a name and hex: {path[:200]!a}")
    return tuple(sorted(value.items()))


def to_rows(facts: Iterable[FileFact]) -> list[list[Any]]:
    """The rows that `parse_files` reads, sorted by path."""
    return [[*fact[:7], dict(fact.xattrs) or None] for fact in sorted(facts)]

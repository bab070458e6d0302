# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file names a node may put into a local directory."""

from __future__ import annotations

import re
from typing import Final

from mock_cloud.errors import ResultError
from mock_cloud.invocation.names import find_name_problem, printable

# A resultdir may be any directory of the user's, `--resultdir .` in a source tree included:
# a node must not be able to replace a Makefile there. Suffixes are what mock itself writes.
_PLAIN: Final = re.compile(r".+\.(?:rpm|log)", re.DOTALL)
# What mock's own plugins write besides (buildroot_lock, chroot_scan, expand_spec,
# export_buildroot_image, system_monitor, whose file is spelt so).
_OF_PLUGINS: Final = frozenset({
    "buildroot_lock.json", "buildroot-oci.tar", "chroot_scan.tar.gz", "expanded-spec.txt",
    "system_monior.json", "system_monitor.json",
})  # fmt: skip
_CHAIN_MARKS: Final = frozenset({"success", "fail"})
_REPODATA: Final = re.compile(
    r"(?:[0-9a-f]{32,128}-)?[a-z_]+\.(?:xml|sqlite)(?:\.(?:gz|bz2|xz|zst|zck))?"
)


def check_name(name: str, *, chain: bool = False) -> str:
    """`name` if a node may use it for a result, else ResultError saying why not.

    A bare name that ends in .rpm or .log, or one that a plugin of mock's gives. With `chain`, the
    results of mock's --chain too: ``PACKAGE/NAME`` with the marks ``success`` and ``fail``, and
    ``repodata/…``.
    """
    directory, slash, last = name.rpartition("/")
    parts = (directory, last) if slash and chain else (name,)
    for part in parts:
        problem = find_name_problem(part)
        if problem is not None:
            raise ResultError(f"the node's result {printable(name)!r} is refused: {problem}")
    if not _is_expected(directory if len(parts) > 1 else "", parts[-1]):
        raise ResultError(
            f"the node's result {printable(name)!r} is refused: neither a package nor a log"
        )
    return name


def is_kind_of_result(name: str, *, chain: bool) -> bool:
    """Whether the name is one that mock gives; `check_name` looks at its characters too."""
    directory, _, last = name.rpartition("/") if chain else ("", "", name)
    return _is_expected(directory, last)


def _is_expected(directory: str, last: str) -> bool:
    if directory == "repodata":
        return _REPODATA.fullmatch(last) is not None
    if last in _OF_PLUGINS or _PLAIN.fullmatch(last):
        return True
    return bool(directory) and last in _CHAIN_MARKS

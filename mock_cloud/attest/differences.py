# SPDX-License-Identifier: GPL-2.0-or-later
"""How a packaged file may differ from its package in a manifest, and how nobody may vouch for it.

One rule for a tree that was never booted, for an image and for a machine that runs. What it lets
pass is pinned as found, and listed for the signer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from mock_cloud.attest.check_files import describe_file
from mock_cloud.attest.files import CAPABILITY, FileFact
from mock_cloud.attest.knowngood import Signed
from mock_cloud.attest.packages import FileFlag
from mock_cloud.errors import Reason

_EXECUTE: Final = 0o111
_SET_IDS: Final = 0o6000
_OTHERS_WRITE: Final = 0o022
# What stands here is data or its owner's configuration: another owner, or writable by a group.
_LOOSE: Final = ("/etc/", "/var/", "/run/", "/srv/")
# Read as code by a program, whatever its mode.
_CODE_NAME: Final = re.compile(
    r".*\.(?:so(?:\.[^/]*)?|a|o|ko(?:\.[a-z0-9]+)?|efi|py[cod]?|pth|p[lmh]|rb|lua|tcl|jar|class|js"
    r"|el|elc|sh|bash|zsh|fish|awk|m4|specs?|la|pc|cmake|macros[^/]*)"
)
# What programs of root's do is written here. /etc is its owner's, see `_is_configuration`.
_CONFIGURES: Final = tuple(
    f"{place}/"
    for place in (
        "/boot", "/efi", "/usr/lib/NetworkManager", "/usr/lib/binfmt.d", "/usr/lib/cloud",
        "/usr/lib/dracut", "/usr/lib/environment.d", "/usr/lib/firewalld", "/usr/lib/gcc",
        "/usr/lib/kernel", "/usr/lib/ld.so.conf.d", "/usr/lib/modprobe.d", "/usr/lib/modules",
        "/usr/lib/modules-load.d", "/usr/lib/pam.d", "/usr/lib/polkit-1", "/usr/lib/rpm",
        "/usr/lib/security", "/usr/lib/sysctl.d", "/usr/lib/systemd", "/usr/lib/sysusers.d",
        "/usr/lib/tmpfiles.d", "/usr/lib/udev", "/usr/libexec", "/usr/share/bash-completion",
        "/usr/share/dbus-1", "/usr/share/dnf", "/usr/share/dnf5", "/usr/share/pki",
        "/usr/share/polkit-1", "/usr/share/rpm", "/var/lib/alternatives", "/var/lib/cloud",
        "/var/lib/polkit-1", "/var/lib/systemd", "/var/spool/at", "/var/spool/cron",
    )
)  # fmt: skip


def check_differences(
    entries: Iterable[FileFact], signed: Signed, accepted: Collection[FileFact]
) -> Iterator[Reason]:
    """What nobody may vouch for of packaged files that differ; `accepted` are as they should be.

    ``file.digest``: other contents, but for configuration and for files whose contents the signed
    header itself leaves open. ``file.target``, ``file.type``: a link or a directory became another
    thing. ``file.mode``: a file, or a directory with code, has or gives others more rights.
    """
    for fact in entries:
        want = signed.files.get(fact.path)
        if want is None or fact.path in signed.conflicts or fact in accepted:
            continue
        code = _find_change(want, fact, signed) or _find_gain(want, fact, signed)
        if code:
            yield Reason(code, fact.path, describe_file(want), describe_file(fact))


def _find_change(want: FileFact, fact: FileFact, signed: Signed) -> str:
    if (want.type, want.size_bytes, want.value) == (fact.type, fact.size_bytes, fact.value):
        return ""
    if _is_configuration(want, fact, signed):
        return ""
    if want.type == "f":
        return "" if _is_open(want, fact, signed) else "file.digest"
    if fact.path.startswith(_LOOSE):
        return ""
    return "file.target" if want.type == fact.type == "l" else "file.type"


def _is_configuration(want: FileFact, fact: FileFact, signed: Signed) -> bool:
    """What its owner wrote in /etc is configuration, whatever its packager thought."""
    is_flagged = bool(signed.flags.get(fact.path, 0) & FileFlag.CONFIG)
    if want.type != "f":
        return is_flagged or fact.path.startswith("/etc/")
    return is_flagged or (fact.path.startswith("/etc/") and not (want.mode | fact.mode) & _EXECUTE)


def _is_open(want: FileFact, fact: FileFact, signed: Signed) -> bool:
    """Whether the signed header exempts the contents, and nothing runs them or goes by them.

    So caches are that a package's script writes: gconv's, the SELinux store (``%verify(not md5)``).
    """
    path = fact.path
    return (
        path in signed.exempt
        and fact.type == "f"
        and not path.startswith(_CONFIGURES)
        and not is_code(want)
        and not is_code(fact)
    )


def is_code(fact: FileFact) -> bool:
    """Whether this is a program, a library or a script, by its mode or its name."""
    has_name = _CODE_NAME.fullmatch(fact.path) is not None
    return fact.type == "f" and (bool(fact.mode & _EXECUTE) or has_name)


def _find_gain(want: FileFact, fact: FileFact, signed: Signed) -> str:
    """Rights that the package does not give: to who runs it, or to others over it."""
    if want.type != fact.type or fact.type not in "fd":
        return ""
    gained = fact.mode & ~want.mode
    is_file = fact.type == "f"
    caps, packaged = (dict(one.xattrs).get(CAPABILITY, "") for one in (fact, want))
    # A setuid program with capabilities, even none, has no others: without them it has all.
    is_other = caps != packaged and bool(caps or want.mode & _SET_IDS)
    if is_file and (gained & (_SET_IDS | _EXECUTE) or is_other):
        return "file.mode"
    is_loose = not want.mode & _EXECUTE or not is_file
    if is_loose and (fact.path.startswith(_LOOSE) or _is_configuration(want, fact, signed)):
        return ""
    owners = (fact.uid, fact.gid) != (want.uid, want.gid)
    rest, others = ([pair for pair in one.xattrs if pair[0] != CAPABILITY] for one in (fact, want))
    return "file.mode" if gained & _OTHERS_WRITE or owners or rest != others else ""

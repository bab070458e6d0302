# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that may differ or come and go on a node, and what they must still be.

A rule names an exact path or a directory, and a kind: a small predicate over the facts of a
file. No patterns: a pattern would match a path that an attacker chooses. No rule may stand in,
or reach into, a place whose files are read as code or as configuration of code.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import ClassVar, Final

from mock_cloud.attest.files import FileFact, Text, is_normal
from mock_cloud.attest.rules import cloudinit, content, runtime
from mock_cloud.attest.rules.cloudinit import Shape
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import RPMDB_DIRS, WORKSPACE
from mock_cloud.wire.text_places import (
    GRUBENV,
    MACHINE_ID,
    NETWORK_PLACES,
    RESOLVER_FILES,
    RUN_CONNECTIONS,
    RUN_MACHINE_ID,
    WRITTEN_FILES,
)

MIB: Final = 1 << 20


class VolatileKind(Enum):
    """What a file must be to pass; each value names its predicate in `_PREDICATES`."""

    DATA = "data"
    """Root's regular file, not executable, no setuid, not writable by others, no xattrs."""
    LOG = "log"
    """As DATA, but of any owner and group, up to 1 GiB."""
    PIDFILE = "pidfile"
    """As DATA, at most 64 bytes."""
    SOCKET = "socket"
    """A Unix socket or FIFO of root's."""
    DIRECTORY = "directory"
    """Root's directory, not writable by others unless sticky."""
    TREE = "tree"
    """Below the path: DATA, DIRECTORY and SOCKET."""
    DEVICES = "devices"
    """Below the path: what a /dev holds; open to everyone only where harmless."""
    STATE = "state"
    """Below the path: as TREE, but of any owner, up to 1 GiB, ACLs no matter, and links to names
    beside them; in /var/log that to systemd's README."""
    SCOPES = "scopes"
    """systemd's directory of transient units, and there those of logins, which run nothing."""
    CLOUD_INIT = "cloud-init"
    """One of cloud-init's directories, and what it leaves there: `cloudinit`."""
    MACHINE_ID = "machine-id"
    GRUBENV = "grubenv"
    RESOLV_CONF = "resolv.conf"
    WRITTEN = "written"
    NETWORK = "network"
    """As DATA, and a text of that kind and no other: `content`. Below one of its directories
    cloud-init's configuration of an interface."""
    RUNTIME = "runtime"
    """One of the places of `runtime`, and what stands there by name; other names have no rule."""
    STAMPS = "stamps"
    """systemd's directory of time stamps of timers: empty files, of any owner."""


@dataclass(frozen=True, slots=True)
class VolatileRule:
    """`path` exactly, for TREE and DEVICES also everything below it. ValueError if unfit."""

    is_row: ClassVar[bool] = True
    path: Text
    kind: VolatileKind

    def __post_init__(self) -> None:
        if not is_normal(self.path) or self.path == "/":
            raise ValueError(f"a volatile rule wants an absolute path: {self.path[:200]!a}")
        if self.kind is VolatileKind.DIRECTORY or (self.path, self.kind) in _NO_CODE:
            return  # a directory's contents need rules of their own
        places = _PLACES.get(self.kind)
        if places is not None:
            if self.path not in places:
                raise ValueError(f"{self.path[:200]!a} is not a place for {self.kind.value}")
            return  # its code has no place in the rule
        for code in CODE:
            if self.path == code or self.path.startswith(f"{code}/"):
                raise ValueError(f"{self.path[:200]!a} lies in {code}, which is read as code")
            if self.kind in _WHOLE and code.startswith(f"{self.path}/"):
                raise ValueError(f"{self.path[:200]!a} contains {code}, which is read as code")


_WHOLE: Final = (
    VolatileKind.TREE,
    VolatileKind.DEVICES,
    VolatileKind.STATE,
    VolatileKind.SCOPES,
    VolatileKind.CLOUD_INIT,
    VolatileKind.NETWORK,
    VolatileKind.RUNTIME,
    VolatileKind.STAMPS,
)
_TRANSIENT: Final = "/run/systemd/transient"
# Names are logind's own (src/login/logind-session.c): a number, or c and a number. A scope has no
# command to run (systemd.scope(5)).
_STAMPS: Final = "/var/lib/systemd/timers"
_STAMP: Final = re.compile(f"{_STAMPS}/stamp-[A-Za-z0-9@:_.\\\\-]{{1,200}}\\.timer")
_SCOPE: Final = re.compile(f"{_TRANSIENT}/session-c?[0-9]{{1,12}}\\.scope")
# What opening the package database makes beside it: its packages are what the agent reads of all of
# it, whatever these say.
_BESIDE_RPMDB: Final = tuple(
    f"{place}/{name}"
    for place in RPMDB_DIRS
    for name in (".keyring.lock", ".rpm.lock", "rpmdb.sqlite-shm", "rpmdb.sqlite-wal")
)
# What lies in places of CODE and is none: the invocation of each unit of root's user manager, the
# seed that a boot leaves for the next one, and what opening the package database makes.
_NO_CODE: Final = (
    ("/run/user/0/systemd/units", VolatileKind.STATE),
    ("/var/lib/systemd/random-seed", VolatileKind.DATA),
    *((path, VolatileKind.DATA) for path in _BESIDE_RPMDB),
)
_PLACES: Final = {
    VolatileKind.CLOUD_INIT: cloudinit.PLACES,
    VolatileKind.SCOPES: (_TRANSIENT,),
    VolatileKind.MACHINE_ID: (MACHINE_ID, RUN_MACHINE_ID),
    VolatileKind.GRUBENV: (GRUBENV,),
    VolatileKind.RESOLV_CONF: RESOLVER_FILES,
    VolatileKind.WRITTEN: WRITTEN_FILES,
    VolatileKind.NETWORK: tuple(NETWORK_PLACES),
    VolatileKind.RUNTIME: runtime.RUNTIME_PLACES,
    VolatileKind.STAMPS: (_STAMPS,),
}
_README: Final = ("/var/log/README", "../../usr/share/doc/systemd/README.logs", 0)
"""Path, target and owner of a link: tmpfiles.d/legacy.conf."""
_ACLS: Final = ("system.posix_acl_access", "system.posix_acl_default")

# Read as code, or deciding what is: nothing here may vary without standing in the manifest.
CODE: Final = (
    "/usr", "/bin", "/sbin", "/lib", "/lib64", "/boot", "/efi", "/opt", "/root", "/home", "/srv",
    "/etc", "/run/NetworkManager/conf.d", "/run/NetworkManager/system-connections",
    "/run/binfmt.d", "/run/confexts", "/run/credentials", "/run/environment.d", "/run/extensions",
    "/run/initramfs", "/run/modprobe.d", "/run/modules-load.d", "/run/sysctl.d",
    "/run/systemd/generator",
    "/run/systemd/generator.early", "/run/systemd/generator.late", "/run/systemd/network",
    "/run/systemd/system", "/run/systemd/system.control", "/run/systemd/transient",
    "/run/systemd/user", "/run/sysusers.d", "/run/tmpfiles.d", "/run/udev/rules.d", "/run/user",
    "/var/lib/alternatives", "/var/lib/cloud", "/var/lib/selinux", "/var/lib/systemd",
    "/var/spool/at", "/var/spool/cron", "/var/www",
    f"{WORKSPACE}/toolkit", f"{WORKSPACE}/layers",
)  # fmt: skip


def _data(fact: FileFact, *, limit: int = 64 * MIB) -> bool:
    return (
        fact.type == "f"
        and fact.uid == 0
        and not fact.mode & (0o7113 | (0o020 if fact.gid else 0))
        and fact.size_bytes <= limit
        and not fact.without_label().xattrs
    )


def _log(fact: FileFact) -> bool:
    return _data(fact._replace(uid=0, gid=0), limit=1024 * MIB)


def _pidfile(fact: FileFact) -> bool:
    return _data(fact, limit=64)


def _socket(fact: FileFact) -> bool:
    return fact.type in "sp" and fact.uid == 0


def _directory(fact: FileFact) -> bool:
    open_to_all = fact.mode & 0o002 and not fact.mode & 0o1000
    special = fact.mode & 0o4000 or fact.without_label().xattrs
    return fact.type == "d" and fact.uid == 0 and not open_to_all and not special


def _tree(fact: FileFact) -> bool:
    return _data(fact) or _directory(fact) or _socket(fact)


# MAJOR:MINOR of devices that anyone may open: null, zero, full, random, urandom, tty,
# console's ptmx, fuse and the network tap (Documentation/admin-guide/devices.txt).
_HARMLESS: Final = frozenset({"1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2", "10:200", "10:229"})


def _devices(fact: FileFact) -> bool:
    if fact.type in "cb":
        is_pty = fact.type == "c" and 136 <= int((fact.value or "0").partition(":")[0]) <= 143
        return not fact.mode & 0o006 or is_pty or (fact.type == "c" and fact.value in _HARMLESS)
    if fact.type == "l":
        return fact.uid == 0
    return fact.type in "dsp" and _tree(fact)


def _state(fact: FileFact) -> bool:
    xattrs = tuple(pair for pair in fact.xattrs if pair[0] not in _ACLS)
    plain = fact._replace(uid=0, gid=0, xattrs=xattrs)
    if fact.type == "l":
        is_beside = "/" not in (fact.value or "/") and fact.value not in (".", "..")
        return is_beside or (fact.path, fact.value, fact.uid) == _README
    return _log(plain) or _directory(plain) or _socket(plain)


def _scopes(fact: FileFact) -> bool:
    if fact.path == _TRANSIENT:
        return _directory(fact)
    return _SCOPE.fullmatch(fact.path) is not None and _data(fact, limit=MIB)


def _cloud_init(fact: FileFact) -> bool:
    match cloudinit.find_shape(fact.path):
        case Shape.DIRECTORY:
            return _directory(fact)
        case Shape.DATA:
            return _data(fact, limit=MIB)
        case Shape.NOTE:
            return _pidfile(fact)
        case Shape.LINK:
            return cloudinit.is_own_link(fact)
        case Shape.SOCKET:
            return _socket(fact)
        case None:
            return False


def _runtime(fact: FileFact) -> bool:
    shape = runtime.find_allowed(fact.path)
    return shape is not None and _RUNTIME[shape](fact)


def _inaccessible(fact: FileFact) -> bool:
    return fact.type != "l" and fact.uid == 0 and fact.mode == 0 and not fact.without_label().xattrs


def _own_link(fact: FileFact) -> bool:
    return fact.type == "l" and fact.uid == 0 and runtime.is_own_target(fact.value or "")


def _stamps(fact: FileFact) -> bool:
    if fact.path == _STAMPS:
        return _directory(fact)
    return _STAMP.fullmatch(fact.path) is not None and _log(fact) and fact.size_bytes == 0


_RUNTIME: Final[dict[runtime.Allowed, Callable[[FileFact], bool]]] = {
    runtime.Allowed.DIRECTORY: _directory,
    runtime.Allowed.STATE: lambda fact: _state(fact) or _own_link(fact),
    runtime.Allowed.DATA: _data,
    runtime.Allowed.SOCKET: _socket,
    runtime.Allowed.INACCESSIBLE: _inaccessible,
}
_CONTENT: Final[dict[VolatileKind, Callable[[str, bytes], bool]]] = {
    VolatileKind.MACHINE_ID: content.is_machine_id,
    VolatileKind.GRUBENV: content.is_grubenv,
    VolatileKind.RESOLV_CONF: content.is_resolv_conf,
    VolatileKind.WRITTEN: content.is_written_text,
    VolatileKind.NETWORK: content.is_network_configuration,
}
_PREDICATES: Final[dict[VolatileKind, Callable[[FileFact], bool]]] = {
    VolatileKind.DATA: _data,
    VolatileKind.LOG: _log,
    VolatileKind.PIDFILE: _pidfile,
    VolatileKind.SOCKET: _socket,
    VolatileKind.DIRECTORY: _directory,
    VolatileKind.TREE: _tree,
    VolatileKind.DEVICES: _devices,
    VolatileKind.STATE: _state,
    VolatileKind.SCOPES: _scopes,
    VolatileKind.CLOUD_INIT: _cloud_init,
    VolatileKind.RUNTIME: _runtime,
    VolatileKind.STAMPS: _stamps,
    **dict.fromkeys(_CONTENT, _data),
}


class Volatile:
    """The rules of a manifest, ready for look-up by path."""

    def __init__(self, rules: Iterable[VolatileRule]) -> None:
        rules = tuple(rules)
        self._exact = {rule.path: rule for rule in rules if rule.kind not in _WHOLE}
        self._below = {rule.path: rule for rule in rules if rule.kind in _WHOLE}

    def find(self, path: str) -> VolatileRule | None:
        """The rule for `path`: the exact one, else of the nearest directory above it."""
        found = self._exact.get(path)
        if found is not None or not self._below:
            return found
        above = path
        while above:
            found = self._below.get(above)
            if found is not None and (
                found.kind is not VolatileKind.RUNTIME or runtime.find_allowed(path)
            ):
                return found
            above = above.rpartition("/")[0]
        return None


def fits(rule: VolatileRule, fact: FileFact, texts: Mapping[str, bytes] | None = None) -> bool:
    """Whether the file is still what the rule's kind says.

    A rule about a text wants it in `texts`, by its path; another one than was measured fits none.
    """
    says = _CONTENT.get(rule.kind)
    if says is None:
        return _PREDICATES[rule.kind](fact)
    if rule.kind is VolatileKind.NETWORK and fact.path == rule.path:
        return _directory(fact)
    text = (texts or {}).get(fact.path)
    # Daemons that are not root keep theirs in /run.
    is_plain = _data(fact) or (fact.path.startswith("/run/") and _log(fact))
    if text is None or not is_plain or hashlib.sha256(text).hexdigest() != fact.value:
        return False
    return says(fact.path, text)


def is_about_text(rule: VolatileRule) -> bool:
    """Whether a rule is about what a file says, so that what says more is pinned, if anything."""
    return rule.kind in _CONTENT


def sshd_only_rules() -> tuple[VolatileRule, ...]:
    """What a node that runs sshd writes, and mount(8) when a build uses it."""
    kinds = VolatileKind
    paths = {
        kinds.DIRECTORY: (
            "/run",
            "/run/lock",
            "/run/mount",
            "/run/sshd",
            "/tmp",  # noqa: S108 (a name, not a file of ours)
            "/var/log",
            "/var/tmp",  # noqa: S108
        ),
        kinds.PIDFILE: ("/run/sshd.pid",),
        kinds.LOG: ("/run/utmp", "/var/log/btmp", "/var/log/lastlog", "/var/log/wtmp"),
        # libmount's notes
        kinds.DATA: ("/run/mount/utab", "/run/mount/utab.lock", *_BESIDE_RPMDB),
        kinds.DEVICES: ("/dev",),
    }
    return tuple(VolatileRule(path, kind) for kind in paths for path in paths[kind])


def cloud_init_rules() -> tuple[VolatileRule, ...]:
    """What cloud-init leaves on a node besides the files whose content its user-data decides.

    Those (host keys, authorized_keys, hostname) are the provider's to list as injected. A
    scheduled shutdown is noted where systemd-logind notes it.
    """
    kinds = VolatileKind
    return (
        *(VolatileRule(path, kinds.CLOUD_INIT) for path in cloudinit.PLACES),
        VolatileRule("/var/log/cloud-init.log", kinds.LOG),
        VolatileRule("/var/log/cloud-init-output.log", kinds.LOG),
        VolatileRule("/run/systemd", kinds.DIRECTORY),
        VolatileRule("/run/systemd/shutdown", kinds.DIRECTORY),
        VolatileRule("/run/systemd/shutdown/scheduled", kinds.DATA),
    )


def text_rules(*, of_instances: bool) -> tuple[VolatileRule, ...]:
    """What differs from day to day, and is told by what it says; on instances of an image also
    what each of them is given."""
    kinds = VolatileKind
    own = (
        VolatileRule(MACHINE_ID, kinds.MACHINE_ID),
        VolatileRule(RUN_MACHINE_ID, kinds.MACHINE_ID),
        *(VolatileRule(path, kinds.WRITTEN) for path in WRITTEN_FILES),
        *(VolatileRule(path, kinds.NETWORK) for path in NETWORK_PLACES if path != RUN_CONNECTIONS),
    )
    return (
        *(own if of_instances else ()),
        VolatileRule(RUN_CONNECTIONS, kinds.NETWORK),
        VolatileRule(GRUBENV, kinds.GRUBENV),
        *(VolatileRule(path, kinds.RESOLV_CONF) for path in RESOLVER_FILES),
        VolatileRule(_STAMPS, kinds.STAMPS),
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the journal knows of one lease, and when that lease is due to end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Final

from mock_cloud.cloud.provider import ExpectedMount, InjectedFile
from mock_cloud.model import HostKey, NodeAddress
from mock_cloud.wire.dataclass import dataclass


class LeaseState(Enum):
    """Where a lease is in its life; it only ever moves down this list, or ready ↔ busy."""

    INTENDED = "intended"
    CREATING = "creating"
    READY = "ready"
    BUSY = "busy"
    RELEASING = "releasing"
    GONE = "gone"


_FIRST_PAUSE_S: Final = 30.0
_LONGEST_PAUSE_S: Final = 3600.0

BEFORE_NODE = (LeaseState.INTENDED, LeaseState.CREATING)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process of this machine, told apart from later ones with the same number.

    `started` is the boot id and the start time in clock ticks since that boot (field 22 of
    proc_pid_stat(5)).
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Holder | None:
        """The living process `pid`; None if there is none (a zombie is none)."""
        fields = _stat_fields(pid)
        if not fields or fields[0] in ("Z", "X"):
            return None
        return cls(pid, f"{_boot_id()}/{fields[19]}")

    @classmethod
    def me(cls) -> Holder:
        mine = cls.of(os.getpid())
        if mine is None:
            raise RuntimeError("/proc does not show this process")
        return mine

    @property
    def alive(self) -> bool:
        return Holder.of(self.pid) == self

    @property
    def stopped(self) -> bool:
        """Whether it does nothing for now: Ctrl-Z, a debugger."""
        fields = _stat_fields(self.pid)
        return bool(fields) and fields[0] in ("T", "t")


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat_fields(pid: int) -> list[str]:
    """Of proc_pid_stat(5), from the third; empty if there is no such process."""
    try:
        # Asked of each lease while the journal is locked: as cheap as it can be.
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = os.read(descriptor, 4096).decode(errors="replace")
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The command's name may hold spaces and parentheses; fields follow its last one.
    return stat.rpartition(")")[2].split()


@dataclass(frozen=True, slots=True)
class NextHostKey:
    """A host key that a node is being given: it may answer with this one or still the former.

    `files` are what it will have then, by path, without their content.
    """

    key: HostKey
    files: Mapping[str, InjectedFile]


@dataclass(frozen=True, slots=True)
class Guest:
    """A process at work beside the holder; `job` is its job there, empty until it has one."""

    holder: Holder
    job: str = ""


@dataclass(frozen=True, slots=True)
class Sharing:
    """Who works in the chroot of a lease beside its holder: see docs/decisions/0070.

    `job` is the holder's, beside which others may begin; empty: none may. `guests` have not left
    yet, some may have died. `foreign`: one that left ran code that nobody signed.
    """

    job: str = ""
    guests: tuple[Guest, ...] = ()
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class LastVerdict:
    """The verdict under which a node was last trusted: see docs/decisions/0094.

    `sha256` is its own digest, `basis` the one of all that it rests on here, `boot_id` the node's.
    `foreign` are the chroots in which code that nobody signed may have been root since then.
    """

    sha256: str = ""
    measured_unix: float = 0.0
    basis: str = ""
    boot_id: str = ""
    foreign: tuple[str, ...] = ()

    def covers(self, chroot: str, *, made_anew: bool, now_unix: float, max_age_s: float) -> bool:
        """Whether a command may rely on it to work in `chroot`, on the same basis.

        Not where code that might have left its chroot could then reach another one, or one that is
        `made_anew`.
        """
        is_young = 0 <= now_unix - self.measured_unix < max_age_s
        own = not self.foreign or (self.foreign == (chroot,) and not made_anew)
        return bool(self.sha256) and is_young and own


@dataclass(frozen=True, slots=True)
class Lease:
    """One row of the journal.

    `settings` is the digest of the remote's settings that shaped the node. `idle_since_unix`
    is set while nobody works on it: state ready, or busy with a holder that died. `chroot`
    is the one being worked on, `chroots` all that live on the node. `layers` maps layer paths on
    the node to tree digests (hex), recorded by the controller. Times are unix seconds.
    `has_bootstrap_key`: the node's host key went through somebody else's hands and has not been
    replaced yet. `expires_unix` is fixed when the lease is made: the node's own timers and tags
    say the same. `price_per_hour` is in the currency of the remote's budget, None if nobody knows.
    `holder` is the process at work on it, making it or ending it. `end_attempts` is how often
    ending it failed, `end_tried_unix` and `end_problem` when and why last; `ended_unix` is set once
    it is gone. `reserved` is the chroot for which an idle node is kept, empty for none: its user
    comes back, and no other chroot is worked on there meanwhile. `job` is one that another
    command may take up if its own dies; for it an abandoned node stays for `grace_s` at least.
    """

    id: str
    remote: str
    owner: str
    provider: str
    settings: str
    state: LeaseState
    created_unix: float
    expires_unix: float
    idle_ttl_s: float
    idle_since_unix: float | None = None
    builds: int = 0
    chroot: str = ""
    chroots: tuple[str, ...] = ()
    holder: Holder | None = None
    address: NodeAddress | None = None
    handle: str = ""
    injected: Mapping[str, InjectedFile] = field(default_factory=dict, repr=False)
    mounts: tuple[ExpectedMount, ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict)
    verdict: LastVerdict = LastVerdict()
    has_bootstrap_key: bool = False
    next_host_key: NextHostKey | None = None
    arch: str = ""
    kind: str = ""
    price_per_hour: float | None = None
    ended_unix: float | None = None
    end_attempts: int = 0
    end_tried_unix: float | None = None
    end_problem: str = ""
    reserved: str = ""
    sharing: Sharing = Sharing()
    job: str = ""
    grace_s: float = 0.0

    @property
    def held(self) -> bool:
        """Whether a living process is at work on it, is making it or is ending it."""
        workers = (self.holder, *(guest.holder for guest in self.sharing.guests))
        return any(one is not None and one.alive for one in workers)

    @property
    def is_shared(self) -> bool:
        """Whether a command can work beside the holder now.

        Under no key that others may know, nor between two: it does not attest the node anew.
        """
        at_work = self.state is LeaseState.BUSY and self.holder is not None and self.holder.alive
        has_key = not self.has_bootstrap_key and self.next_host_key is None
        return at_work and has_key and bool(self.sharing.job)

    @property
    def abandoned(self) -> bool:
        """Whether the process that was at work on it died without giving it back."""
        return self.state is LeaseState.BUSY and not self.held

    @property
    def is_left(self) -> bool:
        """Whether a job is on it that nobody follows any more, and that may be taken up."""
        return self.abandoned and bool(self.job)

    @property
    def is_ending(self) -> bool:
        """Whether it is being ended, or will be at once: nothing has hindered that yet."""
        return self.state is LeaseState.RELEASING and (self.held or not self.end_attempts)

    def may_be_ended(self, now_unix: float) -> bool:
        """Whether nobody is ending it now, and the last failure to do so was long enough ago."""
        if self.state is LeaseState.RELEASING and self.held:
            return False
        if self.end_tried_unix is None or self.end_attempts == 0:
            return True
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self.end_attempts - 1, 16))
        return not 0 <= now_unix - self.end_tried_unix < pause_s

    def has_time(self, now_unix: float) -> bool:
        """Whether at least half of the node's life is left, which a build may need."""
        return self.expires_unix - now_unix >= (self.expires_unix - self.created_unix) / 2


def releasing(lease: Lease) -> Lease:
    """The lease as it is while this process ends it."""
    return replace(lease, state=LeaseState.RELEASING, holder=Holder.me(), chroot="", job="")


def find_due(lease: Lease, now_unix: float) -> str | None:
    """Why the lease's node must end now; None as long as it may live.

    An abandoned node keeps its grace, the idle time to live or what its job has, from the moment
    somebody noticed (`idle_since_unix`).
    """
    if lease.state in (LeaseState.RELEASING, LeaseState.GONE):
        return "released"
    if now_unix >= lease.expires_unix:
        return "expired"
    if lease.held:
        return None
    if lease.state in BEFORE_NODE:
        return "its creator died"
    idle_since = lease.idle_since_unix
    patience_s = max(lease.idle_ttl_s, lease.grace_s) if lease.is_left else lease.idle_ttl_s
    if idle_since is None or now_unix < idle_since + patience_s:
        return None
    return "idle" if lease.state is LeaseState.READY else "its controller died"

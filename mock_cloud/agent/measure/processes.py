# SPDX-License-Identifier: GPL-2.0-or-later
"""Every process: what it runs, what was mapped into it, and who may steer it."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import asdict, field
from typing import Any, Final

from mock_cloud.agent.measure import procfs, text
from mock_cloud.agent.measure.walk import Unreadable, errno_name
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import MOCK_LIBDIR, WORKSPACE

_WORDS_MAX: Final = 1024
_WORD_MAX: Final = 4096
_TRIES: Final = 5
_QUIET_LISTINGS: Final = 4
_LISTINGS_MOST: Final = 40
_PAUSE_S: Final = 0.02

# What the dynamic loader, the C library, interpreters, shells, compilers, OpenSSL, rpm and
# git take from the environment to find code or configuration (ld.so(8), bash(1), gcc(1),
# python(1), perlrun(1), openssl-env(7), environ(7)).
_LOADING: Final = re.compile(
    r"LD_\w*|GLIBC_TUNABLES|GCONV_PATH|LOCPATH|NLSPATH|MALLOC_\w*|HOSTALIASES|LOCALDOMAIN"
    r"|RES_OPTIONS|RESOLV_HOST_CONF|GETCONF_DIR|NIS_PATH|TZDIR|IFS|ENV|BASH_ENV|BASH_FUNC_.*"
    r"|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|BASH_LOADABLES_PATH"
    r"|PYTHON\w*|PERL\w*|RUBY(OPT|LIB|SHELL)|NODE_(OPTIONS|PATH)|LUA_\w+|TCLLIBPATH|GUILE_LOAD_\w+"
    r"|_?JAVA_(TOOL_)?OPTIONS|JDK_JAVA_OPTIONS|CLASSPATH|GCC_\w+|COMPILER_PATH|LIBRARY_PATH|CPATH"
    r"|C_INCLUDE_PATH|CPLUS_INCLUDE_PATH|OBJC_INCLUDE_PATH|CCC_OVERRIDE_OPTIONS|MAKEFLAGS"
    r"|MAKEFILES|CONFIG_SITE|PKG_CONFIG_\w+|OPENSSL_\w+|SSL_CERT_(FILE|DIR)|SSLKEYLOGFILE"
    r"|KRB5_\w+|GIT_\w+|RPM_(CONFIGDIR|POPTEXEC_PATH)|SSH_(ASKPASS|SK_PROVIDER)|CURL_\w+"
    r"|(https?|ftp|all|no)_proxy|(HTTPS?|FTP|ALL|NO)_PROXY"
)

# Nothing of what is run from here is measured: a search path that leads here is told as well.
_UNMEASURED: Final = (
    "/dev/", "/proc/", "/sys/", "/var/cache/mock/", f"{MOCK_LIBDIR}/",
    *(f"{WORKSPACE}/{name}/" for name in ("blobs", "dnf", "jobs", "layers")),
)  # fmt: skip


@dataclass(slots=True)
class MeasuredProcess:
    """The protocol's facts on one process, in its own words (docs/protocol.md)."""

    pid: int
    ppid: int
    uid: int
    gid: int
    kernel: bool
    exe: str | None = None
    deleted: bool = False
    sha256: str | None = None
    cmdline: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    tracer: int = 0
    maps: list[tuple[str, bool, str | None]] = field(default_factory=list)
    anonymous_exec: int = 0
    patched: list[str] = field(default_factory=list)
    namespaces: dict[str, int] = field(default_factory=dict)
    root: str | None = None
    started: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_processes(
    leave_out: frozenset[int], unreadable: list[Unreadable]
) -> list[MeasuredProcess]:
    """All processes of /proc but the pids in `leave_out`.

    A process that ends meanwhile, or ended and waits to be reaped, runs nothing and is not
    among them. But it may have left another one, which no listing had: so /proc is listed until it
    names, some times in a row, nothing that was not measured. What could not be read is added to
    `unreadable`; if processes come and go all the time, /proc is.
    """
    digests = text.Digests()
    found: dict[tuple[int, int], MeasuredProcess | None] = {}
    quiet = 0
    for number in range(_LISTINGS_MOST):
        if number > _QUIET_LISTINGS and not quiet:
            time.sleep(_PAUSE_S)  # what ends is given a processor to do so
        quiet += 1
        for pid in procfs.list_pids():
            if pid in leave_out:
                continue
            try:
                stat = procfs.read_bounded(f"/proc/{pid}/stat")
                who = (pid, procfs.start_ticks(stat))
                if who in found or procfs.has_ended(stat):
                    continue
                quiet = 0
                found[who] = _measure_steady(pid, digests, unreadable)
            except (FileNotFoundError, ProcessLookupError):
                quiet = 0
        if quiet == _QUIET_LISTINGS:
            break
    else:
        unreadable.append(("/proc", "EAGAIN"))
    return [process for process in found.values() if process is not None]


def _measure_steady(
    pid: int, digests: text.Digests, unreadable: list[Unreadable]
) -> MeasuredProcess | None:
    """The same of one that may start another program meanwhile: then it is measured anew."""
    for _ in range(_TRIES):
        missed: list[Unreadable] = []
        with contextlib.suppress(text.TextChanged):
            process = measure_process(pid, digests, missed)
            unreadable += missed
            return process
    unreadable.append((f"/proc/{pid}", "EAGAIN"))
    return None


def measure_process(
    pid: int, digests: text.Digests, unreadable: list[Unreadable]
) -> MeasuredProcess | None:
    """One process; None if no thread of it runs any more. ProcessLookupError: it ended."""
    status = procfs.parse_status(procfs.read_bounded(f"/proc/{pid}/status"))
    stat = procfs.read_bounded(f"/proc/{pid}/stat")
    kernel = procfs.is_kernel_thread(stat)
    process = MeasuredProcess(
        pid, status.ppid, status.uid, status.gid, kernel, tracer=status.tracer,
        started=procfs.start_ticks(stat),
    )  # fmt: skip
    if kernel:
        return process
    # /proc/PID answers for the first thread: it may have ended before the others.
    at, live = pid, status.state not in ("Z", "X")
    for tid in procfs.list_pids(f"/proc/{pid}/task"):
        if tid == pid:
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            thread = procfs.parse_status(procfs.read_bounded(f"/proc/{pid}/task/{tid}/status"))
            process.tracer = process.tracer or thread.tracer
            if not live and thread.state not in ("Z", "X"):
                at, live = tid, True
    if not live:
        return None
    _measure_identity(process, at, digests, unreadable)
    try:
        facts = text.measure_text(at, text.read_mappings(at), digests, unreadable)
    except PermissionError as error:
        unreadable.append((f"/proc/{pid}/maps", errno_name(error)))
    else:
        process.maps = facts.maps
        process.anonymous_exec = facts.anonymous_exec
        process.patched = facts.patched
    return process


def _measure_identity(
    process: MeasuredProcess, at: int, digests: text.Digests, unreadable: list[Unreadable]
) -> None:
    """Executable, words, environment, root and namespaces of the thread `at`."""
    words = procfs.split_words(procfs.read_bounded(f"/proc/{at}/cmdline"))
    process.cmdline = [word[:_WORD_MAX] for word in words[:_WORDS_MAX]]
    try:
        process.exe, process.deleted = procfs.split_deleted(os.readlink(f"/proc/{at}/exe"))
        process.root = os.readlink(f"/proc/{at}/root")
        process.namespaces = procfs.namespaces(at)
        process.environ = _loading(procfs.read_bounded(f"/proc/{at}/environ"))
        fd = os.open(f"/proc/{at}/exe", os.O_RDONLY | os.O_CLOEXEC)
        try:
            process.sha256 = digests.of(fd)
        finally:
            os.close(fd)
    except PermissionError as error:
        unreadable.append((f"/proc/{process.pid}", errno_name(error)))


def _leads_astray(name: str, value: str) -> bool:
    places = (f"{os.path.normpath(part)}/" for part in value.split(":"))
    return name == "PATH" and any(place.startswith(_UNMEASURED) for place in places)


def _loading(environ: bytes) -> dict[str, str]:
    """The variables that change what is loaded or how a login goes. Later ones win nothing:
    the C library takes the first, so the first is kept."""
    found: dict[str, str] = {}
    for word in procfs.split_words(environ):
        name, _, value = word.partition("=")
        if name not in found and (_LOADING.fullmatch(name) or _leads_astray(name, value)):
            found[name[:_WORD_MAX]] = value[:_WORD_MAX]
    return found

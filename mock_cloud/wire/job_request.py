# SPDX-License-Identifier: GPL-2.0-or-later
"""What the controller asks the node to do: one invocation, rendered and portable.

Both sides use these types: the controller writes them as JSON, the agent parses them
strictly. Names are mock's own `config_opts` keys wherever mock has one.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Final

from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Malformed, decode_bytes, exactly, within
from mock_cloud.wire.tree_archive import MEMBERS_MAX

_SCHEMA: Final = "mock-cloud/job/1"

MODES: Final = (
    "init", "clean", "scrub", "rebuild", "buildsrpm", "chain", "installdeps", "install",
    "remove", "update", "shell", "chroot", "copyin", "copyout",
)  # fmt: skip
"""The modes of the chroot engine."""

MOCK_MODES: Final = (
    *MODES, "calculatedeps", "pm-cmd", "yum-cmd", "dnf-cmd", "orphanskill", "snapshot",
    "remove_snapshot", "rollback-to", "list-snapshots",
)  # fmt: skip
"""The modes of the mock engine."""

NO_ALLOWERASING: Final = ("remove", "repoquery", "makecache", "search", "info", "download")
"""dnf5's commands that do not know the option, which others get: mock's `dnf5_avoid_opts`."""

SOURCE_ROLES: Final = ("srpm", "spec", "source", "sources")
"""Roles of the inputs that packages are built from."""

LIVE_LOGS: Final = frozenset({"build.log", "root.log", "state.log"})
"""Logs that mock appends to; followed while they grow, also those of a chain's packages."""

SHADOW_LOGS: Final = "shadow"
"""Directory of results with the logs of a chroot that the controller keeps a shadow of."""

RESULT_NAME_MAX: Final = 1024
RESULT_DEPTH_MAX: Final = 8

COPYOUT_NAME: Final = "copyout.tree"
"""The archive of what --copyout brings, among a job's results."""

SHADOW_ARCHIVE: Final = "shadow.tree"
"""The result: what the job changed of what the controller keeps a shadow of."""

GAINS_NAME: Final = "gains.tree"
"""The result: an archive with a directory for each of `MockRun.returns`, called by its number.
Only those that gained anything."""

BUILDDIR_ARCHIVE: Final = "builddir.tree"
"""The result: what is in the directory of a kept chroot of which the controller has a copy."""

SCAN: Final = "chroot_scan"
"""The directory that mock's plugin of this name makes beside the logs; it travels as an archive."""

SCAN_ARCHIVE: Final = f"{SCAN}.tree"

JOB_DIRECTORY: Final = "@MOCK_CLOUD_JOB@"
"""What stands for the job's directory in the words and the configuration of a `MockRun`."""

TREES: Final = "inputs/tree"
OUTPUT: Final = "output"
"""Directories in it: with the inputs of role tree, and with those for what a job makes."""

TUNNEL_PROXY: Final = "http://tunnel.mock-cloud.invalid:3128"
"""In a dnf.conf: the way through the controller.

When dnf is run, the node puts its own loopback and the request's `tunnel_port` in its place, so
that nothing that is kept depends on the port. Without a tunnel it leads nowhere (RFC 6761, 6.4).
"""

REASONS_URL: Final = "http://reasons.mock-cloud.invalid/"
"""At the controller's proxy: what could not be fetched so far, and why, a line each."""


@dataclass(frozen=True, slots=True)
class Input:
    """One file the node has as a blob. `name` is a bare file name (no slash).

    `role`: srpm, spec, package (a local RPM to install), gpgkey, built (what an earlier chain left
    in its local repository, in `directory` there: a bare name, empty for all other roles); as
    archives (`tree_archive`) source (one file), sources (what is in a directory), copyin, and
    tmpdir (see `ShadowOrder`); content (a file that one of the archives names by its digest); for
    the mock engine only also kit (a tar of mock's own code), file (any other file that the
    configuration or an option names) and tree (an archive of a directory, whose name is `name`).
    `digest` is the blob's sha256 in hex.
    """

    name: str
    role: str
    digest: str
    size_bytes: int
    directory: str = ""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The chroot configuration after mock's templates were expanded on the controller.

    Lists are argv words unless said otherwise. `dnf_conf` is the text of dnf.conf with its
    repositories, in which `file://` gpgkey URLs were replaced by
    ``file://@GPGKEYS@/NAME`` for the input NAME of role gpgkey.
    `repo_switches` are (``--enablerepo`` or ``--disablerepo``, id) in the user's order.
    `other_*` take the place of `dnf_*` where the node has only the other one of dnf4 and dnf5 than
    `package_manager` asks for; it has `package_manager_max_attempts`, with
    `package_manager_attempt_delay` seconds between. `rpmbuild_timeout` is in seconds, 0 for none.
    `rpmbuild_opts` is mock's string, split as a shell splits it.
    """

    root: str
    chroot_name: str
    target_arch: str
    rpmbuild_arch: str
    package_manager: str
    dnf_conf: str
    chroot_setup_cmd: list[str]
    package_manager_max_attempts: int = 1
    package_manager_attempt_delay: int = 10
    releasever: str = ""
    dnf_vars: dict[str, str] = field(default_factory=dict)
    dnf_common_opts: list[str] = field(default_factory=list)
    dnf_builddep_opts: list[str] = field(default_factory=list)
    dnf_disable_plugins: list[str] = field(default_factory=list)
    other_common_opts: list[str] = field(default_factory=list)
    other_builddep_opts: list[str] = field(default_factory=list)
    other_disable_plugins: list[str] = field(default_factory=list)
    repo_switches: list[list[str]] = field(default_factory=list)
    macros: dict[str, str] = field(default_factory=dict)
    macrofile_text: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    chrootuser: str = "mockbuild"
    chrootgroup: str = "mock"
    chrootuid: int = 1000
    chrootgid: int = 135
    chroothome: str = "/builddir"
    extra_chroot_dirs: list[str] = field(default_factory=list)
    rpmbuild_command: str = ""
    rpmbuild_opts: str = ""
    rpmbuild_timeout: int = 0
    rpmbuild_networking: bool = False
    use_host_resolv: bool = False
    online: bool = True
    check: bool = True
    clean: bool = True
    cleanup_on_success: bool = True
    cleanup_on_failure: bool = True
    update_before_build: bool = True
    dynamic_buildrequires: bool = True
    dynamic_buildrequires_max_loops: int = 10
    static_buildrequires_max_loops: int = 10
    short_circuit: str = ""
    more_buildreqs: dict[str, list[str]] = field(default_factory=dict)
    additional_packages: list[str] = field(default_factory=list)
    post_install: bool = False
    external_buildrequires: bool = False
    print_main_output: bool = False
    hw_info: bool = True
    installed_pkgs: bool = True


@dataclass(frozen=True, slots=True)
class MockRun:
    """What the mock engine runs: real mock, with the controller's configuration.

    `root` is the name of the chroot's directory, --uniqueext included (`config` has mock's own
    root), `chroot_name` is mock's, `chrootuid` is the build user's id. `argv` are mock's words
    without program, --configdir, --root and --resultdir, which the node adds: for --chain
    --localrepo in place of --resultdir, with --hermetic-build no --root (mock calls that
    configuration hermetic-build). `config` is a JSON object: those config_opts that differ from
    mock's defaults, templates unexpanded, without what belongs to a host. A value takes the
    default's place; of `plugin_conf` each NAME_enable does, and each item of NAME_opts. `logging`
    is the text of logging.ini, empty for mock's usual formats. `kit` names the input of role kit;
    empty: the node's own mock is run. `foreign`: code that no key of the configuration signed may
    become root in the chroot, so that what is not the user's own chroot is not kept.

    In `argv` and in strings of `config` the word `JOB_DIRECTORY` stands for the job's directory,
    where inputs lie as inputs/ROLE/NAME; those of archives are unpacked there, a tree
    as inputs/tree/NAME, the others as inputs/ROLE/…. For --copyout there is an
    empty directory copyout; what mock puts into it is the result copyout.tree.

    `returns` are directories there, inputs/tree/NAME or output/NAME, the latter made empty: what a
    job adds to them or changes in them is the result gains.tree. mock is run in `cwd`, one of them;
    empty: in /.
    """

    root: str
    chroot_name: str
    argv: list[str]
    config: str
    chrootuid: int = 1000
    logging: str = ""
    kit: str = ""
    foreign: bool = False
    returns: list[str] = field(default_factory=list)
    cwd: str = ""


@dataclass(frozen=True, slots=True)
class ShadowOrder:
    """What of the chroot the controller keeps a copy of: see docs/protocol.md.

    `tmpdir` is a directory directly below the chroot's root that is the same on both sides. The
    input of role tmpdir holds what was changed there since the last job, `removed` the paths
    that are gone, relative to it; with `whole` the input holds all of it. `rpmdb`: packages'
    database is wanted even if this job does not change it. `kept`: an earlier job made the chroot,
    and this one fails where it is gone.
    """

    tmpdir: str
    removed: list[str] = field(default_factory=list)
    whole: bool = False
    rpmdb: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class BuilddirOrder:
    """Of which directory of the chroot (its path there) the controller wants a copy.

    Of a larger one, or of one with more files, it wants none.
    """

    path: str
    bytes_max: Annotated[int, within(0, 1 << 40)]
    files_max: Annotated[int, within(0, MEMBERS_MAX)]


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One invocation for the node: for the chroot engine with `config`, for mock with `mock`.

    `args`: rebuild, chain, installdeps: names of inputs in order; install, remove, update:
    package words; shell, chroot: the command (empty: a login shell; one word: run by sh -c);
    scrub: what to scrub; copyout: paths in the chroot; copyin: [destination].
    `spec` names the input of role spec, if any. `pty` is (rows, columns, TERM) when the user
    has a terminal. `layers` maps layer directories to the tree digests the verdict covers: a
    layer that is not in it is not reused. `resultdir` is where the controller puts results
    (for copyout: what is copied), and `shown` is what the user called an input, by its name on
    the node: messages name them, nothing else uses them. `tunnel_port` is where, on the node's
    loopback, the controller's proxy answers; 0: there is none. `owned`: the whole node is the
    controller's, so that nothing of anybody else's has a place among mock's chroots and caches.
    `beside` is the job that has the chroot, if this one is to work in it at the same time.
    `output_timeout_s`: the job is ended once it has printed nothing for so long; 0: never.
    """

    mode: str
    config: EngineConfig | None = None
    mock: MockRun | None = None
    args: list[str] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    spec: str = ""
    unpriv: bool = False
    cwd: str = ""
    chain_continue: bool = False
    chain_recurse: bool = False
    pty: list[Any] = field(default_factory=list)
    layers: dict[str, str] = field(default_factory=dict)
    verbose: int = 1
    resultdir: str = ""
    shown: dict[str, str] = field(default_factory=dict)
    tunnel_port: Annotated[int, within(0, 65535)] = 0
    shadow: ShadowOrder | None = None
    builddir: BuilddirOrder | None = None
    owned: bool = False
    beside: str = ""
    output_timeout_s: Annotated[int, within(0, 1 << 31)] = 0
    schema: Annotated[str, exactly(_SCHEMA)] = _SCHEMA


def parse_request(data: bytes) -> JobRequest:
    """The request in `data`. Malformed names the first key that is wrong."""
    request = decode_bytes(JobRequest, data, "request")
    if (request.config is None) == (request.mock is None):
        raise Malformed("the request is for one engine: it has config or mock")
    if request.mode not in (MODES if request.mock is None else MOCK_MODES):
        raise Malformed(f"unknown mode {request.mode!r}")
    if not _is_bare(request.beside or "-"):
        raise Malformed(f"there is no job {request.beside!r}")
    _check_directories(request)
    for item in request.inputs:
        if not _is_bare(item.name):
            raise Malformed(f"input name {item.name!r} is not a bare file name")
        if (item.role == "built") != bool(item.directory) or not _is_bare(item.directory or "-"):
            raise Malformed(f"input {item.name!r}: no directory {item.directory!r} for its role")
    return request


def is_live_log(name: str) -> bool:
    """Whether a result, by its path, is a log to be followed while the job runs."""
    directory, _, last = name.rpartition("/")
    if directory == SHADOW_LOGS:
        return last.endswith(".log")
    return "/" not in directory and last in LIVE_LOGS


def can_travel(name: str) -> bool:
    """Whether a result, by its path, has a name that both ends take: printable, 8 parts at most.

    What lies in `SCAN` travels in its archive.
    """
    *parents, last = parts = name.split("/")
    short = len(name) <= RESULT_NAME_MAX and len(parts) <= RESULT_DEPTH_MAX
    plain = not any(part in ("", ".", "..") for part in parts) and bool(last)
    return short and plain and name.isprintable() and SCAN not in parents


def tunnel_url(request: JobRequest) -> str:
    """What takes the place of `TUNNEL_PROXY`."""
    return f"http://127.0.0.1:{request.tunnel_port}" if request.tunnel_port else TUNNEL_PROXY


def _check_directories(request: JobRequest) -> None:
    if request.shadow is not None:
        _check_shadow(request.shadow)
    if request.builddir is not None and not is_plain_path(request.builddir.path):
        raise Malformed(f"{request.builddir.path!r} is not a directory of a chroot")
    if request.mock is not None:
        _check_returns(request.mock)


def _check_returns(run: MockRun) -> None:
    for place in run.returns:
        directory, _, name = place.rpartition("/")
        if directory not in (TREES, OUTPUT) or not _is_bare(name):
            raise Malformed(f"{place!r} is not a directory whose contents could return")
    if run.cwd and run.cwd not in run.returns:
        raise Malformed(f"mock cannot be run in {run.cwd!r}, which does not return")


def _check_shadow(order: ShadowOrder) -> None:
    if not order.tmpdir.startswith("/") or not _is_bare(order.tmpdir[1:]):
        raise Malformed(f"{order.tmpdir!r} is not a directory right below the chroot's root")
    for path in order.removed:
        if not all(_is_bare(part) for part in path.split("/")):
            raise Malformed(f"{path!r} is not a path below {order.tmpdir}")


def is_plain_path(path: str) -> bool:
    """Whether a path is absolute and has nothing but names in it."""
    return path.startswith("/") and all(map(_is_bare, path[1:].split("/")))


def _is_bare(name: str) -> bool:
    return bool(name) and name not in (".", "..") and "/" not in name and "\0" not in name

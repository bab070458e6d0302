# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns an invocation into what travels: the job's request and the blobs it needs."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.engine import engine_config, shell_is_unprivileged
from mock_cloud.config.isolation import isolation_warnings
from mock_cloud.config.paths import Paths, chain_results, locate_paths
from mock_cloud.config.repositories import are_signed
from mock_cloud.config.tunnel import Repositories
from mock_cloud.config.values import read_flag, read_texts
from mock_cloud.errors import MockCloudError, UnsupportedByEngine
from mock_cloud.invocation.hostfiles import HostFile, host_inputs, node_args, shown_names
from mock_cloud.invocation.model import (
    BUILDING_MODES,
    DESTINATIONS,
    PACKAGE_BUILDS,
    PACKAGE_MANAGER_MODES,
    CommandLine,
)
from mock_cloud.model import Blob
from mock_cloud.places import MOCK_CONFIG_DIR
from mock_cloud.settings import Remote
from mock_cloud.steps.check.chosen_engine import Engine
from mock_cloud.steps.check.packing import (
    PackedInput,
    pack_file,
    packed_copyin,
    packed_sources,
    packed_tree,
)
from mock_cloud.steps.job.keyboard import find_terminal
from mock_cloud.steps.send.repo_tunnel import Tunnel, repositories_of
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.job_request import (
    TUNNEL_PROXY,
    BuilddirOrder,
    EngineConfig,
    JobRequest,
    MockRun,
    ShadowOrder,
)

if TYPE_CHECKING:
    from mock_cloud.config.mock_engine import MockConfig
    from mock_cloud.console import Console
    from mock_cloud.invocation.carrying import Carrier
    from mock_cloud.remote.trusted import TrustedChannel
    from mock_cloud.results.livelog import LiveLog
    from mock_cloud.results.returning import Returning
    from mock_cloud.wire.replies import JobEnd

COPYIN_NAME: Final = "copyin.tree"
KIT_NAME: Final = "mock.tar.gz"

_SENT_ROLES: Final = ("srpm", "spec", "package")
_SOURCE_ROLES: Final = ("source", "sources")
_FRESH_MODES: Final = (*PACKAGE_BUILDS, "init", "calculatedeps")


@dataclass(frozen=True, slots=True)
class MockOrder:
    """For the mock engine: the run, without the configuration, which waits for the tunnel.

    `returning` are the directories here for what it has in `MockRun.returns`.
    """

    run: MockRun
    config: MockConfig
    returning: tuple[Returning, ...] = ()

    def settled(self, tunnel: Tunnel) -> MockRun:
        """With the repositories as `tunnel` leads to them."""
        text = self.config.to_json(
            tunnel.rewritten, tunnel.repositories.environment if tunnel.port else None
        )
        way = f"http://127.0.0.1:{tunnel.port}"
        return replace(self.run, config=text.replace(TUNNEL_PROXY, way) if tunnel.port else text)


@dataclass(frozen=True, slots=True)
class Work:
    """One invocation, checked on this machine and ready to send.

    `mode` is what the node is told. `order` is what it tells one of the engines. `clean`: mock
    would empty the chroot first. `runs_foreign_code`: code that nobody signed may become root in
    it. `copyout` is where --copyout puts what it fetched. `warnings` are for the user.
    """

    line: CommandLine
    mode: str
    paths: Paths
    order: EngineConfig | MockOrder
    repositories: Repositories
    clean: bool
    runs_foreign_code: bool
    args: tuple[str, ...]
    packed: tuple[PackedInput, ...]
    spec: str
    unpriv: bool
    pty: tuple[int, int, str] | None
    copyout: Path | None
    warnings: tuple[str, ...]
    shadow: ShadowOrder | None = None
    builddir: BuilddirOrder | None = None

    @property
    def root(self) -> str:
        """The chroot's name."""
        return self.paths.root

    @property
    def uses_mock(self) -> bool:
        return isinstance(self.order, MockOrder)

    @property
    def returning(self) -> tuple[Returning, ...]:
        """Directories here that get what the job writes, by their numbers on the node."""
        return self.order.returning if isinstance(self.order, MockOrder) else ()

    @property
    def blobs(self) -> list[Blob]:
        """What is sent, each once."""
        return list({blob.digest: blob for _, blob in self.packed}.values())

    @property
    def sent_files(self) -> list[Path]:
        """Those of them that are files of the user's."""
        return [blob.source for blob in self.blobs if isinstance(blob.source, Path)]

    @property
    def builds(self) -> bool:
        """Whether it makes packages."""
        return self.mode in BUILDING_MODES

    @property
    def fresh(self) -> bool:
        """Whether the job makes its chroot anew, so that any node will do."""
        return self.clean and self.mode in _FRESH_MODES

    @property
    def needs_repositories(self) -> bool:
        """Whether the job asks repositories, or needs their names to find what is kept of them."""
        return self.line.mode != "clean"

    @property
    def configuration(self) -> str:
        """sha256 (hex) of it as the node gets it, but for the way to repositories."""
        order = self.order
        if isinstance(order, MockOrder):
            data = json.dumps([order.run.argv, order.config.to_json()]).encode()
        else:
            data = to_json(order)
        return hashlib.sha256(data).hexdigest()

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of all that the command names: its inputs and its configuration."""
        inputs = [[item.role, item.name, item.digest] for item, _ in self.packed]
        return hashlib.sha256(json.dumps([self.configuration, inputs]).encode()).hexdigest()

    def with_shadow_of(self, other: Work) -> Work:
        """The same with what another engine's work has for directories at the chroot's path."""
        further = tuple(pair for pair in other.packed if pair[0].role == "tmpdir")
        return replace(
            self,
            shadow=other.shadow,
            builddir=other.builddir,
            packed=(*self.packed, *further),
        )

    def request(self, layers: dict[str, str], resultdir: Path, tunnel: Tunnel) -> JobRequest:
        """The request, with the `layers` that a verdict lets the engine reuse.

        `resultdir` is for messages only.
        """
        order = self.order
        config = mock = None
        if isinstance(order, MockOrder):
            mock = order.settled(tunnel)
        else:
            config = replace(
                order,
                dnf_conf=tunnel.repositories.text,
                environment=dict(tunnel.repositories.environment),
            )
        return JobRequest(
            mode=self.mode,
            config=config,
            mock=mock,
            args=list(self.args),
            inputs=[item for item, _ in self.packed],
            spec=self.spec,
            unpriv=self.unpriv,
            cwd=self.line.cwd or "",
            chain_continue=self.line.cont,
            chain_recurse=self.line.recurse,
            pty=list(self.pty) if self.pty else [],
            layers=layers,
            verbose=self.line.verbose,
            resultdir=str(self.copyout or resultdir),
            shown=shown_names(self.line),
            tunnel_port=tunnel.port,
            shadow=self.shadow,
            builddir=self.builddir,
        )


class ChrootShadow(Protocol):
    """A directory here that has what callers of mock expect of a chroot: see `mock_cloud.koji`."""

    kept: bool
    """The chroot must be there: an earlier command made it."""

    def begin(self) -> None:
        """The job is about to start: what is in the directory is not the chroot's any more."""

    def is_log(self, name: str) -> bool:
        """Whether a log of the job's is one of the shadow's."""

    def log(self, name: str) -> LiveLog:
        """Where such a log is kept."""

    def reserved_after(self, work: Work, end: JobEnd) -> str:
        """The chroot for which the node is kept now; empty if nobody will come back for it."""

    def collect(self, channel: TrustedChannel, job: str, end: JobEnd, console: Console) -> None:
        """Bring the directory to what the job left of the chroot. ResultError, TransportError."""

    def note_failure(self, results: Path, error: MockCloudError) -> None:
        """The command failed before its job could say why. ResultError."""


Shadowing = Callable[
    [Work, CommandLine, ConfigOpts, Remote],
    contextlib.AbstractContextManager[tuple[Work, ChrootShadow | None]],
]
"""Makes a command's shadow, if it is to have one, with what the node must be told of it."""


_FOREIGN_MODES: Final = (
    "chain", "chroot", "dnf-cmd", "install", "installdeps", "pm-cmd", "shell", "update", "yum-cmd",
)  # fmt: skip


@contextlib.contextmanager
def prepare(line: CommandLine, opts: ConfigOpts, engine: Engine) -> Iterator[Work]:
    """Check and hash everything that `line` names, before anything is leased.

    Temporary archives (--copyin, directories that go along) live as long as the block. Raises what
    `invocation.host_inputs`, `config.engine_config` and `config.mock_config` raise.
    """
    with contextlib.ExitStack() as stack:
        ask = _mock if engine.uses_mock else _chroot
        order, repositories, further, files = ask(line, opts, engine)
        sent = [file for file in files if file.role in _SENT_ROLES]
        packed = [pack_file(file) for file in (*sent, *further) if file.role != "tree"]
        warnings = isolation_warnings(opts, line)
        warnings += order.config.warnings if isinstance(order, MockOrder) else ()
        for file in files:
            if file.role in _SOURCE_ROLES:
                follow = line.symlink_dereference
                packed += stack.enter_context(packed_sources(file, warnings, follow=follow))
        packed += [
            stack.enter_context(packed_tree(file, warnings))
            for file in further
            if file.role == "tree"
        ]
        if line.mode == "copyin":
            sources = [file for file in files if file.role == "copyin"]
            packed.append(stack.enter_context(packed_copyin(COPYIN_NAME, sources)))
        if line.localrepo:
            packed += _earlier(chain_results(Path(line.localrepo), opts), line)
        interactive = line.mode in ("shell", "chroot") or line.verbose > 0
        yield Work(
            line=line,
            mode=_mode(line),
            paths=locate_paths(opts),
            order=order,
            repositories=repositories,
            clean=read_flag(opts, "clean", True),
            runs_foreign_code=_runs_foreign_code(line, opts) or not _are_signed(order),
            args=tuple(node_args(line)),
            packed=tuple(packed),
            spec=next((file.name for file in sent if file.role == "spec"), "") if line.spec else "",
            unpriv=shell_is_unprivileged(opts, line),
            pty=find_terminal() if interactive else None,
            copyout=next((file.path for file in files if file.role == "copyout"), None),
            warnings=tuple(warnings),
        )


_Order = tuple[EngineConfig | MockOrder, Repositories, tuple[HostFile, ...], list[HostFile]]
"""For the engine, the repositories it will use, files that go along, and those of the line."""


def _chroot(line: CommandLine, opts: ConfigOpts, engine: Engine) -> _Order:
    config, portable = engine_config(opts, line)
    repositories = replace(
        repositories_of(config),
        accesses=tuple(portable.accesses.found.values()),
        environ=portable.accesses.environ,
    )
    return config, repositories, portable.keys, host_inputs(line)


def _mock(line: CommandLine, opts: ConfigOpts, engine: Engine) -> _Order:
    # Each engine has rules of its own, which commands for the other do not load.
    from mock_cloud.config.mock_engine import mock_config, read_logging
    from mock_cloud.invocation.carrying import Carrier
    from mock_cloud.invocation.mock_words import mock_words
    from mock_cloud.results.returning import Returning

    if line.mode == "rebuild" and line.localrepo is not None:
        raise UnsupportedByEngine(
            "--chain --jobs: the mock engine builds a chain on one node", hint="leave out --jobs"
        )
    carrier = Carrier()
    config = mock_config(opts, line, carrier, code_travels=engine.kit is not None)
    kit = [] if engine.kit is None else [HostFile(KIT_NAME, "kit", engine.kit.path)]
    inputs = host_inputs(line)
    argv = mock_words(line, inputs, carrier)
    if line.mode in PACKAGE_MANAGER_MODES:
        _check_bootstrap(line, opts)
    run = MockRun(
        root=config.root,
        chroot_name=config.chroot_name,
        argv=argv,
        config="",
        chrootuid=config.chrootuid,
        logging=read_logging(opts, Path(line.configdir or MOCK_CONFIG_DIR)),
        kit=KIT_NAME if kit else "",
        foreign=_runs_foreign_code(line, opts) or not config.repositories.are_signed,
        returns=list(carrier.returns),
        cwd=_cwd(line, carrier),
    )
    repositories = config.repositories.of_chroot(read_texts(opts, "environment"))
    files = (*config.repositories.keys, *carrier.files.values(), *kit)
    returning = [Returning(path, place in carrier.packages)
                 for place, path in carrier.returns.items()]  # fmt: skip
    return MockOrder(run, config, tuple(returning)), repositories, files, inputs


def _cwd(line: CommandLine, carrier: Carrier) -> str:
    """Where a package manager is run: what it leaves there comes into the caller's directory."""
    if line.mode not in PACKAGE_MANAGER_MODES:
        return ""
    here = Path.cwd().resolve()
    return next((place for place, path in carrier.returns.items() if path == here), "")


def _check_bootstrap(line: CommandLine, opts: ConfigOpts) -> None:
    """In a bootstrap chroot mock's package manager knows no directory of the caller's."""
    named = any(word.startswith(DESTINATIONS) for word in line.args)
    if read_flag(opts, "use_bootstrap", True) and (named or "download" in line.args):
        raise UnsupportedByEngine(
            f"--{line.mode}: mock runs the package manager in its bootstrap chroot, where what it"
            " downloads stays",
            hint="--no-bootstrap-chroot",
        )


def _runs_foreign_code(line: CommandLine, opts: ConfigOpts) -> bool:
    """Whether code becomes root in the chroot that no repository offers: the user's, or built."""
    of_chain = line.mode == "rebuild" and line.localrepo is not None
    return of_chain or _mode(line) in _FOREIGN_MODES or read_flag(opts, "post_install", False)


def _are_signed(order: EngineConfig | MockOrder) -> bool:
    if isinstance(order, MockOrder):
        return order.config.repositories.are_signed
    told = repositories_of(order)
    return are_signed(told.text, told.variables, told.switches)


def _mode(line: CommandLine) -> str:
    if line.list_snapshots:
        return "list-snapshots"
    if line.scrub:
        return "scrub"
    return "calculatedeps" if line.calculatedeps else line.mode


def _earlier(results: Path, line: CommandLine) -> Iterator[PackedInput]:
    """What earlier chains left in their local repository: packages, and marks of success.

    For one package of a chain that is built on several nodes: of those directories that it may use.
    """
    for path in sorted(results.glob("*/*")):
        if line.mode == "rebuild" and path.parent.name not in line.built:
            continue
        package = path.name.endswith(".rpm") and not path.name.endswith((".src.rpm", ".nosrc.rpm"))
        if (package or path.name == "success") and path.is_file():
            item, blob = pack_file(HostFile(path.name, "built", path))
            yield replace(item, directory=path.parent.name), blob

# SPDX-License-Identifier: GPL-2.0-or-later
"""The node's dnf, run on a chroot with ``--installroot``.

Scriptlets are dnf's children, and a chroot(2) is no wall to root. So dnf sees of the node its
programs and what the configuration names (see `jail`), and its cache through an overlay: metadata
is fetched before the first scriptlet can run, and nothing that they write is trusted later.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from mock_cloud.agent.engine import jail, outside, processes
from mock_cloud.agent.engine.cache import Cache
from mock_cloud.agent.engine.chroot import Chroot
from mock_cloud.agent.engine.errors import ConfigurationError, PackageManagerError, RootError
from mock_cloud.agent.engine.logs import Logs
from mock_cloud.agent.engine.repos import Repository
from mock_cloud.agent.engine.space import SpaceWatch
from mock_cloud.agent.measure import headers
from mock_cloud.wire import rpmfile
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.job_request import NO_ALLOWERASING, EngineConfig
from mock_cloud.wire.layout import NODE_PATH
from mock_cloud.wire.rpmheader import Header, HeaderError, SplitHeader, Tag, Type, split

_DNF4: Final = ("/usr/bin/dnf-3", "/usr/bin/dnf")
_PROGRAMS: Final = {
    "dnf4": _DNF4,
    "dnf5": ("/usr/bin/dnf5", *_DNF4),
    "yum": (*_DNF4, "/usr/bin/dnf5"),
    "microdnf": (*_DNF4, "/usr/bin/dnf5"),
}
"""What is taken for each, the best first: mock's order, of which this engine knows dnf."""
_KEYS_MARK: Final = "@GPGKEYS@"
_CACHE: Final = "var/cache/dnf"
_NAMED_FILES: Final = re.compile(r"file://(/[^\s,]*)")
"""Directories and files of the node in a dnf.conf."""


_T = TypeVar("_T")


class PackageManager:
    """dnf for one chroot, with a cache of its own.

    `keys` is the directory with the repositories' keys, `visible` are others that it may read.
    """

    def __init__(
        self, config: EngineConfig, chroot: Chroot, logs: Logs, cache: Cache, keys: str,
        visible: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._config = config
        self._visible = (keys, *visible)
        self._chroot = chroot
        self._logs = logs
        self.cache = cache
        self.conf_text = config.dnf_conf.replace(_KEYS_MARK, keys)
        self.extra_conf = ""
        self._program = _find_program(config.package_manager)
        self._repositories: Sequence[Repository] = ()
        self._revisions: Mapping[str, str] = {}
        self.was_run = False
        self._was_named = False
        self.on_output: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        """mock's word for it, which stands in state.log."""
        return _name_of(self._program)

    def set_revisions(self, revisions: Mapping[str, str]) -> None:
        """What the repositories' metadata is right now: cached metadata that agrees is used."""
        self._revisions = revisions

    def set_repositories(self, repositories: Sequence[Repository]) -> None:
        """Those that are enabled, so that dnf can be told the way to some."""
        self._repositories = repositories

    def cached_revisions(self) -> dict[str, str]:
        """Repository id → sha256 of the repomd.xml that dnf has in its cache."""
        found = {}
        for path in glob.glob(
            os.path.join(glob.escape(self.cache.path), "*", "repodata", "repomd.xml")
        ):
            directory = os.path.basename(os.path.dirname(os.path.dirname(path)))
            repo_id, _, mark = directory.rpartition("-")  # dnf adds a digest of the URLs
            if repo_id and mark:
                with open(path, "rb") as stream:
                    found[repo_id] = hashlib.sha256(stream.read()).hexdigest()
        return found

    def write_config(self) -> None:
        """The configuration into the chroot, where mock has it and dnf finds it."""
        self._write_config(self.conf_text + self.extra_conf)

    def _write_config(self, text: str) -> None:
        data = text.encode(errors="surrogateescape")
        outside.write_chroot_file(self._chroot.root, "etc/dnf/dnf.conf", data)

    def run(self, command: Sequence[str]) -> str:
        """One dnf command on the chroot; its output goes to root.log and comes back.

        Raises PackageManagerError on failure (mock's exit code 30), NoSpace on a full disk.
        """
        self.was_run = True
        # rpm must not touch what is mounted there: mock's home for installations.
        macros = b"%_netsharedpath /proc:/sys\n"
        outside.write_chroot_file(self._chroot.root, "installation-homedir/.rpmmacros", macros)
        with outside.open_chroot_directory(self._chroot.root, _CACHE, make=True):
            self.cache.prepare()
        self._fetch_metadata()
        with self.cache.written_beside() as scratch:
            cache = jail.Overlaid(self.cache.path, self._chroot.path(_CACHE), scratch)
            return self._run(command, self._tree(command, overlaid=(cache,)))

    def _fetch_metadata(self) -> None:
        """Have dnf fetch what it has not got of the revisions found, while no foreign code runs."""
        self._drop_stale_metadata()
        cached = self.cached_revisions()
        if self._config.online and any(repo_id not in cached for repo_id in self._revisions):
            cache = jail.Shown(self.cache.path, self._chroot.path(_CACHE), writable=True)
            self._write_config(self.conf_text)
            self._run(["makecache"], self._tree((), shown=(cache,)))
            self.write_config()

    def _tree(
        self, words: Sequence[str], shown: tuple[jail.Shown, ...] = (),
        overlaid: tuple[jail.Overlaid, ...] = (),
    ) -> jail.NodeTree:  # fmt: skip
        """What dnf sees: the chroot, and what the configuration or `words` name."""
        root = self._chroot.root
        named = [*_NAMED_FILES.findall(self.conf_text), *(w for w in words if w.startswith("/"))]
        hidden = [path for path in dict.fromkeys(named) if not self._is_visible(path)]
        files = [jail.Shown(path, path) for path in (*self._visible, *hidden)]
        everything = (*files, jail.Shown(root, root, writable=True), *shown)
        return jail.NodeTree(everything, overlaid, chroots=(root,))

    def _is_visible(self, path: str) -> bool:
        return any(path.startswith(f"{directory}/") for directory in self._visible)

    def attempt(self, act: Callable[[], _T]) -> _T:
        """What `act` returns, which asks repositories: as often as the configuration has it."""
        delay_s = max(self._config.package_manager_attempt_delay, 0)
        for number in range(2, self._config.package_manager_max_attempts + 1):
            try:
                return act()
            except PackageManagerError:
                self._logs.warning(
                    f"{self.name.upper()} command failed, retrying, attempt #{number},"
                    f" sleeping {delay_s}s"
                )
                time.sleep(delay_s)
        return act()

    def _run(self, command: Sequence[str], tree: jail.NodeTree) -> str:
        return self.attempt(lambda: self._run_once(command, tree))

    def _run_once(self, command: Sequence[str], tree: jail.NodeTree) -> str:
        argv = self.invocation(command)
        if not self._was_named:  # as mock says it
            self._was_named = True
            if self.name != self._config.package_manager:
                self._logs.info(f"Using '{self.name}' instead of '{self._config.package_manager}'")
        self._logs.debug(str(argv))
        environment = {**processes.NODE_ENVIRONMENT, **self._config.environment}
        home = self._chroot.path("installation-homedir")
        environment.update(HOME=home, LC_MESSAGES="C.UTF-8", PATH=NODE_PATH)
        place = processes.Place(tree, environment=environment, arch=self._config.target_arch)
        sink, finish = self._logs.root_sink()
        output: list[bytes] = []
        watch = SpaceWatch((self._chroot.base, self.cache.path))

        def take(data: bytes) -> None:
            watch.look(data)
            output.append(data)
            sink(data)
            self.on_output()

        code = processes.run_command(argv, place, take)
        finish()
        self.on_end()
        text = b"".join(output).decode(errors="replace")
        self._logs.debug(f"Child return code was: {code}")
        if code != 0:
            watch.raise_if_full(text)
            raise PackageManagerError(f"Command failed: \n # {processes.pretty(argv)}\n{text}")
        return text

    def invocation(self, command: Sequence[str]) -> list[str]:
        """The argv for `command`: options in mock's order."""
        config = self._config
        common, builddep, disabled = (
            (config.dnf_common_opts, config.dnf_builddep_opts, config.dnf_disable_plugins)
            if (self.name == "dnf5") == (config.package_manager == "dnf5")
            else (
                config.other_common_opts,
                config.other_builddep_opts,
                config.other_disable_plugins,
            )
        )
        verb, *words = command
        argv = [self._program]
        if verb == "builddep":
            argv.append(verb)
        argv += ["--installroot", self._chroot.root + "/"]
        if verb in ("upgrade", "update", "module"):
            argv.append("-y")
        if config.releasever:
            argv += ["--releasever", config.releasever]
        if not config.online:
            argv.append("-C")
        for switch in config.repo_switches:
            argv += switch
        options = [
            item for item in common
            if not (item == "--allowerasing" and verb in NO_ALLOWERASING and self.name == "dnf5")
        ]  # fmt: skip
        options += [f"--disableplugin={name}" for name in disabled]
        options += builddep if verb == "builddep" else []
        options += self._freshness()
        options += self._tunnelled()
        rest = words if verb == "builddep" else [verb, *words]
        return argv + (rest + options if self.name == "dnf5" else options + rest)

    def _freshness(self) -> list[str]:
        """Make dnf use what the revision check found current, instead of asking its age."""
        return [f"--setopt={repo_id}.metadata_expire=-1" for repo_id in self._revisions]

    def _tunnelled(self) -> list[str]:
        """The way through the controller, whose port is another one each time."""
        through = (one for one in self._repositories if one.tunnel)
        return [f"--setopt={one.id}.proxy={one.tunnel}" for one in through]

    def _drop_stale_metadata(self) -> None:
        """Take away cached metadata unless it is of the revision found; packages stay.

        dnf counts age in whole seconds, so an expiry of 0 can miss a change of this second.
        """
        cached = self.cached_revisions()
        for repo_id, revision in cached.items():
            if self._config.online and self._revisions.get(repo_id) != revision:
                self.cache.drop_metadata(repo_id)


def _name_of(program: str) -> str:
    """/usr/bin/dnf is a link to dnf-3, or to dnf5."""
    return "dnf5" if os.path.realpath(program).endswith("dnf5") else "dnf4"


def _find_program(package_manager: str) -> str:
    if package_manager not in _PROGRAMS:
        raise ConfigurationError(
            f"the chroot engine has no package manager {package_manager!r}; use the mock engine"
        )
    for program in _PROGRAMS[package_manager]:
        if os.access(program, os.X_OK):
            return program
    raise ConfigurationError(f"the node has none of {', '.join(_PROGRAMS[package_manager])}")


# What is installed in a tree, without writing to it.
# The database is read by ourselves where that is possible (a header blob a package), since rpm
# opens it for writing, which in an overlay copies all of it.
_QUERY = "%{nevra} %{buildtime} %{size} %{name}\\n"


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed package; `buildtime` in seconds since the epoch.

    `size` is rpm's ``%{size}``, in bytes: packages of format 6, and those over 4 GiB, have none.
    `header` is the sha256 (hex) of the immutable header, `sigmd5` the md5 of header and payload;
    empty if unknown.
    """

    nevra: str
    name: str
    buildtime: int
    size: str
    header: str = ""
    sigmd5: str = ""

    @property
    def log_line(self) -> str:
        """Its line in installed_pkgs.log, as mock's package_state plugin writes it."""
        return f"{self.nevra} {self.buildtime} {self.size} installed\n"


def list_installed(root: str) -> list[Installed]:
    """All packages installed in the tree at `root`, by NEVRA. RootError."""
    try:
        found = [_installed(split(blob)) for blob in headers.iter_headers(root)]
    except HeaderError as error:
        raise RootError(f"the RPM database of {root} is damaged: {error}") from error
    return sorted(found or _ask_rpm(root), key=lambda package: package.nevra)


def installed(header: Header) -> Installed:
    """The package that `header` is of. HeaderError."""
    built = header.integers(Tag.BUILDTIME, Type.INT32) or (0,)
    size = header.integers(Tag.SIZE, Type.INT32) or ("(none)",)
    name = header.string(Tag.NAME) or ""
    return Installed(rpmfile.nevra(header), name, built[0], str(size[0]))


def _installed(blob: SplitHeader) -> Installed:
    """With the digests of what a package file has too. HeaderError."""
    found = installed(blob.region)
    if not blob.region_entries:  # a key's, or of format 3
        return found
    md5 = blob.outside.binary(Tag.SIGMD5) or b""
    return replace(found, header=hashlib.sha256(blob.image).hexdigest(), sigmd5=md5.hex())


def _ask_rpm(root: str) -> list[Installed]:
    """Other database backends than sqlite; one that is not there has no packages."""
    argv = ["rpm", "--root", root, "-qa", "--qf", _QUERY]
    tree = jail.NodeTree((jail.Shown(root, root, writable=True),))
    code, output = processes.capture(argv, processes.Place(tree))
    if code != 0:
        raise RootError(f"{processes.pretty(argv)}: exit status {code}")
    found = []
    for line in output.decode(errors="surrogateescape").splitlines():
        words = line.split()
        if len(words) == 4 and words[1].isdigit():
            found.append(Installed(words[0], words[3], int(words[1]), words[2]))
    return found

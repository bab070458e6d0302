# SPDX-License-Identifier: GPL-2.0-or-later
"""What the user typed, parsed: mock's options under mock's own names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mock_cloud.wire.dataclass import dataclass

MOCK_VERSION: Final = "6.7"
"""The mock whose command line this package understands."""

HERMETIC_CONFIG: Final = "hermetic-build"

DETACHED: Final = "MOCK_CLOUD_JOB"
"""Environment variable: the name of the job that a command is to begin in the background."""

PART: Final = "MOCK_CLOUD_PART"
"""Environment variable: this build is a part of another command, which looks at its results.

Its value are names of the lent machines that it may use, with commas between them, or ANY_HOST.
"""
ANY_HOST: Final = "*"

PART_OF: Final = "MOCK_CLOUD_PART_OF"
"""Environment variable of a part: the resultdir of the whole command.

The node is told this one: the part's own would tell it that it will be compared.
"""

PUBLISHED: Final = "MOCK_CLOUD_PUBLISHED"
"""Environment variable: another command has built and published what mock's plugins are to finish.

Its value is a list for the plugin: a file that says which packages, as a session reports them, and
the exit code of the build.
"""

LOCAL_MODES: Final = frozenset(
    {"debugconfig", "debugconfigexpand", "listchroots", "scrub-all-chroots"}
)
"""Modes that read or mend this machine and never need a node."""

PACKAGE_MODES: Final = frozenset({"install", "remove", "update"})
"""Modes whose arguments are packages, and dnf's --setopt among them."""

PACKAGE_BUILDS: Final = ("rebuild", "buildsrpm")
BUILDING_MODES: Final = (*PACKAGE_BUILDS, "chain")
"""Modes that leave packages: of one source, and of several that need each other."""

COMMAND_MODES: Final = frozenset({"shell", "chroot", "pm-cmd", "yum-cmd", "dnf-cmd"})
"""Modes whose arguments are another program's command line."""

PACKAGE_MANAGER_MODES: Final = ("pm-cmd", "yum-cmd", "dnf-cmd")

DESTINATIONS: Final = ("--destdir", "--downloaddir")
"""Options of dnf that name a directory for packages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """One `mock` command line. Field names are mock's, defaults are mock's.

    `mode` is the mode that runs after old-style words, `--scrub` and
    `--calculate-build-dependencies` were taken into account; `args` are what is left, without
    the `--` that separates them. `given` holds the names of the fields that the user set.
    `show` is a text to print on standard output instead of doing anything (`--help`,
    `--version`), without the newline at its end. Tri-state switches are None when not given.
    `rpmbuild_timeout` is in seconds; `jobs` are the builds that may run at once.
    `built` are the directories in `localrepo` that --rebuild of one of a chain's packages may use.
    `enable_disable_repos` are (`--enablerepo` or `--disablerepo`, id) in the user's order.
    """

    argv: tuple[str, ...] = ()
    mode: str = "rebuild"
    args: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()
    show: str = ""

    remote: str | None = None
    no_remote: bool = False
    detach: bool = False
    then: str | None = None
    progress: str | None = None
    duplicate: int | None = None
    jobs: int = 1

    chroot: str = "default"
    configdir: str | None = None
    cli_config_opts: tuple[str, ...] = ()
    uniqueext: str | None = None
    resultdir: str | None = None
    rootdir: str | None = None
    online: bool = True

    scrub: tuple[str, ...] = ()
    clean: bool = True
    cleanup_after: bool | None = None
    cache_alterations: bool = False

    localrepo: str | None = None
    built: tuple[str, ...] = ()
    cont: bool = False
    recurse: bool = False
    repos: tuple[str, ...] = ()
    tmp_prefix: str | None = None

    arch: str | None = None
    forcearch: str | None = None
    rpmbuild_arch: str | None = None
    rpmmacros: tuple[str, ...] = ()
    macrofile: str | None = None
    rpmwith: tuple[str, ...] = ()
    rpmwithout: tuple[str, ...] = ()
    rpmbuild_opts: str | None = None
    rpmbuild_timeout: int | None = None
    check: bool = True
    short_circuit: str | None = None
    post_install: bool = False
    additional_packages: tuple[str, ...] = ()
    calculatedeps: bool = False
    hermetic_build: tuple[str, ...] = ()

    unpriv: bool = False
    cwd: str | None = None
    spec: str | None = None
    sources: str | None = None
    symlink_dereference: bool = False

    enable_disable_repos: tuple[tuple[str, str], ...] = ()
    enable_network: bool = False
    isolation: str | None = None
    old_chroot: bool = False
    new_chroot: bool = False
    pkg_manager: str | None = None
    bootstrapchroot: bool | None = None
    usebootstrapimage: bool | None = None
    buildroot_image: str | None = None

    enabled_plugins: tuple[str, ...] = ()
    disabled_plugins: tuple[str, ...] = ()
    plugin_opts: tuple[str, ...] = ()
    scm: bool = False
    scm_opts: tuple[str, ...] = ()

    verbose: int = 1
    trace: bool = False
    printrootpath: bool = False
    list_snapshots: bool = False

    environ_remote: str | None = None
    """`MOCK_REMOTE` of the environment, if set and not empty."""

    @property
    def named_remote(self) -> str | None:
        """What `--remote`, else `MOCK_REMOTE`, names; None if neither does, or `--no-remote`."""
        return (
            None if self.no_remote else self.environ_remote if self.remote is None else self.remote
        )

    @property
    def configdir_path(self) -> Path | None:
        return Path(self.configdir) if self.configdir else None

    @property
    def config_name(self) -> str:
        """The configuration: --hermetic-build has one of its own, and takes no --root."""
        return HERMETIC_CONFIG if self.hermetic_build else self.chroot

    @property
    def discards_chroot(self) -> bool:
        """Whether it does away with what is in the chroot, where there is one."""
        return self.mode == "clean" or bool(self.scrub)

    @property
    def remote_only(self) -> str:
        """The option that was given and is for remote builds; empty without one."""
        given = {
            "--detach": self.detach,
            "--then": self.then,
            "--duplicate": self.duplicate,
            "--jobs": self.jobs > 1,
        }
        return next((option for option, is_given in given.items() if is_given), "")

    @property
    def is_several(self) -> bool:
        """Whether its packages are built at once, each as a build of its own."""
        return self.jobs > 1 and self.mode in ("rebuild", "chain") and len(self.args) > 1

    @property
    def is_kojis(self) -> bool:
        """Whether the configuration is one of those that kojid writes to /etc/mock/koji."""
        return self.chroot.startswith("koji/")

    @property
    def is_local(self) -> bool:
        """Whether this only looks at configuration on this machine and needs no node."""
        return self.mode in LOCAL_MODES or self.printrootpath or bool(self.show)

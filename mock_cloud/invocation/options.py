# SPDX-License-Identifier: GPL-2.0-or-later
"""Every option of mock 6.7, and ours, as data: the parser is made from these tables.

Names, short forms, arities and defaults are those of `command_parse` in mock's `mock.py`;
what an option means is said in our own words.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, Final

from mock_cloud.wire.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `kind`: value, values (repeatable), flag (with `const`), int or repo."""

    names: tuple[str, ...]
    dest: str
    help: str
    kind: str = "value"
    const: Any = True
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    nargs: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Options under one heading of `--help`."""

    title: str
    options: tuple[Option, ...] = field(default=())


def _mode(name: str, mode: str, text: str, *short: str) -> Option:
    return Option((*short, name), "mode", text, kind="flag", const=mode)


def _flag(name: str, dest: str, text: str, *short: str, const: Any = True) -> Option:
    return Option((*short, name), dest, text, kind="flag", const=const)


SCRUB_CHOICES: Final = (
    "chroot", "cache", "root-cache", "c-cache", "yum-cache", "dnf-cache", "lvm", "overlayfs",
    "bootstrap", "all",
)  # fmt: skip

OLD_STYLE_MODES: Final = frozenset(
    {"chroot", "shell", "rebuild", "install", "installdeps", "remove", "init", "clean"}
)
"""Words that select a mode when they come first and no mode option was given."""

REMOTE: Final = Group(
    "where it runs",
    (
        Option(("--remote",), "remote", "run on a node of this remote", metavar="NAME"),
        _flag("--no-remote", "no_remote", "run here, whatever the configuration says"),
        _flag("--detach", "detach", "build in the background; print the job's name"),
        Option(
            ("--then",),
            "then",
            "build what succeeds again on this remote, and publish that",
            metavar="NAME",
        ),
        Option(
            ("--progress",),
            "progress",
            "how far it is: auto (on a terminal), plain, json, none",
            choices=("auto", "plain", "json", "none"),
            metavar="HOW",
        ),
        Option(
            ("--duplicate",),
            "duplicate",
            "build on nodes of N owners, and publish what they agree on",
            kind="int",
            metavar="N",
        ),
        Option(
            ("--jobs",),
            "jobs",
            "build several SRPMs, or a chain, on up to N nodes at once",
            kind="int",
            metavar="N",
        ),
    ),
)

_MODES: Final = Group(
    "modes (default: --rebuild)",
    (
        _mode("--rebuild", "rebuild", "build binary packages from SRPMs"),
        _mode("--chain", "chain", "build SRPMs in order, each against the ones before"),
        _mode("--buildsrpm", "buildsrpm", "make an SRPM from --spec and --sources"),
        _mode("--calculate-build-dependencies", "calculatedeps",
              "resolve an SRPM's build dependencies into a lock file"),
        _mode("--init", "init", "make the chroot"),
        _mode("--clean", "clean", "remove the chroot"),
        Option(("--scrub",), "scrub", "remove the chroot or caches", kind="values",
               choices=SCRUB_CHOICES, metavar="WHAT"),
        _mode("--scrub-all-chroots", "scrub-all-chroots", "scrub every chroot used before"),
        _mode("--shell", "shell", "an interactive command in the chroot; default: a shell"),
        _mode("--chroot", "chroot", "a command in the chroot, not interactive"),
        _mode("--installdeps", "installdeps", "install the build dependencies of SRPM or SPEC"),
        _mode("--install", "install", "install packages into the chroot", "-i"),
        _mode("--remove", "remove", "remove packages from the chroot"),
        _mode("--update", "update", "update the chroot's packages"),
        _mode("--copyin", "copyin", "copy files into the chroot: SRC… DEST"),
        _mode("--copyout", "copyout", "copy files out of the chroot: SRC… DEST"),
        _mode("--pm-cmd", "pm-cmd", "run the package manager on the chroot"),
        _mode("--yum-cmd", "yum-cmd", "run yum on the chroot"),
        _mode("--dnf-cmd", "dnf-cmd", "run dnf on the chroot"),
        _mode("--orphanskill", "orphanskill", "kill what still runs in the chroot"),
        _mode("--snapshot", "snapshot", "take an LVM or overlayfs snapshot"),
        _mode("--remove-snapshot", "remove_snapshot", "remove a snapshot"),
        _mode("--rollback-to", "rollback-to", "go back to a snapshot"),
        _mode("--mount", "mount", "mount a chroot kept on LVM or overlayfs"),
        _mode("--umount", "umount", "unmount such a chroot"),
        _mode("--list-chroots", "listchroots", "list the chroot configurations"),
        _mode("--debug-config", "debugconfig", "print what the configuration changes"),
        _mode("--debug-config-expanded", "debugconfigexpand", "the same with templates expanded"),
        _flag("--print-root-path", "printrootpath", "print the path of the chroot", "-p"),
        _flag("--list-snapshots", "list_snapshots", "list the chroot's snapshots", "-l"),
    ),
)  # fmt: skip

CHAIN: Final = Group(
    "options of --chain",
    (
        Option(("--localrepo",), "localrepo", "where results go and are used from",
               metavar="DIR"),
        _flag("--continue", "cont", "go on with the next package when one fails", "-c"),
        _flag("--recurse", "recurse", "try failed packages again as long as others succeed"),
        Option(("--tmp_prefix",), "tmp_prefix", "prefix of the temporary directory",
               metavar="PREFIX"),
    ),
)  # fmt: skip

CHROOT: Final = Group(
    "the chroot",
    (
        Option(("-r", "--root"), "chroot",
               "configuration: a name, or a path that ends in .cfg", metavar="CONFIG"),
        Option(("--configdir",), "configdir", "where configurations are (/etc/mock)",
               metavar="DIR"),
        Option(("--config-opts",), "cli_config_opts", "set config_opts[KEY]; repeatable",
               kind="values", metavar="KEY=VALUE"),
        Option(("--uniqueext",), "uniqueext", "suffix of the chroot's name", metavar="TEXT"),
        Option(("--resultdir",), "resultdir", "where packages and logs go", metavar="DIR"),
        Option(("--rootdir",), "rootdir", "where the chroot is made", metavar="DIR"),
        _flag("--offline", "online", "no repository access", const=False),
        _flag("--no-clean", "clean", "keep the chroot of the last build", "-n", const=False),
        _flag("--cleanup-after", "cleanup_after", "remove the chroot after the build"),
        _flag("--no-cleanup-after", "cleanup_after", "keep the chroot after the build", "-N",
              const=False),
        _flag("--cache-alterations", "cache_alterations",
              "rebuild the root cache after changes to the chroot"),
        Option(("-a", "--addrepo"), "repos", "add a repository's base URL; repeatable",
               kind="values", metavar="URL"),
        Option(("--enablerepo",), "enable_disable_repos", "passed to dnf; repeatable",
               kind="repo", metavar="REPO"),
        Option(("--disablerepo",), "enable_disable_repos", "passed to dnf; repeatable",
               kind="repo", metavar="REPO"),
        Option(("--additional-package",), "additional_packages",
               "install this too before the build; repeatable", kind="values",
               metavar="PACKAGE"),
        _flag("--enable-network", "enable_network", "let the build use the network"),
        Option(("--isolation",), "isolation", "simple, nspawn or auto", metavar="HOW"),
        _flag("--old-chroot", "old_chroot", "obsolete for --isolation=simple"),
        _flag("--new-chroot", "new_chroot", "obsolete for --isolation=nspawn"),
        _flag("--yum", "pkg_manager", "use yum", const="yum"),
        _flag("--dnf", "pkg_manager", "use dnf", const="dnf"),
        _flag("--bootstrap-chroot", "bootstrapchroot",
              "install with the target's own package manager"),
        _flag("--no-bootstrap-chroot", "bootstrapchroot",
              "install with the host's package manager", const=False),
        _flag("--use-bootstrap-image", "usebootstrapimage",
              "make the bootstrap chroot from a container image"),
        _flag("--no-bootstrap-image", "usebootstrapimage", "don't", const=False),
        Option(("--buildroot-image",), "buildroot_image", "make the chroot from an OCI image",
               metavar="IMAGE"),
        Option(("--hermetic-build",), "hermetic_build",
               "build offline from a lock file and its repository", nargs=2,
               metavar="FILE"),
    ),
)  # fmt: skip

BUILD: Final = Group(
    "the build",
    (
        Option(("--arch",), "arch", "the chroot's architecture (kernel personality)"),
        Option(("--forcearch",), "forcearch", "emulate this architecture"),
        Option(("--target",), "rpmbuild_arch", "passed to rpmbuild as --target",
               metavar="ARCH"),
        Option(("-D", "--define"), "rpmmacros", "define an RPM macro; repeatable",
               kind="values", metavar="'MACRO EXPR'"),
        Option(("--macro-file",), "macrofile", "RPM macros from a file", metavar="FILE"),
        Option(("--with",), "rpmwith", "turn a build condition on; repeatable",
               kind="values", metavar="OPTION"),
        Option(("--without",), "rpmwithout", "turn a build condition off; repeatable",
               kind="values", metavar="OPTION"),
        _flag("--nocheck", "check", "skip %%check", const=False),
        Option(("--rpmbuild_timeout",), "rpmbuild_timeout",
               "fail when rpmbuild takes longer", kind="int", metavar="SECONDS"),
        Option(("--rpmbuild-opts",), "rpmbuild_opts", "further options for rpmbuild",
               metavar="OPTS"),
        Option(("--short-circuit",), "short_circuit",
               "skip rpmbuild's finished stages; implies --no-clean",
               choices=("prep", "install", "build", "binary")),
        _flag("--postinstall", "post_install", "install the built packages afterwards"),
        Option(("--spec",), "spec", "the spec file", metavar="FILE"),
        Option(("--sources",), "sources", "a directory of sources, or one file",
               metavar="PATH"),
        _flag("--symlink-dereference", "symlink_dereference", "follow links in --sources"),
        _flag("--unpriv", "unpriv", "run the command of --shell, --chroot without privileges"),
        Option(("--cwd",), "cwd", "run it in this directory of the chroot", metavar="DIR"),
        _flag("--scm-enable", "scm", "build from a source repository"),
        Option(("--scm-option",), "scm_opts", "repeatable", kind="values",
               metavar="KEY=VALUE"),
    ),
)  # fmt: skip

_OUTPUT: Final = Group(
    "output and plugins",
    (
        _flag("--verbose", "verbose", "say more", "-v", const=2),
        _flag("--quiet", "verbose", "say less", "-q", const=0),
        _flag("--trace", "trace", "trace mock's functions"),
        Option(("--enable-plugin",), "enabled_plugins", "repeatable", kind="values",
               metavar="PLUGIN"),
        Option(("--disable-plugin",), "disabled_plugins", "repeatable", kind="values",
               metavar="PLUGIN"),
        Option(("--plugin-option",), "plugin_opts", "repeatable", kind="values",
               metavar="PLUGIN:KEY=VALUE"),
    ),
)  # fmt: skip

GROUPS: Final = (REMOTE, _MODES, CHROOT, BUILD, CHAIN, _OUTPUT)

USAGE: Final = """\
mock [options] [--rebuild] SRPM…
       mock [options] --chain SRPM…
       mock [options] --buildsrpm --spec SPEC [--sources PATH]
       mock [options] {--init | --clean | --scrub WHAT}
       mock [options] {--shell | --chroot} [--] [COMMAND…]
       mock [options] --installdeps {SRPM | SPEC}…
       mock [options] {--install | --remove | --update} [PACKAGE…]
       mock [options] {--copyin | --copyout} SRC… DEST
       any of them with --remote NAME: the same, on an attested remote node"""

EPILOG: Final = """\
examples:
  mock -r fedora-43-x86_64 --remote cloud hello-2.12-1.src.rpm
        build on a node of the remote `cloud`; the node proves what it runs first
  mock -r fedora-43-x86_64 --remote cloud --shell
        a shell in the chroot on the node
  MOCK_REMOTE=cloud fedpkg mockbuild
        choose the remote from a script's environment
  mock -r fedora-43-x86_64 --no-remote hello-2.12-1.src.rpm
        build here, even if a configuration names a remote

A remote is a file remotes.d/NAME.toml in --configdir, ~/.config/mock or /etc/mock. The first
of these that says something chooses: the command line, MOCK_REMOTE, config_opts['remote'] of
the chroot's configuration, of ~/.config/mock.cfg, of site-defaults.cfg.

exit status: mock's own; 75 when the infrastructure failed (try again), 77 when attestation
refused the node (nothing was sent)."""

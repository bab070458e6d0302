# SPDX-License-Identifier: GPL-2.0-or-later
"""mock's command line → `CommandLine`, after mock's own rules."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from mock_cloud import __version__
from mock_cloud.errors import CommandLineError, UsageError
from mock_cloud.invocation.model import COMMAND_MODES, MOCK_VERSION, PACKAGE_MODES, CommandLine
from mock_cloud.invocation.names import expand_home, find_name_problem
from mock_cloud.invocation.options import (
    EPILOG,
    GROUPS,
    OLD_STYLE_MODES,
    USAGE,
    Option,
)
from mock_cloud.settings import BUILDERS_LEAST, BUILDERS_MAX
from mock_cloud.wire.terminal_text import printable

_KEY_VALUE: Final = re.compile(r"[^=]+=")
_PLUGIN_KEY_VALUE: Final = re.compile(r"[^:]+:[^=]+=")
_NEEDS_ARGUMENTS: Final = {
    "chain": "an SRPM",
    "chroot": "a command",
    "installdeps": "an SRPM or a spec file",
    "install": "a package",
    "remove": "a package",
    "snapshot": "a snapshot's name",
    "rollback-to": "a snapshot's name",
    "remove_snapshot": "a snapshot's name",
}


def check_rules(line: CommandLine) -> None:
    """Raise CommandLineError (exit 5) or UsageError (exit 50) as mock would."""
    _check_remote(line)
    if line.printrootpath or line.list_snapshots:
        return
    _check_options(line)
    _check_values(line)
    _check_arguments(line)


def _check_remote(line: CommandLine) -> None:
    if line.remote is not None and line.no_remote:
        raise CommandLineError("--remote and --no-remote exclude each other")
    if line.no_remote and (line.then is not None or line.duplicate is not None):
        word = "--duplicate" if line.then is None else "--then"
        raise CommandLineError(f"{word} and --no-remote exclude each other")
    if line.duplicate is not None and not BUILDERS_LEAST <= line.duplicate <= BUILDERS_MAX:
        raise CommandLineError(
            f"--duplicate {line.duplicate} is not from {BUILDERS_LEAST} to {BUILDERS_MAX}"
        )
    source = "MOCK_REMOTE" if line.remote is None else "--remote"
    _check_name(line.named_remote, source)
    _check_name(line.then, "--then")


def _check_name(name: str | None, source: str) -> None:
    problem = None if name is None else find_name_problem(name)
    if name is not None and problem is not None:
        raise CommandLineError(
            f"{source}: invalid remote name {printable(name)!r}: {problem}",
            hint="a remote's name is the name of its file without .toml",
        )


def _check_options(line: CommandLine) -> None:
    mode = line.mode
    if line.hermetic_build and line.chroot != "default":
        raise CommandLineError("--hermetic-build brings its own configuration: drop -r/--root")
    if line.hermetic_build and mode != "rebuild":
        raise CommandLineError("--hermetic-build goes with --rebuild only")
    if mode == "buildsrpm" and not line.spec and not line.scm:
        raise CommandLineError("--buildsrpm needs --spec", hint="and --sources, mostly")
    if line.jobs > 1 and (mode not in ("rebuild", "chain") or line.detach):
        with_what = "--detach" if line.detach else f"--{mode}"
        raise CommandLineError(
            f"--jobs goes with --rebuild and --chain only, and not with {with_what}",
            hint="a command for each package runs on a node of its own, too",
        )
    for value, name in (
        (line.localrepo, "--localrepo"),
        (line.recurse, "--recurse"),
        (line.cont, "--continue"),
    ):
        if value and mode != "chain":
            raise CommandLineError(f"{name} goes with --chain only")
    if line.additional_packages and mode != "rebuild":
        raise CommandLineError("--additional-package goes with --rebuild only")
    if mode == "chain" and line.resultdir:
        raise CommandLineError(
            "The --chain mode doesn't support --resultdir, use --localrepo instead"
        )
    if mode == "rebuild" and len(line.args) > 1 and not line.resultdir:
        raise CommandLineError("Must specify --resultdir when building multiple RPMS.")


def _check_values(line: CommandLine) -> None:
    if line.jobs < 1:
        raise CommandLineError(
            f"--jobs {line.jobs} builds nothing", hint="1 is one after the other"
        )
    if line.rpmbuild_arch and "," in line.rpmbuild_arch:
        raise CommandLineError(f"--target takes one architecture, not {line.rpmbuild_arch!r}")
    if line.isolation not in (None, "simple", "nspawn", "auto"):
        raise CommandLineError(
            f"--isolation {line.isolation!r} is unknown", hint="simple, nspawn or auto"
        )
    if line.rpmbuild_timeout is not None and line.rpmbuild_timeout < 0:
        raise CommandLineError("--rpmbuild_timeout is negative", hint="0 stands for no limit")
    for macro in line.rpmmacros:
        if " " not in macro.strip():
            raise CommandLineError(f"--define {macro!r} has no value", hint="-D 'MACRO EXPR'")
    for values, option, form in (
        (line.cli_config_opts, "--config-opts", "KEY=VALUE"),
        (line.scm_opts, "--scm-option", "KEY=VALUE"),
        (line.plugin_opts, "--plugin-option", "PLUGIN:KEY=VALUE"),
    ):
        pattern = _KEY_VALUE if form == "KEY=VALUE" else _PLUGIN_KEY_VALUE
        for text in values:
            if not pattern.match(text):
                raise CommandLineError(f"{option} {text!r} is not {form}")


def _check_arguments(line: CommandLine) -> None:
    mode, count = line.mode, len(line.args)
    if not count and mode in _NEEDS_ARGUMENTS:
        raise UsageError(f"--{mode.replace('_', '-')} needs {_NEEDS_ARGUMENTS[mode]}")
    if mode in ("copyin", "copyout") and count < 2:
        raise UsageError(f"--{mode} needs a source and a destination")
    if mode == "rebuild" and not line.scm:
        if not count and not (line.spec and line.sources):
            raise UsageError("no SRPM to rebuild", hint="mock -r CONFIG --remote NAME x.src.rpm")
        if count > 1 and line.spec:
            raise UsageError("--spec goes with a single SRPM")


# argparse takes words that look like these for arguments although they start with a dash.
_NEGATIVE_NUMBER: Final = re.compile(r"-\d+|-\d*\.\d+")


class _Shown(Exception):
    """`--help` or `--version` came first: print this and stop."""


class _Parser(argparse.ArgumentParser):
    # mock lets argparse exit with 2, which is also mock's code for missing privileges;
    # what mock refuses itself exits with 5, and so does everything here.
    def error(self, message: str) -> NoReturn:
        raise CommandLineError(message, hint="mock --help lists the options")


class _Show(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        raise _Shown(self.const or parser.format_help().rstrip())


class _RepoSwitch(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any
    ) -> None:
        before = getattr(namespace, self.dest, ())
        setattr(namespace, self.dest, (*before, (self.option_strings[0], values)))


def make_mock_parser() -> argparse.ArgumentParser:
    """The parser. Options not given leave no attribute behind."""
    parser = _Parser(
        prog="mock",
        usage=USAGE,
        epilog=EPILOG,
        add_help=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"{MOCK_VERSION} (mock-cloud {__version__})"
    parser.add_argument("-h", "--help", action=_Show, nargs=0, help="show this text")
    parser.add_argument("--version", action=_Show, nargs=0, const=version, help="show the version")
    for group in GROUPS:
        target = parser.add_argument_group(group.title)
        for option in group.options:
            target.add_argument(*option.names, **_keywords(option))
    return parser


def _keywords(option: Option) -> dict[str, Any]:
    words: dict[str, Any] = {
        "dest": option.dest,
        "help": option.help,
        "default": argparse.SUPPRESS,
    }
    if option.kind == "flag":
        return words | {"action": "store_const", "const": option.const}
    if option.metavar:
        words["metavar"] = option.metavar
    if option.choices:
        words["choices"] = option.choices
    if option.kind == "values":
        words["action"] = "append"
    elif option.kind == "repo":
        words["action"] = _RepoSwitch
    elif option.kind == "int":
        words["type"] = int
    if option.nargs:
        words["nargs"] = option.nargs
    return words


def parse_command_line(argv: Sequence[str], environ: Mapping[str, str]) -> CommandLine:
    """mock's command line `argv` (without the program's name), checked as mock checks it.

    Raises CommandLineError (exit 5) for what mock refuses as a bad command line and for an
    unknown option; UsageError (exit 50) when a mode lacks its arguments. Reads no file.
    """
    head, tail = _split(list(argv))
    try:
        namespace, rest = make_mock_parser().parse_known_args(head)
    except _Shown as shown:
        return CommandLine(argv=tuple(argv), show=str(shown))
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(namespace).items()
    }
    mode, words = _mode(given.get("mode"), rest)
    _refuse_unknown(words, mode)
    if tail is not None:
        words = [*words, *(["--", *tail] if words else tail)]
    if mode == "calculatedeps":
        mode, given["calculatedeps"] = "rebuild", True
    if given.get("scrub"):
        mode = "clean"
    if given.get("recurse"):
        given["cont"] = True
    for name in ("spec", "sources"):
        if given.get(name):
            given[name] = expand_home(given[name])
    given["mode"] = mode
    line = CommandLine(
        argv=tuple(argv),
        args=tuple(words),
        given=frozenset(given),
        environ_remote=environ.get("MOCK_REMOTE") or None,
        **given,
    )
    check_rules(line)
    return line


def _split(argv: list[str]) -> tuple[list[str], list[str] | None]:
    # Done here since argparse's own treatment of `--` differs between Python releases.
    if "--" not in argv:
        return argv, None
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _mode(mode: str | None, rest: list[str]) -> tuple[str, list[str]]:
    if mode is not None:
        return mode, rest
    if rest and rest[0] in OLD_STYLE_MODES:
        return rest[0], rest[1:]
    return "rebuild", rest


def _refuse_unknown(words: list[str], mode: str) -> None:
    """Raise CommandLineError for an option among the arguments.

    mock hands unknown options on as arguments. Where the arguments are a command line,
    scripts rely on it (``mock --shell rpm --eval …``): what follows the command is the
    command's. Anywhere else it is a mistake that mock reports as a missing file, or not.
    """
    for word in words:
        if not word.startswith("-") or word == "-" or " " in word:
            if mode in COMMAND_MODES:
                return
            continue
        if _NEGATIVE_NUMBER.fullmatch(word):
            continue
        if mode in PACKAGE_MODES and word.startswith("--setopt="):
            continue  # dnf's, which gets these words from mock
        raise CommandLineError(f"unknown option {word!r}", hint=_near(word, mode))


def _near(word: str, mode: str) -> str:
    names = [name for group in GROUPS for option in group.options for name in option.names]
    near = difflib.get_close_matches(word.partition("=")[0], names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    if mode in COMMAND_MODES:
        return "put -- before the command that should get it"
    return "mock --help lists the options"

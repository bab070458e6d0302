# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud completion`: a completion script for the shell."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from mock_cloud.console import Console
from mock_cloud.errors import ConfigError

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

SHELLS: Final = ("bash", "zsh", "fish", "tcsh")

# The names of remotes and chroots are files in two places each; shells list them faster than a
# Python that would have to start for it. What is no chroot's configuration is left out as in
# `mock --list-chroots`.
_PREAMBLE: Final = {
    "bash": """\
_mock_cloud_names() { # SUFFIX WORD FILE...
  local suffix=$1 word=$2 file
  shift 2
  for file in "$@"; do
    [ -e "$file" ] || continue
    file=${file##*/}
    file=${file%"$suffix"}
    [[ $file == "$word"* && $file != site-defaults && $file != chroot-aliases ]] && echo "$file"
  done | sort -u
}
_mock_cloud_remotes() {
  _mock_cloud_names .toml "$1" "${XDG_CONFIG_HOME:-$HOME/.config}"/mock/remotes.d/*.toml \\
    /etc/mock/remotes.d/*.toml
}
_mock_cloud_jobs() {
  local jobs
  jobs=$(mock-cloud jobs --json 2>/dev/null | sed -n 's/^ *"job": "\\(.*\\)",$/\\1/p')
  compgen -W "$jobs" -- "$1"
}
_mock_cloud_chroots() {
  _mock_cloud_names .cfg "$1" ~/.config/mock/*.cfg /etc/mock/*.cfg
  compgen -f -X '!*.cfg' -- "$1"
}
""",
    "zsh": """\
_mock_cloud_remotes() {
  local -aU names
  names=(${XDG_CONFIG_HOME:-$HOME/.config}/mock/remotes.d/*.toml(N:t:r)
         /etc/mock/remotes.d/*.toml(N:t:r))
  compadd -a names
}
_mock_cloud_jobs() {
  compadd ${(f)"$(mock-cloud jobs --json 2>/dev/null | sed -n 's/^ *"job": "\\(.*\\)",$/\\1/p')"}
}
_mock_cloud_chroots() {
  local -aU names
  names=(~/.config/mock/*.cfg(N:t:r) /etc/mock/*.cfg(N:t:r))
  names=(${names:#(site-defaults|chroot-aliases)})
  compadd -a names
  _files -g '*.cfg'
}
""",
    "fish": """\
function _mock_cloud_remotes
  set -l config $HOME/.config
  test -n "$XDG_CONFIG_HOME"; and set config $XDG_CONFIG_HOME
  for file in $config/mock/remotes.d/*.toml /etc/mock/remotes.d/*.toml
    string replace -r '.*/(.*)[.]toml$' '$1' -- $file
  end
end
function _mock_cloud_jobs
  mock-cloud jobs --json 2>/dev/null | string replace -rf '^ *"job": "(.*)",$' '$1'
end
function _mock_cloud_chroots
  for file in ~/.config/mock/*.cfg /etc/mock/*.cfg
    string replace -r '.*/(.*)[.]cfg$' '$1' -- $file \\
      | string match -v site-defaults | string match -v chroot-aliases
  end
end
""",
    "tcsh": "",
}
_REMOTES: Final = {
    "bash": "_mock_cloud_remotes",
    "zsh": "_mock_cloud_remotes",
    "fish": "(_mock_cloud_remotes)",
    "tcsh": "`ls /etc/mock/remotes.d ~/.config/mock/remotes.d |& sed -n 's/[.]toml$//p'`",
}
_CHROOTS: Final = {
    "bash": "_mock_cloud_chroots",
    "zsh": "_mock_cloud_chroots",
    "fish": "(_mock_cloud_chroots)",
    "tcsh": "`ls /etc/mock ~/.config/mock |& sed -n 's/[.]cfg$//p'`",
}
_JOBS: Final = {
    "bash": "_mock_cloud_jobs",
    "zsh": "_mock_cloud_jobs",
    "fish": "(_mock_cloud_jobs)",
    "tcsh": "`mock-cloud jobs | sed -n 's/^\\([0-9-][0-9a-f-]*\\) .*/\\1/p'`",
}
_REMOTE_ARGUMENTS: Final = ("NAME", "REMOTE", "NAME|LEASE")
"""What arguments are called that are a remote's name, and `setup`'s new one."""
_FILES: Final = ("FILE", "PATH", "FILE[,FILE]", "KEY")
_DIRECTORIES: Final = ("DIR", "TREE")


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "completion",
        help="print a completion script",
        description="Print a completion script for mock-cloud and for the launcher's mock, with the"
        " names of remotes and chroots.",
        epilog='examples: eval "$(mock-cloud completion bash)" in ~/.bashrc;'
        " source <(mock-cloud completion zsh) in ~/.zshrc, after compinit;"
        " mock-cloud completion fish | source in ~/.config/fish/config.fish",
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    try:
        import shtab
    except ImportError as error:
        raise ConfigError(
            "completion scripts need the Python package shtab", hint="pip install shtab"
        ) from error
    shell: str = arguments.shell
    if shell not in shtab.SUPPORTED_SHELLS:
        raise ConfigError(
            f"the installed shtab {shtab.__version__} writes no completion scripts for {shell}",
            hint="pip install --upgrade shtab",
        )
    for parser in (arguments.whole_parser, _mocks_parser()):
        _mark(parser, shtab)
        print(shtab.complete(parser, shell=shell, preamble=_PREAMBLE[shell]))
    return 0


def _mocks_parser() -> argparse.ArgumentParser:
    """The parser of the launcher's `mock`, with what no option claims: packages and spec files."""
    from mock_cloud.invocation.parser import make_mock_parser

    parser = make_mock_parser()
    parser.add_argument("words", nargs="*", metavar="FILE")
    return parser


def _mark(parser: argparse.ArgumentParser, shtab: Any) -> None:
    """Tell shtab what the arguments of `parser` and its verbs are, by what they are called."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                _mark(verb, shtab)
            continue
        complete = _find_kind(action, shtab)
        if complete is not None:
            vars(action)["complete"] = complete


def _find_kind(action: argparse.Action, shtab: Any) -> Any:
    name = action.metavar
    if action.dest == "remote" or (not action.option_strings and name in _REMOTE_ARGUMENTS):
        return _REMOTES
    if action.dest == "chroot" and name == "CONFIG":
        return _CHROOTS
    if name == "JOB":
        return _JOBS
    if name in _FILES:
        return shtab.FILE
    return shtab.DIRECTORY if name in _DIRECTORIES else None

# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud completion`: a completion script for the shell."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mock_cloud.errors import ConfigError
from mock_cloud.session.console import Console

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "completion",
        help="print a completion script",
        description="Print a completion script for mock-cloud.",
        epilog="example: mock-cloud completion bash > /etc/bash_completion.d/mock-cloud",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    try:
        import shtab
    except ImportError as error:
        raise ConfigError(
            "completion scripts need the Python package shtab", hint="pip install shtab"
        ) from error
    print(shtab.complete(arguments.whole_parser, shell=arguments.shell))
    return 0

# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud lend`: on a machine that its owner lends, all that lending takes, and its end."""

from __future__ import annotations

import argparse
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.cli.lend_relay import UNIT, Relay, choose_port
from mock_cloud.cli.lending import LentMachine
from mock_cloud.cli.verify import read_verify_keys
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_DIFFERENT, CommandLineError, InputError
from mock_cloud.model import HostKey

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_RELOAD = "let sshd read its configuration anew: systemctl reload sshd (on Debian: ssh)"

_FORWARD = "systemctl daemon-reload; systemctl {} mock-cloud-lend-relay"

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "lend",
        help="lend this machine, or take it back",
        description="Run as root on the machine that is lent. Let one borrower in as root, by a key"
        " and by a file of sshd's own; make a key with which the machine signs what is built there;"
        " print the table for the borrower's remote file. With --check, say whether all that"
        " lending takes is there; with --remove, take away what was written. Exit status 0, or 1 if"
        " something is missing.",
        epilog="examples: mock-cloud lend --borrower borrower.pub --owner Alice; mock-cloud lend"
        " --borrower borrower.pub --owner Alice --relay relay@relay.example.org --relay-host-key"
        " relay.pub; mock-cloud lend --check; mock-cloud lend --remove",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--borrower", type=Path, metavar="FILE",
                      help="the borrower's public SSH key (ed25519)")  # fmt: skip
    what.add_argument("--check", action="store_true", help="say what is there, and what is not")
    what.add_argument("--remove", action="store_true", help="take the machine back")
    parser.add_argument("--owner", default="", metavar="NAME", help="who lends it")
    parser.add_argument("--name", default="", metavar="NAME",
                        help="its name in the remote's file (default: host name)")  # fmt: skip
    parser.add_argument("--address", default="", metavar="HOST",
                        help="where it is reached (default: host name)")  # fmt: skip
    parser.add_argument("--relay", metavar="USER@HOST[:PORT]",
                        help="who leads to a machine that can only call out")  # fmt: skip
    parser.add_argument("--relay-host-key", type=Path, metavar="FILE",
                        help="the relay's public host key")  # fmt: skip
    parser.add_argument("--relay-listen", type=int, default=0, metavar="PORT",
                        help="the relay's port that leads here (default: by host key)")  # fmt: skip
    parser.add_argument("--no-owner-key", action="store_true",
                        help="neither make nor remove the key that signs")  # fmt: skip
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR",
                        help="the machine's root directory, if it is not this one's")  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    if os.geteuid() != 0:
        raise InputError("only root can lend a machine", hint="run it with sudo")
    machine = LentMachine(arguments.root)
    if arguments.check:
        return _check(machine)
    if arguments.remove:
        removed = machine.remove(with_owner_key=not arguments.no_owner_key)
        for name in removed:
            console.info(f"removed {name}")
        if UNIT in removed:
            console.info(f"end the way from the relay: {_FORWARD.format('stop')}")
        console.info(_RELOAD if removed else "nothing of mock-cloud lend's was there")
        return 0
    return _lend(machine, arguments, console)


def _lend(machine: LentMachine, arguments: argparse.Namespace, console: Console) -> int:
    keys = read_verify_keys(arguments.borrower)
    if len(keys) != 1 or not arguments.owner:
        raise CommandLineError("one borrower's key and --owner are wanted")
    host = socket.gethostname()
    name = arguments.name or host.partition(".")[0]
    if not _NAME.fullmatch(name):
        raise CommandLineError(
            f"invalid name of a machine {name!r}", hint="--name: letters, digits, - and _"
        )
    relay, relay_key = _find_relay(machine, arguments)
    with_owner_key = not arguments.no_owner_key
    machine.lend(keys[0], with_owner_key=with_owner_key, relay=relay, relay_key=relay_key)
    console.info(_RELOAD)
    if relay is not None:
        console.info(f"once the relay has its lines, let the way there begin: "
                     f"{_FORWARD.format('restart')}")  # fmt: skip
        print(machine.forward.describe(relay, name, keys[0]))
    console.info("then mock-cloud lend --check; give the borrower these lines, not by the network"
                 " alone; the borrower makes the manifest: mock-cloud known-good make")  # fmt: skip
    print(machine.describe(name, arguments.address or host, arguments.owner, relay))
    return 0


def _find_relay(
    machine: LentMachine, arguments: argparse.Namespace
) -> tuple[Relay, HostKey] | tuple[None, None]:
    """The relay and its host key. CommandLineError for one without the other."""
    if not arguments.relay:
        return None, None
    if arguments.relay_host_key is None or arguments.address:
        raise CommandLineError(
            "--relay goes with --relay-host-key, and without --address",
            hint="ask who runs the relay for its /etc/ssh/ssh_host_ed25519_key.pub",
        )
    keys = read_verify_keys(arguments.relay_host_key)
    if len(keys) != 1:
        raise CommandLineError("one host key of the relay is wanted")
    listen = arguments.relay_listen or choose_port(machine.host_key)
    return Relay.parse(arguments.relay, listen), keys[0]


def _check(machine: LentMachine) -> int:
    findings = list(machine.check())
    for one in findings:
        print(f"{'ok' if one.is_good else 'failed':<8} {one.what}: {one.found}")
    return 0 if all(one.is_good for one in findings) else EXIT_DIFFERENT

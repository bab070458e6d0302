# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud setup`: write a remote's file, by asking or by options, and check it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud import places
from mock_cloud.cli.doctor import examine_remote, print_findings
from mock_cloud.cli.setup_choices import Offers
from mock_cloud.cli.setup_remote import (
    check_target,
    complete,
    default_arches,
    kept_answers,
    write_remote,
)
from mock_cloud.config.paths import describe_default_results
from mock_cloud.config.remote_tables import PROVIDERS
from mock_cloud.config.remote_text import Value, find_key, parse_word, plain_keys, value_word
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_CONFIG, CommandLineError
from mock_cloud.model import HostKey

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_OWN = frozenset({"provider", "arches", "image", "arguments", "create"})
"""Keys that have an option of their own kind below, or none."""
_PUBLIC_KEYS = ("host_key", "host_ca")
_HOST_KEYS = ("address", "owner", "host_key", "host_ca", "identity", "ssh_config", "capacity")

_EPILOG = """\
examples:
  mock-cloud setup cloud                       asks for everything
  mock-cloud setup ec2 --provider ec2 --region eu-central-1 \\
    --image x86_64=ami-0abc --size x86_64=c7i.xlarge \\
    --image aarch64=ami-0def --size aarch64=c7g.xlarge \\
    --manifest-keys manifest.pub --package-keys RPM-GPG-KEY-fedora-43-x86_64 --per-day 5
  mock-cloud setup volunteers --provider ssh --host alpha --address alpha.example.org \\
    --owner Alice --host-key /tmp/alpha.pub --manifest-keys alice.pub --package-keys fedora.asc

Credentials are never asked for: they stay where your cloud's own tools look for them
(environment, ~/.aws, clouds.yaml). Each option is the key of that name in mock-cloud-remotes(5);
a list is written with commas.
"""


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "setup",
        help="write a remote's file, by asking or by options, and check it",
        description="Write ~/.config/mock/remotes.d/NAME.toml. If something is missing that must be"
        " known, it is asked for on a terminal, and with it whatever else no option says. Then"
        " credentials, images, sizes, groups and quota are checked with the cloud, and what a node"
        " may cost per hour is said. Exit status 3 if something is wrong.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="the remote's name")
    parser.add_argument("--provider", choices=PROVIDERS,
                        help=find_key("remote", "provider").text)  # fmt: skip
    parser.add_argument("--arch", action="append", default=[], metavar="ARCH",
                        help="an architecture of its nodes; may be repeated")  # fmt: skip
    parser.add_argument("--image", action="append", default=[], metavar="[ARCH=]ID[,ID]",
                        help="images, best first; for provider local the tree")  # fmt: skip
    parser.add_argument("--size", action="append", default=[], metavar="[ARCH=]ID[,ID]",
                        help="sizes, best first")  # fmt: skip
    parser.add_argument("--price-per-hour", action="append", default=[], metavar="[ARCH=]N",
                        help=find_key("node", "price_per_hour").text)  # fmt: skip
    host = parser.add_argument_group("a lent machine (provider ssh)")
    host.add_argument("--host", metavar="NAME", default="host", help="what to call it")
    for key in _HOST_KEYS:
        found = find_key("host", key)
        host.add_argument(
            f"--{key.replace('_', '-')}",
            dest=f"host_{key}",
            metavar=value_word(found),
            help=found.text,
        )
    _add_plain(parser)
    parser.add_argument("--directory", type=Path, metavar="DIR",
                        help="instead of ~/.config/mock/remotes.d")  # fmt: skip
    parser.add_argument("--batch", action="store_true",
                        help="ask nothing, also on a terminal")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace the file")
    parser.add_argument("--no-check", action="store_true", help="ask no cloud")
    parser.set_defaults(run=run)


def _add_plain(parser: argparse.ArgumentParser) -> None:
    """An option for each key of the tables that there is one of."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for key, tables in plain_keys().items():
        if key in _OWN or (key in _HOST_KEYS and tables == ["local"]):
            continue
        title = " ".join(f"[{table}]" for table in tables)
        group = groups.setdefault(title, parser.add_argument_group(title))
        found = find_key(tables[0], key)
        texts = dict.fromkeys(find_key(table, key).text for table in tables)
        group.add_argument(
            f"--{key.replace('_', '-')}",
            dest=f"key_{key}",
            metavar=value_word(found),
            help="; ".join(texts),
        )


def run(arguments: argparse.Namespace, console: Console) -> int:
    arches = default_arches(arguments.arch or _named_arches(arguments))
    is_asking = sys.stdin.isatty() and sys.stderr.isatty() and not arguments.batch
    directory = arguments.directory or places.config_home() / "mock/remotes.d"
    given = _given(arguments, arches)
    check_target(arguments.name, directory, force=arguments.force)
    with kept_answers(arguments.name, directory, given, console) as (answers, earlier):
        offers = None if arguments.no_check else Offers(arguments.name, answers)
        complete(answers, arches, arguments.host, _ask if is_asking else None, earlier, offers)
        remote = write_remote(arguments.name, answers, directory, force=arguments.force)
    console.info(f"{remote.source} is written")
    console.info(f"results of builds go to {describe_default_results()}")
    if arguments.no_check:
        return 0
    findings = examine_remote(remote)
    print_findings(findings)
    return 0 if all(one.ok for one in findings) else EXIT_CONFIG


def _given(arguments: argparse.Namespace, arches: list[str]) -> dict[tuple[str, str], Value]:
    given: dict[tuple[str, str], Value] = {}
    provider = arguments.provider
    if provider is not None:
        given["remote", "provider"] = provider
    for key, tables in plain_keys().items():
        word = getattr(arguments, f"key_{key}", None)
        if word is None:
            continue
        fitting = [table for table in tables if table not in PROVIDERS or table == provider]
        if not fitting:
            raise CommandLineError(
                f"--{key.replace('_', '-')} is for provider {' or '.join(tables)}"
            )
        given[fitting[0], key] = parse_word(fitting[0], key, word)
    if provider == "local" and arguments.image:
        given["local", "image"] = parse_word("local", "image", arguments.image[-1])
    else:
        given |= _of_nodes(arguments, arches)
    for key in _HOST_KEYS:
        word = getattr(arguments, f"host_{key}")
        if word is not None:
            table = f"host.{arguments.host}"
            given[table, key] = parse_word(
                table, key, _key_line(word) if key in _PUBLIC_KEYS else word
            )
    return given


def _of_nodes(arguments: argparse.Namespace, arches: list[str]) -> dict[tuple[str, str], Value]:
    """The keys of [node.ARCH]. CommandLineError for one that is given twice."""
    given: dict[tuple[str, str], Value] = {}
    for key, words in (
        ("images", arguments.image),
        ("sizes", arguments.size),
        ("price_per_hour", arguments.price_per_hour),
    ):
        for word in words:
            arch, value = _of_arch(word, arches)
            if (f"node.{arch}", key) in given:
                raise CommandLineError(f"{word}: {key} of {arch} are given twice: use commas")
            given[f"node.{arch}", key] = parse_word(f"node.{arch}", key, value)
    return given


def _of_arch(word: str, arches: list[str]) -> tuple[str, str]:
    arch, equals, value = word.partition("=")
    if equals and arch in arches:
        return arch, value
    if len(arches) > 1:
        raise CommandLineError(f"{word}: for which of {', '.join(arches)}? Write ARCH={word}")
    return arches[0], word


def _named_arches(arguments: argparse.Namespace) -> list[str]:
    """Those that images are given for."""
    named = [word.partition("=")[0] for word in arguments.image if "=" in word]
    return list(dict.fromkeys(named))


def _key_line(word: str) -> str:
    """A public key as it is, or the first line of the file that is named."""
    path = Path(word).expanduser()
    if " " not in word and path.is_file():
        try:
            line = path.read_text(errors="replace").split("\n", 1)[0]
            return str(HostKey.parse(line))
        except (OSError, ValueError) as error:
            raise CommandLineError(f"{word} is not an OpenSSH public key: {error}") from error
    return word


def _ask(question: str, default: str) -> str:
    shown = f" [{default}]" if default else ""
    print(f"{question}{shown}: ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise CommandLineError("the questions were not answered; nothing was written")
    return line.strip() or default

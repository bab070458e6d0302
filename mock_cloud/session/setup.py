# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes a remote's file from answers, and asks for those that are missing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mock_cloud.config.remote_text import Answers, Value, parse_word, write_toml
from mock_cloud.config.remotes import PROVIDERS, read_remote
from mock_cloud.errors import CommandLineError, ConfigError, InputError
from mock_cloud.invocation.names import find_name_problem, printable
from mock_cloud.settings import Remote
from mock_cloud.toolkit import own_arch

Ask = Callable[[str, str], str]
"""(question, default) → what the user typed; the default if that is nothing."""


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to know of a remote. Without a default an answer must be given.

    `table` may end in ``.ARCH``, which stands for each architecture.
    """

    table: str
    key: str
    text: str
    default: str | None = None

    @property
    def flag(self) -> str:
        name = {"images": "image", "sizes": "size"}.get(self.key, self.key)
        return f"--{name.replace('_', '-')}"


_NODE: Final = (
    Question("node.ARCH", "images", "image ids for ARCH, best first"),
    Question("node.ARCH", "sizes", "sizes for ARCH, best first"),
)
_QUESTIONS: Final[Mapping[str, tuple[Question, ...]]] = {
    "local": (Question("local", "image", "the root of the node's RPM tree"),),
    "ssh": (
        Question("host.HOST", "address", "name or address of the machine"),
        Question("host.HOST", "owner", "who lends it"),
        Question("host.HOST", "host_key", "its SSH host key (ssh-ed25519 AAAA…)", ""),
    ),
    "ec2": (
        Question("ec2", "region", "region, such as eu-central-1"),
        Question("ec2", "zones", "zones, best first (empty: any)", ""),
        Question("ec2", "subnets", "subnets, one for each zone or one for all", ""),
        Question("ec2", "security_groups", "security groups that let you in to port 22", ""),
        Question("ec2", "market", "on-demand, spot or spot-first", "on-demand"),
        *_NODE,
    ),
    "openstack": (
        Question("openstack", "cloud", "entry in clouds.yaml (empty: OS_* variables)", ""),
        Question("openstack", "networks", "network ids (empty: the API's choice)", ""),
        Question("openstack", "security_groups", "security groups that let you in to port 22", ""),
        Question("openstack", "floating_ip_pool", "pool of floating addresses, if needed", ""),
        *_NODE,
    ),
    "rackspace": (Question("rackspace", "region", "region, such as ord"), *_NODE),
    "libcloud": (
        Question("libcloud", "driver", "libcloud's name of the driver, such as digitalocean"),
        *_NODE,
    ),
}
_LAST: Final = (
    Question("attest", "manifest", "the image's signed manifest (empty: bake one later)", ""),
    Question("attest", "manifest_keys", "public keys that may sign manifests"),
    Question("attest", "package_keys", "OpenPGP certificates of the distribution's packages"),
    Question("budget", "per_day", "what it may cost in a day (empty: no limit)", ""),
)


def complete(given: Answers, arches: list[str], host: str, ask: Ask | None) -> Answers:
    """`given` with the answers that it lacks, asked for in the order of the file.

    Without `ask` what must be known and is not is a CommandLineError that names the options.
    """
    answers = dict(given)
    provider = _provider(answers, ask)
    _place_arches(answers, provider, arches, host)
    missing = []
    for question in (*_QUESTIONS[provider], *_LAST):
        for table in _tables(question, arches, host):
            if (table, question.key) in answers:
                continue
            if ask is not None:
                value = _answer(question, table, ask)
                if value != "":
                    answers[table, question.key] = value
            elif question.default is None:
                missing.append(question.flag)
    if missing:
        raise CommandLineError(
            f"missing: {' '.join(dict.fromkeys(missing))}",
            hint="on a terminal they are asked for; mock-cloud setup --help explains them",
        )
    return answers


def _provider(answers: dict[tuple[str, str], Value], ask: Ask | None) -> str:
    if ("remote", "provider") not in answers:
        if ask is None:
            raise CommandLineError("missing: --provider", hint=f"one of {', '.join(PROVIDERS)}")
        answers["remote", "provider"] = ask(f"provider ({', '.join(PROVIDERS)})", "ec2")
    provider = str(answers["remote", "provider"])
    if provider not in _QUESTIONS:
        raise CommandLineError(
            f"unknown provider {printable(provider)!r}", hint=f"one of {', '.join(PROVIDERS)}"
        )
    return provider


def _place_arches(
    answers: dict[tuple[str, str], Value], provider: str, arches: list[str], host: str
) -> None:
    """Where a provider's file says of which architecture its nodes are."""
    if provider == "ssh":
        answers.setdefault((f"host.{host}", "arch"), arches[0])
    elif provider == "local":
        answers.setdefault(("remote", "arches"), list(arches))


def _tables(question: Question, arches: list[str], host: str) -> list[str]:
    if question.table.endswith(".ARCH"):
        return [f"node.{arch}" for arch in arches]
    return [question.table.replace("HOST", host)]


def _answer(question: Question, table: str, ask: Ask) -> Value:
    """Ask until the answer can be taken."""
    text = question.text.replace("ARCH", table.rpartition(".")[2])
    while True:
        word = ask(text, question.default or "").strip()
        if not word and question.default is not None:
            return ""
        try:
            return parse_word(table, question.key, word)
        except CommandLineError as error:
            text = f"{error.message}\n{question.text}"


def write_remote(name: str, answers: Answers, directory: Path, *, force: bool) -> Remote:
    """Write ``DIRECTORY/NAME.toml``, mode 0600, whole or not at all; the remote that it is.

    ConfigError if it would not be one, InputError if it is there already and not `force`.
    """
    if find_name_problem(name) is not None:
        raise CommandLineError(f"{printable(name)!r} is no name for a remote")
    path = directory / f"{name}.toml"
    if path.exists() and not force:
        raise InputError(f"{path} is there already", hint="--force replaces it")
    text = write_toml(
        answers, f"Remote {name}, written by mock-cloud setup. See mock-cloud-remotes(5)."
    )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        try:
            read_remote(name, Path(temporary))
        except ConfigError as error:
            message = error.message.replace(temporary, str(path))
            raise ConfigError(f"not written: {message}", hint=error.hint) from error
        Path(temporary).replace(path)
    finally:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
    return read_remote(name, path)


def default_arches(words: list[str]) -> list[str]:
    """The architectures named, or this machine's."""
    return words or [own_arch()]

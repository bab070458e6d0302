# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes a remote's file from answers, and asks for those that are missing."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mock_cloud.cli.setup_choices import Offers, chosen, shown
from mock_cloud.cloud.provider import CloudItem
from mock_cloud.config.remote_tables import PROVIDERS, TABLES, TABLES_OF
from mock_cloud.config.remote_text import RemoteAnswers, Value, find_key, parse_word, write_toml
from mock_cloud.config.remotes import read_remote
from mock_cloud.config.toml_tables import Each
from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError, ConfigError, InputError
from mock_cloud.invocation.names import find_name_problem
from mock_cloud.settings import Remote
from mock_cloud.toolkit.machines import own_arch
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import load_json
from mock_cloud.wire.terminal_text import printable

Ask = Callable[[str, str], str]
"""(question, default) → what the user typed; the default if that is nothing."""


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to know of a remote. Without a default an answer must be given.

    `table` may end in ``.ARCH``, which stands for each architecture, or be ``host.HOST``.
    """

    table: str
    key: str
    default: str | None = None

    @property
    def flag(self) -> str:
        name = {"images": "image", "sizes": "size"}.get(self.key, self.key)
        return f"--{name.replace('_', '-')}"


_INSTEAD: Final = {"host_key": "host_ca"}
"""Keys that need not be known where another one is; one of the two must be."""


def questions(provider: str) -> Iterator[Question]:
    """What setup asks for a remote of `provider`, in the order of the file: see `settings`."""
    for table in (*TABLES_OF[provider], "attest", "budget"):
        place = {"node": "node.ARCH", "host": "host.HOST"}.get(table, table)
        keys = TABLES[table]
        for name, key in (keys.keys if isinstance(keys, Each) else keys).items():
            must = (key.required and table != "budget") or name in _INSTEAD
            if must or key.required or key.proposal is not None:
                yield Question(place, name, None if must else key.proposal or "")


def complete(
    answers: dict[tuple[str, str], Value],
    arches: list[str],
    host: str,
    ask: Ask | None,
    earlier: RemoteAnswers | None = None,
    offers: Offers | None = None,
) -> dict[tuple[str, str], Value]:
    """Put into `answers` what they lack, asked for in the order of the file.

    Nothing is asked if all is there that must be known. Without `ask` what is missing of that is a
    CommandLineError that names the options. `earlier` answers are proposed again. `offers` lists
    what the cloud has; of `answers`, which it knows.
    """
    earlier = earlier or {}
    provider = _provider(answers, ask, earlier)
    _place_arches(answers, provider, arches, host)
    asked = [
        (question, table)
        for question in questions(provider)
        for table in _tables(question, arches, host)
        if (table, question.key) not in answers
        and (table, _INSTEAD.get(question.key, "")) not in answers
    ]
    missing = [question.flag for question, _table in asked if question.default is None]
    if missing and ask is None:
        raise CommandLineError(
            f"missing: {' '.join(dict.fromkeys(missing))}",
            hint="on a terminal they are asked for; mock-cloud setup --help explains them",
        )
    if not missing or ask is None:
        return answers
    for question, table in asked:
        value = _answer(question, table, ask, earlier.get((table, question.key)), offers)
        if value != "":
            answers[table, question.key] = value
    return answers


@contextmanager
def kept_answers(
    name: str, directory: Path, given: RemoteAnswers, console: Console
) -> Iterator[tuple[dict[tuple[str, str], Value], RemoteAnswers]]:
    """Answers to fill, and those of an earlier try that did not come to its end.

    If this one does not either, whatever stops it, what was answered is kept for the next.
    """
    draft = directory / f".{name}.answers"
    answers = dict(given)
    try:
        yield answers, _read_draft(draft)
    except BaseException:
        if len(answers) > len(given):
            with suppress(OSError):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                draft.touch(mode=0o600)
                draft.write_text(
                    json.dumps([[*key, value] for key, value in answers.items()]), encoding="utf-8"
                )
                console.info("what was answered is kept: the same command proposes it again")
        raise
    draft.unlink(missing_ok=True)


def _read_draft(path: Path) -> RemoteAnswers:
    """What a file of kept answers holds; nothing if it is not there, or is not one."""
    try:
        found = load_json(path.read_bytes())
        return {(table, key): value for table, key, value in found}
    except (OSError, ValueError, TypeError):
        return {}


def check_target(name: str, directory: Path, *, force: bool) -> Path:
    """The file that is to be written. CommandLineError for the name, InputError if it is there."""
    problem = find_name_problem(name)
    if problem is not None:
        raise CommandLineError(f"invalid remote name {printable(name)!r}: {problem}")
    path = directory / f"{name}.toml"
    if path.exists() and not force:
        raise InputError(f"{path} is there already", hint="--force replaces it")
    return path


def _provider(
    answers: dict[tuple[str, str], Value], ask: Ask | None, earlier: RemoteAnswers
) -> str:
    if ("remote", "provider") not in answers:
        if ask is None:
            raise CommandLineError("missing: --provider", hint=f"one of {', '.join(PROVIDERS)}")
        before = str(earlier.get(("remote", "provider"), "ec2"))
        answers["remote", "provider"] = ask(f"provider ({', '.join(PROVIDERS)})", before)
    provider = str(answers["remote", "provider"])
    if provider not in PROVIDERS:
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


def _answer(
    question: Question, table: str, ask: Ask, earlier: Value | None, offers: Offers | None
) -> Value:
    """Ask until the answer can be taken: a value, numbers of a list, or what to look for."""
    kind, _, which = table.partition(".")
    text = find_key(kind, question.key).text + (f" ({which})" if kind == "node" else "")
    default = question.default or ""
    if earlier is not None:
        default = ",".join(earlier) if isinstance(earlier, list) else str(earlier)
    listed, why_not = _list(offers, table, question.key)
    asked = f"{why_not}{_headed(listed)}{text}"
    while True:
        word = ask(asked, default).strip()
        if not word and question.default is not None:
            return ""
        word = chosen(word, listed)
        if offers is not None and offers.is_search(table, question.key, word):
            listed, why_not = _list(offers, table, question.key, word)
            none = "" if listed else f"no name has {printable(word)!r} in it\n"
            asked = f"{why_not or none}{_headed(listed)}{text}"
            continue
        try:
            return parse_word(table, question.key, word)
        except CommandLineError as error:
            asked = f"{error.message}\n{text}"


def _list(
    offers: Offers | None, table: str, key: str, like: str = ""
) -> tuple[Sequence[CloudItem], str]:
    """What the cloud has; or why that is not known, said once."""
    if offers is None:
        return [], ""
    had_failed = bool(offers.failure)
    listed = offers.list(table, key, like)
    failed = offers.failure and not had_failed
    return listed, f"nothing can be listed: {printable(offers.failure)}\n" if failed else ""


def _headed(listed: Sequence[CloudItem]) -> str:
    return f"\n{shown(listed)}by number, or as the cloud calls it: " if listed else ""


def write_remote(name: str, answers: RemoteAnswers, directory: Path, *, force: bool) -> Remote:
    """Write ``DIRECTORY/NAME.toml``, mode 0600, whole or not at all; the remote that it is.

    ConfigError if it would not be one, InputError if it is there already and not `force`.
    """
    path = check_target(name, directory, force=force)
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

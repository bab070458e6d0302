# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf.conf made portable: what it names on this machine is sent along or refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from mock_cloud.config.access import Accesses, names_secrets, without_login
from mock_cloud.errors import ConfigError, UnsupportedByEngine
from mock_cloud.invocation.hostfiles import HostFile
from mock_cloud.invocation.names import find_name_problem
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.dnf_conf import (
    MAIN,
    SEPARATORS,
    DnfConfError,
    RepoSection,
    expand,
    parse_dnf_conf,
    read_repositories,
    rewrite_options,
)
from mock_cloud.wire.terminal_text import printable

KEY_PREFIX: Final = "file://@GPGKEYS@/"
"""What the agent replaces by the directory that holds the inputs of role gpgkey."""

KEY_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Portable:
    """A dnf.conf without paths and secrets of this machine, and the keys it refers to by name."""

    text: str
    keys: tuple[HostFile, ...]
    accesses: Accesses = field(compare=False)


@contextmanager
def reading_dnf_conf(text: str = "") -> Iterator[None]:
    """ConfigError for a text that is not a dnf.conf; it quotes no line of a `text` with secrets."""
    try:
        yield
    except DnfConfError as error:
        why = str(error).partition(":")[0] if names_secrets(text) else str(error)
        raise ConfigError(f"config_opts['dnf.conf'] is not a dnf.conf: {why}") from None


def add_repositories(text: str, baseurls: Iterable[str]) -> str:
    """`text` with a section for each of --addrepo's URLs, as mock writes them.

    ConfigError for a URL with characters that would end its line.
    """
    with reading_dnf_conf(text):
        taken = set(parse_dnf_conf(text))
    for url in baseurls:
        if not url or printable(url) != url or any(character.isspace() for character in url):
            raise ConfigError(f"--addrepo {printable(url)!r} is not a URL")
        shown = without_login(url)
        name = _repository_id(shown, taken)
        taken.add(name)
        options = {
            "name": shown, "baseurl": url, "enabled": 1, "skip_if_unavailable": 0,
            "metadata_expire": 0, "gpgcheck": 0, "cost": 1, "best": 1, "module_hotfixes": "true",
        }  # fmt: skip
        text += f"\n\n[{name}]\n" + "".join(f"{k}={v}\n" for k, v in options.items())
    return text


def are_signed(text: str, variables: Mapping[str, str], switches: Sequence[Sequence[str]]) -> bool:
    """Whether dnf checks the signature of every package that a dnf.conf's repositories offer.

    As dnf has it, a repository has main's options where it has none, and none is no check.
    """
    with reading_dnf_conf():
        return all(one.is_set("gpgcheck") for one in read_repositories(text, variables, switches))


def _repository_id(url: str, taken: set[str]) -> str:
    base = re.sub(r"[^a-zA-Z0-9_]", "", url.partition("://")[2].replace("/", "_") or url)
    name, number = base, 0
    while name in taken:
        number += 1
        name = f"{base}{number}"
    return name


def make_portable(
    text: str,
    variables: Mapping[str, str],
    switches: Sequence[tuple[str, str]],
    keys: Keys | None = None,
    accesses: Accesses | None = None,
) -> Portable:
    """`text` with `file://` keys renamed to KEY_PREFIX + name, and those keys' files.

    Secrets are taken out of it, those of repositories that stay disabled too; other options of
    these are left alone. `keys` and `accesses` are those of texts before, whose names are taken.
    Raises UnsupportedByEngine for what this machine would have to fetch and cannot, ConfigError for
    a missing key or a text that is not a dnf.conf. Repositories that have no secrets are
    `config.tunnel`'s to deal with.
    """
    with reading_dnf_conf(text):
        main = parse_dnf_conf(text).get(MAIN, {})
        enabled = read_repositories(text, variables, switches)
    if not main.get("reposdir"):
        raise ConfigError(
            "dnf.conf does not set reposdir: the machine's own repositories would be used",
            hint="put reposdir=/dev/null into [main]",
        )
    for name, options in ((MAIN, main), *((one.id, one.own) for one in enabled)):
        if options.get("include"):
            raise UnsupportedByEngine(
                f"[{name}] in dnf.conf sets include, whose file stays on this machine"
            )
    checked = {one.section for one in enabled if _wants_key(one)}
    keys = keys or Keys(variables)
    accesses = accesses or Accesses(variables, os.environ)
    considered = {MAIN, *(one.section for one in enabled)}
    text = accesses.take(text, enabled)
    return Portable(_rewrite(text, keys, considered, checked), tuple(keys.files.values()), accesses)


def _wants_key(repository: RepoSection) -> bool:
    return repository.is_set("gpgcheck") or repository.is_set("repo_gpgcheck")


class Keys:
    """Key files by path; gives each a name of its own."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.files: dict[Path, HostFile] = {}
        self._variables = variables
        self._taken: set[str] = set()

    def rename(self, url: str, repository: str, *, required: bool) -> str:
        """What to write for `url`: KEY_PREFIX and a name, or `url` if it isn't a local file."""
        if url.startswith("file://"):
            path = Path(unquote(expand(url.removeprefix("file://"), self._variables)))
        elif url.startswith("/"):
            path = Path(expand(url, self._variables))
        else:
            return url
        if path not in self.files:
            problem = _key_problem(path)
            if problem is not None:
                if not required:
                    return url
                raise ConfigError(
                    f"the key of repository {repository!r}, {printable(str(path))}: {problem}",
                    hint="distribution-gpg-keys has the keys of most distributions",
                )
            self.files[path] = HostFile(self._name(path.name), "gpgkey", path)
        return KEY_PREFIX + self.files[path].name

    def _name(self, base: str) -> str:
        # It goes into dnf.conf, where spaces, commas and dollars mean something.
        base = re.sub(r"[^A-Za-z0-9._-]", "_", base)
        base = base if find_name_problem(base) is None else "key"
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base}.{number}"
        self._taken.add(name)
        return name


def _key_problem(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            if len(stream.read(KEY_MAX_BYTES + 1)) > KEY_MAX_BYTES:
                return "too large for a key"
    except OSError as error:
        return str(error.strerror)
    return None


def _rewrite(text: str, keys: Keys, considered: set[str], checked: set[str]) -> str:
    def change(section: str, option: str, value: str) -> str:
        if option != "gpgkey" or section not in considered:
            return value
        return "".join(
            keys.rename(word, section, required=section in checked)
            for word in SEPARATORS.split(value)
        )

    return rewrite_options(text, change)

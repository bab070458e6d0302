# SPDX-License-Identifier: GPL-2.0-or-later
"""What setup proposes: lists of what the cloud has, in place of ids to look up elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from pathlib import Path
from typing import Final

from mock_cloud.cloud.apis.calls import looking
from mock_cloud.cloud.provider import Choices, CloudItem
from mock_cloud.cloud.providers import find_choices
from mock_cloud.config.remote_tables import CLOUDS, TABLES
from mock_cloud.config.remote_text import RemoteAnswers
from mock_cloud.config.toml_tables import Each
from mock_cloud.errors import MockCloudError
from mock_cloud.settings import AttestSettings, Remote
from mock_cloud.wire.dataclass import dataclass

_LOOK_S: Final = 30.0
"""For each list: a user waits for it at a prompt."""

FindChoices = Callable[[Remote], Choices | None]


@dataclass(slots=True)
class Offers:
    """Lists of the cloud that `answers` name by then. `failure` says why there are none."""

    name: str
    answers: RemoteAnswers
    find: FindChoices = find_choices
    failure: str = ""
    _choices: Choices | None = field(default=None, repr=False)

    def list(self, table: str, key: str, like: str = "") -> Sequence[CloudItem]:
        """What may be chosen for a key of a table; nothing if that is not known."""
        if self.failure or not self._may_ask(table):
            return []
        try:
            with looking(_LOOK_S):
                if self._choices is None:
                    self._choices = self.find(self._remote())
                if self._choices is None:
                    return []
                return self._choices.find(key, table.partition(".")[2], like)
        except MockCloudError as error:
            self.failure = f"{error.message}: {error.hint}" if error.hint else error.message
            return []

    def is_search(self, table: str, key: str, word: str) -> bool:
        """Whether the word is a part of names, to be looked for."""
        if self._choices is None or self.failure or not word:
            return False
        return self._choices.is_search(key, word)

    def _may_ask(self, table: str) -> bool:
        """Whether the table is a cloud's, and known is what its API cannot be asked without."""
        keys = TABLES.get(provider := str(self.answers["remote", "provider"]), {})
        if provider not in CLOUDS or table.partition(".")[0] not in (provider, "node"):
            return False
        needed = () if isinstance(keys, Each) else [one for one in keys if keys[one].required]
        return all((provider, name) in self.answers for name in needed)

    def _remote(self) -> Remote:
        """The remote as far as it is known: its API can be asked, no node be made."""
        provider = str(self.answers["remote", "provider"])
        keys = TABLES[provider]
        assert not isinstance(keys, Each)  # noqa: S101 (for mypy)
        found = {
            key.argument: key.check(self.answers[provider, name], Path.cwd())
            for name, key in keys.items()
            if (provider, name) in self.answers
        }
        return Remote(
            name=self.name,
            provider=provider,
            arches=(),
            attest=AttestSettings(None, (), ()),
            cloud=CLOUDS[provider](**found),
            source=Path(f"{self.name}.toml"),
        )


def chosen(word: str, listed: Sequence[CloudItem]) -> str:
    """The word with numbers of the list replaced by what stands there."""
    by_number = {str(number): one.value for number, one in enumerate(listed, 1)}
    parts = [part.strip() for part in word.split(",")]
    return ",".join(by_number.get(part, part) for part in parts)


def shown(listed: Sequence[CloudItem]) -> str:
    """The list, a line each, to be chosen from by number."""
    return "".join(
        f"  {number:>2}  {one.value}  {one.text}\n" for number, one in enumerate(listed, 1)
    )

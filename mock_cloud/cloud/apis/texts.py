# SPDX-License-Identifier: GPL-2.0-or-later
"""Texts of APIs and consoles, made fit for a message: bounded, printable, without mark-up."""

from __future__ import annotations

import re
from typing import Final

from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.wire.terminal_text import printable

_LINE_LIMIT: Final = 300
_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
_MARK_UP: Final = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)

_COMPLAINTS_SHOWN: Final = 5
_COMPLAINTS: Final = ("error", "fail", "traceback", "critical")
_SPEAKERS: Final = ("cloud-init", "cloudinit", "cc_", "util.py[", "stages.py[", "shellify")


def one_line(text: str, limit: int = _LINE_LIMIT) -> str:
    """`text` on one line of at most `limit` characters, printable, HTML's and XML's tags gone."""
    plain = " ".join(_MARK_UP.sub(" ", text[: 8 << 10]).split())
    shown = printable(plain)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def tail_of_console(text: str, lines: int = 40) -> str:
    """The last lines of a console without its control sequences, each bounded."""
    plain = _SEQUENCE.sub("", text[-64 << 10 :]).replace("\r", "\n")
    kept = [line for line in map(_printable, plain.splitlines()) if line.strip()]
    return "\n".join(kept[-lines:])


def cloud_init_complaints(text: str) -> list[str]:
    """The first lines of a console in which cloud-init says that something failed.

    Not what it thinks of the form of user-data: versions differ in that, and it goes on.
    """
    plain = _SEQUENCE.sub("", text[-1 << 20 :])
    found = []
    for line in map(_printable, plain.splitlines()):
        lowered = line.lower()
        is_complaint = any(word in lowered for word in _COMPLAINTS) and "schema" not in lowered
        if is_complaint and any(word in lowered for word in _SPEAKERS):
            found.append(line.strip())
    return found[:_COMPLAINTS_SHOWN]


def _printable(line: str) -> str:
    shown = "".join(char if char.isprintable() else " " for char in line[:_LINE_LIMIT])
    return shown.rstrip()


# How calls to a cloud fail, as far as it matters what to do next.
class CredentialsRefused(ConfigError):
    """The API does not accept who we are; the message names where the credentials came from."""


class NoCapacity(CloudError):
    """The API has no such node now: another offer may do."""


class QuotaReached(CloudError):
    """The account's own limit, by its name. Waiting does not help.

    `is_of_size`: it is one of processors, memory or the like, so that a smaller size may fit, or
    one that is counted apart. Else no other offer helps.
    """

    retryable = False

    def __init__(self, message: str, *, hint: str | None = None, is_of_size: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.is_of_size = is_of_size


class OutcomeUnknown(CloudError):
    """A call that changes something got no answer that tells whether it did."""


class CloudIsOut(CloudError):
    """The API could not be asked: nothing was done by this call."""


class NotThere(CloudError):
    """The API does not know the resource: not yet, or not any more."""

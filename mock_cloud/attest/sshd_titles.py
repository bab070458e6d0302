# SPDX-License-Identifier: GPL-2.0-or-later
"""What an sshd does, told by its title: listens, waits for a login, or serves one.

OpenSSH writes titles over its arguments (setproctitle in sshd.c, sshd-session.c, sshd-auth.c;
session.c for who is logged in).
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class SshdRole(Enum):
    """What an sshd is there for."""

    LISTENER = "listens"
    WAITING = "waits for a login"
    SESSION = "serves a login"


_FLAGS: Final = frozenset({"-D", "-e", "-4", "-6", "-q"})
_OPTIONS: Final = frozenset({"ListenAddress", "PidFile", "Port", "LogLevel"})
_LISTENER: Final = "[listener]"
_COUNT: Final = frozenset("0123456789- of startups")
_TITLES: Final = ("sshd:", "sshd-session:", "sshd-auth:")
_STEPS: Final = ("[priv]", "[net]", "[pam]")


def find_sshd_role(cmdline: tuple[str, ...], exe: str, user: str) -> SshdRole | None:
    """What `exe` does as OpenSSH's server; None if there is anything risky on its command line.

    Knows the arguments themselves, the listener's title that repeats them, and the titles of the
    processes that serve a connection of `user` or one not authenticated yet. A session with a
    terminal or with sftp has another title: nothing of ours has either.
    """
    words = " ".join(cmdline).split()
    if words and words[0] in _TITLES:
        title = " ".join(words[1:])
        if title in (user, f"{user}@notty"):
            return SshdRole.SESSION
        if title in _waiting_titles(user):
            return SshdRole.WAITING
        words = _listener_arguments(words[1:])
    return SshdRole.LISTENER if words and words[0] == exe and _is_harmless(words[1:]) else None


def is_sshd_session(cmdline: tuple[str, ...]) -> bool:
    """Whether this is the title of an sshd that serves a connection, anybody's."""
    words = " ".join(cmdline).split()
    return bool(words) and words[0] in _TITLES and _LISTENER not in words


def _listener_arguments(words: list[str]) -> list[str]:
    """The arguments in ``ARGUMENTS [listener] 0 of 10-100 startups``, else nothing.

    A title ends where the memory of sshd's first arguments and environment does, so the count
    may be cut short. As long as the mark is there, no argument is.
    """
    if _LISTENER not in words:
        return []
    mark = len(words) - 1 - words[::-1].index(_LISTENER)
    count = " ".join(words[mark + 1 :])
    return words[:mark] if _COUNT.issuperset(count) else []


def _waiting_titles(user: str) -> frozenset[str]:
    """``user [priv]`` is the monitor's of a login, too, whose own process has its own title.

    OpenSSH 10.6 calls that ``user [postauth]``. From 10 on sshd-auth begins as ``[session-auth]``.
    """
    named = {f"{who} {step}" for who in ("unknown", user) for step in _STEPS}
    early = {"[accepted]", "[net]", "[priv]", "[session-auth early]", "[session-auth]"}
    return frozenset(named | early | {f"{user} [postauth]"})


def _is_harmless(words: list[str]) -> bool:
    rest = iter(words)
    for word in rest:
        if word in _FLAGS:
            continue
        if word == "-p":
            if not next(rest, "").isdigit():
                return False
        elif word == "-o":
            name, equals, value = next(rest, "").partition("=")
            if name not in _OPTIONS or not equals or not value:
                return False
        elif word != "-f" or next(rest, "") != "/etc/ssh/sshd_config":
            return False
    return True

# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a command line stands in a provenance, and what of it says whose machine this is."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mock_cloud import places
from mock_cloud.invocation.model import CommandLine
from mock_cloud.wire.dataclass import dataclass

_SHAPING: Final[Mapping[str, str]] = {
    "rpmwith": "--with", "rpmwithout": "--without", "rpmmacros": "--define",
    "rpmbuild_opts": "--rpmbuild-opts", "short_circuit": "--short-circuit", "arch": "--arch",
    "forcearch": "--forcearch", "rpmbuild_arch": "--rpmbuild-arch", "isolation": "--isolation",
    "additional_packages": "--additional-package", "repos": "--addrepo",
    "cli_config_opts": "--config-opts", "pkg_manager": "--pm", "plugin_opts": "--plugin-option",
    "enabled_plugins": "--enable-plugin", "disabled_plugins": "--disable-plugin",
}  # fmt: skip
"""Fields of the command line that shape a build, with mock's options for them."""
_SWITCHES: Final[Mapping[str, tuple[bool, str]]] = {
    "check": (False, "--nocheck"), "clean": (False, "--no-clean"), "online": (False, "--offline"),
    "enable_network": (True, "--enable-network"), "post_install": (True, "--postinstall"),
    "unpriv": (True, "--unpriv"),
}  # fmt: skip


def asked_options(line: CommandLine) -> Iterator[str]:
    """What the user typed that shapes the build, in mock's words and a fixed order."""
    for name, option in _SHAPING.items():
        value = getattr(line, name)
        for one in (value,) if isinstance(value, str) else value or ():
            yield f"{option}={one}"
    for name, (wanted, option) in _SWITCHES.items():
        if getattr(line, name) is wanted:
            yield option
    for option, name in line.enable_disable_repos:
        yield f"{option}={name}"


@dataclass(frozen=True, slots=True)
class Private:
    """Words that say whose machine this is: a text with one of them is given by its digest."""

    words: tuple[str, ...]

    @classmethod
    def of_machine(cls, *, shown: bool) -> Private:
        """This one's name, its user's home and name; none if they may be `shown`."""
        if shown:
            return cls(())
        words = {str(places.home()), str(Path.cwd()), socket.gethostname()}
        words |= {socket.gethostname().partition(".")[0]}
        words.add(os.environ.get("SUDO_USER") or os.environ.get("USER", ""))
        return cls(tuple(sorted(word for word in words if len(word) > 2 and word not in _COMMON)))

    def hide(self, text: str) -> str:
        """The text, or ``sha256:HEX`` of it: who knows it can tell that it was this one."""
        if not any(_has_word(text, word) for word in self.words):
            return text
        return "sha256:" + hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


_COMMON: Final = frozenset({"root", "localhost", "mock", "builder", "mockbuild", "koji", "/root"})
"""Names that say nothing of anybody."""


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None

# SPDX-License-Identifier: GPL-2.0-or-later
"""Which node architectures a configuration can be built on."""

from __future__ import annotations

from collections.abc import Sequence

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.values import read_text, read_words
from mock_cloud.errors import ConfigError


class ArchitectureError(ConfigError):
    """No node of the remote can build for the target. mock's own exit code for it."""

    exit_code = 6


def choose_arch(opts: ConfigOpts, arches: Sequence[str]) -> str:
    """The first of a remote's `arches` that builds this configuration natively.

    That is one of ``legal_host_arches``, or without it the target architecture itself.
    ArchitectureError if there is none: emulation is left to mock.
    """
    target = read_text(opts, "target_arch")
    legal = read_words(opts, "legal_host_arches") or [target]
    for arch in arches:
        if arch in legal:
            return arch
    raise ArchitectureError(
        f"{target} cannot be built on the remote's {', '.join(arches)}",
        hint=f"choose a remote with nodes of {' or '.join(legal)}",
    )

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


def choose_arch(opts: ConfigOpts, arches: Sequence[str], *, emulated: bool = False) -> str:
    """The first of a remote's `arches` that builds this configuration natively.

    That is one of ``legal_host_arches``, or without it the target architecture itself. Any will do
    if `emulated` and the configuration asks for it (``forcearch``). ArchitectureError if there is
    none.
    """
    target = read_text(opts, "target_arch")
    legal = read_words(opts, "legal_host_arches") or [target]
    for arch in arches:
        if arch in legal:
            return arch
    if emulated and read_text(opts, "forcearch"):
        return arches[0]
    raise ArchitectureError(
        f"{target} cannot be built on the remote's {', '.join(arches)}",
        hint=f"choose a remote with nodes of {' or '.join(legal)}",
    )

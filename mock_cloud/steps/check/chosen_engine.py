# SPDX-License-Identifier: GPL-2.0-or-later
"""Which engine performs an invocation on the nodes of a remote, and on which architecture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.values import read_text, read_words
from mock_cloud.console import Console
from mock_cloud.errors import ConfigError
from mock_cloud.model import Toolkit
from mock_cloud.places import packed_dir
from mock_cloud.settings import EngineChoice, Remote
from mock_cloud.toolkit.mock_kit import MockKit, MockProgram, pack_mock
from mock_cloud.wire.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Engine:
    """The chroot engine, or with `uses_mock` mock: this machine's own, packed, or the node's."""

    uses_mock: bool
    kit: MockKit | None = None


def choose_engine(remote: Remote, program: MockProgram | None, console: Console) -> Engine:
    """The engine that `remote` asks for; `program` is this machine's mock, if it has one.

    Packs it if need be. ConfigError when that cannot be done.
    """
    choice = remote.build.engine
    if choice is EngineChoice.CHROOT or (choice is EngineChoice.AUTO and program is None):
        console.debug(f"remote {remote.name}: chroot engine")
        return Engine(uses_mock=False)
    if program is None:
        console.debug(f"remote {remote.name}: mock engine, the node's own mock")
        return Engine(uses_mock=True)
    kit = pack_mock(packed_dir("mocks"), *program)
    console.debug(f"remote {remote.name}: mock engine, this machine's mock {kit.version}")
    return Engine(uses_mock=True, kit=kit)


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


def toolkits_dir() -> Path:
    """The user's cache of packed toolkits. ConfigError."""
    return packed_dir("toolkits")


def find_toolkit(remote: Remote, arch: str, console: Console) -> Toolkit:
    """The toolkit for nodes of `remote` with this architecture, packed now if need be.

    That may mean to fetch packages: it is asked for before a node is, so that one which cannot
    be had costs nothing. Raises ConfigError, InputError, toolkit.packages.PackagesRefused and
    PackagesUnavailable.
    """
    from mock_cloud.toolkit.machines import own_arch  # see `mock_cloud.session`
    from mock_cloud.toolkit.pack import toolkit_for

    if arch != own_arch():
        console.phase(f"remote {remote.name}: the toolkit for {arch}")
    toolkit = toolkit_for(toolkits_dir(), arch, remote.toolkit)
    console.done()
    return toolkit

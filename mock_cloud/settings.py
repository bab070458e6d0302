# SPDX-License-Identifier: GPL-2.0-or-later
"""What a remote's file says, parsed: frozen data that every layer may read.

`config.remotes` makes these from TOML; nothing else does, apart from tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path


class EngineChoice(Enum):
    """Which engine performs the invocation on the node."""

    AUTO = "auto"
    MOCK = "mock"
    CHROOT = "chroot"


class SecondLook(Enum):
    """Whether the node is measured again after the build, before results are published."""

    NEVER = "never"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Table [local]: a node from an RPM tree, in namespaces of this machine.

    `image` is the tree's root; it is never written to. `disk_mib` > 0 gives the node's work
    directories a file system of that size of their own. `address` is a loopback address, or
    empty for one of 127.0.0.0/8 chosen by the provider.
    """

    image: Path
    address: str = ""
    disk_mib: int = 0
    boot_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class LeaseLimits:
    """Table [lease]. Times in seconds. `idle_ttl_s` 0: give the node back at once."""

    idle_ttl_s: float = 600.0
    max_ttl_s: float = 4 * 3600.0
    max_nodes: int = 2
    max_builds: int = 50


@dataclass(frozen=True, slots=True)
class AttestSettings:
    """Table [attest]: the known-good set and who may have signed it.

    `manifest` is the signed image manifest (DSSE); `manifest_keys` are files with OpenSSH
    ed25519 public keys, of which one must have signed it; `package_keys` are files with
    armoured OpenPGP certificates, of which one must have signed each RPM header.
    """

    manifest: Path
    manifest_keys: tuple[Path, ...]
    package_keys: tuple[Path, ...]
    second_look: SecondLook = SecondLook.NEVER


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Table [build]. `connect_timeout_s` bounds reaching a booted node's sshd."""

    engine: EngineChoice = EngineChoice.AUTO
    connect_timeout_s: float = 30.0
    silence_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Remote:
    """A named way to get nodes. `source` is the file it was read from."""

    name: str
    provider: str
    arches: tuple[str, ...]
    attest: AttestSettings
    lease: LeaseLimits = field(default_factory=LeaseLimits)
    build: BuildSettings = field(default_factory=BuildSettings)
    local: LocalSettings | None = None
    source: Path = Path()

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a remote's file says, parsed: frozen data that every layer may read.

`config.remotes` makes these from TOML; nothing else does, apart from tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from mock_cloud.model import HostKey, Secret


class EngineChoice(Enum):
    """Which engine performs the invocation on the node."""

    AUTO = "auto"
    MOCK = "mock"
    CHROOT = "chroot"


class RepoAccess(Enum):
    """How a node gets to the repositories."""

    DIRECT = "direct"
    """By itself."""
    TUNNEL = "tunnel"
    """Through this machine: all of them."""
    AUTO = "auto"
    """By itself where it can; through this machine what only this machine reaches."""


class SecondLook(Enum):
    """Whether the node is measured again after the build, before results are published."""

    NEVER = "never"
    ALWAYS = "always"


class ShadowChoice(Enum):
    """Whether a copy of parts of the chroot is kept at its local path."""

    AUTO = "auto"
    """For the configurations that Koji's builder writes: those below koji/."""
    ALWAYS = "always"
    NEVER = "never"


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


class Market(Enum):
    """How EC2 sells a node: at the list price, or what is spare and may be taken back."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"
    SPOT_FIRST = "spot-first"
    """Spot; on demand where no zone and size has spot capacity."""


class Reach(Enum):
    """Which of a node's addresses this machine connects to."""

    PUBLIC = "public"
    PRIVATE = "private"
    IPV6 = "ipv6"


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Table [node.ARCH]: what to ask a cloud for, best first; all pairs are tried in order.

    `images` and `sizes` are the API's own ids. `price_per_hour` is in the budget's currency; None
    takes what the API or libcloud's tables tell. `manifest` overrides [attest] manifest.
    """

    images: tuple[str, ...]
    sizes: tuple[str, ...]
    price_per_hour: float | None = None
    manifest: Path | None = None


@dataclass(frozen=True, slots=True)
class Ec2Settings:
    """Table [ec2]. Without keys here, AWS's own places are read, `profile` in ~/.aws.

    `subnets` go with `zones` one by one, or one subnet stands for all. `volume_gib` 0 leaves
    the image's own. `endpoint` is the URL of an API that speaks EC2's language.
    """

    region: str
    zones: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    market: Market = Market.ON_DEMAND
    reach: Reach = Reach.PUBLIC
    volume_gib: int = 0
    endpoint: str = ""
    profile: str = ""
    access_key_id: str = ""
    secret_access_key: Secret | None = None
    boot_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class OpenStackSettings:
    """Table [openstack]. `cloud` is an entry of clouds.yaml; empty: OS_CLOUD or OS_* variables.

    `networks` are ids or names. With `floating_ip_pool` each node gets an address of that external
    network, which is given back with the node.
    """

    cloud: str = ""
    region: str = ""
    zones: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    floating_ip_pool: str = ""
    config_drive: bool = False
    reach: Reach = Reach.PUBLIC
    boot_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class RackspaceSettings:
    """Table [rackspace]: the old "cloudservers" API. Keys here or in RACKSPACE_* variables."""

    region: str
    endpoint: str = ""
    username: str = ""
    api_key: Secret | None = None
    reach: Reach = Reach.PUBLIC
    boot_timeout_s: float = 300.0


Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class LibcloudSettings:
    """Table [libcloud]: any other compute driver of libcloud, by its name there.

    `arguments` go to the driver's constructor; a value ``env:NAME`` is read from the environment
    when it is needed. `create` are ``ex_`` arguments of its `create_node`. `locations` are ids,
    best first.
    """

    driver: str
    arguments: Mapping[str, Scalar] = field(default_factory=dict, repr=False)
    create: Mapping[str, object] = field(default_factory=dict)
    locations: tuple[str, ...] = ()
    reach: Reach = Reach.PUBLIC
    boot_timeout_s: float = 300.0


CloudSettings = Ec2Settings | OpenStackSettings | RackspaceSettings | LibcloudSettings


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Table [host.NAME]: one machine that its owner lends, reached with the user's own SSH key.

    One of `host_key` and `host_ca` is set. `ssh_config` (OpenSSH's format) may say how to get
    there: ProxyJump, ProxyCommand, HostName, Port, IdentityFile. `capacity` orders the free hosts:
    the largest is taken first. A host does one build at a time.
    """

    name: str
    address: str
    owner: str
    arch: str
    port: int = 22
    user: str = "root"
    host_key: HostKey | None = None
    host_ca: HostKey | None = None
    identity: Path | None = None
    ssh_config: Path | None = None
    capacity: int = 1
    manifest: Path | None = None


class AtLimit(Enum):
    """What a day's budget, once spent, does to nodes that still work."""

    STOP = "stop"
    """A node's life is cut so that the day's budget cannot be exceeded."""
    FINISH = "finish"
    """No new node; those that work may go on to their `max_ttl`."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Table [budget]: what this remote may cost in a day (UTC), in `currency`."""

    per_day: float
    currency: str = "USD"
    at_limit: AtLimit = AtLimit.STOP


@dataclass(frozen=True, slots=True)
class LeaseLimits:
    """Table [lease]. Times in seconds. `idle_ttl_s` 0: give the node back at once.

    `max_ttl_s` is a node's whole life. A warm node is used again only while half of that is
    left, so that every build has at least so long.
    """

    idle_ttl_s: float = 600.0
    max_ttl_s: float = 4 * 3600.0
    max_nodes: int = 2
    max_builds: int = 50


@dataclass(frozen=True, slots=True)
class AttestSettings:
    """Table [attest]: the known-good set and who may have signed it.

    `manifest` is the signed image manifest (DSSE); without one nothing is built, only an image
    can be baked, which gives one. `manifest_keys` are files with OpenSSH
    ed25519 public keys, of which `manifest_threshold` must have signed it, at most
    `manifest_max_age_s` ago; `revocations` are files that one of them signed, besides those that
    lie beside the manifest. `package_keys` are files with armoured OpenPGP certificates, of which
    one must have signed each RPM header.
    `unsafe_containers` lets nodes be containers, whose hosts are not measured; for `local`, whose
    nodes are containers of this machine, it changes nothing.
    """

    manifest: Path | None
    manifest_keys: tuple[Path, ...]
    package_keys: tuple[Path, ...]
    second_look: SecondLook = SecondLook.NEVER
    manifest_threshold: int = 1
    manifest_max_age_s: float | None = None
    revocations: tuple[Path, ...] = ()
    unsafe_containers: bool = False


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Table [build]. `connect_timeout_s` bounds reaching a booted node's sshd.

    `retries` is on how many other nodes a build is tried whose node failed; a build that fails
    by itself is never tried again. `repo_access` is how nodes get to repositories.
    `shadow_tmpdir` is a directory right below the chroot's root that is the same here and there,
    as kojid's `chroot_tmpdir`.
    """

    engine: EngineChoice = EngineChoice.AUTO
    connect_timeout_s: float = 30.0
    silence_timeout_s: float = 30.0
    retries: int = 1
    repo_access: RepoAccess = RepoAccess.AUTO
    shadow: ShadowChoice = ShadowChoice.AUTO
    shadow_tmpdir: str = "/chroot_tmpdir"


@dataclass(frozen=True, slots=True)
class ToolkitSettings:
    """Table [toolkit]: where signed packages for nodes of another architecture come from.

    Either a Debian archive (`mirror`, `suite`, `keyring`) or an RPM repository (`repository`,
    `key`); neither: whatever this machine's own apt or dnf is configured for.
    """

    mirror: str = ""
    suite: str = ""
    keyring: Path | None = None
    repository: str = ""
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Remote:
    """A named way to get nodes. `source` is the file it was read from.

    One of `local`, `cloud` and `hosts` is set, by `provider`. `nodes` is by architecture and goes
    with `cloud`. `fallback` are remotes to turn to, in order, when this one has no node to give.
    """

    name: str
    provider: str
    arches: tuple[str, ...]
    attest: AttestSettings
    lease: LeaseLimits = field(default_factory=LeaseLimits)
    build: BuildSettings = field(default_factory=BuildSettings)
    toolkit: ToolkitSettings = field(default_factory=ToolkitSettings)
    fallback: tuple[str, ...] = ()
    budget: Budget | None = None
    local: LocalSettings | None = None
    cloud: CloudSettings | None = None
    nodes: Mapping[str, NodeSettings] = field(default_factory=dict)
    hosts: tuple[HostSettings, ...] = ()
    source: Path = Path()

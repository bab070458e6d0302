# SPDX-License-Identifier: GPL-2.0-or-later
"""What a remote's file says: its tables, one class each, which every layer may read.

A key is declared here alone: its name (without `_s`, for seconds), type, default, bounds, and what
it is, in one line. The reader, `mock-cloud setup` and its questions are made of that
(`config.remote_tables`); tests compare mock-cloud-remotes(5) and the examples with it.

`config.remotes` makes these from TOML; nothing else does, apart from tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Annotated, Final

from mock_cloud.model import HostKey, Secret
from mock_cloud.wire.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """What stands beside the type of a key: `text` for help, questions and errors; its bounds.

    `kind` names a check of `config.toml_values` where the type alone does not say which.
    `is_asked`: setup asks for it, though it has a default. `is_optional`: it need not be known,
    though it has none.
    """

    text: str
    least: float = 0
    most: float = 0
    kind: str = ""
    is_asked: bool = False
    is_optional: bool = False


class EngineChoice(Enum):
    """Which engine performs the invocation on the node."""

    AUTO = "auto"
    MOCK = "mock"
    CHROOT = "chroot"


LOOKASIDE: Final = "lookaside"
"""Stands for Fedora's lookaside cache in `BuildSettings.sources`."""
LOOKASIDE_WORDS: Final = ("name", "filename", "hashtype", "hash")
"""What may stand in ``%(…)s`` in the URL of another one, as in rpkg."""


class RepoAccess(Enum):
    """How a node gets to the repositories."""

    DIRECT = "direct"
    """By itself."""
    TUNNEL = "tunnel"
    """Through this machine: all of them."""
    AUTO = "auto"
    """By itself where it can; through this machine what only this machine reaches."""


POLICIES: Final = ("standard", "strict")
"""Policies that every installation has."""


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


class Reach(Enum):
    """Which of a node's addresses this machine connects to."""

    PUBLIC = "public"
    PRIVATE = "private"
    IPV6 = "ipv6"


_Names = tuple[str, ...]
_HOUR_S: Final = 3600.0
_DAY_S: Final = 86400.0
_BootTimeout = Annotated[
    float, Setting("how long a node may take to boot, such as 5m", 1.0, _HOUR_S)
]
_Reach = Annotated[
    Reach, Setting("address to connect to: public, private or ipv6 (default: public)")
]
_Jump = Annotated[
    str, Setting("host of ssh_config to reach nodes through, as ssh -J has it (default: none)")
]
REACH_WORDS: Final = ("address", "port", "instance", "region")
"""What may stand in braces in `reach_command`."""
_ReachCommand = Annotated[
    tuple[str, ...],
    Setting(
        "command whose stdin and stdout lead to a node's sshd, with {address}, {port},"
        " {instance}, {region}",
        kind="reach_command",
    ),
]


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Table [local]: a node from an RPM tree, in namespaces of this machine.

    `image` is the tree's root; it is never written to. `disk_mib` > 0 gives the node's work
    directories a file system of that size of their own. `address` is a loopback address, or
    empty for one of 127.0.0.0/8 chosen by the provider.
    """

    image: Annotated[Path, Setting("root of the node's RPM tree", kind="directory")]
    address: Annotated[
        str, Setting("loopback address of the node (default: a free one)", kind="loopback")
    ] = ""
    disk_mib: Annotated[
        int, Setting("size of the node's own disk in MiB (default 0: none)", 0, 16 << 20)
    ] = 0
    boot_timeout_s: _BootTimeout = 30.0


class Market(Enum):
    """How EC2 sells a node: at the list price, or what is spare and may be taken back."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"
    SPOT_FIRST = "spot-first"
    """Spot; on demand where no zone and size has spot capacity."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Table [node.ARCH]: what to ask a cloud for, best first; all pairs are tried in order.

    `images` and `sizes` are the API's own ids; on OpenStack also ``name:PATTERN``. `price_per_hour`
    is in the budget's currency; None takes what the API or libcloud's tables tell. `manifest`
    overrides [attest] manifest.
    """

    images: Annotated[_Names, Setting("ids of images, or name:PATTERN, best first")]
    sizes: Annotated[_Names, Setting("ids of sizes, or name:NAME, best first")]
    price_per_hour: Annotated[
        float | None,
        Setting("price of a node for one hour, if the API does not tell", 0.0, 10_000.0),
    ] = None
    manifest: Annotated[Path | None, Setting("signed manifest of this architecture's image")] = None


@dataclass(frozen=True, slots=True)
class Ec2Settings:
    """Table [ec2]. Without keys here, AWS's own places are read, `profile` in ~/.aws.

    `subnets` go with `zones` one by one, or one subnet stands for all. `volume_gib` 0 leaves
    the image's own. `endpoint` is the URL of an API that speaks EC2's language.
    """

    region: Annotated[str, Setting("region, such as eu-central-1")]
    zones: Annotated[
        _Names, Setting("availability zones, best first (default: any)", is_asked=True)
    ] = ()
    subnets: Annotated[
        _Names, Setting("subnets, one for each zone or one for all", is_asked=True)
    ] = ()
    security_groups: Annotated[
        _Names, Setting("security groups that let this machine in to port 22", is_asked=True)
    ] = ()
    market: Annotated[
        Market, Setting("on-demand, spot or spot-first (default: on-demand)", is_asked=True)
    ] = Market.ON_DEMAND
    reach: _Reach = Reach.PUBLIC
    jump: _Jump = ""
    reach_command: _ReachCommand = ()
    volume_gib: Annotated[
        int, Setting("size of the root volume in GiB (default: the image's)", 0, 16 << 10)
    ] = 0
    endpoint: Annotated[str, Setting("URL of the API, if it is not AWS's own", kind="url")] = ""
    profile: Annotated[str, Setting("profile in ~/.aws to take credentials from")] = ""
    access_key_id: Annotated[
        str, Setting("access key id, in place of ~/.aws and the environment")
    ] = ""
    secret_access_key: Annotated[
        Secret | None, Setting("secret access key; the file must then be readable by nobody else")
    ] = None
    boot_timeout_s: _BootTimeout = 300.0


@dataclass(frozen=True, slots=True)
class OpenStackSettings:
    """Table [openstack]. `cloud` is an entry of clouds.yaml; empty: OS_CLOUD or OS_* variables.

    `networks` are ids or names. With `floating_ip_pool` each node gets an address of that external
    network, which is given back with the node. `volume_gib` > 0 has nodes boot from a volume that
    ends with them, as flavors without a disk need.
    """

    cloud: Annotated[
        str, Setting("entry in clouds.yaml (default: OS_* variables)", is_asked=True)
    ] = ""
    region: Annotated[str, Setting("region, if the cloud has several")] = ""
    zones: Annotated[_Names, Setting("availability zones, best first (default: any)")] = ()
    networks: Annotated[
        _Names, Setting("ids or names of networks (default: the API's choice)", is_asked=True)
    ] = ()
    security_groups: Annotated[
        _Names, Setting("security groups that let this machine in to port 22", is_asked=True)
    ] = ()
    floating_ip_pool: Annotated[
        str, Setting("external network to take a floating address of for each node", is_asked=True)
    ] = ""
    config_drive: Annotated[
        bool, Setting("true: give nodes their data on a drive, where there is no metadata service")
    ] = False
    volume_gib: Annotated[
        int, Setting("size of a volume to boot from in GiB (default 0: none)", 0, 16 << 10)
    ] = 0
    reach: _Reach = Reach.PUBLIC
    jump: _Jump = ""
    reach_command: _ReachCommand = ()
    boot_timeout_s: _BootTimeout = 300.0


@dataclass(frozen=True, slots=True)
class RackspaceSettings:
    """Table [rackspace]: the old "cloudservers" API. Keys here or in RACKSPACE_* variables."""

    region: Annotated[str, Setting("region, such as ord")]
    endpoint: Annotated[
        str, Setting("URL of the API, if it is not Rackspace's own", kind="url")
    ] = ""
    username: Annotated[str, Setting("user name (default: RACKSPACE_USERNAME)")] = ""
    api_key: Annotated[
        Secret | None, Setting("API key; the file must then be readable by nobody else")
    ] = None
    reach: _Reach = Reach.PUBLIC
    jump: _Jump = ""
    reach_command: _ReachCommand = ()
    boot_timeout_s: _BootTimeout = 300.0


Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class LibcloudSettings:
    """Table [libcloud]: any other compute driver of libcloud, by its name there.

    `arguments` go to the driver's constructor; a value ``env:NAME`` is read from the environment
    when it is needed. `create` are ``ex_`` arguments of its `create_node`. `locations` are ids,
    best first.
    """

    driver: Annotated[str, Setting("libcloud's name of the driver, such as digitalocean")]
    arguments: Annotated[
        Mapping[str, Scalar],
        Setting("arguments of the driver; env:NAME is read from the environment"),
    ] = field(default_factory=dict, repr=False)
    create: Annotated[
        Mapping[str, object],
        Setting("ex_ arguments of the driver's create_node", kind="ex_arguments"),
    ] = field(default_factory=dict)
    locations: Annotated[_Names, Setting("ids of locations, best first")] = ()
    reach: _Reach = Reach.PUBLIC
    jump: _Jump = ""
    reach_command: _ReachCommand = ()
    boot_timeout_s: _BootTimeout = 300.0


CloudSettings = Ec2Settings | OpenStackSettings | RackspaceSettings | LibcloudSettings


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Table [host.NAME]: one machine that its owner lends, reached with the user's own SSH key.

    One of `host_key` and `host_ca` is set. `ssh_config` (OpenSSH's format) may say how to get
    there: ProxyJump, ProxyCommand, HostName, Port, IdentityFile; `jump` goes before the first two.
    `capacity` orders the free hosts:
    the largest is taken first. A host does one build at a time.
    """

    name: str
    address: Annotated[str, Setting("name or address of the machine", kind="machine_address")]
    owner: Annotated[str, Setting("who lends it")]
    arch: Annotated[str, Setting("its architecture", kind="plain_word")]
    port: Annotated[int, Setting("its SSH port (default 22)", 1, 65535)] = 22
    user: Annotated[str, Setting("who to log in as (only root)")] = "root"
    host_key: Annotated[
        HostKey | None,
        Setting("its SSH host key: a line ssh-ed25519 AAAA…, or a .pub file", is_asked=True),
    ] = None
    host_ca: Annotated[
        HostKey | None, Setting("key of the CA that certified its host key, in place of host_key")
    ] = None
    identity: Annotated[Path | None, Setting("the only private key to log in with")] = None
    certificate: Annotated[
        bool,
        Setting(
            "true: that key signs one certificate a command, and does not log in itself; the"
            " machine has it as cert-authority"
        ),
    ] = False
    ssh_config: Annotated[Path | None, Setting("file in place of your own ~/.ssh/config")] = None
    jump: _Jump = ""
    capacity: Annotated[
        int,
        Setting(
            "how much it can do: the largest free machine is taken first (default 1)", 1, 10_000
        ),
    ] = 1
    manifest: Annotated[Path | None, Setting("signed manifest of this machine")] = None
    owner_key: Annotated[
        HostKey | None,
        Setting(
            "its owner's SSH key, a line ssh-ed25519 AAAA… or a .pub file: results without the"
            " owner's signature are refused"
        ),
    ] = None


class AtLimit(Enum):
    """What a day's budget, once spent, does to nodes that still work."""

    STOP = "stop"
    """A node's life is cut so that the day's budget cannot be exceeded."""
    FINISH = "finish"
    """No new node; those that work may go on to their `max_ttl`."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Table [budget]: what this remote may cost in a day (UTC), in `currency`."""

    per_day: Annotated[
        float,
        Setting("what this remote may cost in a day of UTC (default: no limit)", 0.01, 100_000.0),
    ]
    currency: Annotated[str, Setting("currency, for messages (default USD)")] = "USD"
    at_limit: Annotated[
        AtLimit, Setting("stop or finish: what nodes do once the budget is spent (default: stop)")
    ] = AtLimit.STOP


@dataclass(frozen=True, slots=True)
class LeaseLimits:
    """Table [lease]. Times in seconds. `idle_ttl_s` 0: give the node back at once.

    `max_ttl_s` is a node's whole life. A warm node is used again only while half of that is
    left, so that every build has at least so long. `grace_s` is how long a node with a job on it,
    or with results that nobody has fetched, stays when no controller is heard of.
    """

    idle_ttl_s: Annotated[
        float, Setting("how long an idle node stays, such as 10m (default 10m)", 0.0, _DAY_S)
    ] = 600.0
    max_ttl_s: Annotated[
        float, Setting("a node's whole life, such as 4h (default 4h)", 60.0, 7 * _DAY_S)
    ] = 4 * 3600.0
    grace_s: Annotated[
        float,
        Setting("how long a build waits for a lost controller (default 1h)", 1.0, 7 * _DAY_S),
    ] = 3600.0
    max_nodes: Annotated[int, Setting("how many nodes at a time (default 2)", 1, 100)] = 2
    wait_s: Annotated[
        float | None,
        Setting(
            "how long a command waits in the queue for a node, such as 30m (default: as long as"
            " others use them)",
            0.0,
            7 * _DAY_S,
        ),
    ] = None
    max_builds: Annotated[
        int, Setting("how many jobs one node may do (default 50)", 1, 100_000)
    ] = 50


@dataclass(frozen=True, slots=True)
class AttestSettings:
    """Table [attest]: the known-good set and who may have signed it.

    `manifest` is the signed image manifest (DSSE); without one nothing is built, only an image
    can be baked, which gives one. `manifest_keys` are files with OpenSSH
    ed25519 public keys, of which `manifest_threshold` must have signed it, at most
    `manifest_max_age_s` ago; `revocations` are files that one of them signed, besides those that
    lie beside the manifest. `package_keys` are files with armoured OpenPGP certificates, of which
    one must have signed each RPM header. `verdict_max_age_s` is how long commands may rely on the
    verdict of an earlier one; the default depends on the provider. `policy` is a name of
    `POLICIES`, or the path of a file; it may make what stands beside it stricter.
    `unsafe_containers` lets nodes be containers, whose hosts are not measured; for `local`, whose
    nodes are containers of this machine, it changes nothing.
    """

    manifest: Annotated[
        Path | None,
        Setting(
            "signed manifest of the nodes' image (default: bake one later)",
            is_asked=True,
            is_optional=True,
        ),
    ]
    manifest_keys: Annotated[
        tuple[Path, ...], Setting("OpenSSH public keys that may sign manifests")
    ]
    package_keys: Annotated[
        tuple[Path, ...], Setting("OpenPGP certificates of the distribution's packages")
    ]
    verdict_max_age_s: Annotated[
        float,
        Setting(
            "how long commands that build nothing may rely on one verdict, such as 2m; 0: each one"
            " measures the node (default 2m; 0 for lent machines and local nodes)",
            0.0,
            _HOUR_S,
        ),
    ] = 0.0
    policy: Annotated[
        str,
        Setting(
            "rules of a verdict: standard, strict or a file (default: standard)", kind="policy"
        ),
    ] = "standard"
    second_look: Annotated[
        SecondLook, Setting("always: measure the node again after each build (default: never)")
    ] = SecondLook.NEVER
    manifest_threshold: Annotated[
        int, Setting("how many of them must have signed (default 1)", 1, 16)
    ] = 1
    manifest_max_age_s: Annotated[
        float | None,
        Setting(
            "how long ago a manifest may have been signed, such as 35d (default: its expiry)",
            _HOUR_S,
            3660 * _DAY_S,
        ),
    ] = None
    revocations: Annotated[
        tuple[Path, ...], Setting("files written by mock-cloud known-good revoke")
    ] = ()
    allow_agents: Annotated[
        _Names,
        Setting(
            "agents for remote control that may run on nodes, as mock-cloud policy show names them"
            " (default: none)"
        ),
    ] = ()
    unsafe_containers: Annotated[
        bool, Setting("true: nodes may be containers, whose kernel is somebody else's")
    ] = False


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Table [build]. `connect_timeout_s` bounds reaching a booted node's sshd.

    `retries` is on how many other nodes a build is tried whose node failed; a build that fails
    by itself is never tried again. `repo_access` is how nodes get to repositories.
    `output_timeout_s` is how long a job other than a shell may print nothing, 0 for ever.
    `shadow_tmpdir` is a directory right below the chroot's root that is the same here and there,
    as kojid's `chroot_tmpdir`. `copy_builddir_mib` > 0: see `steps.results.builddir_copy`.
    `sources` is `LOOKASIDE`, a URL with `LOOKASIDE_WORDS`, or empty: see `steps.send.lookaside`.
    """

    engine: Annotated[EngineChoice, Setting("auto, mock or chroot (default: auto)")] = (
        EngineChoice.AUTO
    )
    connect_timeout_s: Annotated[
        float, Setting("how long reaching a node's sshd may take (default 30s)", 1.0, _HOUR_S)
    ] = 30.0
    silence_timeout_s: Annotated[
        float,
        Setting(
            "how long a node may be silent before it counts as lost (default 30s)", 1.0, _HOUR_S
        ),
    ] = 30.0
    output_timeout_s: Annotated[
        float,
        Setting(
            "end a job that has printed nothing for so long, such as 2h (default 0: never)",
            0.0,
            7 * _DAY_S,
        ),
    ] = 0.0
    retries: Annotated[
        int, Setting("on how many other nodes a build is tried whose node failed (default 1)", 0, 5)
    ] = 1
    repo_access: Annotated[
        RepoAccess, Setting("direct, tunnel or auto: how nodes get to repositories (default: auto)")
    ] = RepoAccess.AUTO
    shadow: Annotated[
        ShadowChoice,
        Setting("auto, always or never: keep a copy of parts of the chroot here (default: auto)"),
    ] = ShadowChoice.AUTO
    shadow_tmpdir: Annotated[
        str,
        Setting(
            "directory of the chroot that is the same here and there (default /chroot_tmpdir)",
            kind="top_directory",
        ),
    ] = "/chroot_tmpdir"
    copy_builddir_mib: Annotated[
        int,
        Setting(
            "copy builddir/build of a kept chroot to where --print-root-path says, up to so many"
            " MiB (default 0: no copy)",
            0,
            1 << 20,
        ),
    ] = 0
    sources: Annotated[
        str,
        Setting(
            "lookaside, or the URL of a file in a lookaside cache, with rpkg's words: nodes fetch"
            " from there what the package's file `sources` names (default: all is sent)",
            kind="lookaside",
        ),
    ] = ""
    reproducible: Annotated[
        bool, Setting("make rpm build the same bytes each time, where it can (default: false)")
    ] = False


NOTIFY_WORDS: Final = ("job", "state", "exit", "resultdir")
"""What may stand in braces in [notify] command."""


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """Table [notify]: what is run, without a shell, when a build in the background has ended."""

    command: Annotated[
        tuple[str, ...],
        Setting(
            "command to run when a build in the background has ended, with {job}, {state},"
            " {exit}, {resultdir}",
            kind="notify_command",
        ),
    ] = ()


class ProvenanceChoice(Enum):
    """Whether a signed provenance is written beside the packages."""

    AUTO = "auto"
    """But for Koji's builder: its wrapperRPM fails on each file that it does not know."""
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class ProvenanceSettings:
    """Table [provenance]: what is signed of a build that left packages, and by which key.

    `key` is an OpenSSH ed25519 key's file, or the public half of one that the SSH agent holds;
    None: this user's own, made when it is first needed. `names`: what the user typed may stand in
    it as it is, with names of this machine, of users and paths.
    """

    write: Annotated[
        ProvenanceChoice,
        Setting("auto, always or never: sign what was built, beside the packages (default: auto)"),
    ] = ProvenanceChoice.AUTO
    key: Annotated[
        Path | None, Setting("OpenSSH ed25519 key that signs it (default: one is made)")
    ] = None
    evidence: Annotated[
        bool, Setting("false: no remote_evidence.zip beside it (default: true)")
    ] = True
    names: Annotated[
        bool, Setting("true: names and paths of this machine may stand in it (default: false)")
    ] = False


BUILDERS_LEAST: Final = 2
BUILDERS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Table [audit]: how many builders build each package, who they are, and who decides.

    Owners of this remote's own machines come first, each a builder; then those of `remotes`.
    `duplicates` 0: one builds, unless the command line says otherwise. `random`: another one of
    them builds it too if that is drawn after the first has ended.
    """

    duplicates: Annotated[
        int,
        Setting(
            "how many builders of different owners build each package, 2 or more; what they do not"
            " agree on is not published (default 0: one builds)",
            0,
            BUILDERS_MAX,
        ),
    ] = 0
    random: Annotated[
        bool,
        Setting(
            "true: chance says after each build, by its builder's rating, whether another builder"
            " builds the same before it is published (default: false)"
        ),
    ] = False
    remotes: Annotated[_Names, Setting("further remotes whose builders may build the same")] = ()
    judge: Annotated[
        str, Setting("remote that builds once more what they do not agree on, and decides")
    ] = ""


@dataclass(frozen=True, slots=True)
class ToolkitSettings:
    """Table [toolkit]: where signed packages for nodes of another architecture come from.

    Either a Debian archive (`mirror`, `suite`, `keyring`) or an RPM repository (`repository`,
    `key`); neither: whatever this machine's own apt or dnf is configured for.
    """

    mirror: Annotated[str, Setting("Debian mirror with packages for other architectures")] = ""
    suite: Annotated[str, Setting("its suite, with mirror")] = ""
    keyring: Annotated[Path | None, Setting("keyring that checks its signatures, with mirror")] = (
        None
    )
    repository: Annotated[str, Setting("RPM repository with packages for other architectures")] = ""
    key: Annotated[
        Path | None, Setting("certificate that signed its packages, with repository")
    ] = None


@dataclass(frozen=True, slots=True)
class Remote:
    """A named way to get nodes. `source` is the file it was read from.

    One of `local`, `cloud` and `hosts` is set, by `provider`. `nodes` is by architecture and goes
    with `cloud`. `fallback` are remotes to turn to, in order, when this one has no node to give.
    What a `scratch` remote builds never counts as a release; `then` is the remote that builds it
    again if it succeeds, and whose results are published; empty: none.
    """

    name: str
    provider: str
    arches: _Names
    attest: AttestSettings
    lease: LeaseLimits = field(default_factory=LeaseLimits)
    build: BuildSettings = field(default_factory=BuildSettings)
    toolkit: ToolkitSettings = field(default_factory=ToolkitSettings)
    provenance: ProvenanceSettings = field(default_factory=ProvenanceSettings)
    notify: NotifySettings = field(default_factory=NotifySettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    fallback: _Names = ()
    scratch: bool = False
    then: str = ""
    budget: Budget | None = None
    local: LocalSettings | None = None
    cloud: CloudSettings | None = None
    nodes: Mapping[str, NodeSettings] = field(default_factory=dict)
    hosts: tuple[HostSettings, ...] = ()
    source: Path = Path()

    @property
    def shares_kernel(self) -> bool:
        """Whether its nodes run this machine's own kernel, and see its network."""
        return self.provider == "local"

# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that volunteers lend: lab nodes with addresses of their own, and one to jump over.

They run the lab's node tree with sshd and nothing else, from a disk of their own. Each has a host
key and a manifest that names it. The user's key is known to all.
"""

from __future__ import annotations

import hashlib
import platform
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mock_cloud.attest.envelope import Signer
from mock_cloud.attest.files import FileFact
from mock_cloud.attest.validity import sign_manifest, verify_manifest
from mock_cloud.model import HostKey, KeyPair
from mock_cloud.process import run
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.steps.attest.attesting import own_kernel
from mock_cloud.wire.owner_statement import OWNER_KEY
from tests.lab import chroots, manifest
from tests.lab.chroots import ConfigDirectory
from tests.lab.clouds.images import copy_disk, make_disk
from tests.lab.clouds.machines import Boot, Machine, Site
from tests.lab.clouds.metadata import NodeData
from tests.lab.http import FileServer
from tests.lab.layout import Lab, LabError, code_digest, stamp_matches

_INIT = "#!/bin/sh\nmkdir -p /run/sshd\nexec /usr/sbin/sshd -D -e\n"
# As long as an init's is: sshd writes its title over it, and cuts the title where it ends.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "TERM": "linux"}
_BOOT_TIMEOUT_S = 30.0
_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
_CERTIFICATE = f"{_HOST_KEY}-cert.pub"


def build(lab: Lab) -> Path:
    """The disk that all of them start from; made unless it is there for the same tree."""
    disk = lab.root / "volunteers" / "disk.img"
    key = (lab.tree.parent / "key").read_text() + code_digest(("volunteers", "clouds/images"))
    if not stamp_matches(disk.with_suffix(".key"), key):
        disk.parent.mkdir(exist_ok=True)
        make_disk(lab.tree, disk)
        disk.with_suffix(".key").write_text(key)
    return disk


@dataclass(frozen=True)
class Volunteer:
    """One machine. `manifest` is what its owner would have had signed."""

    name: str
    machine: Machine
    host_key: HostKey
    manifest: Path

    @property
    def root(self) -> Path:
        """Its files, seen from this machine."""
        return Path(f"/proc/{self.machine.init_pid}/root")

    def table(self, *, address: str = "", key: str = "", more: str = "") -> str:
        """Its table in a remote's file."""
        lines = (
            f"[host.{self.name}]",
            f'address = "{address or self.machine.address}"',
            f'owner = "the owner of {self.name}"',
            f'arch = "{platform.machine()}"',
            key or f'host_key = "{self.host_key}"',
            f'manifest = "{self.manifest}"',
            more,
        )
        return "".join(f"{line}\n" for line in lines)


class Volunteers:
    """`alpha`, `beta` and `gate`, of which the configuration knows nothing yet.

    `sshd` has lines for a machine's sshd_config, by its name; `owners` the keys with which owners
    sign there.
    """

    def __init__(
        self,
        lab: Lab,
        place: Path,
        sshd: Mapping[str, str] | None = None,
        owners: Mapping[str, KeyPair] | None = None,
    ) -> None:
        self._sshd = sshd or {}
        self._owners = owners or {}
        self.lab = lab
        self.place = place
        self.site = Site()
        self.user_key = place / "user_key"
        self._pair, self._ca = make_key_pair(), make_key_pair()
        self._ca_file = place / "ca"
        self._stack = ExitStack()

    def __enter__(self) -> Volunteers:
        disk = build(self.lab)
        for path, pair in ((self.user_key, self._pair), (self._ca_file, self._ca)):
            path.touch(0o600)
            path.write_bytes(pair.private.reveal())
        with ExitStack() as stack:
            stack.enter_context(self.site)
            host = self.site.network.host_address
            self.repository = stack.enter_context(FileServer({"/dist": self.lab.dist}, host=host))
            self.alpha, self.beta, self.gate = (
                self._start(name, disk) for name in ("alpha", "beta", "gate")
            )
            for one in (self.alpha, self.beta, self.gate):
                _await_sshd(one.machine)
            self._let_pass(self.gate.machine)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def ca(self) -> HostKey:
        """Who certifies the machines' host keys, by their names in ``.internal``."""
        return self._ca.public

    def write_config(self, path: Path) -> ConfigDirectory:
        """A configuration directory of mock's whose repositories the machines reach."""
        return chroots.write(self.lab, path, repository_url=f"{self.repository.url}/dist")

    def write_remote(self, config: ConfigDirectory, name: str, *tables: str) -> None:
        """The remote `name` with these hosts."""
        (config.path / "remotes.d" / f"{name}.toml").write_text(
            f'[remote]\nprovider = "ssh"\n[lease]\nidle_ttl = "60s"\n[attest]\n'
            f'manifest = "{self.alpha.manifest}"\nmanifest_keys = ["{self.lab.manifest_key}"]\n'
            f'package_keys = ["{self.lab.package_key}"]\nunsafe_containers = true\n'
            + "".join(tables)
        )

    @contextmanager
    def unplugged(self, one: Volunteer) -> Iterator[None]:
        """Its cable is out: packets to it vanish."""
        one.machine.set_link(False)
        try:
            yield
        finally:
            one.machine.set_link(True)

    def _start(self, name: str, disk: Path) -> Volunteer:
        pair = make_key_pair()
        certificate = self._certify(name, pair.public)
        config = (self.lab.tree / "etc/ssh/sshd_config").read_bytes()
        config += f"HostCertificate {_CERTIFICATE}\n{self._sshd.get(name, '')}\n".encode()
        keys = f"{self._pair.public}\ncert-authority {self._pair.public}\n"
        files = {
            "/etc/ssh/sshd_config": (0o600, config),
            _CERTIFICATE: (0o644, certificate),
            "/usr/sbin/init": (0o755, _INIT.encode()),
            "/root/.ssh/authorized_keys": (0o600, keys.encode()),
            _HOST_KEY: (0o600, pair.private.reveal()),
            f"{_HOST_KEY}.pub": (0o644, f"{pair.public}\n".encode()),
        }
        if name in self._owners:
            files[OWNER_KEY] = (0o600, self._owners[name].private.reveal())
        own = self.place / f"{name}.img"
        copy_disk(disk, own)
        _write_files(own, files, self.place)
        signed = self.place / f"{name}.manifest"
        signed.write_bytes(self._manifest(name, files))
        machine = self.site.boot(name, Boot(own, lambda port: NodeData(b""), _ENVIRONMENT))
        return Volunteer(name, machine, pair.public, signed)

    def _certify(self, name: str, public: HostKey) -> bytes:
        """The CA's word that this is the key of ``NAME.internal``."""
        key = self.place / f"{name}.pub"
        key.write_text(f"{public}\n")
        words = ["-I", name, "-h", "-n", f"{name}.internal", "-V", "-5m:+1d"]
        run(["ssh-keygen", "-q", "-s", str(self._ca_file), *words, str(key)], timeout_s=10)
        return key.with_name(f"{name}-cert.pub").read_bytes()

    def _manifest(self, name: str, files: dict[str, tuple[int, bytes]]) -> bytes:
        """The tree's own, with what this machine has besides, on this kernel."""
        public = HostKey.parse(self.lab.manifest_key.read_text())
        base = verify_manifest(self.lab.manifest.read_bytes(), [public]).manifest
        facts: tuple[FileFact, ...] = tuple(
            FileFact(path, "f", mode, 0, 0, len(data), hashlib.sha256(data).hexdigest(), ())
            for path, (mode, data) in files.items()
        )
        if OWNER_KEY in files:
            place = str(Path(OWNER_KEY).parent)
            facts += (FileFact(place, "d", 0o755, 0, 0, 0, None, ()),)
        made = replace(base, name=name, entries=(*base.entries, *facts), kernel=own_kernel())
        signer = Signer.from_private(manifest.signing_key(self.lab))
        return sign_manifest(made, manifest.validity(made), signer)

    def _let_pass(self, machine: Machine) -> None:
        """The switch lets this one reach the others; see `Network.plug`."""
        port, namespace = machine.port.interface, self.site.network.namespace
        command = ["ip", "link", "set", port, "type", "bridge_slave", "isolated", "off"]
        run(["nsenter", f"--net={namespace}", *command], timeout_s=10)


def _write_files(disk: Path, files: dict[str, tuple[int, bytes]], scratch: Path) -> None:
    """Put root's files into an ext4 image that is not mounted."""
    lines = [f"mkdir {Path(path).parent}" for path in files if path == OWNER_KEY]
    for number, (path, (mode, data)) in enumerate(files.items()):
        source = scratch / f"file{number}"
        source.write_bytes(data)
        lines += [f"rm {path}", f"write {source} {path}", f"sif {path} mode 0{0o100000 | mode:o}"]
        lines += [f"sif {path} uid 0", f"sif {path} gid 0"]
    run(["debugfs", "-w", str(disk)], timeout_s=60, stdin="".join(f"{x}\n" for x in lines).encode())


def _await_sshd(machine: Machine) -> None:
    deadline = time.monotonic() + _BOOT_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((machine.address, 22), timeout=1) as connection:
                if connection.recv(8).startswith(b"SSH-2.0-"):
                    return
        except OSError:
            time.sleep(0.05)
    raise LabError(f"no sshd on {machine.name}: {machine.problem} {machine.console[-2000:]}")

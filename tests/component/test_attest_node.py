# SPDX-License-Identifier: GPL-2.0-or-later
"""A real node, measured by the real agent: trusted as it is, refused when tampered with."""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mock_cloud.agent.measure.evidence import measure
from mock_cloud.agent.measure.headers import read_headers
from mock_cloud.agent.measure.kernel import measure_kernel
from mock_cloud.attest.accounts import parse_accounts
from mock_cloud.attest.check_files import InjectedFile
from mock_cloud.attest.envelope import Signer
from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.attest.image_manifest import BakeChoices, make_manifest
from mock_cloud.attest.kernel import parse_kernel
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.packages import HeaderCache
from mock_cloud.attest.policy import standard
from mock_cloud.attest.rules.expectations import MountRule, SocketRule
from mock_cloud.attest.still_booting import is_hanging_up
from mock_cloud.attest.validity import Validity, sign_manifest, verify_manifest
from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.attest.verify import Binding, verify
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.cloud.provider import InjectedFile as ProvidedFile
from mock_cloud.console import Console
from mock_cloud.errors import HostKeyMismatch
from mock_cloud.model import Toolkit, TrustedNode
from mock_cloud.remote.connect import connect
from mock_cloud.remote.hardening_requests import arm_timer
from mock_cloud.remote.trusted import trust
from mock_cloud.remote.unverified import UnverifiedNode
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.steps.attest.hardening import Hardening, hardened
from mock_cloud.wire.layout import MOCK_LIBDIR, WORKSPACE
from tests.component.cloud_nodes import Site
from tests.lab.layout import default_lab
from tests.records import joined, packed

pytest_plugins = ["tests.component.cloud_fixtures"]
pytestmark = pytest.mark.lab

SKIP = (MOCK_LIBDIR, "/var/cache/mock", f"{WORKSPACE}/blobs", f"{WORKSPACE}/jobs")
_TRIES = 20
BOUND = (WORKSPACE, MOCK_LIBDIR, "/var/cache/mock")


@pytest.fixture(scope="module")
def package_keys(image: Path) -> PackageKeys:
    return PackageKeys.parse([default_lab().package_key.read_bytes()])


@pytest.fixture(scope="module")
def manifest(image: Path, package_keys: PackageKeys) -> ImageManifest:
    """Made from the tree before it is booted, signed, and read back."""
    accounts = parse_accounts(
        (image / "etc/passwd").read_bytes(), (image / "etc/group").read_bytes()
    )
    evidence = parse_evidence(packed(joined(measure("", [], [], None, root=str(image)))))
    choices = BakeChoices(name="lab", created="in a test", accounts=accounts)
    made = make_manifest(evidence, read_headers(str(image)), package_keys, choices)
    pair = make_key_pair()
    signer = Signer.from_private(pair.private.reveal())
    envelope = sign_manifest(made, Validity("lab", 1, 1, 2), signer)
    return verify_manifest(envelope, [pair.public]).manifest


def given(file: ProvidedFile) -> InjectedFile:
    kind = file.type.value
    value = file.content.decode() if kind in "lc" else file.sha256 or None
    return InjectedFile(kind, file.mode, file.uid, file.gid, file.size_bytes, value)


class Attester:
    """One node with a running agent, that can be measured and judged again and again."""

    def __init__(
        self,
        leased: LeasedNode,
        node: UnverifiedNode,
        toolkit: Toolkit,
        manifest: ImageManifest,
        keys: PackageKeys,
    ) -> None:
        self.leased, self.node, self.toolkit = leased, node, toolkit
        self.manifest, self.keys = manifest, keys
        self.cache: HeaderCache = {}
        self.headers: dict[str, bytes] = {}

    def judge(self) -> TrustedNode:
        """The proof; what the last command's connection leaves behind may take a moment to go."""
        for _ in range(_TRIES):
            try:
                return self._judge()
            except NodeRefused as refused:
                if not is_hanging_up(refused):
                    raise
            time.sleep(0.2)
        return self._judge()

    def _judge(self) -> TrustedNode:
        nonce = secrets.token_hex(32)
        evidence = parse_evidence(self.node.measure(nonce, skip=SKIP))
        missing = {digest for digest, _ in evidence.headers} - self.headers.keys()
        self.headers.update(self.node.fetch_headers(missing))
        port = self.leased.address.port
        binding = Binding(
            host_key=self.node.host_key,
            nonce=nonce,
            toolkit=self.toolkit,
            injected={path: given(file) for path, file in self.leased.injected.items()},
            skip=SKIP,
            mounts=tuple(
                MountRule(one.point, (one.type,), may_bind=one.point in BOUND)
                for one in self.leased.mounts
            ),
            sockets=(SocketRule("tcp", port, "/usr/sbin/sshd"),),
            kernel=parse_kernel(measure_kernel()),
            reload=self.node.reload,
        )
        proof, _ = verify(
            evidence, self.headers, self.manifest, self.keys, standard(), binding, cache=self.cache
        )
        return proof

    def refusals(self) -> dict[str, set[str]]:
        """Subjects by reason code."""
        with pytest.raises(NodeRefused) as caught:
            self.judge()
        found: dict[str, set[str]] = {}
        for reason in caught.value.reasons:
            found.setdefault(reason.code, set()).add(reason.subject)
        return found


@pytest.fixture
def attester(
    site: Site, packed_toolkit: Toolkit, manifest: ImageManifest, package_keys: PackageKeys
) -> Iterator[Attester]:
    with site.acquire() as leased:
        node = connect(leased.address, leased.client_key, deadline_s=30)
        try:
            node.start_agent(packed_toolkit)
            node.reload_sshd()
            node.hello("0" * 64)
            yield Attester(leased, node, packed_toolkit, manifest, package_keys)
        finally:
            node.close()


@contextmanager
def tampered(site: Site, attester: Attester, do: str, undo: str) -> Iterator[None]:
    site.ssh(attester.leased, do)
    try:
        yield
    finally:
        site.ssh(attester.leased, undo)


ENV = "/usr/bin/env"
KEPT = f"{MOCK_LIBDIR}/kept"
FILES = [
    (f"printf x | dd of={ENV} bs=1 seek=5000 conv=notrunc 2>/dev/null", "file.digest", ENV),
    (f"cp -p {ENV} {ENV}2", "file.unknown", f"{ENV}2"),
    (f"rm {ENV}", "file.missing", ENV),
    (f"rm {ENV}; ln -s id {ENV}", "file.type", ENV),
    (f"chmod u+s {ENV}", "file.mode", ENV),
    (f"chown 12 {ENV}", "file.owner", ENV),
    ("echo /tmp/x.so > /etc/ld.so.preload", "file.unknown", "/etc/ld.so.preload"),
    ("echo >> /root/.ssh/authorized_keys", "file.digest", "/root/.ssh/authorized_keys"),
    ("mknod /run/null c 1 3", "file.unknown", "/run/null"),
    (f"touch $(echo {WORKSPACE}/toolkit/*)/lib/evil.so", "toolkit.unknown", ""),
]
UNDO = (
    f"rm -f {ENV} {ENV}2 /run/null /etc/ld.so.preload {WORKSPACE}/toolkit/*/lib/evil.so;"
    f"cp -p {KEPT}/env {ENV}; cp -p {KEPT}/authorized_keys /root/.ssh/authorized_keys"
)


def test_a_node_is_trusted_as_it_is_and_refused_when_files_change(
    site: Site, attester: Attester
) -> None:
    proof = attester.judge()
    assert proof.host_key == attester.leased.address.host_key
    site.ssh(attester.leased, f"mkdir {KEPT}; cp -p {ENV} /root/.ssh/authorized_keys {KEPT}")
    for command, code, path in FILES:
        with tampered(site, attester, command, UNDO):
            found = attester.refusals()
            assert set(found) == {code}, command
            assert not path or found[code] == {path}
    assert attester.judge().host_key == proof.host_key


def test_what_runs_and_what_is_mounted_is_seen(site: Site, attester: Attester) -> None:
    attester.judge()
    with tampered(
        site,
        attester,
        "sleep 600 </dev/null >/dev/null 2>&1 & echo $! > /run/sleeper",
        "kill $(cat /run/sleeper); rm /run/sleeper",
    ):
        found = attester.refusals()
        assert any("/usr/bin/sleep" in who for who in found["process.unknown"])
    attester.judge()
    with tampered(site, attester, "mount --bind /usr/bin/env /usr/bin/id", "umount /usr/bin/id"):
        found = attester.refusals()
        assert found["mount.unknown"] == {"/usr/bin/id"}
    attester.judge()


@pytest.mark.slow
def test_a_dead_man_is_trusted_as_it_is_and_nothing_like_it(site: Site, attester: Attester) -> None:
    channel = trust(attester.node, attester.judge())
    channel.harden(arm_timer("a1", 600, 600, power_off=True))
    attester.judge()
    words = " ".join(attester.toolkit.argv("deadman", "--workspace", WORKSPACE))
    root = attester.toolkit.node_dir
    for command, code in (
        (f"LC_ALL=C {words}x", "process.unknown"),
        (f"LC_ALL=C PYTHONINSPECT=1 {words}x", "process.environment"),
    ):
        undo = f"rm -rf {WORKSPACE}x; for p in /proc/[0-9]*; do"
        undo += " grep -qz 'x$' $p/cmdline && kill -9 ${p#/proc/}; done; true"
        with tampered(site, attester, f"{command} </dev/null >/dev/null 2>&1", undo):
            found = attester.refusals()
            assert any(root in who for who in found[code]), found
    attester.judge()


@pytest.mark.slow
def test_a_replaced_host_key_is_the_only_one_and_the_node_stays_trusted(
    site: Site, attester: Attester
) -> None:
    leased, bootstrap = attester.leased, attester.leased.address
    channel = trust(attester.node, attester.judge())
    console = Console(0, io.StringIO())
    hardening = Hardening(
        power_off=True, close_metadata=False, replace_host_key=True, renew_host_key=False
    )
    with hardened(channel, leased, hardening, console):
        assert channel.ping() > 0
    assert leased.address.host_key != bootstrap.host_key
    assert leased.next_host_key is None and not leased.has_bootstrap_key
    with pytest.raises(HostKeyMismatch):
        connect(bootstrap, leased.client_key, deadline_s=5)
    assert channel.ping() > 0  # the connection of the proof goes on
    node = connect(leased.address, leased.client_key, deadline_s=5)
    with closing(node):
        node.start_agent(attester.toolkit)
        node.reload_sshd((attester.node.agent_pid,))
        again = Attester(leased, node, attester.toolkit, attester.manifest, attester.keys)
        proof = again.judge()
        assert proof.host_key == leased.address.host_key
        with pytest.raises(HostKeyMismatch, match="the verdict is for host key"):
            trust(attester.node, proof)

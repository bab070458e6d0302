# SPDX-License-Identifier: GPL-2.0-or-later
"""A node that cloud-init has set up is trusted by its image's manifest; changed, it is not."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from mock_cloud.attest.check_files import InjectedFile
from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.attest.packages import HeaderCache
from mock_cloud.attest.policy import standard
from mock_cloud.attest.validity import verify_manifest
from mock_cloud.attest.verdict import NodeRefused, Verdict
from mock_cloud.attest.verify import Binding, verify
from mock_cloud.cloud.apis.userdata import files_of_user_data
from mock_cloud.cloud.provider import InjectedFile as ProvidedFile
from mock_cloud.cloud.provider import InjectedType
from mock_cloud.model import HostKey, Toolkit
from mock_cloud.remote.connect import connect
from mock_cloud.remote.unverified import UnverifiedNode
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.wire.layout import SKIPPED
from tests.integration.cloud_support import Client, greets
from tests.integration.lab_clients import create_instance, create_server
from tests.lab.clouds.cloud import Cloud
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.clouds.openstack import OpenStackCloud
from tests.lab.layout import Lab
from tests.waiting import wait_for

pytestmark = pytest.mark.lab


def given(file: ProvidedFile) -> InjectedFile:
    """A file or directory that cloud-init makes, as evidence will show it."""
    kept = file.without_content()
    digest = kept.sha256 if file.type is InjectedType.FILE else None
    return InjectedFile(file.type.value, file.mode, file.uid, file.gid, kept.size_bytes, digest)


class Judge:
    """Measures one node and compares it with the cloud's own manifest."""

    def __init__(self, lab: Lab, cloud: Cloud, client: Client, toolkit: Toolkit) -> None:
        keys = [HostKey.parse(lab.manifest_key.read_text())]
        self._manifest = verify_manifest(cloud.manifest.read_bytes(), keys).manifest
        self._keys = PackageKeys.parse([lab.package_key.read_bytes()])
        self._client, self._toolkit = client, toolkit
        self._cache: HeaderCache = {}
        self._headers: dict[str, bytes] = {}

    @property
    def _injected(self) -> Mapping[str, InjectedFile]:
        files = files_of_user_data(self._client.bootstrap)
        return {path: given(file) for path, file in files.items()}

    def judge(self, node: UnverifiedNode) -> Verdict:
        nonce = secrets.token_hex(32)
        evidence = parse_evidence(node.measure(nonce, skip=SKIPPED))
        missing = {digest for digest, _ in evidence.headers} - self._headers.keys()
        self._headers.update(node.fetch_headers(missing))
        binding = Binding(
            node.host_key,
            nonce,
            self._toolkit,
            self._injected,
            skip=SKIPPED,
            reload=node.reload,
            unsafe_container=True,  # the lab's clouds have namespaces for machines
        )
        args = (evidence, self._headers, self._manifest, self._keys, standard(), binding)
        return verify(*args, cache=self._cache)[1]

    def refusals(self, node: UnverifiedNode) -> set[tuple[str, str]]:
        with pytest.raises(NodeRefused) as caught:
            self.judge(node)
        return {(reason.code, reason.subject) for reason in caught.value.reasons}


@contextmanager
def agent(client: Client, host: str, packed_toolkit: Toolkit) -> Iterator[UnverifiedNode]:
    node = connect(client.node_address(host), client.client_key.private, deadline_s=30)
    try:
        node.start_agent(packed_toolkit)
        node.hello("0" * 64)
        node.reload_sshd()
        node.hello("1" * 64)
        yield node
    finally:
        node.close()


def tampering(instance: str) -> list[tuple[str, str, str]]:
    """(command, code, path): what each of them alone is refused for."""
    cloud = "/var/lib/cloud"
    here = f"{cloud}/instances/{instance}"
    volatile, unknown = "file.volatile", "file.unknown"
    return [
        ("echo '#!/bin/sh' > {}; chmod +x {}", volatile, f"{cloud}/scripts/per-boot/evil"),
        ("echo x > {}", volatile, f"{here}/handlers/evil.py"),
        ("cp /bin/true {}", volatile, f"{here}/scripts/evil"),
        ("ln -s /root {}", volatile, f"{cloud}/instances/evil"),
        ("chmod 755 {}", volatile, f"{here}/obj.pkl"),
        ("ln -sfn /root {}", volatile, f"{cloud}/instance"),
        ("echo x > {}", unknown, "/etc/cloud/cloud.cfg.d/99_evil.cfg"),
        ("mkdir -p /etc/sudoers.d; echo x > {}", unknown, "/etc/sudoers.d/90-cloud"),
        ("echo >> {}", "file.digest", "/root/.ssh/authorized_keys"),
        ("chmod 644 {}", "file.mode", "/etc/ssh/ssh_host_ed25519_key"),
    ]


def test_on_ec2(ec2: Ec2Cloud, lab: Lab, packed_toolkit: Toolkit, tmp_path: Path) -> None:
    client = Client(tmp_path)
    instance = create_instance(ec2, client).id
    address = ec2.node(instance).address
    wait_for(lambda: greets(address))
    judge = Judge(lab, ec2, client, packed_toolkit)
    with agent(client, address, packed_toolkit) as node:
        assert judge.judge(node).trusted
        changes = tampering(instance)
        commands = [command.replace("{}", path) for command, _, path in changes]
        client.ssh(address, "; ".join(commands))
        wanted = {(code, path) for _, code, path in changes}
        assert judge.refusals(node) - {("file.unknown", "/etc/sudoers.d")} == wanted


@pytest.mark.slow
def test_on_openstack(
    openstack: OpenStackCloud, lab: Lab, packed_toolkit: Toolkit, tmp_path: Path
) -> None:
    client = Client(tmp_path)
    address = openstack.node(create_server(openstack, client).id).address
    wait_for(lambda: greets(address))
    with agent(client, address, packed_toolkit) as node:
        assert Judge(lab, openstack, client, packed_toolkit).judge(node).trusted

# SPDX-License-Identifier: GPL-2.0-or-later
"""A node that is made an image of: installed to, measured as it runs, attested by the result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.attest.accounts import parse_accounts
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.running_manifest import LiveNode, make_live_manifest
from mock_cloud.attest.signer_report import SignerReport
from mock_cloud.attest.validity import verify_manifest
from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.errors import AttestationRefused, RemoteCommandError
from mock_cloud.model import Toolkit
from mock_cloud.remote.connect import connect
from mock_cloud.remote.trusted import trust
from mock_cloud.remote.unverified import UnverifiedNode
from mock_cloud.settings import AttestSettings
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.steps.attest.attesting import (
    Archive,
    Attested,
    Measured,
    Nature,
    bind,
    judge,
    measure_again,
    measure_node,
)
from mock_cloud.steps.attest.known_good_sets import (
    KnownGood,
    read_package_keys,
    read_public_key,
)
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.orders import InstallOrder
from tests.component.cloud_nodes import Site
from tests.lab.http import FileServer
from tests.lab.layout import Lab

pytest_plugins = ["tests.component.cloud_fixtures"]
pytestmark = pytest.mark.lab

PACKAGE = "patch"
PROGRAM = "/usr/bin/patch"
DNF_CONF = """\
[main]
best=1
install_weak_deps=0
plugins=0
[lab]
name=lab
baseurl={url}
gpgkey=file://@GPGKEYS@/lab
"""


class Oven:
    """A node with a running agent, and what judges it."""

    def __init__(
        self, site: Site, leased: LeasedNode, node: UnverifiedNode, toolkit: Toolkit, lab: Lab
    ) -> None:
        self.site, self.leased, self.node, self.toolkit = site, leased, node, toolkit
        self.archive = Archive(site.state_dir / "cache", site.state_dir)
        settings = AttestSettings(lab.manifest, (lab.manifest_key,), (lab.package_key,))
        keys = [read_public_key(lab.manifest_key)]
        base = verify_manifest(lab.manifest.read_bytes(), keys).manifest
        self.base = KnownGood(base, read_package_keys(settings.package_keys))
        self.measured = measure_node(node, toolkit, self.archive)

    def measure(self) -> Measured:
        self.measured = measure_again(self.node, self.archive)
        return self.measured

    def judge(self, manifest: ImageManifest, own: Mapping[str, object] | None = None) -> Attested:
        """The verdict on the last measurement; `own` in place of what the provider injected."""
        known = KnownGood(manifest, self.base.package_keys)
        nonce = self.measured.nonce
        binding = bind(self.node, self.leased, self.toolkit, nonce, layers={}, nature=Nature(True))
        if own is not None:
            binding = replace(
                binding, injected={p: f for p, f in binding.injected.items() if p in own}
            )
        return judge(self.leased, self.measured, known, self.archive, binding)

    def manifest(self, *, based: bool = True) -> tuple[ImageManifest, SignerReport]:
        files = self.node.accounts()
        return make_live_manifest(
            self.measured.parsed,
            self.measured.headers,
            self.base.package_keys,
            LiveNode(
                parse_accounts(files["/etc/passwd"], files["/etc/group"]),
                self.toolkit,
                frozenset(self.leased.injected),
            ),
            self.base.manifest if based else None,
            name="baked",
            created="in a test",
        )

    def refusals(self, manifest: ImageManifest) -> dict[str, set[str]]:
        with pytest.raises(NodeRefused) as caught:
            self.judge(manifest)
        found: dict[str, set[str]] = {}
        for reason in caught.value.reasons:
            found.setdefault(reason.code, set()).add(reason.subject)
        return found


@pytest.fixture
def oven(site: Site, packed_toolkit: Toolkit, lab: Lab) -> Iterator[Oven]:
    with site.acquire() as leased:
        with closing(connect(leased.address, leased.client_key, deadline_s=30)) as node:
            yield Oven(site, leased, node, packed_toolkit, lab)
        leased.destroy()


def order(lab: Lab, repo: FileServer, *packages: str) -> bytes:
    return to_json(
        InstallOrder(
            packages=list(packages),
            dnf_conf=DNF_CONF.format(url=f"{repo.url}/dist/1"),
            keys={"lab": lab.package_key.read_text()},
            releasever="1",
            only_these=True,
        )
    )


def test_nothing_is_installed_before_trust(oven: Oven, lab: Lab, lab_repo: FileServer) -> None:
    agent = oven.node._running()
    for operation, body in (("install", order(lab, lab_repo, PACKAGE)), ("cleanse", b"")):
        with pytest.raises(RemoteCommandError) as caught:
            agent.ask(operation, body, within_s=300)
        assert caught.value.code == "untrusted"
    assert oven.site.ssh(oven.leased, f"test ! -e {PROGRAM} && echo no") == "no\n"


def test_a_node_is_installed_to_and_attested_by_its_new_manifest(
    oven: Oven, lab: Lab, lab_repo: FileServer
) -> None:
    channel = trust(oven.node, oven.judge(oven.base.manifest).proof)
    output: list[bytes] = []
    assert channel.install(order(lab, lab_repo, PACKAGE), output.append) == (0, False)
    assert b"Complete!" in b"".join(output)
    oven.measure()
    # What is new is foreign to the base image's manifest, and part of the new one.
    assert any(PACKAGE in who for who in oven.refusals(oven.base.manifest)["package.not-allowed"])
    manifest, vouched = oven.manifest()
    assert [nevra.rpartition("-")[0].rpartition("-")[0] for nevra in vouched.packages] == [PACKAGE]
    assert not (vouched.changed or vouched.programs or vouched.mounts or vouched.sockets)
    assert PROGRAM not in {fact.path for fact in manifest.entries}
    oven.judge(manifest)
    for command, code in (
        (f"printf x | dd of={PROGRAM} bs=1 seek=5000 conv=notrunc 2>/dev/null", "file.digest"),
        (f"rm {PROGRAM}", "file.missing"),
    ):
        oven.site.ssh(oven.leased, command)
        oven.measure()
        assert oven.refusals(manifest) == {code: {PROGRAM}}


@pytest.mark.slow
def test_what_is_one_nodes_own_is_not_in_the_image(oven: Oven) -> None:
    channel = trust(oven.node, oven.judge(oven.base.manifest).proof)
    oven.site.ssh(oven.leased, "echo secret > /root/.bash_history; echo x > /var/log/secure")
    removed = channel.cleanse()
    gone = {"/etc/ssh/ssh_host_ed25519_key", "/root/.ssh/authorized_keys", "/var/log/secure"}
    assert gone | {"/root/.bash_history"} <= set(removed)
    paths = {fact.path for fact in oven.measure().parsed.files}
    assert not gone & paths
    manifest, _ = oven.manifest()
    assert not any("bash_history" in fact.path for fact in manifest.entries)
    text = json.dumps([list(fact) for fact in manifest.entries])
    assert oven.toolkit.digest not in text
    assert not {fact.path for fact in manifest.entries} & set(oven.leased.injected)
    oven.judge(manifest, own=dict.fromkeys(paths))
    channel.seal()
    events = [line.split()[2] for line in oven.node.order_log().decode().splitlines()]
    assert events[-4:] == ["cleanse", "hello", "measured", "seal"]


@pytest.mark.slow
def test_without_a_base_manifest_all_of_it_is_vouched_for(oven: Oven) -> None:
    manifest, vouched = oven.manifest(based=False)
    assert len(vouched.packages) == len(oven.base.manifest.packages)
    assert {fact.path for fact in vouched.files + vouched.changed} == {
        fact.path for fact in manifest.entries
    }
    assert vouched.mounts and "/etc/ld.so.cache" in {fact.path for fact in vouched.files}
    oven.judge(manifest)
    oven.site.ssh(oven.leased, "cp /usr/bin/env /usr/local/bin/env2")
    oven.measure()
    assert oven.refusals(manifest) == {"file.unknown": {"/usr/local/bin/env2"}}


@pytest.mark.slow
def test_a_changed_program_of_a_package_is_never_taken_over(oven: Oven) -> None:
    oven.site.ssh(oven.leased, "printf x | dd of=/usr/bin/env bs=1 seek=5000 conv=notrunc")
    oven.measure()
    for based in (True, False):
        with pytest.raises(AttestationRefused) as caught:
            oven.manifest(based=based)
        assert [(one.code, one.subject) for one in caught.value.reasons] == [
            ("file.digest", "/usr/bin/env")
        ]


@pytest.mark.slow
def test_another_program_than_the_bases_is_refused(oven: Oven) -> None:
    command = "sleep 600 </dev/null >/dev/null 2>&1 & echo $! > /run/sshd.pid"
    oven.site.ssh(oven.leased, command)
    oven.measure()
    manifest, _ = oven.manifest()
    assert any("sleep" in who for who in oven.refusals(manifest)["process.unknown"])
    adopted, vouched = oven.manifest(based=False)
    assert [rule.argv for rule in vouched.programs] == [("sleep", "600")]
    oven.judge(adopted)
    oven.site.ssh(oven.leased, "kill $(cat /run/sshd.pid)")


@pytest.mark.slow
def test_packages_of_a_stranger_make_no_manifest(oven: Oven) -> None:
    """Whatever the node's dnf was content with."""
    stranger = (Path(__file__).parents[1] / "unit/attest/data/stranger.asc").read_bytes()
    oven.base = KnownGood(oven.base.manifest, PackageKeys.parse([stranger]))
    with pytest.raises(AttestationRefused) as caught:
        oven.manifest(based=False)
    assert {one.code for one in caught.value.reasons} == {"package.unsigned"}

# SPDX-License-Identifier: GPL-2.0-or-later
"""Honest results: packages by rpmbuild, a provenance, evidence of a node as it should be."""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mock_cloud.attest.envelope import Signer
from mock_cloud.attest.policy import policy_to_json, standard
from mock_cloud.attest.validity import Validity, sign_manifest
from mock_cloud.attest.verdict import NOT_PROVEN, Verdict
from mock_cloud.provenance.files import (
    digest_file,
    digest_package,
    find_result_files,
    read_sizes,
)
from mock_cloud.provenance.grounds import Grounds, write_grounds
from mock_cloud.provenance.owner import OwnerSignature
from mock_cloud.provenance.statement import (
    EVIDENCE_NAME,
    PROVENANCE_NAME,
    Agreement,
    Asked,
    Attestation,
    Descriptor,
    Node,
    Provenance,
    Used,
    sign_provenance,
)
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.owner_statement import NAMESPACE, OwnedPackage, OwnerStatement
from tests.unit.attest import attest_builder as attest

SPEC = """\
Name: {name}
Version: 1
Release: 1
Summary: Built to be spoiled
License: CC0-1.0
BuildArch: noarch
%description
Built to be spoiled.
%install
mkdir -p %{{buildroot}}/usr/share/{name}
echo good > %{{buildroot}}/usr/share/{name}/word
%files
/usr/share/{name}
"""
PACKAGES = ("one-1-1.noarch.rpm", "two-1-1.noarch.rpm")
LOGS = ("build.log", "root.log", "remote_attestation.log")


@functools.cache
def _packages() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory() as place:
        for name in ("one", "two"):
            spec = Path(place, f"{name}.spec")
            spec.write_text(SPEC.format(name=name))
            argv = ["rpmbuild", "-bb", "--quiet", "--nodeps", "--define", f"_topdir {place}"]
            subprocess.run([*argv, str(spec)], check=True, capture_output=True)
        return {path.name: path.read_bytes() for path in Path(place, "RPMS").rglob("*.rpm")}


def can_build() -> bool:
    return shutil.which("rpmbuild") is not None


@functools.cache
def signer_of(name: str) -> Signer:
    """A signer by name: ``builder``, ``baker``, ``stranger``; the same one each time."""
    return Signer.from_private(private_key(name))


@functools.cache
def private_key(name: str) -> bytes:
    return make_key_pair().private.reveal()


def fingerprint(name: str) -> str:
    return signer_of(name).public.fingerprint


@functools.cache
def _manifest() -> bytes:
    now = int(time.time())
    manifest = attest.manifest()
    return sign_manifest(manifest, Validity("test", now, now, now + 86400), signer_of("baker"))


@functools.cache
def _verdict() -> Verdict:
    return attest.judge(attest.Node().boot())[1]


def grounds(node: attest.Node | None = None) -> Grounds:
    """Of an honest node, or of `node`."""
    node = node or attest.Node().boot()
    return Grounds(
        policy=policy_to_json(standard()),
        at_unix=time.time() - 60,
        timings_s={},
        binding=attest.binding(),
        evidence=node.to_bytes(),
        headers=node.blobs,
        manifest=_manifest(),
        manifest_keys=(signer_of("baker").public,),
        manifest_threshold=1,
        package_keys=((attest.DATA / "distribution.asc").read_bytes(),),
    )


@dataclass
class Results:
    """A directory of results, how `verify` is asked about it, and the means to sign it anew."""

    place: Path
    keys: list[Path] = field(default_factory=list)
    policy: str = ""
    words: tuple[str, ...] = ()
    builder: str = "host:SHA256:lent"
    owner: str = "ada"
    owner_signature: OwnerSignature | None = None
    agreed: tuple[Agreement, ...] = ()

    @property
    def file(self) -> Path:
        return self.place / PROVENANCE_NAME

    @property
    def evidence(self) -> Path:
        return self.place / EVIDENCE_NAME

    def path(self, name: str) -> Path:
        return self.place / name

    def change(self, name: str, act: Callable[[bytes], bytes]) -> None:
        """Other bytes of the file, a new one: it may be a link to an honest one."""
        data = act(self.path(name).read_bytes())
        self.path(name).unlink()
        self.path(name).write_bytes(data)

    def add_key(self, text: bytes | str) -> None:
        path = self.place.with_name(f"{self.place.name}-{len(self.keys)}.pub")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.keys.append(path)

    def argv(self) -> list[str]:
        words = ["verify", str(self.place)]
        for key in self.keys:
            words += ["--keys", str(key)]
        if self.policy:
            path = self.place.with_name(f"{self.place.name}.toml")
            path.write_text(self.policy)
            words += ["--policy", str(path)]
        return [*words, *self.words]

    def provenance(self) -> Provenance:
        """What is true of the directory as it is."""
        names = find_result_files(self.place)
        digests = {name: digest_file(self.path(name)) for name in names}
        packages = {name: digest_package(self.path(name)) for name in PACKAGES}
        verdict = _verdict()
        now = int(time.time())
        attestation = Attestation(
            tier=1,
            policy=verdict.policy,
            policy_sha256=verdict.policy_sha256,
            verdict=verdict.sha256,
            evidence=hashlib.sha256(self.evidence.read_bytes()).hexdigest(),
            manifest=verdict.manifest,
            manifest_sha256=verdict.manifest_sha256,
            manifest_signers=(fingerprint("baker"),),
            package_keys=attest.keys().certificates,
            toolkit=attest.toolkit().digest,
            not_proved=NOT_PROVEN,
        )
        node = Node(self.builder, "lent", "ssh", "", "x86_64", self.owner, verdict.host_key)
        return Provenance(
            results={name: digests[name] for name in PACKAGES},
            logs={name: digests[name] for name in names if name not in PACKAGES},
            asked=Asked("rebuild", "test-1-x86_64", ("--with=tests",)),
            used=Used(
                "0",
                "chroot",
                "0" * 64,
                False,
                self.owner_signature,
                {"dist": ".lab1"},
                {"LANG": "C.UTF-8"},
                node,
                attestation,
                packages,
                read_sizes(self.place, names),
                self.agreed,
            ),
            dependencies=(
                Descriptor("one.src.rpm", "", {"sha256": _SOURCE}, {"role": "srpm"}),
                Descriptor(
                    "gcc-12-1.x86_64", "pkg:rpm/gcc@12-1?arch=x86_64", {}, {"installed": True}
                ),
            ),
            job=JOB,
            started_unix=now - 100,
            finished_unix=now,
        )

    def sign(self, changed: Provenance | None = None, by: str = "builder") -> None:
        self.file.write_bytes(sign_provenance(changed or self.provenance(), signer_of(by)))

    def sign_with(self, **changes: Any) -> None:
        """Signed anew by the builder, with these fields of the attestation."""
        found = self.provenance()
        attestation = replace(found.used.attestation, **changes)
        self.sign(replace(found, used=replace(found.used, attestation=attestation)))

    def keep(self, data: bytes) -> None:
        """Other evidence, which the builder signs for."""
        self.evidence.write_bytes(data)
        self.sign()


JOB = "20260101-000000-00000000"
NONCE = "ab" * 32
_SOURCE = "1" * 64


def sshsig(data: bytes, by: str, namespace: str = NAMESPACE) -> str:
    """What `ssh-keygen -Y sign` makes of it, with the key of that name."""
    with tempfile.TemporaryDirectory() as place:
        key = Path(place, "key")
        key.touch(0o600)
        key.write_bytes(private_key(by))
        argv = ["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(key)]
        return subprocess.run(argv, input=data, check=True, capture_output=True).stdout.decode()


def owner_signature(
    results: Results, by: str = "owner", namespace: str = NAMESPACE, **changes: Any
) -> OwnerSignature:
    """The owner's, of the packages that are there; `changes` are to the statement."""
    packages = {}
    for name in PACKAGES:
        facts = digest_package(results.path(name))
        packages[name] = OwnedPackage(digest_file(results.path(name)), facts.header, facts.payload)
    true = OwnerStatement(JOB, NONCE, (_SOURCE,), packages)
    data = to_json(replace(true, **changes))
    return OwnerSignature(
        str(signer_of("owner").public), NONCE, data.decode(), sshsig(data, by, namespace)
    )


def make_results(place: Path) -> Results:
    """Honest results in the new directory `place`, with the builder's public key beside it."""
    place.mkdir()
    for name, data in _packages().items():
        (place / name).write_bytes(data)
    for name in LOGS:
        (place / name).write_text(f"{name} of an honest build\n" * 20)
    found = Results(place)
    found.evidence.write_bytes(write_grounds(grounds(), _verdict()))
    found.sign()
    found.add_key(f"{signer_of('builder').public} builder\n")
    return found


def spoiled_grounds(spoil: Callable[[attest.Node], object]) -> bytes:
    """Evidence of a node that was spoiled, kept under the verdict on an honest one."""
    node = attest.Node().boot()
    spoil(node)
    return write_grounds(grounds(node), _verdict())

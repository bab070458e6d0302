# SPDX-License-Identifier: GPL-2.0-or-later
"""Every parser of bytes that somebody else wrote, a good input for it, and what it may raise."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import sqlite3
import struct
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mock_cloud.agent.engine.origins import find_repositories
from mock_cloud.attest.accounts import parse_accounts
from mock_cloud.attest.capabilities import xattr_of_text
from mock_cloud.attest.envelope import Signer, Statement
from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.attest.manifest import json_bytes, manifest_to_json, parse_manifest
from mock_cloud.attest.packages import verify_package
from mock_cloud.attest.policy import policy_to_json, standard
from mock_cloud.attest.revocation import Revocation, sign_revocation, verify_revocation
from mock_cloud.attest.validity import Validity, sign_manifest
from mock_cloud.cloud import rows
from mock_cloud.cloud.apis import ec2_answers, openstack_servers
from mock_cloud.cloud.apis.calls import library_errors
from mock_cloud.cloud.apis.clouds_yaml import _clouds
from mock_cloud.cloud.hosts.client import AnswerError, parse_answer
from mock_cloud.cloud.hosts.handle import parse_handle
from mock_cloud.cloud.local.plan import NodePlan
from mock_cloud.comparison.contents import read_contents
from mock_cloud.config.remotes import read_remote
from mock_cloud.errors import AttestationRefused, ConfigError, MockCloudError, ResultError
from mock_cloud.invocation.srpm import read_package_facts
from mock_cloud.launcher.handed_over import HANDOVER_VERSION, parse_handover
from mock_cloud.ledger.entries import FIRST, BrokenChain, EventKind, LedgerEntry, LedgerEvent
from mock_cloud.ledger.ratings import read_rules
from mock_cloud.ledger.store import export, read_export
from mock_cloud.model import HostKey
from mock_cloud.provenance.grounds import Grounds, recompute, write_grounds
from mock_cloud.provenance.requirements import read_requirements
from mock_cloud.provenance.statement import (
    Agreement,
    Asked,
    Attestation,
    Descriptor,
    Node,
    PackageDigests,
    Provenance,
    Used,
    _parse,
    sign_provenance,
)
from mock_cloud.remote.channel import remote_error
from mock_cloud.repoproxy.http1 import BadRequest, parse_head
from mock_cloud.repoproxy.metadata import Unfetched, parse_repomd, read_primary
from mock_cloud.results.names import check_manifest
from mock_cloud.signed.header import parse_signed_header
from mock_cloud.signed.keys import PackageKeys, UnsignedError
from mock_cloud.signed.rpmfile import read_unverified
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.steps.attest.policies import read_policy
from mock_cloud.wire import job_request, orders, replies
from mock_cloud.wire.chroot_packages import ChrootPackage, ChrootPackages
from mock_cloud.wire.decode import Malformed, decode, decode_bytes, load_json, to_json
from mock_cloud.wire.frames import FrameError, encode_frame, read_frame
from mock_cloud.wire.orders import DeadmanOrder
from mock_cloud.wire.records import encode_records
from mock_cloud.wire.rpmheader import MAGIC, Header, HeaderError
from mock_cloud.wire.terminal_text import clean
from tests.unit.attest import attest_builder as good

Errors = tuple[type[Exception], ...]


@dataclass(frozen=True)
class Parser:
    """`seed` is bytes, or a value whose JSON `parse` gets; `errors` are all it may raise.

    `by_lines`: the seed is TOML or YAML, a value a line.
    """

    parse: Callable[[bytes], object]
    seed: Any
    errors: Errors
    by_lines: bool = False

    @property
    def seed_bytes(self) -> bytes:
        return self.seed if isinstance(self.seed, bytes) else json.dumps(self.seed).encode()

    def check_seed(self) -> None:
        """The seed is read without an error."""
        self.parse(self.seed_bytes)


def _reply(parse: Callable[[Any], object], seed: Any) -> Parser:
    def read(data: bytes) -> object:
        value = load_json(data)
        if not isinstance(value, dict):
            raise Malformed("not an object")  # as read_frame has it
        return parse(value)

    return Parser(read, seed, (Malformed,))


def _file(read: Callable[[Path], object], suffix: str = "") -> Callable[[bytes], object]:
    def parse(data: bytes) -> object:
        with tempfile.NamedTemporaryFile(suffix=suffix) as file:
            file.write(data)
            file.flush()
            return read(Path(file.name))

    return parse


def _evidence(data: bytes) -> object:
    """Sections as one JSON object, so that values can be spoilt; then as records."""
    sections = json.loads(data)
    if not isinstance(sections, dict):
        raise Malformed("not sections")
    text = b"".join(encode_records(sections))
    return len(parse_evidence(gzip.compress(text, 1)).files)


def _results(data: bytes) -> object:
    value = load_json(data)
    if not isinstance(value, dict):
        raise Malformed("not an object")
    return check_manifest(replies.parse_results([value]), packages=("a",))


_KEY = make_key_pair()
_SIGNER = Signer.from_private(_KEY.private.reveal())
_HELLO = {
    "version": "2", "toolkit": "t", "pid": 1, "python": "3.11", "uname": ["Linux"], "cpus": 2,
    "clock": 1.5, "boot_id": "b",
}  # fmt: skip
_END = {
    "exit": 0,
    "status": {
        "phase": "done", "exit": 0, "message": "", "layers": {"/l": "ab" * 32}, "chroots": ["c"],
    },
}  # fmt: skip
_RESULTS = {"files": [{"name": "a-1.noarch.rpm", "size": 5, "sha256": "ab" * 32, "mode": 420}]}
_TOML = b"""\
[remote]
provider = "ssh"
[host.one]
address = "192.0.2.1"
owner = "Alice <alice@example.org>"
arch = "x86_64"
host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
[attest]
manifest = "/etc/passwd"
manifest_keys = ["/etc/passwd"]
package_keys = ["/etc/passwd"]
[build]
retries = 1
connect_timeout = "30s"
"""
_YAML = b"""\
clouds:
  one:
    auth: {auth_url: 'https://example.org', username: u, password: p, project_name: x}
    region_name: r
    created: 2001-01-01
"""
_EC2 = b"""<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet><item>
<instancesSet><item><instanceId>i-0123</instanceId><instanceState><name>running</name></instanceState>
<launchTime>2026-01-01T00:00:00.000Z</launchTime><ipAddress>192.0.2.1</ipAddress>
<tagSet><item><key>k</key><value>v</value></item></tagSet>
</item></instancesSet></item></reservationSet></DescribeInstancesResponse>
"""
_SERVER = {
    "id": "x", "status": "ACTIVE", "metadata": {"a": "b"}, "created": "2026-01-01T00:00:00Z",
    "addresses": {"private": [{"addr": "10.0.0.1", "OS-EXT-IPS:type": "fixed", "version": 4}]},
}  # fmt: skip
_INJECTED = {"/etc/x": ["f", 420, 0, 0, "eA==", "ab" * 32, 1]}
_RPM = (good.DATA / "base.hdr").read_bytes()
_REGION = struct.Struct(">iIii")
_SIGNATURE_HEADER = b"".join((
    struct.pack(">II", 2, 20), _REGION.pack(62, 7, 4, 16), _REGION.pack(1000, 4, 0, 1),
    bytes(4), _REGION.pack(62, 7, -32, 16), bytes(4),
))  # fmt: skip
_RPM_FILE = b"".join((
    bytes.fromhex("edabeedb030000000000"), bytes(68), struct.pack(">H", 5), bytes(16),
    MAGIC, _SIGNATURE_HEADER, parse_signed_header(_RPM).signed,
))  # fmt: skip


_PLAN = NodePlan("l", "o", "/s", "/i", "host", "127.0.0.1", 22, 0, 1.0, *"abcd")
_JOB = job_request.JobRequest(
    "rebuild",
    mock=job_request.MockRun("r", "r", ["--rebuild"], "{}"),
    args=["a.src.rpm"],
    inputs=[job_request.Input("a.src.rpm", "srpm", "ab" * 32, 5)],
)


def _parsed_order(data: bytes) -> object:
    return decode_bytes(DeadmanOrder, data)


def _journal(data: bytes) -> object:
    text = data.decode()
    return rows.parse_injected(text), rows.parse_mounts('[["/", "ext4"]]')


_DIGEST = "ab" * 32
_CHROOT = ChrootPackages((ChrootPackage("a-1-1.noarch", 1, _DIGEST, "cd" * 16, "fedora"),))
_HISTORY = "var/lib/dnf/history.sqlite"


def _history() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "history")
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.executescript(
                "CREATE TABLE repo (id INTEGER PRIMARY KEY, repoid TEXT);"
                "CREATE TABLE rpm (item_id INTEGER PRIMARY KEY, name TEXT, epoch INTEGER,"
                " version TEXT, release TEXT, arch TEXT);"
                "CREATE TABLE trans_item (id INTEGER PRIMARY KEY, item_id INTEGER,"
                " repo_id INTEGER);"
                "INSERT INTO repo VALUES (1, 'fedora');"
                "INSERT INTO rpm VALUES (1, 'bash', 0, '5.2', '1', 'x86_64');"
                "INSERT INTO trans_item VALUES (1, 1, 1);"
            )
        return path.read_bytes()


def _repositories(name: str, data: bytes) -> object:
    """Of a chroot with this file of dnf's."""
    with tempfile.TemporaryDirectory() as root:
        path = Path(root, name)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        return find_repositories(root)


_CHAIN = [
    LedgerEntry(
        1, FIRST, LedgerEvent(EventKind.BUILT, "host:a", 1, job="j", files={"a.rpm": _DIGEST})
    ),
]
_CHAIN.append(
    LedgerEntry(2, _CHAIN[0].sha256, LedgerEvent(EventKind.FLAGGED, "host:a", 2, reason="odd"))
)
_STATEMENT = json.loads(base64.b64decode(json.loads(sign_provenance(
    Provenance(
        {"a.rpm": _DIGEST}, {"build.log": _DIGEST}, Asked("rebuild", "c", ("--with=x",)),
        Used("0", "mock", _DIGEST, False, None, {"dist": ".x"}, {"LANG": "C"},
             Node("host:a", "r", "ssh", "", "x86_64", "ada", "SHA256:x"),
             Attestation(1, "standard", *[_DIGEST] * 3, "m", _DIGEST, (), (), _DIGEST, ()),
             {"a.rpm": PackageDigests(_DIGEST, _DIGEST)}, {"a.rpm": 1, "build.log": 1},
             (Agreement("host:b", "bob", "SHA256:y", "k", "L1", _DIGEST),)),
        (Descriptor("a.src.rpm", "", {"sha256": _DIGEST}, {"role": "srpm"}),), "j", 1, 2,
    ),
    _SIGNER,
))["payload"]))  # fmt: skip
_CPIO = b"".join(
    b"070701%08x%08x" % (1, mode) + b"00000000" * 4 + b"%08x" % len(data) + b"00000000" * 4
    + b"%08x%08x" % (len(name) + 1, 0) + name + bytes(1 + -(111 + len(name)) % 4)
    + data + bytes(-len(data) % 4)
    for name, mode, data in ((b"./a", 0o100644, b"text"), (b"TRAILER!!!", 0, b""))
)  # fmt: skip


def _grounds() -> bytes:
    node = good.Node().boot()
    now = int(time.time())
    manifest = sign_manifest(good.manifest(), Validity("t", now, now, now + 9), _SIGNER)
    keys = ((good.DATA / "distribution.asc").read_bytes(),)
    grounds = Grounds(
        policy_to_json(standard()), now, {}, good.binding(), node.to_bytes(), node.blobs, manifest,
        (_KEY.public,), 1, keys,
    )  # fmt: skip
    return write_grounds(grounds, good.judge(node)[1])


def _statement(data: bytes) -> object:
    value = decode(Statement, load_json(data))  # as open_statement has it
    return _parse(value, frozenset({_SIGNER.public.fingerprint}))


_LISTED = (
    b'<checksum type="sha256">' + b"0" * 64 + b'</checksum><size>7</size><size package="7"/>'
    b'<location xml:base="http://e/" href="repodata/p%20q.xml.gz"/>'
)
_REPOMD = b'<repomd><data type="primary">' + _LISTED + b"</data></repomd>"
_PRIMARY = b"<metadata>" + (b'<package type="rpm">' + _LISTED + b"</package>") * 2 + b"</metadata>"

PARSERS: dict[str, Parser] = {
    "provenance": Parser(_statement, _STATEMENT, (Malformed,)),
    "grounds": Parser(recompute, _grounds(), (Malformed, AttestationRefused, ConfigError)),
    "payload": Parser(
        lambda data: read_contents(Header(b"", {}), io.BytesIO(data)), _CPIO, (HeaderError,)
    ),
    "chroot-packages": Parser(
        lambda data: decode_bytes(ChrootPackages, data), to_json(_CHROOT), (Malformed,)
    ),
    "dnf-history": Parser(lambda data: _repositories(_HISTORY, data), _history(), ()),
    "dnf-nevras": Parser(
        lambda data: _repositories("usr/lib/sysimage/libdnf5/nevras.toml", data),
        b'[nevras]\n"bash-5.2-1.x86_64" = {from_repo = "fedora"}\n',
        (),
    ),
    "ledger": Parser(read_export, export(_CHAIN), (BrokenChain,)),
    "policy": Parser(
        _file(read_requirements),
        b'tier = 1\nremotes = ["r"]\n[expires]\nx = 2026-01-01\n'.replace(
            b"x =", f'"SHA256:{"A" * 43}" ='.encode()
        ),
        (ConfigError,),
        by_lines=True,
    ),
    "rules of attestation": Parser(
        _file(read_policy),
        b'[policy]\nbase = "strict"\n[rule.lockdown]\nvalue = false\nreason = "r"\n'
        b'[allow.a]\nprogram = "/usr/bin/a"\nreason = "r"\n'
        b'[forbid.b]\nmodule = "m"\nreason = "r"\n',
        (ConfigError,),
        by_lines=True,
    ),
    "rules": Parser(
        _file(read_rules), b"refusals = 1\n[proven]\ndays = 2\n", (ConfigError,), by_lines=True
    ),
    "frame": Parser(
        lambda data: read_frame(io.BytesIO(data)),
        encode_frame({"id": 1, "op": "hello", "nonce": "n"}, b"body"),
        (FrameError,),
    ),
    "hello": _reply(replies.parse_hello, _HELLO),
    "have": _reply(
        replies.parse_have, {"missing": ["ab"], "partial": {"ab": [[0, 5], [7, 9]]}, "kept": 0}
    ),
    "reached": _reply(lambda value: replies.parse_reached(value, 2), {"reached": [True, False]}),
    "results": _reply(lambda value: replies.parse_results([value]), _RESULTS),
    "listing": Parser(_results, _RESULTS, (Malformed, ResultError)),
    "job-end": _reply(replies.parse_end, _END),
    "error": Parser(
        lambda data: str(remote_error("node", "hello", load_json(data))).encode(),
        {"code": "no-space", "message": "full"},
        (Malformed,),
    ),
    "stderr": Parser(lambda data: clean(data).encode(), b"text\nof a node", ()),
    "evidence": Parser(
        _evidence, good.Node().boot().sections, (AttestationRefused, ValueError, RecursionError)
    ),
    "evidence-packed": Parser(
        lambda data: len(parse_evidence(data).files),
        good.Node().boot().to_bytes(),
        (AttestationRefused,),
    ),
    "evidence-text": Parser(
        lambda data: len(parse_evidence(gzip.compress(data, 1)).files),
        gzip.decompress(good.Node().boot().to_bytes()),
        (AttestationRefused,),
    ),
    "manifest": Parser(
        lambda data: parse_manifest(load_json(data)),
        json.loads(json_bytes(manifest_to_json(good.manifest()))),
        (Malformed,),
    ),
    "revocation": Parser(
        lambda data: verify_revocation(data, [_KEY.public]),
        sign_revocation(Revocation(reason="lost"), _SIGNER),
        (AttestationRefused, ConfigError),
    ),
    "rpm-header": Parser(
        lambda data: verify_package(data, good.keys()), _RPM, (HeaderError, UnsignedError)
    ),
    "rpm-file": Parser(read_unverified, _RPM_FILE, (HeaderError,)),
    "srpm": Parser(_file(read_package_facts, ".src.rpm"), _RPM_FILE, (MockCloudError,)),
    "package-keys": Parser(
        lambda data: PackageKeys.parse([data]),
        (good.DATA / "distribution.asc").read_bytes(),
        (ConfigError,),
    ),
    "accounts": Parser(
        lambda data: parse_accounts(data, data),
        b"root:x:0:0::/:/bin/sh\nmail:x:8:8\n",
        (ValueError,),
    ),
    "capabilities": Parser(
        lambda data: xattr_of_text(data.decode("utf-8", "surrogateescape")),
        b"cap_net_raw,cap_setuid=ep",
        (ValueError,),
    ),
    "host-key": Parser(
        lambda data: HostKey.parse(data.decode("utf-8", "surrogateescape")),
        str(_KEY.public).encode(),
        (ValueError,),
    ),
    "remote-file": Parser(
        _file(lambda path: read_remote("name", path), ".toml"), _TOML, (ConfigError,), by_lines=True
    ),
    "clouds-yaml": Parser(_file(_clouds, ".yaml"), _YAML, (ConfigError,), by_lines=True),
    "ec2": Parser(
        lambda data: ec2_answers.parse_instances(ET.fromstring(data)),  # noqa: S314
        _EC2,
        library_errors(),
    ),
    "ec2-error": Parser(
        lambda data: ec2_answers.parse_error(data.decode("utf-8", "replace")), _EC2, ()
    ),
    "openstack": Parser(
        lambda data: openstack_servers.parse_server(load_json(data)), _SERVER, library_errors()
    ),
    "journal-files": Parser(_journal, _INJECTED, (ValueError,)),
    "journal-handle": Parser(
        lambda data: parse_handle(data.decode("utf-8", "surrogateescape")),
        {"until": 1.5, "places": []},
        (ConfigError,),
    ),
    "host-answer": Parser(parse_answer, b"motd\ntaken\nabc1\nowner\nremote\n60\n", (AnswerError,)),
    "node-plan": Parser(lambda data: decode_bytes(NodePlan, data), asdict(_PLAN), (ValueError,)),
    "handover": Parser(
        parse_handover,
        {
            "version": HANDOVER_VERSION,
            "remote": "r",
            "mode": "rebuild",
            "argv": [],
            "config_opts": {},
            "mock": ["/usr/bin/mock", "/usr/bin/python3"],
        },
        (ConfigError,),
    ),
    "tunnel-request": Parser(
        parse_head,
        b"GET http://127.0.0.1/dist/repodata/repomd.xml HTTP/1.1\r\nHost: x",
        (BadRequest,),
    ),
    "repomd": Parser(parse_repomd, _REPOMD, (Unfetched,)),
    "primary": Parser(
        lambda data: list(read_primary(io.BytesIO(data), "primary.xml.gz")),
        gzip.compress(_PRIMARY, mtime=0),
        (Unfetched,),
    ),
    "primary-text": Parser(
        lambda data: [one.url("http://h/") for one in read_primary(io.BytesIO(data), "p.xml")],
        _PRIMARY,
        (Unfetched, ValueError),
    ),
    # What the agent is told: a node is as careful with its controller.
    "job-request": Parser(
        job_request.parse_request,
        asdict(_JOB),
        (Malformed,),
    ),
    "install-order": Parser(
        lambda data: decode_bytes(orders.InstallOrder, data),
        asdict(orders.InstallOrder(["bash"], "conf", {"a": "b"})),
        (Malformed,),
    ),
    "timer-order": Parser(
        _parsed_order,
        {"lease": "x", "life_s": 5, "grace_s": 5, "ending": "wipe"},
        (Malformed,),
    ),
}

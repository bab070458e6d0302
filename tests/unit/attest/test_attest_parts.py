# SPDX-License-Identifier: GPL-2.0-or-later
"""The small parts: evidence's form, rules, capabilities, versions, accounts, texts."""

from __future__ import annotations

import ast
import copy
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_cloud import attest, steps
from mock_cloud.attest.accounts import parse_accounts
from mock_cloud.attest.capabilities import xattr_of_text
from mock_cloud.attest.check_packages import compare_evr
from mock_cloud.attest.evidence import (
    Connection,
    Database,
    Evidence,
    EvidenceError,
    MappedFile,
    Mount,
    Process,
    Socket,
    parse_evidence,
)
from mock_cloud.attest.files import FileFact
from mock_cloud.attest.helpers import HelperFacts
from mock_cloud.attest.kernel import KernelFacts
from mock_cloud.attest.knowngood import Resolver
from mock_cloud.attest.rules.expectations import Invocation, MountRule, ProgramRule
from mock_cloud.attest.rules.volatile import (
    Volatile,
    VolatileKind,
    VolatileRule,
    fits,
    sshd_only_rules,
)
from mock_cloud.attest.sshd_titles import find_sshd_role
from mock_cloud.attest.verdict import reason_text
from mock_cloud.errors import Reason
from mock_cloud.wire.records import RECORD_MAX, pack
from tests.records import packed
from tests.unit.attest.attest_builder import Node, sha256


def parse(node: Node) -> None:
    """All of it: files are read when they are looked at."""
    len(parse_evidence(node.to_bytes()).files)


BAD_ROWS: list[list[Any]] = [
    ["relative", "d", 0o755, 0, 0, 0, None, None],
    ["/a/../b", "d", 0o755, 0, 0, 0, None, None],
    ["/a/./b", "d", 0o755, 0, 0, 0, None, None],
    ["/a//b", "d", 0o755, 0, 0, 0, None, None],
    ["/a/", "d", 0o755, 0, 0, 0, None, None],
    ["/a\0b", "d", 0o755, 0, 0, 0, None, None],
    ["", "d", 0o755, 0, 0, 0, None, None],
    ["/" + "a" * 5000, "d", 0o755, 0, 0, 0, None, None],
    ["/\ud800", "d", 0o755, 0, 0, 0, None, None],
    ["/\udcc3\udca9", "d", 0o755, 0, 0, 0, None, None],  # the bytes of é, which has a text
    ["/a", "x", 0o755, 0, 0, 0, None, None],
    ["/a", None, 0o755, 0, 0, 0, None, None],
    ["/a", "d", 0o40755, 0, 0, 0, None, None],
    ["/a", "d", -1, 0, 0, 0, None, None],
    ["/a", "d", True, 0, 0, 0, None, None],
    ["/a", "d", "755", 0, 0, 0, None, None],
    ["/a", "d", 0o755, 1 << 32, 0, 0, None, None],
    ["/a", "d", 0o755, 0, 0, 5, None, None],
    ["/a", "d", 0o755, 0, 0, 0, "x", None],
    ["/a", "f", 0o644, 0, 0, -1, sha256("x"), None],
    ["/a", "f", 0o644, 0, 0, 1, None, None],
    ["/a", "f", 0o644, 0, 0, 1, "a" * 63, None],
    ["/a", "f", 0o644, 0, 0, 1, "A" * 64, None],
    ["/a", "l", 0o777, 0, 0, 0, "", None],
    ["/a", "l", 0o777, 0, 0, 0, "a\0b", None],
    ["/a", "c", 0o666, 0, 0, 0, "1,3", None],
    ["/a", "d", 0o755, 0, 0, 0, None, {"user.x": "xyz"}],
    ["/a", "d", 0o755, 0, 0, 0, None, [1]],
    ["/a", "d", 0o755, 0, 0, 0, None],
]


@pytest.mark.parametrize("row", BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_a_malformed_file_row_is_refused(row: list[Any]) -> None:
    node = Node()
    node.files["spoilt"] = row
    with pytest.raises(EvidenceError) as caught:
        parse(node)
    assert [reason.code for reason in caught.value.reasons] == ["evidence.malformed"]


def test_a_path_twice_is_refused() -> None:
    node = Node()
    node.files["again"] = node.files["/usr/bin/bash"]
    with pytest.raises(EvidenceError, match="twice"):
        parse(node)


def test_a_path_that_is_no_text_is_read() -> None:
    node = Node()
    node.add_file("/latin-\udce9", sha256("x"))
    parse(node)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'["self",NaN]\n',
        b'["trees",{"a": 1, "a": 2}]\n',
        b"1" * 5000,
        b"1" * 5000 + b"\n",
        b"[" * 100_000 + b"\n",
        b"x" * (RECORD_MAX + 1),
        b"x" * (RECORD_MAX + 1) + b"\n",
        b'["nonce","a"]',
        b'["nonce","a"]\n["nonce","b"]\n',
        b'["files",1]\n',
        b'[["nonce"],"a"]\n',
    ],
)
def test_what_is_no_evidence_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        len(parse_evidence(b"".join(pack(data))).files)


@pytest.mark.parametrize("key", sorted(Node().top))
def test_every_key_of_evidence_is_needed(key: str) -> None:
    node = Node()
    del node.top[key]
    with pytest.raises(EvidenceError):
        parse(node)


@pytest.mark.parametrize(
    "kind", [Evidence, Mount, MappedFile, Process, Socket, Connection, Database, FileFact,
             KernelFacts, HelperFacts],
)  # fmt: skip
def test_no_fact_is_measured_that_nobody_judges(kind: Any) -> None:
    """Besides the class that declares it, something of the controller's names each of them."""
    rooms = [Path(room.__path__[0]) for room in (attest, steps)]
    names = set(getattr(kind, "_fields", ())) or {one.name for one in fields(kind)}
    text = "".join(path.read_text() for room in rooms for path in room.glob("**/*.py"))
    named = set(re.findall(r"\.(\w+)", text)) | set(re.findall(r'"(\w+)"', text))
    assert names - named == set()


def test_an_unknown_key_is_refused() -> None:
    node = Node()
    node.top["more"] = 1
    with pytest.raises(EvidenceError, match="more"):
        parse(node)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_nothing_but_a_refusal_escapes_from_evidence(data: st.DataObject) -> None:
    """Any value of any shape in place of one that belongs there."""
    top = copy.deepcopy(Node().boot().sections)
    place: Any = top
    while True:
        options = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(options))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(JSON)
            break
        place = place[key]
    try:
        len(parse_evidence(packed(top)).files)
    except EvidenceError as refusal:
        assert refusal.reasons[0].code == "evidence.malformed"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/usr/bin/x", VolatileKind.DATA),
        ("/etc/ld.so.cache", VolatileKind.DATA),
        ("/etc", VolatileKind.TREE),
        ("/", VolatileKind.TREE),
        ("/run", VolatileKind.TREE),
        ("/var", VolatileKind.TREE),
        ("/var/spool/cron", VolatileKind.TREE),
        ("/root/.ssh/authorized_keys", VolatileKind.DATA),
        ("relative", VolatileKind.DATA),
        ("/var/../usr", VolatileKind.TREE),
    ],
)
def test_no_rule_lets_code_vary(path: str, kind: VolatileKind) -> None:
    with pytest.raises(ValueError, match=r"volatile|code"):
        VolatileRule(path, kind)


@pytest.mark.parametrize(
    "exe",
    [
        "/usr/bin/bash", "/usr/bin/python3.11", "/bin/sh", "/usr/bin/perl", "/usr/bin/python3.14t",
        "/usr/libexec/platform-python", "/usr/libexec/platform-python3.6", "/usr/bin/lua-5.4",
        "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld64.so.1",
        "/usr/lib64/ld-2.28.so", "/lib/ld-musl-x86_64.so.1", "/usr/bin/ld.so", "/usr/bin/unshare",
    ],
)  # fmt: skip
def test_an_interpreter_may_run_exact_arguments_only(exe: str) -> None:
    with pytest.raises(ValueError, match="exact"):
        ProgramRule(exe, Invocation.ANY)
    ProgramRule(exe, Invocation.EXACT, (exe, "/usr/sbin/thing"))


@pytest.mark.parametrize(
    "exe", ["/usr/sbin/chronyd", "/usr/lib/systemd/systemd", "/usr/sbin/ldapd", "/usr/bin/ldd2"]
)
def test_a_daemon_may_run_any(exe: str) -> None:
    ProgramRule(exe, Invocation.ANY)


def test_what_opening_the_package_database_makes_may_vary_and_be_nothing_else() -> None:
    volatile = Volatile(sshd_only_rules())
    for place in ("/usr/lib/sysimage/rpm", "/var/lib/rpm"):
        for name in (".rpm.lock", "rpmdb.sqlite-shm", "rpmdb.sqlite-wal"):
            fact = FileFact(f"{place}/{name}", "f", 0o644, 0, 0, 9, "ab" * 32, ())
            rule = volatile.find(fact.path)
            assert rule is not None
            assert fits(rule, fact)
            for evil in (
                fact._replace(mode=0o755),
                fact._replace(mode=0o4644),
                fact._replace(mode=0o646),
                fact._replace(uid=1000),
                fact._replace(type="l", value="/tmp/x", size_bytes=0),
            ):
                assert not fits(rule, evil)
        assert volatile.find(f"{place}/rpmdb.sqlite") is None
    for path in ("/usr/lib/sysimage/rpm", "/usr/lib/sysimage/rpm/rpmdb.sqlite-x"):
        for kind in (VolatileKind.DATA, VolatileKind.TREE):
            with pytest.raises(ValueError, match="code"):
                VolatileRule(path, kind)


def test_a_mount_rule_wants_a_point_and_types() -> None:
    with pytest.raises(ValueError, match="mount"):
        MountRule("proc", ("proc",))
    with pytest.raises(ValueError, match="mount"):
        MountRule("/proc", ())


SSHD = "/usr/sbin/sshd"


@pytest.mark.parametrize(
    ("cmdline", "is_fine"),
    [
        ([SSHD, "-D", "-e", "-o", "ListenAddress=127.1.2.3:2022", "-o", "PidFile=none"], True),
        ([f"sshd: {SSHD} -D [listener] 0 of 10-100 startups"], True),
        ([f"sshd: {SSHD} -D [listener] 0 of 100-100 st"], True),
        ([f"sshd: {SSHD} -D [listener]"], True),
        ([f"sshd: {SSHD} -D [listene"], False),
        ([f"sshd: {SSHD} -D [listener] -o ForceCommand=/x [listener] 0 of 1"], False),
        ([f"sshd: {SSHD} -D [listener] -o ForceCommand=/x"], False),
        (["sshd: root@notty"], True),
        (["sshd-session: root [priv]"], True),
        (["sshd: [accepted]"], True),
        (["sshd-auth: [session-auth early]"], True),
        (["sshd-session: root [postauth]"], True),
        (["sshd-session: unknown [postauth]"], False),
        (["sshd-session: mallory [postauth]"], False),
        (["sshd: unknown [net]"], True),
        ([], False),
        ([""], False),
        (["/tmp/sshd", "-D"], False),
        (["sshd: mallory@notty"], False),
        (["sshd: mallory [priv]"], False),
        (["sshd: root@pts/0"], False),
        ([f"sshd: {SSHD} -D"], False),
        ([SSHD, "-f", "/tmp/config"], False),
        ([SSHD, "-f"], False),
        ([SSHD, "-o", "ForceCommand=/tmp/x"], False),
        ([SSHD, "-oForceCommand=/tmp/x"], False),
        ([SSHD, "-o", "ListenAddress"], False),
        ([SSHD, "-o", "ListenAddress=1 -o ForceCommand=/tmp/x"], False),
        ([SSHD, "-E", "/etc/cron.d/x"], False),
        ([SSHD, "-h", "/tmp/key"], False),
        ([SSHD, "-p"], False),
    ],
)
def test_only_a_plain_sshd_is_one(cmdline: list[str], is_fine: bool) -> None:
    assert (find_sshd_role(tuple(cmdline), SSHD, "root") is not None) is is_fine


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cap_net_raw=ep", "0100000200200000" + "00" * 12),
        ("= cap_net_raw+ep", "0100000200200000" + "00" * 12),
        ("cap_net_raw=p", "0000000200200000" + "00" * 12),
        ("cap_net_admin,cap_net_raw=p", "0000000200300000" + "00" * 12),
        ("cap_bpf=ep", "01000002" + "00" * 8 + "80000000" + "00" * 4),
        ("=", "00000002" + "00" * 16),
        ("cap_net_raw=ep cap_net_raw-ep", "00000002" + "00" * 16),
    ],
)
def test_capabilities_as_the_kernel_stores_them(text: str, wanted: str | None) -> None:
    assert xattr_of_text(text) == wanted


@pytest.mark.parametrize("text", ["cap_evil=ep", "nonsense", "cap_net_raw", "cap_net_raw=x"])
def test_other_capability_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        xattr_of_text(text)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0-1", "1.0-2"),
        ("1.9-1", "1.10-1"),
        ("1.0~rc1-1", "1.0-1"),
        ("1.0-1", "1.0^git1-1"),
        ("1.0^git1-1", "1.0.1-1"),
        ("9-1", "1:1-1"),
        ("1.a-1", "1.1-1"),
        ("1.0-1.el9", "1.0-1.el9_4"),
        ("1.0~a-1", "1.0~b-1"),
        ("1.0~~-1", "1.0~-1"),
    ],
)
def test_versions_are_ordered_as_rpm_orders_them(older: str, newer: str) -> None:
    assert compare_evr(older, newer) == -1
    assert compare_evr(newer, older) == 1
    assert compare_evr(newer, newer) == 0


def test_paths_lead_through_signed_links_only() -> None:
    links = {
        "/lib": "usr/lib",
        "/usr/lib/alias": "../share",
        "/loop": "loop",
        "/deep": "/lib/alias",
    }
    resolver = Resolver(dict(links))
    assert resolver.resolve("/lib/") == "/usr/lib/"
    assert resolver.resolve("/lib/alias/x/") == "/usr/share/x/"
    assert resolver.resolve("/deep/") == "/usr/share/"
    assert resolver.resolve("/loop/x/") == "/loop/x/"
    assert resolver.resolve("/") == "/"


def test_a_link_listed_by_an_alias_is_followed_too() -> None:
    resolver = Resolver({"/lib": "usr/lib", "/lib/a": "b"})
    assert resolver.resolve("/usr/lib/a/") == "/usr/lib/b/"


def test_accounts_are_read_from_an_image() -> None:
    found = parse_accounts(b"root:x:0:0::/:/bin/sh\nbuild:x:1000:8::/:/bin/sh\n", b"mail:x:8:\n")
    assert (found.uid("build"), found.gid("mail"), found.uid("root")) == (1000, 8, 0)
    assert found.uid("nobody") is None


@pytest.mark.parametrize(
    "passwd", [b"root:x:5:0::/:/bin/sh\n", b"a:x:1:1\na:x:2:2\n", b"broken\n", b"a:x:y:1\n"]
)
def test_accounts_that_cannot_be_right_are_refused(passwd: bytes) -> None:
    with pytest.raises(ValueError):
        parse_accounts(passwd, b"")


def test_a_reason_cannot_play_with_the_terminal() -> None:
    shown = reason_text(Reason("file.unknown", "/tmp/\x1b[31m\n\u202eevil\udc80\\", "", "\r"))
    assert shown.isprintable()
    assert "\x1b" not in shown
    assert shown == "file.unknown: /tmp/\\x1b[31m\\n\\u202eevil\\udc80\\\\, found \\r"


def test_nobody_else_makes_a_proof() -> None:
    """Only attest/verify.py names the seal or constructs a TrustedNode."""
    package = Path(__file__).parents[3] / "mock_cloud"
    allowed = {package / "model.py", package / "attest" / "verify.py"}
    sinners = []
    for path in package.rglob("*.py"):
        if path in allowed:
            continue
        text = path.read_text()
        if text.isascii() and "SEAL" not in text and "TrustedNode" not in text:
            continue  # neither name; other letters may be read as these
        for node in ast.walk(ast.parse(text)):
            named = getattr(node, "id", None) or getattr(node, "attr", None)
            imported = isinstance(node, ast.alias) and node.name == "_SEAL"
            called = isinstance(node, ast.Call) and (
                getattr(node.func, "id", None) or getattr(node.func, "attr", None)
            )
            by_text = isinstance(node, ast.Constant) and node.value == "_SEAL"
            if named == "_SEAL" or imported or by_text or called == "TrustedNode":
                sinners.append(str(path))
    assert sinners == []
    assert "_SEAL" in (package / "attest" / "verify.py").read_text()


def test_every_reason_code_is_in_the_threat_model() -> None:
    root = Path(__file__).parents[3]
    documented = (root / "docs/threat-model.md").read_text()
    areas = (
        "node|login|connection|policy|evidence|package|file|toolkit|mount|process|agent|socket"
        "|kernel|layer|manifest"
    )
    code = re.compile(rf'"(?:{areas})\.([a-z-]+)"')
    codes = {
        found[1]
        for path in (root / "mock_cloud/attest").glob("*.py")
        if path.name != "reason_codes.py"  # verify.md has its others
        for found in code.finditer(path.read_text())
    }
    assert len(codes) > 40
    assert {one for one in codes if f".{one}`" not in documented} == set()


def test_judging_needs_no_machine() -> None:
    """attest imports nothing that could read a file, a clock, a network or start a process."""
    impure = {"os", "io", "pathlib", "subprocess", "socket", "time", "datetime", "shutil",
              "tempfile", "sqlite3", "paramiko", "random", "secrets"}  # fmt: skip
    for path in (Path(__file__).parents[3] / "mock_cloud/attest").glob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                names.add(str(node.module).partition(".")[0])
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"open", "eval", "exec", "__import__"}, path
        assert not names & impure, path

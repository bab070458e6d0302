# SPDX-License-Identifier: GPL-2.0-or-later
"""How a packaged file may differ in a manifest: the same for a tree, an image and a machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from mock_cloud.attest.capabilities import xattr_of_text
from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.attest.files import FileFact
from mock_cloud.attest.image_manifest import BakeChoices, make_manifest
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.errors import AttestationRefused
from mock_cloud.signed.keys import PackageKeys
from tests.unit.attest.attest_builder import ACCOUNTS, DATA, Node, sha256
from tests.unit.signed.package_maker import CONFIG, KEY, NO_DIGEST, File, package

TOOL, LINK, PLACE = "/usr/bin/tool", "/usr/bin/link", "/usr/lib/tool"
CACHE, STORE = "/usr/lib64/gconv/gconv-modules.cache", "/var/lib/selinux/targeted/active/commit_num"
FILES = (
    File(TOOL, "tool", 0o100755),
    File("/usr/bin/netcap", "netcap", 0o100755, caps="cap_net_raw=ep"),
    File("/usr/bin/nocap", "nocap", 0o104755, caps="="),
    File(LINK, "tool", 0o120777),
    File(PLACE, "", 0o040755),
    File("/usr/lib/tool/data", "data"),
    File("/etc/tool.conf", "conf", flags=CONFIG),
    File("/etc/plain", "plain"),
    File("/var/lib/tool", "", 0o040755),
    File(CACHE, "", verify=NO_DIGEST),
    File(STORE, "1", verify=NO_DIGEST),
    File("/usr/bin/exempt", "program", 0o100755, verify=NO_DIGEST),
    File("/usr/lib64/libexempt.so.1.2", "library", verify=NO_DIGEST),
    File("/usr/lib/systemd/system/exempt.service", "unit", verify=NO_DIGEST),
    File("/usr/lib/python3/site-packages/exempt.pth", "pth", verify=NO_DIGEST),
    File("/var/spool/cron/exempt", "cron", verify=NO_DIGEST),
    File("/usr/share/shared.cache", "shared", verify=NO_DIGEST),
)
SHARED = File("/usr/share/shared.cache", "shared")


@cache
def blobs() -> tuple[bytes, ...]:
    return package("differing", FILES), package("shared", (SHARED,))


def image() -> Node:
    node = Node()
    for blob in blobs():
        node.add_header(blob)
    for one in FILES:
        kind = {0o100000: "f", 0o040000: "d", 0o120000: "l"}[one.mode & 0o170000]
        value = {"f": one.sha256, "d": None, "l": one.text}[kind]
        size = len(one.text) if kind == "f" else 0
        xattr = xattr_of_text(one.caps) if one.caps else None
        xattrs = {"security.capability": xattr} if xattr else None
        node.files[one.path] = [one.path, kind, one.mode & 0o7777, 0, 0, size, value, xattrs]
    return node


def make(node: Node, *, booted: bool = False, accepted: tuple[FileFact, ...] = ()) -> ImageManifest:
    keys = PackageKeys.parse([(DATA / "distribution.asc").read_bytes(), KEY.certificate()])
    choices = BakeChoices(
        name="x", created="now", accounts=ACCOUNTS, booted=booted, accepted=accepted
    )
    return make_manifest(parse_evidence(node.to_bytes()), node.blobs, keys, choices)


def change(path: str, text: str = "changed") -> Callable[[Node], None]:
    def act(node: Node) -> None:
        node.files[path][5:7] = [len(text), sha256(text)]

    return act


def give(path: str, mode: int) -> Callable[[Node], None]:
    def act(node: Node) -> None:
        node.files[path][2] |= mode

    return act


def own(path: str, uid: int, gid: int) -> Callable[[Node], None]:
    def act(node: Node) -> None:
        node.files[path][3:5] = [uid, gid]

    return act


def attribute(path: str, caps: str) -> Callable[[Node], None]:
    def act(node: Node) -> None:
        node.files[path][7] = {"security.capability": xattr_of_text(caps)}

    return act


def take(path: str) -> Callable[[Node], None]:
    """The capabilities that the file has."""

    def act(node: Node) -> None:
        node.files[path][7] = None

    return act


def replace_by(path: str, kind: str, value: str | None) -> Callable[[Node], None]:
    def act(node: Node) -> None:
        node.files[path] = [path, kind, 0o777, 0, 0, 0, value, None]

    return act


def both(*acts: Callable[[Node], None]) -> Callable[[Node], None]:
    def act(node: Node) -> None:
        for one in acts:
            one(node)

    return act


LISTED: dict[str, tuple[str, Callable[[Node], None]]] = {
    "gconv's cache": (CACHE, change(CACHE)),
    "the SELinux store": (STORE, change(STORE)),
    "configuration": ("/etc/tool.conf", change("/etc/tool.conf")),
    "what its owner wrote in /etc": ("/etc/plain", change("/etc/plain")),
    "configuration of a group": ("/etc/tool.conf", own("/etc/tool.conf", 0, 8)),
    "data of a daemon": ("/var/lib/tool", own("/var/lib/tool", 74, 8)),
    "fewer capabilities": ("/usr/bin/netcap", take("/usr/bin/netcap")),
    "fewer rights": (TOOL, lambda node: node.files[TOOL].__setitem__(2, 0o700)),
}


@pytest.mark.parametrize("booted", [False, True])
@pytest.mark.parametrize("what", LISTED)
def test_it_is_pinned_as_found(what: str, booted: bool) -> None:
    path, act = LISTED[what]
    node = image()
    make(node, booted=booted)
    act(node)
    entry = next(one for one in make(node, booted=booted).entries if one.path == path)
    assert list(entry[:7]) == node.files[path][:7]


NEVER: dict[str, tuple[str, Callable[[Node], None]]] = {
    "a program": ("file.digest", change(TOOL)),
    "data in /usr": ("file.digest", change("/usr/lib/tool/data")),
    "an exempt program": ("file.digest", change("/usr/bin/exempt")),
    "an exempt library": ("file.digest", change("/usr/lib64/libexempt.so.1.2")),
    "an exempt unit": ("file.digest", change("/usr/lib/systemd/system/exempt.service")),
    "exempt code by its name": (
        "file.digest", change("/usr/lib/python3/site-packages/exempt.pth"),
    ),
    "exempt crontab": ("file.digest", change("/var/spool/cron/exempt")),
    "exempt in one package only": ("file.digest", change(SHARED.path)),
    "an exempt cache that can be run": (
        "file.digest", both(change(CACHE), give(CACHE, 0o111)),
    ),
    "an exempt cache that is a link": ("file.digest", replace_by(CACHE, "l", "/tmp/x")),
    "the cache made setuid": ("file.mode", give(CACHE, 0o4000)),
    "the cache writable by all": ("file.mode", give(CACHE, 0o002)),
    "the cache of another owner": ("file.mode", own(CACHE, 74, 0)),
    "a setuid program": ("file.mode", give(TOOL, 0o4000)),
    "a setgid program": ("file.mode", give(TOOL, 0o2000)),
    "a program that others can write": ("file.mode", give(TOOL, 0o002)),
    "a program that its group can write": ("file.mode", give(TOOL, 0o020)),
    "another owner": ("file.mode", own(TOOL, 74, 0)),
    "another group": ("file.mode", own(TOOL, 0, 8)),
    "capabilities": ("file.mode", attribute(TOOL, "cap_setuid=ep")),
    "more capabilities": ("file.mode", attribute("/usr/bin/netcap", "cap_net_raw,cap_setuid=ep")),
    "a setuid program that lost what it has no capabilities by": (
        "file.mode", take("/usr/bin/nocap"),
    ),
    "data in /usr of another owner": ("file.mode", own("/usr/lib/tool/data", 74, 0)),
    "data that became a program": ("file.mode", give("/usr/lib/tool/data", 0o111)),
    "a directory of programs that others can write": ("file.mode", give("/usr/bin", 0o002)),
    "a directory of another owner": ("file.mode", own(PLACE, 74, 0)),
    "configuration that became a program": (
        "file.mode", both(change("/etc/tool.conf"), give("/etc/tool.conf", 0o111)),
    ),
    "setuid configuration": ("file.mode", give("/etc/tool.conf", 0o4000)),
    "configuration with capabilities": ("file.mode", attribute("/etc/tool.conf", "cap_kill=ep")),
    "a changed program in /etc": (
        "file.digest", both(change("/etc/plain"), give("/etc/plain", 0o111)),
    ),
    "a link elsewhere": ("file.target", replace_by(LINK, "l", "/tmp/evil")),
    "a link that is a file": (
        "file.type",
        lambda node: node.files.update({LINK: [LINK, "f", 0o755, 0, 0, 1, sha256("x"), None]}),
    ),
    "a directory that is a link": ("file.type", replace_by(PLACE, "l", "/tmp")),
}  # fmt: skip


@pytest.mark.parametrize("booted", [False, True])
@pytest.mark.parametrize("what", NEVER)
def test_nobody_may_vouch_for_it(what: str, booted: bool) -> None:
    code, act = NEVER[what]
    node = image()
    act(node)
    with pytest.raises(AttestationRefused) as caught:
        make(node, booted=booted)
    assert [reason.code for reason in caught.value.reasons] == [code]


def test_what_the_base_has_is_accepted_to_the_letter() -> None:
    """A path that a base image's manifest names is no licence for another file there."""
    node = image()
    change(TOOL)(node)
    changed = FileFact(*node.files[TOOL][:7], ())
    make(node, accepted=(changed,))
    for other in (changed._replace(mode=0o4755), changed._replace(value=sha256("more"))):
        with pytest.raises(AttestationRefused):
            make(node, accepted=(other,))
    give(TOOL, 0o4000)(node)
    with pytest.raises(AttestationRefused):
        make(node, accepted=(changed,))


def test_a_package_with_md5_digests_is_refused_as_that() -> None:
    node = image()
    node.add_header(package("ancient", FILES, algorithm=1))
    with pytest.raises(AttestationRefused) as caught:
        make(node)
    (reason,) = caught.value.reasons
    assert reason.code == "package.digests"
    assert reason.found == "ancient-1-1.noarch: its file digests are MD5, not SHA-256"


def test_a_manifest_of_a_node_says_what_its_exempt_files_must_be() -> None:
    node = image()
    change(CACHE)(node)
    manifest = make(node)
    pinned = {one.path: one for one in manifest.entries}
    assert pinned[CACHE].value == sha256("changed")
    assert replace(manifest, entries=()).sha256 != manifest.sha256

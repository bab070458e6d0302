# SPDX-License-Identifier: GPL-2.0-or-later
"""`known-good make --root`: what is refused of a tree, and what the report beside it says."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from mock_cloud.cli import main
from mock_cloud.sshkeys import make_key_pair
from tests.unit.signed.package_maker import CONFIG, KEY, NO_DIGEST, File, package

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of a tree are root's")
TOOL, CACHE = "/usr/bin/tool", "/usr/lib64/gconv/gconv-modules.cache"
FILES = (
    File(TOOL, "tool", 0o100755),
    File(CACHE, "", verify=NO_DIGEST),
    File("/etc/tool.conf", "conf", flags=CONFIG),
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for one in FILES:
        path = root / one.path[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one.text)
        path.chmod(one.mode & 0o7777)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "usr/lib/sysimage/rpm").mkdir(parents=True)
    database = sqlite3.connect(root / "usr/lib/sysimage/rpm/rpmdb.sqlite")
    database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    database.execute("INSERT INTO Packages (blob) VALUES (?)", (package("tool", FILES),))
    database.commit()
    database.close()
    return root


def make(tree: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Path]:
    top = tree.parent
    monkeypatch.setenv("XDG_STATE_HOME", str(top / "state"))
    (top / "package.asc").write_bytes(KEY.certificate())
    key = top / "key"
    if not key.exists():
        key.write_bytes(make_key_pair().private.reveal())
        key.chmod(0o600)
    output = top / "node.manifest"
    status = main(
        ["known-good", "make", "--root", str(tree), "--package-key", str(top / "package.asc"),
         "--sign-key", str(key), "--output", str(output)]
    )  # fmt: skip
    return status, output


def test_the_report_lists_what_the_signer_vouches_for(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tree / CACHE[1:]).write_text("modules")
    (tree / "usr/bin/extra").write_text("extra")
    (tree / "usr/bin/extra").chmod(0o4755)
    status, output = make(tree, monkeypatch)
    assert status == 0
    report = output.with_name("node.manifest.report").read_text()
    lines = report.splitlines()
    assert lines[0].startswith(f"changed: {CACHE}: f 0644 0:0 ")
    assert any(line.startswith("file: /usr/bin/extra: f 4755 0:0 ") for line in lines)
    assert lines[-1] == "package: tool-1-1.noarch"
    assert "/usr/bin/extra" in capfd.readouterr().err


@pytest.mark.parametrize("what", ["setuid", "owner", "capabilities", "database"])
def test_a_packaged_program_with_other_rights_gets_no_manifest(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], what: str
) -> None:
    tool = tree / TOOL[1:]
    if what == "setuid":
        tool.chmod(0o4755)
    elif what == "owner":
        os.chown(tool, 1000, 0)
    elif what == "capabilities":
        os.setxattr(tool, "security.capability", bytes.fromhex("0100000200200000" + "00" * 12))
    else:
        place = tree / "var/lib/rpm"
        place.mkdir(parents=True)
        (place / "Packages").write_bytes(b"")
    status, output = make(tree, monkeypatch)
    assert status == 77
    assert not output.exists()
    code = "package.database" if what == "database" else "file.mode"
    assert code in capfd.readouterr().err

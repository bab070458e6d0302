# SPDX-License-Identifier: GPL-2.0-or-later
"""Files as they are on a real file system, and what must not escape the measurement."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

from measure_support import in_namespaces, measure, needs, needs_root, rows

from mock_cloud.agent.measure import evidence, files, tree
from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.wire.records import pack


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_each_type_with_its_facts(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(mode=0o750)
    (tmp_path / "dir/file").write_bytes(b"content")
    (tmp_path / "dir/file").chmod(0o640)
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("dir/file")
    os.mkfifo(tmp_path / "pipe", 0o600)
    found = rows(measure(tmp_path))
    own = [os.geteuid(), os.getegid()]
    assert found["/"][:2] == ["/", "d"]
    assert found["/dir"] == ["/dir", "d", 0o750, *own, 0, None, None]
    assert found["/dir/file"] == ["/dir/file", "f", 0o640, *own, 7, _sha256(b"content"), None]
    assert found["/empty"][5:7] == [0, _sha256(b"")]
    assert found["/link"][1] == "l"
    assert found["/link"][6] == "dir/file"
    assert found["/pipe"] == ["/pipe", "p", 0o600, *own, 0, None, None]
    assert len(found) == 6


@needs_root
def test_a_device_has_its_numbers(tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", 0o020666, os.makedev(1, 3))
    assert rows(measure(tmp_path))["/null"][6] == "1:3"


@needs_root
def test_setuid_and_owner(tmp_path: Path) -> None:
    program = tmp_path / "dropper"
    shutil.copy("/bin/true", program)
    os.chown(program, 0, 7)
    program.chmod(0o4755)
    assert rows(measure(tmp_path))["/dropper"][2:5] == [0o4755, 0, 7]


@needs_root
@needs("setcap")
def test_a_file_capability(tmp_path: Path) -> None:
    program = tmp_path / "capable"
    shutil.copy("/bin/true", program)
    subprocess.run(["setcap", "cap_setuid+ep", program], check=True)
    xattrs = rows(measure(tmp_path))["/capable"][7]
    # VFS_CAP_REVISION_2 with the effective bit, then CAP_SETUID (7) as permitted.
    assert xattrs == {"security.capability": "0100000280000000" + "00" * 12}


@needs_root
def test_an_access_list(tmp_path: Path) -> None:
    target = tmp_path / "shared"
    target.touch()
    entries = [(1, 6, 0xFFFFFFFF), (2, 4, 1234), (4, 4, 0xFFFFFFFF), (16, 6, 0xFFFFFFFF)]
    entries.append((32, 4, 0xFFFFFFFF))
    access = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, bits, who in entries
    )
    os.setxattr(target, "system.posix_acl_access", access)
    os.setxattr(target, "trusted.note", b"not a right")  # user's are not on every tmpfs
    assert rows(measure(tmp_path))["/shared"][7] == {"system.posix_acl_access": access.hex()}


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b'caf\xe9 \n"\\')).write_bytes(b"x")
    (tmp_path / "caf\u00e9").write_bytes(b"y")
    found = rows(measure(tmp_path))
    assert found[os.fsdecode(b'/caf\xe9 \n"\\')][6] == _sha256(b"x")
    assert found["/caf\u00e9"][6] == _sha256(b"y")


def test_hard_links_are_all_listed(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"same")
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    found = rows(measure(tmp_path))
    assert found["/one"][6] == found["/two"][6] == _sha256(b"same")


def test_what_has_a_second_name_is_told_but_for_what_packages_link(tmp_path: Path) -> None:
    for path in ("var/log/x", "usr/lib/x", "usr/lib/sysimage/x"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
        (tmp_path / f"{path}2").hardlink_to(tmp_path / path)
    (tmp_path / "var/log/alone").touch()
    told = [f"{path}{end}" for path in ("/usr/lib/sysimage/x", "/var/log/x") for end in ("", "2")]
    assert measure(tmp_path)["unreadable"] == [[path, "linked"] for path in told]


def test_big_files_and_block_bounds(tmp_path: Path) -> None:
    sizes = [1, (128 << 10) - 1, 128 << 10, (256 << 10) + 1, (1 << 20) - 1, 1 << 20, 3 << 20]
    for size in sizes:
        (tmp_path / str(size)).write_bytes(os.urandom(size))
    found = rows(measure(tmp_path, processes=3))
    for size in sizes:
        assert found[f"/{size}"][5:7] == [size, _sha256((tmp_path / str(size)).read_bytes())]


def test_a_large_directory_is_listed_whole(tmp_path: Path) -> None:
    for number in range(2500):
        (tmp_path / f"f{number}").symlink_to("x") if number % 5 else (
            tmp_path / f"f{number}"
        ).touch()
    assert len(rows(measure(tmp_path))) == 2501


def test_a_file_that_changes_is_told(tmp_path: Path) -> None:
    target = tmp_path / "log"
    target.write_bytes(b"x" * (64 << 20))
    stop = threading.Event()

    def write() -> None:
        with target.open("ab", buffering=0) as log:
            while not stop.is_set():
                log.write(b"line\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = measure(tmp_path)
    finally:
        stop.set()
        writer.join()
    assert ["/log", "changed"] in found["unreadable"]
    assert "/log" not in rows(found)


def test_a_huge_sparse_file_is_bounded(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    with (tmp_path / "small-hole").open("wb") as sparse:
        sparse.truncate(5 << 20)
    found = measure(tmp_path)
    assert found["unreadable"] == [["/sparse", "EFBIG"]]
    assert rows(found)["/small-hole"][6] == _sha256(bytes(5 << 20))


def test_skip_is_echoed_and_not_descended(tmp_path: Path) -> None:
    for name in ("kept/a", "left/b"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = measure(tmp_path, skip=["/left"])
    assert found["skip"] == ["/left"]
    assert sorted(rows(found)) == ["/", "/kept", "/kept/a", "/left"]


def _canonical_lines(top: Path) -> list[str]:
    """What the protocol says of tree digests, done the plain way."""
    own = [os.geteuid(), os.getegid()]
    lines = []
    for path in (top, *top.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        row: list[Any] = [str(path.relative_to(top)), "d", mode, *own, 0, None, None]
        if path.is_symlink():
            row[1], row[6] = "l", str(path.readlink())
        elif path.is_file():
            row[1], row[5:7] = "f", [path.stat().st_size, _sha256(path.read_bytes())]
        lines.append(json.dumps(row, separators=(",", ":")))
    return lines


def test_a_tree_has_a_digest_and_no_files(tmp_path: Path) -> None:
    layer = tmp_path / "layers/k/root"
    (layer / "bin").mkdir(parents=True)
    (layer / "bin/tool").write_bytes(b"tool")
    (layer / "sbin").symlink_to("bin")
    found = measure(tmp_path, trees=["/layers/k/root"])
    one = found["trees"]["/layers/k/root"]
    assert (one["files"], one["bytes"]) == (1, 4)
    lines = "".join(f"{line}\n" for line in sorted(_canonical_lines(layer)))
    assert one["sha256"] == _sha256(lines.encode())
    assert one["sha256"] == tree.digest_tree(str(layer)).sha256
    assert "/layers/k/root/bin" not in rows(found)
    (layer / "bin/tool").chmod(0o755)
    assert measure(tmp_path, trees=["/layers/k/root"])["trees"]["/layers/k/root"] != one


def test_a_missing_tree_is_told(tmp_path: Path) -> None:
    found = measure(tmp_path, trees=["/gone"])
    assert found["trees"] == {}
    assert ["/gone", "ENOENT"] in found["unreadable"]


def test_evidence_of_a_tree_is_what_the_controller_reads(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    parsed = parse_evidence(b"".join(pack(evidence.measure("n", [], [], 1, str(tmp_path)))))
    assert [fact.path for fact in parsed.files if fact.type == "f"] == ["/f"]
    assert parsed.processes == ()


_SCRIPT = """
import json, os, subprocess, sys
sys.path.insert(0, ".")
from mock_cloud.agent.measure import evidence
from tests.records import joined
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
top = sys.argv[1]
{mounts}
keep = "/" + top.split("/")[1]
skip = ["/" + n for n in os.listdir("/") if os.path.isdir("/" + n) and "/" + n != keep]
beside = os.path.dirname(top)
while beside != "/":
    entries = [beside + "/" + name for name in os.listdir(beside)]
    skip += [path for path in entries if not (top + "/").startswith(path + "/")]
    beside = os.path.dirname(beside)
found = joined(evidence.measure("n", skip, [], 1))
found["files"] = [row for row in found["files"] if row[0].startswith(top)]
print(json.dumps(found))
"""


@needs_root
@needs("unshare")
def test_a_bind_mount_over_a_file_shows_what_is_on_top(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"good")
    (tmp_path / "evil").write_bytes(b"evil")
    script = _SCRIPT.format(
        mounts='subprocess.run(["mount", "--bind", top + "/evil", top + "/good"], check=True)'
    )
    found = in_namespaces(script, tmp_path)
    assert rows(found)[f"{tmp_path}/good"][6] == _sha256(b"evil")
    (over,) = (mount for mount in found["mounts"] if mount["point"] == f"{tmp_path}/good")
    assert str(over["root"]).endswith(f"{tmp_path}/evil")  # from the file system's own root


@needs_root
@needs("unshare")
def test_a_mount_over_a_directory_is_walked_once_as_it_is_seen(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/hidden").write_bytes(b"below")
    script = _SCRIPT.format(
        mounts="""
subprocess.run(["mount", "-t", "tmpfs", "first", top + "/dir"], check=True)
os.mkdir(top + "/dir/sub")
subprocess.run(["mount", "-t", "tmpfs", "inner", top + "/dir/sub"], check=True)
open(top + "/dir/sub/covered", "w").close()
subprocess.run(["mount", "-t", "tmpfs", "second", top + "/dir"], check=True)
open(top + "/dir/on-top", "w").close()
"""
    )
    found = in_namespaces(script, tmp_path)
    below = sorted(path for path in rows(found) if path.startswith(f"{tmp_path}/dir"))
    assert below == [f"{tmp_path}/dir", f"{tmp_path}/dir/on-top"]
    assert len(found["files"]) == len(rows(found))
    over = [mount["source"] for mount in found["mounts"] if mount["point"] == f"{tmp_path}/dir"]
    assert over == ["first", "second"]
    assert found["unreadable"] == []


@needs_root
@needs("unshare")
def test_a_mount_inside_an_unbooted_tree_is_a_crossing(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    script = """
import json, subprocess, sys
sys.path.insert(0, ".")
from mock_cloud.agent.measure import evidence
from tests.records import joined
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "t", sys.argv[1] + "/dir"], check=True)
print(json.dumps(joined(evidence.measure("n", [], [], 1, sys.argv[1]))))
"""
    assert in_namespaces(script, tmp_path)["unreadable"] == [["/dir", "crossed"]]


def test_reading_ahead_changes_no_fact(tmp_path: Path) -> None:
    from mock_cloud.agent.measure.walk import Root

    names = [f"f{number}" for number in range(200)]
    for name in names:
        (tmp_path / name).write_text(name)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lines = []
        for cold in (False, True):
            meter = files.Meter([Root(fd, "/", "/", "/")], cold=cold)
            meter.measure((0, ".", names, ["."]))
            lines.append(meter.rows[0])
    finally:
        os.close(fd)
    assert lines[0] == lines[1]
    assert len(lines[0]) == 201


@needs_root
@needs("unshare")
def test_a_mount_made_during_the_measurement_is_told(tmp_path: Path) -> None:
    script = """
import json, os, subprocess, sys
sys.path.insert(0, ".")
from mock_cloud.agent.measure import tree
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
tops = ["/" + name for name in os.listdir("/") if os.path.isdir("/" + name)]
def mount(pids):
    subprocess.run(["mount", "-t", "tmpfs", "late", sys.argv[1]], check=True)
print(json.dumps(tree.measure_files(skip=tops, meanwhile=mount).unreadable))
"""
    done = in_namespaces(script, tmp_path)
    assert [str(tmp_path), "crossed"] in done

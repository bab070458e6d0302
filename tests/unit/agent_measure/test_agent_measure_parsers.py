# SPDX-License-Identifier: GPL-2.0-or-later
"""Parsers of /proc: the kernel's own forms, and what must be refused or not misread."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_cloud.agent.measure import mounts, processes, procfs, sockets

_LINE = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue"


def test_mountinfo_fields_with_optional_ones() -> None:
    (mount,) = mounts.parse_mountinfo(_LINE + "\n")
    assert mount.as_json() == {
        "point": "/mnt2", "root": "/mnt1", "type": "ext3", "source": "/dev/root",
        "options": "rw,noatime", "super": "rw,errors=continue", "id": 36, "parent": 35,
    }  # fmt: skip


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1))
def test_mountinfo_escapes(name: str) -> None:
    escaped = "".join(f"\\{ord(char):03o}" if char in " \t\n\\#" else char for char in name)
    (mount,) = mounts.parse_mountinfo(f"1 0 0:1 / /{escaped} rw - tmpfs {escaped} rw\n")
    assert (mount.point, mount.source) == (f"/{name}", name)


def test_mountinfo_of_an_empty_source_and_options_with_spaces() -> None:
    (mount,) = mounts.parse_mountinfo("1 0 0:1 / /m rw - fuse  rw,fsname=a b")
    assert (mount.fstype, mount.source, mount.super_options) == ("fuse", "", "rw,fsname=a b")


@pytest.mark.parametrize(
    "line", ["", "1 2 3", _LINE.replace(" - ", " "), _LINE.split(" - ", maxsplit=1)[0]]
)
def test_malformed_mountinfo(line: str) -> None:
    if not line:
        assert mounts.parse_mountinfo(line) == []
        return
    with pytest.raises(ValueError, match="malformed"):
        mounts.parse_mountinfo(line)


_MAPS = b"""\
55d0c0a00000-55d0c0a02000 r--p 00000000 fe:00 1234   /usr/bin/a b
55d0c0a02000-55d0c0a06000 r-xp 00002000 fe:00 1234   /usr/bin/a b
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7f0000001000-7f0000002000 r-xs 00000000 00:01 77     /memfd:x (deleted)
7f0000002000-7f0000003000 --xp 00001000 fe:00 99     /tmp/new\\012line (deleted)
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0      [vdso]
7ffc00003000-7ffc00004000 r-xp 00000000 00:00 0      [uprobes]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
"""


def test_executable_maps() -> None:
    found = procfs.parse_executable_maps(_MAPS)
    assert [(one.path, one.deleted, one.is_anonymous) for one in found] == [
        ("/usr/bin/a b", False, False),
        ("", False, True),
        ("/memfd:x", True, True),
        ("/tmp/new\nline", True, False),
        ("[vdso]", False, True),
        ("[uprobes]", False, True),
        ("[vsyscall]", False, True),
    ]
    assert [one.path for one in found if one.is_kernel_code] == ["[vdso]", "[vsyscall]"]
    first = found[0]
    assert (first.start, first.end, first.offset) == (0x55D0C0A02000, 0x55D0C0A06000, 0x2000)
    assert (first.permissions, first.inode) == ("r-xp", 1234)


def test_a_file_named_like_a_memfd_is_a_file() -> None:
    (one,) = procfs.parse_executable_maps(b"1000-2000 r-xp 00000000 fe:00 5 /memfd:x\n")
    assert not one.is_anonymous


@pytest.mark.parametrize("line", [b"1000-2000 r-xp", b"zz-1 r-xp 0 0:0 0 x", b"1-2 rwxq 0 0:0 0"])
def test_malformed_maps(line: bytes) -> None:
    with pytest.raises(ValueError, match="malformed"):
        procfs.parse_executable_maps(line)


def test_status_of_this_process() -> None:
    status = procfs.parse_status(Path("/proc/self/status").read_bytes())
    assert status.tracer == 0
    assert status.state == "R"


def test_status_takes_the_effective_ids() -> None:
    text = (
        b"Name:\tevil\\nTracerPid:\\t0\nState:\tS (sleeping)\nTgid:\t5\nPid:\t5\nPPid:\t1\n"
        b"TracerPid:\t42\nUid:\t1000\t0\t1000\t1000\nGid:\t1\t2\t3\t4\nCapEff:\t00ff\n"
    )
    status = procfs.parse_status(text)
    assert (status.uid, status.gid, status.tracer, status.ppid) == (0, 2, 42, 1)


@pytest.mark.parametrize("name", [b"kthreadd", b"a) S 1 1 1 0 -1 2097152 (", b") ("])
def test_a_kernel_thread_is_told_by_its_flag_not_its_name(name: bytes) -> None:
    stat = b"9 (" + name + b") S 2 0 0 0 -1 %d 0 0 0\n"
    assert procfs.is_kernel_thread(stat % 0x00208040)
    assert not procfs.is_kernel_thread(stat % 0x00400100)


def test_words() -> None:
    assert procfs.split_words(b"a\0\0b\0") == ["a", "", "b"]
    assert procfs.split_words(b"title without an end") == ["title without an end"]
    assert procfs.split_words(b"") == []


@pytest.mark.parametrize(
    ("path", "is_kept"),
    [
        ("/usr/local/sbin:/usr/bin:/root/bin", False),
        ("/var/lib/mock-cloud/toolkit/x/bin:/var/lib/mocking", False),
        ("/usr/bin:/var/cache/mock", True),
        ("/var/lib/mock/../mock/x:/bin", True),
        ("/usr/bin:/var/lib/mock-cloud/jobs/1/bin", True),
        ("/proc/self/cwd", True),
    ],
)
def test_a_search_path_is_kept_if_it_leads_to_what_is_not_measured(
    path: str, is_kept: bool
) -> None:
    assert processes._loading(f"PATH={path}\0".encode()) == ({"PATH": path} if is_kept else {})


def test_environment_keeps_only_what_changes_loading() -> None:
    environ = (
        b"HOME=/\0LD_PRELOAD=/a.so\0LD_PRELOAD=/b.so\0PATH=/x\0BASH_FUNC_ls%%=() { x; }\0bad\0"
    )
    assert processes._loading(environ) == {
        "LD_PRELOAD": "/a.so",
        "BASH_FUNC_ls%%": "() { x; }",
    }


_HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"
_TAIL = "00000000:00000000 00:00000000 00000000     0        0 4242 1 0000000000000000"


def test_listening_tcp() -> None:
    listening = f"   0: 0100007F:0016 00000000:0000 0A {_TAIL}"
    connected = f"   1: 0100007F:0016 0100007F:A000 01 {_TAIL}"
    (one,) = sockets.parse_table("tcp", "\n".join((_HEAD, listening, connected)))
    assert one == sockets.Listener("tcp", "127.0.0.1", 22, 4242)


def test_unconnected_udp_of_version_6() -> None:
    line = f"  9: 000080FE00000000FF005450B6CB1CFE:0222 {'0' * 32}:0000 07 {_TAIL}"
    (one,) = sockets.parse_table("udp6", f"{_HEAD}\n{line}\n")
    assert (one.address, one.port) == ("fe80::5054:ff:fe1c:cbb6", 546)


def test_a_malformed_socket_line() -> None:
    with pytest.raises(ValueError, match="malformed"):
        sockets.parse_table("tcp", f"{_HEAD}\n 0: 00\n")

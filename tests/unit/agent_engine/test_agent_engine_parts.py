# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of the engine that need neither root nor a chroot."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.agent.engine import outside, packages, processes, skeleton
from mock_cloud.agent.engine.cache import Cache
from mock_cloud.agent.engine.errors import (
    BuildTimeout,
    NoSpace,
    NotExecutable,
    PackageError,
    RootError,
)
from mock_cloud.agent.engine.layers import LayerStore, key_of
from mock_cloud.agent.engine.logs import Logs
from mock_cloud.agent.engine.space import SpaceWatch
from mock_cloud.wire.job_request import EngineConfig
from mock_cloud.wire.terminal_log import TerminalDecoder, TerminalWriter


def make_logs(directory: Path, verbose: int = 1) -> Logs:
    terminal = os.open(directory / "terminal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    logs = Logs(TerminalWriter(terminal), verbose, show_output=False)
    logs.open(str(directory / "results"), "1")
    return logs


def test_the_formats_of_the_logs(tmp_path: Path) -> None:
    logs = make_logs(tmp_path)
    with pytest.raises(ValueError), logs.state("run"), logs.state("inner"):
        logs.announce()
        logs.announce()
        sink, finish = logs.root_sink()
        sink(b"one\ntw")
        sink(b"o\r\n\nlast")
        finish()
        sink, finish = logs.build_sink()
        sink(b"raw \xff \x1b[31mred\x1b[0m caf\xc3")
        sink(b"\xa9\n\n\n \n\x1b[01;31m\x1b[Kend\n")
        sink(b"7" * 70_000)
        sink(b"8\n\n")
        finish()
        logs.warning("careful")
        raise ValueError
    results = tmp_path / "results"
    root = (results / "root.log").read_text().splitlines()
    assert [line for line in root if " util.py:" in line] == [
        "DEBUG util.py:462:  one",
        "DEBUG util.py:462:  two",
        "DEBUG util.py:462:  last",
    ]
    assert root[-1] == "WARNING backend.py:0:  careful"
    assert (
        (results / "build.log")
        .read_text()
        .endswith(f"1\nraw \ufffd red caf\u00e9\n \nend\n{'7' * 70_000}8\n")
    )
    states = (results / "state.log").read_text()
    assert re.findall(r" - (.*)", states)[1:] == ["Start: run", "Start: inner", "Finish: inner"]
    records = TerminalDecoder().feed((tmp_path / "terminal").read_bytes())
    shown = b"".join(data for _, data in records).decode()
    said = "Start: run\nStart: inner\nINFO: Mock Version: mock-cloud 1\nWARNING: careful\n"
    assert shown == f"{said}Finish: inner\n"


def test_a_layer_s_key_knows_what_the_node_gives(tmp_path: Path) -> None:
    node = tmp_path / "node"
    (node / "etc").mkdir(parents=True)
    plain = EngineConfig("r", "r", "x86_64", "x86_64", "dnf", "", [])
    online = replace(plain, use_host_resolv=True, rpmbuild_networking=True)

    def key(config: EngineConfig) -> str:
        return key_of(kind="base", sources=skeleton.sources(config, str(node)))

    before = key(plain), key(online)
    (node / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    assert key(plain) == before[0]
    assert key(online) != before[1]
    (node / "etc/localtime").write_text("TZif")
    assert key(plain) != before[0]


def test_a_layer_needs_somebody_to_vouch_for_it(tmp_path: Path) -> None:
    store = LayerStore(str(tmp_path), "one", {})
    key = key_of(kind="base", x=1)
    draft = store.draft(key)
    (Path(draft.root) / "file").write_text("content")
    root = store.keep(draft, key, "base", revisions={}, requirements=[])
    assert store.find(key) == root
    digest = store.present()[root]
    store.close()
    trusting = LayerStore(str(tmp_path), "two", {root: digest})
    assert trusting.find(key) == root
    other = LayerStore(str(tmp_path), "three", {})
    assert other.find(key) is None
    assert Path(root, "file").exists(), "another job stands on it"
    trusting.close()
    assert other.find(key) is None
    assert not Path(root).exists()
    other.close()


def test_two_jobs_may_make_the_same_layer(tmp_path: Path) -> None:
    first, second = (LayerStore(str(tmp_path), name, {}) for name in ("one", "two"))
    drafts = [store.draft("key") for store in (first, second)]
    roots = {
        store.keep(draft, "key", "base", revisions={}, requirements=[])
        for store, draft in zip((first, second), drafts, strict=True)
    }
    assert len(roots) == 2
    first.close()
    second.close()


def test_the_build_user_replaces_its_names(tmp_path: Path) -> None:
    config = EngineConfig("r", "r", "x86_64", "x86_64", "dnf", "", [])
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nmockbuild:x:1:1::/:/bin/no\n")
    (tmp_path / "etc/shadow").write_text("root:*:1:::::\n")
    (tmp_path / "etc/shadow").chmod(0o640)
    skeleton.add_build_user(str(tmp_path), config)
    lines = (tmp_path / "etc/passwd").read_text().splitlines()
    assert lines == ["root:x:0:0::/root:/bin/sh", "mockbuild:x:1000:135::/builddir:/bin/sh"]
    assert (tmp_path / "etc/group").read_text() == "mock:x:135:\n"
    assert (tmp_path / "etc/shadow").read_text().splitlines()[1].startswith("mockbuild:!!:")
    assert (tmp_path / "etc/shadow").stat().st_mode & 0o777 == 0o640


def test_files_are_read_from_outside_without_following_links(tmp_path: Path) -> None:
    inside = tmp_path / "root/build/RPMS"
    inside.mkdir(parents=True)
    (inside / "real.rpm").write_text("real")
    (inside / "link.rpm").symlink_to("/etc/passwd")
    (tmp_path / "root/linked").symlink_to("/etc")
    root, out = str(tmp_path / "root"), tmp_path / "out"
    out.mkdir()
    assert outside.list_files(root, "/build/RPMS") == ["real.rpm"]
    copied = outside.copy_file_out(root, "/build/RPMS/real.rpm", str(out))
    assert Path(copied).read_text() == "real"
    for path in ("/build/RPMS/link.rpm", "/linked/passwd", "/no/such", "/build/RPMS"):
        with pytest.raises(PackageError):
            outside.copy_file_out(root, path, str(out))
    assert [path.name for path in out.iterdir()] == ["real.rpm"]


def test_commands_run_and_time_out() -> None:
    place = processes.Place()
    assert processes.capture(["sh", "-c", "echo out; echo err >&2; exit 3"], place) == (
        3,
        b"out\nerr\n",
    )
    assert processes.capture(["sh", "-c", "kill -9 $$"], place)[0] == 256 - 9
    with pytest.raises(BuildTimeout, match="Timeout"):
        processes.capture(["sleep", "60"], place, timeout_s=0.2)
    with pytest.raises(NotExecutable, match=r"^/no/such/program: No such file or directory$"):
        processes.capture(["/no/such/program"], place)


def test_a_call_brings_back_results_and_failures() -> None:
    def fail() -> bytes:
        raise FileNotFoundError(2, "No such file", "/x")

    assert processes.call(processes.Place(), lambda: b"a\0b") == b"a\0b"
    with pytest.raises(FileNotFoundError, match="/x"):
        processes.call(processes.Place(), fail)


def test_of_what_scriptlets_wrote_to_the_cache_packages_stay(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "dnf"), "key", "job")
    cache.prepare()
    metadata = Path(cache.path) / "lab-1/repodata/repomd.xml"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("fetched")
    (tmp_path / "elsewhere/packages").mkdir(parents=True)
    (tmp_path / "elsewhere/packages/node.rpm").write_text("the node's")
    with cache.written_beside() as scratch:
        upper = Path(scratch) / "upper"
        (upper / "lab-1/packages").mkdir(parents=True)
        (upper / "lab-1/repodata").mkdir()
        (upper / "lab-1/repodata/repomd.xml").write_text("forged")
        package = upper / "lab-1/packages/new.rpm"
        package.write_text("new")
        os.setxattr(package, "user.checked", b"yes")
        package.chmod(0o4777)
        (upper / "lab-1/packages/link.rpm").symlink_to("/etc/passwd")
        os.link(package, upper / "lab-1/packages/hard.rpm")
        (upper / "lab-1/packages/hard.rpm").unlink()
        (upper / "lab.solv").write_text("forged")
        (upper / "lab-2/packages").mkdir(parents=True)
        (upper / "lab-2/packages/of-no-repository.rpm").write_text("x")
        (upper / "lab-3").symlink_to(tmp_path / "elsewhere")
    found = sorted(path for path in Path(cache.path).rglob("*") if not path.is_dir())
    assert [str(path.relative_to(cache.path)) for path in found] == [
        "lab-1/packages/new.rpm",
        "lab-1/repodata/repomd.xml",
    ]
    assert metadata.read_text() == "fetched"
    assert os.listxattr(found[0]) == []
    assert found[0].stat().st_mode == stat.S_IFREG | 0o644
    assert not list(Path(tmp_path / "dnf").glob("*.written"))


def test_a_disk_with_room_is_not_full(tmp_path: Path) -> None:
    watch = SpaceWatch((str(tmp_path),))
    watch.look(b"write error: No space left on device")
    watch.raise_if_full("write error: No space left on device")
    with pytest.raises(NoSpace, match="no-space"):
        watch.raise_if_full("Error: At least 123MB more space needed on the / filesystem.")


def test_a_damaged_database_in_the_chroot_is_named(tmp_path: Path) -> None:
    """A package's script may have written it."""
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    database = tmp_path / "var/lib/rpm/rpmdb.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)")
        connection.execute("INSERT INTO Packages VALUES (1, ?)", (b"\0" * 100,))
    with pytest.raises(RootError, match="damaged"):
        packages.list_installed(str(tmp_path))

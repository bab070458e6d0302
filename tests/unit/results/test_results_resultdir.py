# SPDX-License-Identifier: GPL-2.0-or-later
"""The result directory: live logs, staging, publication, and what an abort leaves."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.errors import ResultDirError, ResultError
from mock_cloud.file_owner import as_owner, find_owner
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.results.disk import check_space, disk_of
from mock_cloud.results.names import ManifestEntry
from mock_cloud.results.ownlog import write_own_log
from mock_cloud.results.resultdir import ResultDir
from mock_cloud.results.staging import Staging
from mock_cloud.steps.results.mirror import find_logs
from tests.lab.layout import repository_root


def entry(name: str, data: bytes) -> ManifestEntry:
    return ManifestEntry(name, len(data), hashlib.sha256(data).hexdigest())


def listing(path: Path) -> dict[str, bytes]:
    return {
        str(found.relative_to(path)): found.read_bytes()
        for found in path.rglob("*")
        if found.is_file()
    }


def fill(staging: Staging, contents: dict[str, bytes]) -> None:
    for wanted in staging.accept([entry(name, data) for name, data in contents.items()]):
        with staging.file(wanted) as file:
            file.write(contents[wanted.name])


def test_results_appear_together_at_the_end(tmp_path: Path) -> None:
    contents = {"a.rpm": b"a" * 5000, "b.src.rpm": b"b", "hw_info.log": b""}
    with ResultDir.open(tmp_path / "deep" / "r") as results:
        with results.stage("attempt-1") as staging:
            fill(staging, contents)
            assert not [path for path in results.path.iterdir() if path != staging.path]
            paths = staging.publish()
        assert sorted(path.name for path in paths) == sorted(contents)
        assert listing(results.path) == contents
        assert not list(results.path.glob(".*"))


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it acts for another user")


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of the user whom sudo acts for: pytest's own are root's."""
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "1235")
    with tempfile.TemporaryDirectory(prefix="mock-cloud-users-") as name:
        os.chown(name, 1234, 1235)
        yield Path(name)


def build_something(place: Path) -> None:
    with ResultDir.open(place / "deep" / "r", packages=("p-1",)) as results:
        results.check_logs(("p-1/build.log",))
        results.log("p-1/build.log").write(b"x")
        write_own_log(results.path / "attestation.log", "y")
        with results.stage("attempt") as staging:
            fill(staging, {"p-1/p-1.rpm": b"z"})
            staging.publish()


@needs_root
def test_results_under_sudo_are_the_users(users: Path) -> None:
    (users / "root.log").write_text("root's own\n")
    build_something(users)
    made = [users / "deep", *(users / "deep").rglob("*")]
    assert {path.name for path in made} == {
        "deep", "r", "p-1", "build.log", "attestation.log", "p-1.rpm",
    }  # fmt: skip
    assert {path.stat().st_uid for path in made} == {1234}
    assert len({path.stat().st_gid for path in made} - {os.getegid()}) == 1
    assert (users / "root.log").stat().st_uid == os.geteuid()


@needs_root
def test_results_under_sudo_are_written_with_the_users_rights(users: Path) -> None:
    """As mock's are: what root could do there, and the user could not, is not done for him."""
    (users / "closed").mkdir(mode=0o755)
    (users / "root.log").write_text("root's own\n")
    (users / "root.log").chmod(0o644)
    with pytest.raises(ResultDirError, match="Permission denied"):
        ResultDir.open(users / "closed")
    with ResultDir.open(users) as results, pytest.raises(ResultDirError):
        results.check_logs(("root.log",))
    with as_owner():
        assert not os.access(users / "closed/x", os.F_OK)
        with pytest.raises(PermissionError):
            (users / "closed/x").touch()
    (users / "closed/x").touch()


@needs_root
def test_results_go_where_root_may_write_nothing(users: Path) -> None:
    """As on NFS with root_squash."""
    argv = [sys.executable, __file__, str(users)]
    squash = repository_root() / "tests/squash.py"
    squashed = ["unshare", "--mount", sys.executable, str(squash), str(users), "1234", *argv]
    done = subprocess.run(
        squashed,
        cwd=repository_root(),
        env={**os.environ, "PYTHONPATH": str(repository_root())},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (users / "deep/r/p-1/p-1.rpm").read_bytes() == b"z"


@pytest.mark.parametrize("sudo", [None, "0", "", "-1", "nobody"])
def test_without_sudo_results_are_this_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sudo: str | None
) -> None:
    monkeypatch.delenv("USERHELPER_UID", raising=False)
    monkeypatch.delenv("SUDO_UID", raising=False)
    if sudo is not None:
        monkeypatch.setenv("SUDO_UID", sudo)
    assert find_owner() is None
    with ResultDir.open(tmp_path / "r") as results:
        results.log("build.log").write(b"x")
    assert (tmp_path / "r/build.log").stat().st_uid == os.geteuid()


def test_results_are_readable_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        build_something(tmp_path)
    finally:
        os.umask(before)
    for path in (tmp_path / "deep").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path
    kept = tmp_path / "deep/r/attestation.log"
    kept.chmod(0o600)
    write_own_log(kept, "more", append=True)
    assert kept.stat().st_mode & 0o777 == 0o600


def test_an_abort_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.rpm").write_bytes(b"earlier")
    with ResultDir.open(tmp_path) as results:
        with pytest.raises(KeyboardInterrupt), results.stage("x") as staging:
            fill(staging, {"a.rpm": b"later"})
            raise KeyboardInterrupt
        assert listing(tmp_path) == {"a.rpm": b"earlier"}
        assert not list(tmp_path.glob(".*"))


def test_leaving_without_publication_is_an_abort(tmp_path: Path) -> None:
    with ResultDir.open(tmp_path) as results, results.stage("x") as staging:
        fill(staging, {"a.rpm": b"a"})
    assert listing(tmp_path) == {}


def test_results_replace_earlier_ones_but_not_directories(tmp_path: Path) -> None:
    (tmp_path / "a.rpm").write_bytes(b"earlier")
    (tmp_path / "link.rpm").symlink_to("/etc/passwd")
    with ResultDir.open(tmp_path) as results, results.stage("x") as staging:
        fill(staging, {"a.rpm": b"later", "link.rpm": b"real"})
        staging.publish()
    assert (tmp_path / "a.rpm").read_bytes() == b"later"
    assert not (tmp_path / "link.rpm").is_symlink()
    (tmp_path / "d.rpm").mkdir()
    with ResultDir.open(tmp_path) as results, results.stage("x") as staging:
        fill(staging, {"a.rpm": b"last", "d.rpm": b"d"})
        with pytest.raises(ResultError, match="directory"):
            staging.publish()
    assert (tmp_path / "a.rpm").read_bytes() == b"later"


def test_packages_of_earlier_builds_go_from_mocks_own_directory(tmp_path: Path) -> None:
    (tmp_path / "old-1.x86_64.rpm").write_bytes(b"old")
    (tmp_path / "note.txt").write_bytes(b"mine")
    with ResultDir.open(tmp_path, fresh=True) as results, results.stage("x") as staging:
        fill(staging, {"new-2.x86_64.rpm": b"new"})
        staging.publish(replace_earlier=True)
    assert set(listing(tmp_path)) == {"new-2.x86_64.rpm", "note.txt"}


DATA = b"the right bytes"


@pytest.mark.parametrize(
    ("sent", "words"),
    [(DATA[:-1], "14 of 15"), (DATA + b"!", "more than"), (b"the wrong bytes", "sha256")],
)
def test_bytes_that_are_not_those_listed(tmp_path: Path, sent: bytes, words: str) -> None:
    with ResultDir.open(tmp_path) as results, results.stage("x") as staging:
        (wanted,) = staging.accept([entry("a.rpm", DATA)])
        with pytest.raises(ResultError, match=words), staging.file(wanted) as file:
            file.write(sent)
        with pytest.raises(ResultError, match=r"did not arrive: a\.rpm"):
            staging.publish()
        with staging.file(wanted) as file:  # fetched again
            file.write(DATA[:3])
            file.write(DATA[3:])
        staging.publish()
    assert listing(tmp_path) == {"a.rpm": DATA}


def test_only_what_was_accepted_is_written(tmp_path: Path) -> None:
    with ResultDir.open(tmp_path) as results, results.stage("x") as staging:
        staging.accept([entry("a.rpm", b"")])
        for stranger in (entry("b.rpm", b""), entry("../b.rpm", b"")):
            with pytest.raises(ResultError, match="not accepted"), staging.file(stranger):
                pass


def test_chains_have_a_directory_a_package(tmp_path: Path) -> None:
    contents = {"p-1/p-1.rpm": b"p", "p-1/success": b"", "repodata/repomd.xml": b"<repomd/>"}
    with ResultDir.open(tmp_path, packages=("p-1",)) as results:
        log = results.log("p-1/build.log")
        log.write(b"log")
        with results.stage("x") as staging:
            fill(staging, contents)
            staging.publish()
    assert listing(tmp_path) == {**contents, "p-1/build.log": b"log"}


def test_a_chains_directories_are_no_links(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "p-1").symlink_to("../elsewhere")
    with ResultDir.open(tmp_path / "r", packages=("p-1",)) as results:
        with pytest.raises(ResultDirError, match="link"):
            results.log("p-1/build.log")
        with results.stage("x") as staging:
            fill(staging, {"p-1/a.rpm": b"a"})
            with pytest.raises(ResultError, match="directory of its own"):
                staging.publish()
    assert listing(tmp_path / "elsewhere") == {}


def test_two_attempts_never_share_a_staging_directory(tmp_path: Path) -> None:
    with ResultDir.open(tmp_path) as results, results.stage("x") as staging:
        with pytest.raises(ResultError, match="another attempt"), results.stage("x"):
            pass
        assert staging.path.is_dir()
        with pytest.raises(ResultError, match="refused"):
            results.stage("../x")


DIE = """
import os, sys
from pathlib import Path
from mock_cloud.results.resultdir import ResultDir
results = ResultDir.open(Path(sys.argv[1]))
staging = results.stage("dead").__enter__()
(staging.path / "half.rpm").write_bytes(b"half")
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_attempt_left_is_removed_a_live_one_is_not(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIE, str(tmp_path)], check=False, timeout=600)
    assert (tmp_path / ".mock-cloud-dead/half.rpm").exists()
    with ResultDir.open(tmp_path) as results, results.stage("live") as staging:
        assert not (tmp_path / ".mock-cloud-dead").exists()
        with ResultDir.open(tmp_path):
            assert staging.path.is_dir()


def test_live_logs_grow_in_place_as_mocks_do(tmp_path: Path) -> None:
    (tmp_path / "build.log").write_bytes(b"earlier\n")
    inode = (tmp_path / "build.log").stat().st_ino
    with ResultDir.open(tmp_path) as results:
        results.log("build.log").write(b"more \x1b[2J\n")
        assert listing(tmp_path) == {"build.log": b"earlier\nmore \x1b[2J\n"}
    with ResultDir.open(tmp_path, fresh=True) as results:
        results.log("build.log").write(b"fresh\n")
    assert (tmp_path / "build.log").read_bytes() == b"fresh\n"
    assert (tmp_path / "build.log").stat().st_ino == inode


def test_no_other_log_is_opened_let_alone_emptied(tmp_path: Path) -> None:
    """mock writes them anew at its end, and so do we, once all has arrived."""
    there = {"hw_info.log": b"earlier\n", "remote_attestation.log": b"trusted\n", "a.rpm": b"a"}
    for name, data in there.items():
        (tmp_path / name).write_bytes(data)
    for fresh in (False, True):
        with ResultDir.open(tmp_path, fresh=fresh) as results:
            for name in there:
                with pytest.raises(ResultError, match="refused"):
                    results.log(name)
    assert listing(tmp_path) == there


def test_a_resumed_stream_may_overlap_but_not_leave_a_gap(tmp_path: Path) -> None:
    with ResultDir.open(tmp_path) as results:
        log = results.log("root.log")
        log.write(b"abcdef", 0)
        log.write(b"def", 3)
        log.write(b"efgh", 4)
        assert log.offset == 8
        with pytest.raises(ResultError, match="bytes 8 to 9 are missing"):
            log.write(b"j", 9)
        assert results.log("root.log") is log
    assert listing(tmp_path) == {"root.log": b"abcdefgh"}


def test_live_logs_are_verified_and_never_renamed_over(tmp_path: Path) -> None:
    (tmp_path / "build.log").write_bytes(b"earlier\n")
    with ResultDir.open(tmp_path) as results:
        log = results.log("build.log")
        inode = log.path.stat().st_ino
        log.write(b"li")
        with results.stage("x") as staging:
            listed = [entry("build.log", b"live"), entry("a.rpm", b"a")]
            (wanted,) = staging.accept(listed, results.logs)
            assert wanted.name == "a.rpm"
            with staging.file(wanted) as file:
                file.write(b"a")
            with pytest.raises(ResultError, match=r"build\.log holds 2 bytes"):
                staging.publish()
            assert not (tmp_path / "a.rpm").exists()
            log.write(b"ve", 2)
            staging.publish()
        assert log.path.stat().st_ino == inode
    assert listing(tmp_path) == {"build.log": b"earlier\nlive", "a.rpm": b"a"}


@pytest.mark.parametrize("restart", [True, False])
def test_a_second_attempt_is_appended_after_the_first(tmp_path: Path, restart: bool) -> None:
    with ResultDir.open(tmp_path, fresh=True) as results:
        results.log("build.log").write(b"first ")
        if restart:
            results.restart_logs()
        else:
            results.log("build.log").close()
        log = results.log("build.log")
        assert log.offset == 0
        log.write(b"second", 0)
        log.verify(6, hashlib.sha256(b"second").hexdigest())
    assert listing(tmp_path) == {"build.log": b"first second"}


def test_a_line_stands_between_two_attempts(tmp_path: Path) -> None:
    with ResultDir.open(tmp_path, fresh=True) as results:
        inode = results.log("build.log").path.stat().st_ino
        results.log("build.log").write(b"first")
        results.restart_logs("the node died \udcff")
        log = results.log("build.log")
        log.write(b"second", 0)
        log.verify(6, hashlib.sha256(b"second").hexdigest())
        assert (tmp_path / "build.log").stat().st_ino == inode
    assert listing(tmp_path) == {"build.log": b"first\nthe node died \\udcff\nsecond"}


@pytest.mark.parametrize(
    "name", ["../build.log", "/tmp/build.log", "a\n.log", "build.sh", "x/y.log"]
)
def test_log_names_are_checked(tmp_path: Path, name: str) -> None:
    with ResultDir.open(tmp_path) as results, pytest.raises(ResultError, match="refused"):
        results.log(name)


def test_links_and_special_files_in_a_logs_place_are_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    directory = tmp_path / "r"
    directory.mkdir()
    (directory / "build.log").symlink_to(victim)
    os.mkfifo(directory / "root.log")
    (directory / "state.log").mkdir()
    with ResultDir.open(directory, fresh=True) as results:
        for name in ("build.log", "root.log", "state.log"):
            with pytest.raises(ResultDirError):
                results.log(name)
    assert victim.read_bytes() == b"precious"


def test_an_unusable_directory_has_exit_code_70(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        with pytest.raises(ResultDirError) as caught:
            ResultDir.open(path)
        assert caught.value.exit_code == 70
        assert "--resultdir" in str(caught.value.hint)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_directory_of_somebody_else_has_exit_code_70(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    script = (
        "import os, sys; from pathlib import Path; from mock_cloud.errors import ResultDirError\n"
        "from mock_cloud.results.resultdir import ResultDir\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "try: ResultDir.open(Path(sys.argv[1]))\n"
        "except ResultDirError as error: sys.exit(error.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=600)
    assert done.returncode == 70


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    point = tmp_path / "disk"
    point.mkdir()
    if not shutil.which("mount"):
        pytest.skip("needs mount")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(point)],
        check=False, capture_output=True, timeout=600,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield point
    subprocess.run(["umount", str(point)], check=True, timeout=600)


def test_results_that_do_not_fit_are_refused_before_the_first_byte(small_disk: Path) -> None:
    with ResultDir.open(small_disk / "r") as results, results.stage("x") as staging:
        with pytest.raises(ResultError, match="MiB free") as caught:
            staging.accept([ManifestEntry("a.rpm", 2 << 20, "0" * 64)])
        assert str(small_disk) in caught.value.message
        assert "--resultdir" in str(caught.value.hint)


def test_a_disk_that_fills_up_is_named(small_disk: Path) -> None:
    with ResultDir.open(small_disk) as results:
        log = results.log("build.log")
        with pytest.raises(ResultError, match="full") as caught:
            log.write(b"x" * (2 << 20))
        assert f"the disk {small_disk} is full" in caught.value.message
        log.path.write_bytes(b"")


def test_free_space_of_a_real_disk(tmp_path: Path) -> None:
    check_space(tmp_path, 0)
    with pytest.raises(ResultError, match="need"):
        check_space(tmp_path, 1 << 60)
    assert tmp_path.is_relative_to(disk_of(tmp_path))


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with ResultDir.open(tmp_path) as results:
        results.log("build.log").write(b"x")
        with results.stage("x") as staging:
            fill(staging, {"a.rpm": b"a"})
            staging.publish()
        with pytest.raises(ResultError), results.stage("y") as staging:
            staging.accept([entry("../a.rpm", b"")])
    assert set(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("kind", ["link", "dangling", "directory", "fifo"])
def test_what_is_no_log_is_noticed_before_a_node_is_had(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "results/build.log"
    place.parent.mkdir()
    if kind == "link":
        (tmp_path / "elsewhere").touch()
        place.symlink_to(tmp_path / "elsewhere")
    elif kind == "dangling":
        place.symlink_to(tmp_path / "nowhere")
    elif kind == "directory":
        place.mkdir()
    else:
        os.mkfifo(place)
    with ResultDir.open(place.parent) as resultdir:
        resultdir.check_logs(("root.log", "state.log"))
        with pytest.raises(ResultDirError, match=r"build\.log") as caught:
            resultdir.check_logs(("root.log", "build.log"))
    assert "--resultdir" in (caught.value.hint or "")
    assert sorted(path.name for path in place.parent.iterdir()) == ["build.log"]


def test_a_log_of_before_is_none_of_that(tmp_path: Path) -> None:
    (tmp_path / "build.log").write_text("before")
    with ResultDir.open(tmp_path) as resultdir:
        resultdir.check_logs(("build.log",))
    assert (tmp_path / "build.log").read_text() == "before"


def test_the_logs_that_a_command_writes() -> None:
    def logs(*words: str) -> tuple[str, ...]:
        return find_logs(parse_command_line(words, {}))

    assert logs("x.src.rpm") == ("root.log", "state.log", "build.log")
    assert logs("--init") == ("root.log", "state.log")
    assert logs("--shell") == ()


if __name__ == "__main__":
    build_something(Path(sys.argv[1]))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Host paths of a command line: found, checked, named as the node will know them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_cloud.errors import InputError, MockCloudError
from mock_cloud.invocation.hostfiles import HostFile, host_inputs, node_args
from mock_cloud.invocation.names import NAME_MAX_BYTES, find_name_problem
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.wire.terminal_text import printable

Forge = Callable[..., bytes]


def inputs(*argv: str) -> list[HostFile]:
    return host_inputs(parse_command_line(argv, {}))


def pairs(*argv: str) -> list[tuple[str, str]]:
    return [(file.role, file.name) for file in inputs(*argv)]


def test_srpms_in_their_order(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other-1.src.rpm"
    shutil.copy(tiny["source"], other)
    argv = ["--chain", str(other), str(tiny["source"])]
    assert pairs(*argv) == [("srpm", other.name), ("srpm", tiny["source"].name)]
    assert node_args(parse_command_line(argv, {})) == [other.name, tiny["source"].name]


@pytest.mark.parametrize("url", ["http://h/x.src.rpm", "https://h/x.src.rpm", "ftp://h/x.src.rpm"])
def test_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(MockCloudError, match="this machine") as caught:
        inputs(url)
    assert caught.value.hint is not None


def test_what_is_no_source_package_is_refused(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    junk = tmp_path / "junk.src.rpm"
    junk.write_bytes(b"not an rpm" * 100)
    directory = tmp_path / "dir.src.rpm"
    directory.mkdir()
    fifo = tmp_path / "fifo.src.rpm"
    os.mkfifo(fifo)
    tarball = tmp_path / "a.tar.gz"
    tarball.write_bytes(b"\x1f\x8b" * 100)
    for path, words in (
        (tmp_path / "missing.src.rpm", "No such file"),
        (junk, "not an RPM"),
        (directory, "not a regular file"),
        (fifo, "not a regular file"),
        (tarball, "not an RPM"),
        (tiny["binary"], "not a source package"),
    ):
        with pytest.raises(MockCloudError, match=words) as caught:
            inputs(str(path))
        assert caught.value.exit_code == 1


def test_a_source_package_is_one_by_whatever_name(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    """As with mock, but a chain takes what ends in .rpm only."""
    for name in ("download", "a.src.rpm.1", "a b.rpm", "100%.src.rpm"):
        shutil.copy(tiny["source"], tmp_path / name)
        assert pairs(str(tmp_path / name)) == [("srpm", name)]


def test_a_chain_with_what_is_no_source_package_ends_as_mocks(
    tiny: Mapping[str, Path], tmp_path: Path
) -> None:
    """With 4, as one that was built in part."""
    shutil.copy(tiny["source"], tmp_path / "download")
    for name, words in (
        (str(tmp_path / "download"), r"does not end in \.rpm"),
        (str(tmp_path / "absent.src.rpm"), "No such file"),
        (str(tiny["binary"]), "not a source package"),
    ):
        with pytest.raises(MockCloudError, match=words) as caught:
            inputs("--chain", str(tiny["source"]), name)
        assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "name", ["-rf.src.rpm", "a\nb.src.rpm", "a\x1b[2J.src.rpm", ".a.src.rpm", "a\u202e.src.rpm"]
)
def test_hostile_file_names_are_refused_in_one_safe_line(
    name: str, tiny: Mapping[str, Path], tmp_path: Path
) -> None:
    shutil.copy(tiny["source"], tmp_path / name)
    with pytest.raises(MockCloudError) as caught:
        inputs(str(tmp_path / name))
    assert caught.value.message.isprintable()
    assert "refused" in caught.value.message


def test_two_files_of_one_name_are_refused(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    twin = tmp_path / tiny["source"].name
    shutil.copy(tiny["source"], twin)
    with pytest.raises(MockCloudError, match="two files are called"):
        inputs("--resultdir=r", str(tiny["source"]), str(twin))
    assert len(inputs("--resultdir=r", str(twin), str(twin))) == 2


def test_spec_and_sources(tmp_path: Path) -> None:
    spec = tmp_path / "a.spec"
    spec.write_text("Name: a")
    sources = tmp_path / "src"
    (sources / "sub").mkdir(parents=True)
    (sources / "Icon\r").write_text("b")
    argv = ["--buildsrpm", f"--spec={spec}", f"--sources={sources}"]
    assert pairs(*argv) == [("spec", "a.spec"), ("sources", "sources")]
    assert pairs("--buildsrpm", f"--spec={spec}", f"--sources={sources}/Icon\r")[1:] == [
        ("source", "Icon\r")
    ]


def test_missing_spec_sources_and_macro_file_have_mocks_exit_code(tmp_path: Path) -> None:
    spec = tmp_path / "a.spec"
    spec.write_text("Name: a")
    for argv in (
        ["--buildsrpm", f"--spec={tmp_path}/none.spec"],
        ["--buildsrpm", f"--spec={spec}", f"--sources={tmp_path}/none"],
        ["--init", f"--macro-file={tmp_path}/none"],
    ):
        with pytest.raises(MockCloudError) as caught:
            inputs(*argv)
        assert caught.value.exit_code == 5


def test_packages_are_files_only_when_they_look_like_it(
    tiny: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    binary = tiny["binary"]
    argv = ["--install", "gcc", "/usr/bin/time", str(binary), "x.rpm", "http://h/y.rpm"]
    assert pairs(*argv) == [("package", binary.name)]
    line = parse_command_line(argv, {})
    assert node_args(line) == ["gcc", "/usr/bin/time", binary.name, "x.rpm", "http://h/y.rpm"]
    shutil.copy(binary, tmp_path / "x.rpm")
    assert pairs("--install", "x.rpm") == [("package", "x.rpm")]
    with pytest.raises(MockCloudError, match="No such file"):
        inputs("--install", "./none.rpm")


def test_installdeps_takes_specs_and_packages(tiny: Mapping[str, Path]) -> None:
    argv = ["--installdeps", str(tiny["spec"]), str(tiny["binary"])]
    assert pairs(*argv) == [("spec", "tiny.spec"), ("srpm", tiny["binary"].name)]


def test_copyin_and_copyout(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_text("f")
    argv = ["--copyin", f"{tmp_path}/d/", f"{tmp_path}/f", "/var/tmp"]
    assert pairs(*argv) == [("copyin", "d"), ("copyin", "f")]
    (tmp_path / ".gitconfig").write_text("x")
    (tmp_path / "-x\n").write_text("x")
    odd = ["--copyin", f"{tmp_path}/.gitconfig", f"{tmp_path}/-x\n", "/var/tmp"]
    assert pairs(*odd) == [("copyin", ".gitconfig"), ("copyin", "-x\n")]
    assert node_args(parse_command_line(argv, {})) == ["/var/tmp"]
    out = ["--copyout", "/a", "/b", str(tmp_path)]
    assert inputs(*out) == [HostFile(tmp_path.name, "copyout", tmp_path)]
    assert node_args(parse_command_line(out, {})) == ["/a", "/b"]
    for bad in (
        ["--copyin", f"{tmp_path}/none", "/x"],
        ["--copyout", "/a", f"{tmp_path}/none/x"],
        ["--copyout", "/a", "/b", f"{tmp_path}/f"],
    ):
        with pytest.raises(MockCloudError) as caught:
            inputs(*bad)
        assert caught.value.exit_code == 50


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it acts for another user")
def test_copyout_under_sudo_is_for_the_user_who_called_it_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ("--copyout", "/a", str(tmp_path))
    assert inputs(*argv)
    monkeypatch.setenv("SUDO_UID", "1234")
    tmp_path.chmod(0o700)
    with pytest.raises(InputError, match="cannot write to"):
        inputs(*argv)


def test_scrub_tells_the_node_what() -> None:
    assert node_args(parse_command_line(["--scrub=cache", "--scrub=chroot"], {})) == [
        "cache",
        "chroot",
    ]


@given(st.text(max_size=300))
def test_acceptable_names_are_harmless(name: str) -> None:
    if find_name_problem(name) is None:
        assert name.isprintable()
        assert "/" not in name
        assert name[0] not in "-."
        assert 0 < len(name.encode()) <= NAME_MAX_BYTES


@given(st.text(max_size=100))
def test_printable_is(text: str) -> None:
    shown = printable(text)
    assert "\n" not in shown
    assert "\x1b" not in shown
    shown.encode()

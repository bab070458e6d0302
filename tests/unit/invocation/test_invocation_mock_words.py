# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line for a mock on a node."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from mock_cloud.errors import ConfigError, UnsupportedByEngine
from mock_cloud.invocation.carrying import Carrier
from mock_cloud.invocation.engines import FIELDS
from mock_cloud.invocation.hostfiles import host_inputs
from mock_cloud.invocation.mock_words import mock_words
from mock_cloud.invocation.model import CommandLine
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.wire.job_request import JOB_DIRECTORY

INPUTS = f"{JOB_DIRECTORY}/inputs"


def words(*argv: str | Path) -> list[str]:
    line = parse_command_line(list(map(str, argv)), {})
    return mock_words(line, host_inputs(line), Carrier())


def test_every_field_of_a_command_line_was_decided() -> None:
    """A new option is said, folded into the configuration or left here, never forgotten."""
    for field in dataclasses.fields(CommandLine):
        assert FIELDS[field.name][1] in ("said", "folded", "left"), field.name


def test_a_rebuild_names_its_inputs_on_the_node(tiny: Mapping[str, Path]) -> None:
    source, binary = tiny["source"], tiny["binary"]
    assert words(source) == ["--rebuild", f"{INPUTS}/srpm/{source.name}"]
    found = words(
        "-v", "--offline", "--enablerepo=a", "--disablerepo=b", "--isolation=simple", "--trace",
        "--additional-package", binary, "--additional-package=gcc", "--resultdir=/r",
        "-D", "x y", "--rootdir=/elsewhere", source,
    )  # fmt: skip
    assert found == [
        "--rebuild", "--verbose", "--trace", "--offline", "--enablerepo=a", "--disablerepo=b",
        f"--additional-package={INPUTS}/package/{binary.name}",
        "--additional-package=gcc", f"{INPUTS}/srpm/{source.name}",
    ]  # fmt: skip


def test_spec_and_sources(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a.patch").write_text("a")
    spec, place = tiny["spec"], f"--spec={INPUTS}/spec/tiny.spec"
    directory = words("--buildsrpm", "--spec", spec, "--sources", tmp_path, "--symlink-dereference")
    assert directory == [
        "--buildsrpm", "--symlink-dereference", place, f"--sources={INPUTS}/sources",
    ]  # fmt: skip
    file = words("--rebuild", "--spec", spec, "--sources", tmp_path / "a.patch")
    assert file == ["--rebuild", place, f"--sources={INPUTS}/source/a.patch"]


def test_a_chain(tiny: Mapping[str, Path]) -> None:
    found = words("--chain", "--recurse", "--localrepo=/here", tiny["source"])
    srpm = f"{INPUTS}/srpm/{tiny['source'].name}"
    assert found == ["--chain", "--continue", "--recurse", "--tmp_prefix=remote", srpm]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("--init", "--init"),
        ("--clean", "--clean"),
        ("--scrub=all --scrub=chroot", "--scrub=all --scrub=chroot"),
        ("--shell", "--shell"),
        ("--shell --unpriv --cwd=/tmp ls /", "--shell --unpriv --cwd=/tmp -- ls /"),
        ("--chroot -- ls -l", "--chroot -- ls -l"),
        ("--install gcc /usr/bin/time", "--install gcc /usr/bin/time"),
        ("--remove gcc", "--remove gcc"),
        ("--update", "--update"),
        ("--orphanskill", "--orphanskill"),
        ("--pm-cmd install --best gcc", "--pm-cmd -- install --best gcc"),
        ("--dnf-cmd info gcc", "--dnf-cmd -- info gcc"),
        ("--remove-snapshot one", "--remove-snapshot one"),
        ("--rollback-to one", "--rollback-to one"),
        ("--list-snapshots", "--list-snapshots"),
        ("-q --snapshot one", "--snapshot --quiet one"),
    ],
)
def test_modes(argv: str, expected: str) -> None:
    assert words(*argv.split()) == expected.split()


def test_dependencies_of_packages_and_specs(tiny: Mapping[str, Path]) -> None:
    srpm, spec = f"{INPUTS}/srpm/{tiny['source'].name}", f"{INPUTS}/spec/tiny.spec"
    found = words("--installdeps", tiny["source"], tiny["spec"])
    assert found == ["--installdeps", srpm, spec]
    found = words("--calculate-build-dependencies", tiny["source"])
    assert found == ["--calculate-build-dependencies", srpm]


def test_copies(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "d").mkdir()
    found = words("--copyin", tmp_path / "a", tmp_path / "d", "/tmp")
    assert found == ["--copyin", f"{INPUTS}/copyin/a", f"{INPUTS}/copyin/d", "/tmp"]
    # A directory that is there is copied into, anything else is a name to give.
    copied = f"{JOB_DIRECTORY}/copyout"
    assert words("--copyout", "/x", tmp_path) == ["--copyout", "/x", copied]
    assert words("--copyout", "/x", tmp_path / "n") == ["--copyout", "/x", f"{copied}/n"]


def test_packages_among_the_words_of_a_package_manager_go_along(tiny: Mapping[str, Path]) -> None:
    line = parse_command_line(["--pm-cmd", "install", str(tiny["binary"])], {})
    carrier = Carrier()
    found = mock_words(line, host_inputs(line), carrier)
    assert found[-1] == f"{INPUTS}/file/{tiny['binary'].name}"
    assert [file.path for file in carrier.files.values()] == [tiny["binary"]]
    for word in ("--config=/etc/my.conf", "--repofrompath=x,file:///srv/x"):
        with pytest.raises(UnsupportedByEngine, match="no such file"):
            words("--pm-cmd", "--", "install", word)


def test_downloads_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    out = f"{JOB_DIRECTORY}/output"
    for given, expected in (
        (["download", "x"], ["download", "x"]),
        (["download", "--destdir", "there", "x"], ["download", f"--destdir={out}/1", "x"]),
        (["install", f"--downloaddir={tmp_path}"], ["install", f"--downloaddir={out}/0"]),
        (["download", "--destdir=new"], ["download", f"--destdir={out}/1"]),
    ):
        carrier = Carrier()
        line = parse_command_line(["--pm-cmd", "--", *given], {})
        assert mock_words(line, host_inputs(line), carrier) == ["--pm-cmd", "--", *expected]
        assert carrier.returns["output/0"] == tmp_path and set(carrier.returns) == carrier.packages
    (tmp_path / "file").touch()
    for word in ("--destdir=/no/such/place", "--downloaddir=file"):
        with pytest.raises(ConfigError, match="is not a directory"):
            words("--pm-cmd", "--", "download", word)
    for word in ("reposync", "debug-dump", "--debugsolver", "--setopt=cachedir=/x", "--store=x",
                 "--repofrompath=x,/srv"):  # fmt: skip
        with pytest.raises(UnsupportedByEngine, match=word.split(",")[0]):
            words("--pm-cmd", "--", word)


def test_a_hermetic_build(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    lock, repository = tmp_path / "lock.json", tmp_path / "repo"
    lock.write_text("{}")
    repository.mkdir()
    found = words("--hermetic-build", lock, f"file://{repository}", tiny["source"])
    assert found == [
        "--rebuild", "--hermetic-build", f"{INPUTS}/file/lock.json", f"{INPUTS}/tree/repo",
        f"{INPUTS}/srpm/{tiny['source'].name}",
    ]  # fmt: skip

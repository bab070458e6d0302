# SPDX-License-Identifier: GPL-2.0-or-later
"""What travels for each engine: the request, and the files that it names."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from mock_cloud.config.chroots import load_config_opts
from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.overrides import apply_command_line
from mock_cloud.console import Console
from mock_cloud.errors import ConfigError, InputError, MockCloudError, UnsupportedByEngine
from mock_cloud.invocation.model import CommandLine
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.settings import AttestSettings, BuildSettings, EngineChoice, Remote
from mock_cloud.steps.check.checkout import checked_out
from mock_cloud.steps.check.chosen_engine import Engine, choose_engine
from mock_cloud.steps.check.request import KIT_NAME, prepare
from mock_cloud.steps.send.repo_tunnel import Tunnel
from mock_cloud.toolkit.mock_kit import MockKit
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.job_request import parse_request
from mock_cloud.wire.tree_archive import Kind
from tests.tree_archives import listing

CONFIG = """\
config_opts['root'] = 'small'
config_opts['target_arch'] = 'x86_64'
config_opts['chroot_setup_cmd'] = 'install @build'
config_opts['dnf.conf'] = '[main]\\nreposdir=/dev/null\\n[r]\\nbaseurl=http://r/\\n'
"""
_SIGNED: Final = "config_opts['dnf.conf'] += 'gpgcheck=1\\n'\n"
NODES_OWN = Engine(uses_mock=True)
CHROOT = Engine(uses_mock=False)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/small.cfg").write_text(CONFIG)
    return tmp_path / "etc"


def given(etc: Path, *argv: str | Path, more: str = "") -> tuple[CommandLine, ConfigOpts]:
    with (etc / "small.cfg").open("a") as stream:
        stream.write(more)
    words = ["--configdir", str(etc), "-r", "small", *map(str, argv)]
    line = parse_command_line(words, {})
    opts = load_config_opts("small", etc, home=etc)
    apply_command_line(opts, line)
    return line, opts


def test_each_engine_is_told_what_it_needs(etc: Path) -> None:
    (etc / "logging.ini").write_text("[loggers]\n")
    line, opts = given(etc, "--init")
    for engine in (Engine(uses_mock=False), NODES_OWN):
        with prepare(line, opts, engine) as work:
            request = work.request({}, Path("/results"), Tunnel(work.repositories))
            assert parse_request(to_json(request)) == request
            assert (request.mock is not None) == engine.uses_mock
            assert (work.root, work.clean, work.fresh) == ("small", True, True)
    assert request.mock is not None
    assert request.mock.argv == ["--init"]
    assert request.mock.logging == "[loggers]\n"
    assert request.mock.kit == ""


@pytest.mark.parametrize("engine", [CHROOT, NODES_OWN])
@pytest.mark.parametrize(
    ("words", "signed", "foreign"),
    [
        (("--init",), True, False),
        (("--init",), False, True),
        (("--chroot", "true"), True, True),
        (("--install", "gcc"), True, True),
        (("--init", "--postinstall"), True, True),
    ],
)
def test_code_that_nobody_signed_is_known_as_such(
    etc: Path, engine: Engine, words: tuple[str, ...], signed: bool, foreign: bool
) -> None:
    line, opts = given(etc, *words, more=_SIGNED if signed else "")
    with prepare(line, opts, engine) as work:
        request = work.request({}, Path("/results"), Tunnel(work.repositories))
    assert work.runs_foreign_code is foreign
    assert request.mock is None or request.mock.foreign is foreign


def test_one_of_a_chain_has_what_it_may_use_and_is_foreign(etc: Path, tmp_path: Path) -> None:
    """Of several nodes each has a part of the chain: what it installs nobody signed."""
    results = tmp_path / "repo/results/small"
    for name in ("a", "b"):
        (results / name).mkdir(parents=True)
        (results / name / f"{name}.rpm").write_bytes(name.encode())
    line, opts = given(etc, "--init", more=_SIGNED)
    line = replace(line, mode="rebuild", localrepo=str(tmp_path / "repo"), built=("a",))
    with prepare(line, opts, CHROOT) as work:
        request = work.request({}, Path("/results"), Tunnel(work.repositories))
    assert parse_request(to_json(request)) == request and request.mode == "rebuild"
    assert [(one.role, one.directory) for one in request.inputs] == [("built", "a")]
    assert work.runs_foreign_code
    with pytest.raises(UnsupportedByEngine, match="mock engine"), prepare(line, opts, NODES_OWN):
        pass


def test_a_packed_mock_goes_along(etc: Path, tmp_path: Path) -> None:
    (tmp_path / "kit").write_bytes(b"kit")
    line, opts = given(etc, "--init")
    kit = MockKit(tmp_path / "kit", "0" * 64, 3, "6.7")
    with prepare(line, opts, Engine(uses_mock=True, kit=kit)) as work:
        request = work.request({}, Path("/results"), Tunnel(work.repositories))
        assert request.mock is not None and request.mock.kit == KIT_NAME
        assert [(item.role, item.name) for item in request.inputs] == [("kit", KIT_NAME)]
        assert [blob.source for blob in work.blobs] == [tmp_path / "kit"]


def test_a_directory_travels_as_an_archive(etc: Path, tmp_path: Path) -> None:
    tree = tmp_path / "data"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_text("x")
    (tree / "twin").hardlink_to(tree / "sub/file")
    (tree / "link").symlink_to("sub/file")
    os.mkfifo(tree / "fifo")
    (tmp_path / "link").symlink_to(tree)
    named = str(tmp_path / "link")
    dirs = f"config_opts['plugin_conf']['bind_mount_opts']['dirs'] = [({named!r}, '/d')]\n"
    line, opts = given(etc, "--init", more=dirs)
    with prepare(line, opts, NODES_OWN) as work:
        (item, blob) = work.packed[0]
        assert (item.role, item.name) == ("tree", "link")
        assert isinstance(blob.source, Path)
        found = {name: member.kind for name, (member, _) in listing(blob.source).items()}
        assert found == {
            "link": Kind.DIRECTORY, "link/sub": Kind.DIRECTORY, "link/sub/file": Kind.FILE,
            "link/twin": Kind.FILE, "link/link": Kind.LINK,
        }  # fmt: skip
        assert any("data/fifo is not sent: it is a named pipe" in line for line in work.warnings)
    assert not blob.source.exists()


_ODD: Final = (
    "Icon\r", "at\u202f10.png", "-notes", "draft ", ".config", os.fsdecode(b"latin-\xe9"),
)  # fmt: skip
"""Names that no spec file need have, and that a directory of sources may."""


@pytest.mark.parametrize("uses_mock", [True, False])
def test_sources_travel_as_they_are(etc: Path, tmp_path: Path, uses_mock: bool) -> None:
    sources = tmp_path / "sources"
    (sources / "sub/empty").mkdir(parents=True)
    for name in _ODD:
        (sources / name).write_text("x")
    (sources / "run.sh").write_text("#!/bin/sh\n")
    (sources / "run.sh").chmod(0o755)
    os.utime(sources / "run.sh", ns=(1, 1_000_000_000_000_000_007))
    (sources / "sub/link").symlink_to("../run.sh")
    (sources / "big.tar").write_bytes(b"big" * 100_000)
    os.mkfifo(sources / "fifo")
    (tmp_path / "a.spec").write_text("Name: a")
    words = ("--buildsrpm", "--spec", tmp_path / "a.spec", "--sources", sources)
    line, opts = given(etc, *words)
    with prepare(line, opts, NODES_OWN if uses_mock else CHROOT) as work:
        roles = {item.role: (item, blob) for item, blob in work.packed if item.role != "gpgkey"}
        assert set(roles) == {"spec", "sources", "content"}
        assert work.spec == "a.spec"
        found = listing(Path(str(roles["sources"][1].source)))
        assert set(found) == {*_ODD, "run.sh", "sub", "sub/empty", "sub/link", "big.tar"}
        run = found["run.sh"][0].facts
        assert (run.mode, run.mtime_ns) == (0o755, 1_000_000_000_000_000_007)
        assert found["sub/link"][0].target == "../run.sh"
        # A larger file is sent by itself, so that it is sent once.
        part, blob = roles["content"]
        assert found["big.tar"][0].target == part.digest == blob.digest
        assert blob.source == sources / "big.tar"
        assert [line for line in work.warnings if "fifo" in line]


def test_one_source_and_an_empty_directory_of_them(etc: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.spec").write_text("Name: a")
    for given_sources, role in ((tmp_path / "empty", "sources"), (tmp_path / "a.spec", "source")):
        words = ("--buildsrpm", "--spec", tmp_path / "a.spec", "--sources", given_sources)
        line, opts = given(etc, *words)
        with prepare(line, opts, NODES_OWN) as work:
            item, blob = next(pair for pair in work.packed if pair[0].role == role)
            names = [] if role == "sources" else ["a.spec"]
            assert list(listing(Path(str(blob.source)))) == names
            assert item.name == (names or ["sources"])[0]


def test_what_cannot_be_read_is_said_before_anything_is_leased(etc: Path, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/dangling").symlink_to("nowhere")
    (tmp_path / "a.spec").write_text("Name: a")
    words = ("--buildsrpm", "--spec", tmp_path / "a.spec", "--sources", tmp_path / "src")
    line, opts = given(etc, *words, "--symlink-dereference")
    with (
        pytest.raises(MockCloudError, match="src/dangling: No such file") as caught,
        prepare(line, opts, NODES_OWN),
    ):
        pass
    assert caught.value.exit_code == 1
    line, opts = given(etc, "--copyin", tmp_path / "src", "/tmp")
    with (
        pytest.raises(InputError, match="src/dangling: No such file"),
        prepare(line, opts, NODES_OWN),
    ):
        pass


@pytest.mark.parametrize(
    ("argv", "mode", "fresh"),
    [
        (("--scrub=all",), "scrub", False),
        (("--list-snapshots",), "list-snapshots", False),
        (("--pm-cmd", "--", "list"), "pm-cmd", False),
        (("--init", "--no-clean"), "init", False),
    ],
)
def test_modes(etc: Path, argv: tuple[str, ...], mode: str, fresh: bool) -> None:
    line, opts = given(etc, *argv)
    with prepare(line, opts, NODES_OWN) as work:
        assert (work.mode, work.fresh) == (mode, fresh)
        request = work.request({}, Path("/results"), Tunnel(work.repositories))
        assert parse_request(to_json(request)) == request
        assert json.loads(request.mock.config)["root"] == "small" if request.mock else False


def remote(engine: EngineChoice) -> Remote:
    attest = AttestSettings(None, (), ())
    return Remote("r", "local", ("x86_64",), attest, build=BuildSettings(engine=engine))


def test_without_a_mock_here_auto_is_the_chroot_engine() -> None:
    console = Console(stream=io.StringIO())
    choices = {choice: choose_engine(remote(choice), None, console) for choice in EngineChoice}
    assert choices == {
        EngineChoice.AUTO: Engine(uses_mock=False),
        EngineChoice.CHROOT: Engine(uses_mock=False),
        EngineChoice.MOCK: NODES_OWN,
    }


def test_a_logging_ini_that_is_no_text_is_an_error(etc: Path) -> None:
    (etc / "logging.ini").write_bytes(b"\xff")
    line, opts = given(etc, "--init")
    with pytest.raises(ConfigError, match=r"logging\.ini"), prepare(line, opts, NODES_OWN):
        pass


def test_a_checkout_needs_a_mock_here(etc: Path) -> None:
    console = Console(stream=io.StringIO())
    line, opts = given(etc, "--buildsrpm", "--scm-enable", "--scm-option", "package=x")
    with (
        pytest.raises(UnsupportedByEngine, match="--scm-enable"),
        checked_out(line, opts, None, console),
    ):
        pass
    line, opts = given(etc, "--init")
    with checked_out(line, opts, None, console) as found:
        assert found is line

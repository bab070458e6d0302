# SPDX-License-Identifier: GPL-2.0-or-later
"""What travels for each engine: the request, and the files that it names."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from mock_cloud.agent.job.request import parse_request, to_json
from mock_cloud.config import ConfigOpts, apply_command_line, load_config_opts
from mock_cloud.errors import ConfigError, UnsupportedByEngine
from mock_cloud.invocation import CommandLine, parse_command_line
from mock_cloud.session.checkout import checked_out
from mock_cloud.session.console import Console
from mock_cloud.session.engine import Engine, choose_engine
from mock_cloud.session.repo_tunnel import Tunnel
from mock_cloud.session.request import KIT_NAME, prepare
from mock_cloud.settings import AttestSettings, BuildSettings, EngineChoice, Remote
from mock_cloud.toolkit.mock_kit import MockKit

CONFIG = """\
config_opts['root'] = 'small'
config_opts['target_arch'] = 'x86_64'
config_opts['chroot_setup_cmd'] = 'install @build'
config_opts['dnf.conf'] = '[main]\\nreposdir=/dev/null\\n[r]\\nbaseurl=http://r/\\n'
"""
NODES_OWN = Engine(uses_mock=True)


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
        with tarfile.open(blob.source) as archive:
            kinds = {member.name: member.type for member in archive}
            assert {member.uid for member in archive} == {0}
        assert kinds == {
            "link": tarfile.DIRTYPE, "link/sub": tarfile.DIRTYPE, "link/sub/file": tarfile.REGTYPE,
            "link/twin": tarfile.REGTYPE, "link/link": tarfile.SYMTYPE,
        }  # fmt: skip
        assert work.warnings
    assert not blob.source.exists()


@pytest.mark.parametrize(
    ("more", "sub", "roles"),
    [
        ("", False, ["spec", "source"]),
        ("", True, ["spec", "tree"]),
        ("config_opts['plugin_conf']['rpmautospec_enable'] = True\n", False, ["spec", "tree"]),
    ],
)
def test_sources_are_sent_one_by_one_or_whole(
    etc: Path, tmp_path: Path, more: str, sub: bool, roles: list[str]
) -> None:
    sources = tmp_path / "sources"
    (sources / ".git").mkdir(parents=True)
    (sources / "a.spec").write_text("x")
    if sub:
        (sources / "sub").mkdir()
    words = ("--buildsrpm", "--spec", sources / "a.spec", "--sources", sources)
    line, opts = given(etc, *words, more=more)
    with prepare(line, opts, NODES_OWN) as work:
        assert [item.role for item, _ in work.packed] == roles
        assert work.spec == "a.spec"


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

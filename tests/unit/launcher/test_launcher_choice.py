# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a command line goes: to a remote, to the real mock unchanged, or to a clear error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mock_cloud import cli
from mock_cloud.launcher import dispatch
from mock_cloud.real_mock import find_real_mock

_RECORDER = """\
#!/bin/sh
for word in "$0" "$@"; do printf '%s\\n' "$word"; done > "$RECORD"
exit 42
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A configuration directory with one chroot, and an empty home."""
    config = tmp_path / "mock"
    (config / "remotes.d").mkdir(parents=True)
    (config / "tiny.cfg").write_text(
        "config_opts['root'] = 'tiny'\nconfig_opts['target_arch'] = 'x86_64'\n"
        "config_opts['dnf.conf'] = '[main]\\n'\n"
    )
    (tmp_path / "bin").mkdir()
    return tmp_path


def _install_real_mock(place: Path) -> Path:
    real = place / "bin" / "mock"
    real.write_text(_RECORDER)
    real.chmod(0o755)
    return real


def _mock(place: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": f"{place / 'bin'}:/usr/bin:/bin",
        "HOME": str(place),
        "RECORD": str(place / "record"),
        "XDG_STATE_HOME": str(place / "state"),
        "XDG_CACHE_HOME": str(place / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        **env,
    }
    argv = [sys.executable, "-m", "mock_cloud.launcher", "--configdir", str(place / "mock"), *words]
    return subprocess.run(
        argv, env=environ, capture_output=True, text=True, timeout=600, check=False
    )


def test_without_a_remote_the_real_mock_gets_the_same_words(place: Path) -> None:
    real = _install_real_mock(place)
    done = _mock(place, "-r", "tiny", "--shell", "--", "echo", "--remote", "x y")
    assert done.returncode == 42
    words = (place / "record").read_text().splitlines()
    assert words[0] == str(real)
    assert words[1:] == [
        "--configdir", str(place / "mock"),
        "-r", "tiny", "--shell", "--", "echo", "--remote", "x y",
    ]  # fmt: skip


@pytest.mark.parametrize("option", ["--no-remote", "--no-rem"])
def test_no_remote_goes_to_the_real_mock_without_our_own_option(place: Path, option: str) -> None:
    _install_real_mock(place)
    done = _mock(place, "-r", "tiny", option, "--init", MOCK_REMOTE="somewhere")
    assert done.returncode == 42
    words = (place / "record").read_text().splitlines()
    assert words[3:] == ["-r", "tiny", "--init"]


def test_no_remote_switches_the_plugin_off(place: Path) -> None:
    """Where a configuration has switched it on, mock alone would go on to the remote."""
    real = _install_real_mock(place)
    plugin = real.parent / "mockbuild/plugins/remote.py"
    plugin.parent.mkdir(parents=True)
    plugin.touch()
    assert _mock(place, "-r", "tiny", "--init", "--no-remote").returncode == 42
    words = (place / "record").read_text().splitlines()[1:]
    assert words == ["--disable-plugin=remote", "--configdir", str(place / "mock"), "-r", "tiny",
                     "--init"]  # fmt: skip
    assert _mock(place, "-r", "tiny", "--init").returncode == 42
    assert "--disable-plugin=remote" not in (place / "record").read_text()
    with (place / "mock" / "tiny.cfg").open("a") as stream:
        stream.write("config_opts['plugin_conf']['remote_opts']['session'] = 'x'\n")
        stream.write("config_opts['plugin_conf']['remote_enable'] = True\n")
    assert _mock(place, "-r", "tiny", "--init").returncode == 42
    assert "--disable-plugin=remote" in (place / "record").read_text()


@pytest.mark.parametrize("words", [("--remote", "nowhere"), ("--remote=nowhere",)])
def test_a_remote_is_never_silently_local(place: Path, words: tuple[str, ...]) -> None:
    _install_real_mock(place)
    done = _mock(place, "-r", "tiny", *words, "--init")
    assert done.returncode == 3
    assert "no remote 'nowhere'" in done.stderr
    assert not (place / "record").exists()


def test_the_environment_chooses_a_remote(place: Path) -> None:
    _install_real_mock(place)
    done = _mock(place, "-r", "tiny", "--init", MOCK_REMOTE="nowhere")
    assert (done.returncode, "no remote 'nowhere'" in done.stderr) == (3, True)


def test_a_configuration_chooses_a_remote(place: Path) -> None:
    _install_real_mock(place)
    with (place / "mock" / "tiny.cfg").open("a") as stream:
        stream.write("config_opts['remote'] = 'nowhere'\n")
    done = _mock(place, "-r", "tiny", "--init")
    assert (done.returncode, "no remote 'nowhere'" in done.stderr) == (3, True)


@pytest.mark.parametrize(("engine", "warned"), [("", True), ('engine = "chroot"', False)])
def test_a_wrapper_cannot_be_sent_and_that_is_said(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    engine: str,
    warned: bool,
) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(place / name.lower()))
    monkeypatch.delenv("MOCK_REMOTE", raising=False)
    wrapper = str(_install_real_mock(place))
    files = {name: str(place / name) for name in ("manifest", "manifest_keys", "package_keys")}
    for file in files.values():
        Path(file).touch()
    (place / "mock/remotes.d/here.toml").write_text(
        f'[remote]\nprovider = "local"\narches = ["x86_64"]\n[local]\nimage = "{place}"\n'
        f'[attest]\nmanifest = "{files["manifest"]}"\n'
        f'manifest_keys = ["{files["manifest_keys"]}"]\n'
        f'package_keys = ["{files["package_keys"]}"]\n[build]\n{engine}\n'
    )
    words = ["--configdir", str(place / "mock"), "-r", "tiny", "--remote", "here", "--init"]
    assert dispatch.run_launcher(words, wrapper) == 3  # its dnf.conf is not good enough for a node
    warning = f"WARNING: {wrapper} is a wrapper, whose mock cannot be sent"
    assert (warning in capsys.readouterr().err) is warned


def test_with_neither_a_remote_nor_a_mock_it_says_so(place: Path) -> None:
    done = _mock(place, "-r", "tiny", "--init")
    assert done.returncode == 3
    assert "no remote was chosen" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_option_is_a_wrong_command_line(place: Path) -> None:
    done = _mock(place, "-r", "tiny", "--no-such-option")
    assert done.returncode == 5
    assert "--no-such-option" in done.stderr


def test_another_launcher_on_the_path_is_no_real_mock(place: Path) -> None:
    twin = place / "bin" / "mock"
    twin.write_text("#!/usr/bin/python3\nfrom mock_cloud.launcher import main\n")
    twin.chmod(0o755)
    assert find_real_mock({"PATH": str(twin.parent)}) is None


def test_mock_cloud_speaks_json_and_exits_by_the_book(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(place / name.lower()))

    def tool(*words: str) -> tuple[int, str]:
        try:
            code = cli.main(words)
        except SystemExit as ended:  # argparse's way out
            code = int(ended.code or 0)
        return code, capsys.readouterr().out

    code, listed = tool("nodes", "--json")
    assert (code, json.loads(listed)) == (0, [])
    assert tool("release")[0] == 5
    assert tool("release", "nowhere")[0] == 50
    assert tool("attest", "nowhere")[0] == 3
    assert tool("no-such-verb")[0] == 5
    code, helped = tool("attest", "--help")
    assert (code, "example" in helped) == (0, True)
    assert "mock-cloud" in tool("completion", "bash")[1]

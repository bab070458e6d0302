# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud launcher`: what it writes, that it takes all of it away, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mock_cloud.cli import main
from mock_cloud.errors import ConfigError
from mock_cloud.launcher import edits, install_site, install_user
from mock_cloud.launcher.status import describe_by_name, describe_by_path

TOP = Path(__file__).resolve().parents[3]
PLUGIN = TOP / "mock-plugins/remote.py"
LAUNCHER = "#!/bin/sh\nexec python3 -m mock_cloud.launcher\n"


def write(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home; an installed launcher in venv/bin; mock in mock/, with its plugins; etc/."""
    home = tmp_path / "home"
    home.mkdir()
    write(tmp_path / "venv/bin/mock", LAUNCHER)
    write(tmp_path / "mock/mock", "#!/bin/sh\n# mockbuild\n")
    (tmp_path / "mock/mockbuild/plugins").mkdir(parents=True)
    write(tmp_path / "etc/site-defaults.cfg", "# the site's\n", 0o640)
    for name, text in {
        "HOME": str(home), "PATH": f"{tmp_path / 'mock'}:/usr/bin:/bin", "SHELL": "/bin/bash",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, text)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "venv/bin/mock-cloud")])
    return home


@pytest.fixture
def site(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration directory; this installation is one that everybody may run."""
    monkeypatch.setattr(install_site, "session_words", lambda: ["/opt/x/python", "-m", "y"])
    return home.parent / "etc"


def tool(*words: str | Path) -> int:
    return main(["launcher", *map(str, words)])


def snapshot(place: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(place)): (path.lstat().st_mode, path.read_text())
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def test_the_directory_link_and_profile_come_and_go(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = write(home / "dotfiles/bashrc", "PS1=x", 0o600)
    (home / ".bashrc").symlink_to(profile)
    link = home / ".local/share/mock-cloud/bin/mock"
    before = snapshot(home)
    assert tool("enable", "--profile", "--dry-run") == 0
    assert snapshot(home) == before
    for _ in range(2):
        assert tool("enable", "--profile") == 0
        assert link.readlink() == home.parent / "venv/bin/mock"
        text = profile.read_text()
        assert text.startswith("PS1=x\n# >>> mock-cloud") and text.count("PATH=") == 1
    assert "nothing to do" in capsys.readouterr().err
    assert (home / ".bashrc").is_symlink() and profile.stat().st_mode & 0o777 == 0o600
    shown = subprocess.run(
        ["sh", "-c", ". $HOME/.bashrc; . $HOME/.bashrc; echo $PATH; command -v mock"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    path, found = shown.stdout.split()
    assert path == f"{link.parent}:{os.environ['PATH']}" and found == str(link)
    assert tool("disable") == 0
    assert snapshot(home) == before | {"dotfiles/bashrc": (before["dotfiles/bashrc"][0], "PS1=x\n"),
                                       ".bashrc": (before[".bashrc"][0], "PS1=x\n")}  # fmt: skip
    assert not (home / ".local/share/mock-cloud").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its real user id: needs root")
def test_a_link_to_what_belongs_to_root_can_be_taken_back() -> None:
    """The launcher of a package is root's; the link to it is the user's."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        write(place / "root/bin/mock", LAUNCHER)
        link = place / "user/bin/mock"
        link.parent.mkdir(parents=True)
        link.parent.chmod(0o777)
        link.symlink_to(place / "root/bin/mock")
        os.setresuid(65534, 0, 0)  # access(2) asks for the real user
        try:
            edits.check_writable(link, of_link=True)
            with pytest.raises(ConfigError, match="root/bin is not writable"):
                edits.check_writable(link)
        finally:
            os.setresuid(0, 0, 0)


def test_a_profile_is_edited_only_when_asked(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = write(home / ".bashrc", "PS1=x\n", 0o644)
    assert tool("enable") == 0
    assert profile.read_text() == "PS1=x\n"
    assert capsys.readouterr().out == install_user.shell_lines(home / ".local/share/mock-cloud/bin")
    other = home / "my profile"
    assert tool("enable", "--profile", other) == 0
    assert "# >>> mock-cloud" in other.read_text()
    assert tool("disable", "--profile", other) == 0
    assert other.read_text() == ""


def test_what_is_not_ours_is_left(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(home / "python"))
    foreign = write(home / ".local/share/mock-cloud/bin/mock", "#!/bin/sh\n")
    assert tool("enable") == 3 and "was not created by mock-cloud" in capsys.readouterr().err
    assert tool("disable") == 0 and foreign.is_file()
    (home.parent / "venv/bin/mock").unlink()
    foreign.unlink()
    assert tool("enable") == 3 and "no launcher" in capsys.readouterr().err


def test_the_site_comes_and_goes(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = site.parent / "mock/mockbuild/plugins/remote.py"
    file = site / "site-defaults.cfg"
    write(site / "remotes.d/cloud.toml", '[remote]\nprovider = "local"\n[local]\nimage = "/x"\n')
    before = snapshot(site.parent)
    words = ("--site", "--configdir", site)
    assert tool("enable", *words, "--dry-run") == 0
    assert snapshot(site.parent) == before
    for _ in range(2):
        assert tool("enable", *words) == 0
        assert plugin.read_bytes() == PLUGIN.read_bytes()
        assert plugin.stat().st_mode & 0o777 == 0o644
        assert file.stat().st_mode & 0o777 == 0o640
    assert "nothing to do" in capsys.readouterr().err
    opts: dict[str, dict[str, object]] = {"plugin_conf": {"remote_opts": {}}}
    exec(file.read_text(), {"config_opts": opts})  # noqa: S102
    session = {"session": ["/opt/x/python", "-m", "y"]}
    assert opts == {"plugin_conf": {"remote_enable": True, "remote_opts": session}}
    assert tool("enable", *words, "--remote", "no-such") == 3
    assert "no remote 'no-such'" in capsys.readouterr().err
    compiled = write(plugin.parent / "__pycache__/remote.cpython-311.pyc", "")
    assert tool("disable", *words) == 0
    assert snapshot(site.parent) == before and not compiled.exists()
    assert tool("disable", *words) == 0


def test_a_damaged_block_a_foreign_plugin_and_no_mock_are_one_error(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--site", "--configdir", site)
    plugin = site.parent / "mock/mockbuild/plugins/remote.py"
    write(plugin, "# our site's own\n")
    assert tool("enable", *words) == 3
    assert "somebody else's" in capsys.readouterr().err
    assert tool("disable", *words) == 0 and plugin.is_file()
    plugin.unlink()
    assert tool("enable", *words) == 0
    file = site / "site-defaults.cfg"
    whole = file.read_text()
    file.write_text(whole.replace("# <<< mock-cloud launcher <<<\n", ""))
    for action in ("enable", "disable"):
        assert tool(action, *words) == 3
        error = capsys.readouterr().err
        assert f"{file}: a block of mock-cloud's is damaged" in error
    assert tool("status", "--configdir", site) == 3
    file.write_text(whole)
    monkeypatch.setenv("PATH", "/usr/sbin")
    assert tool("enable", *words) == 3 and "no mock" in capsys.readouterr().err
    assert tool("status", "--configdir", site) == 3  # switched on, and nothing there


def test_which_mock_a_script_gets_by_its_full_name(site: Path) -> None:
    path = site.parent / "usr-bin-mock"
    assert f"there is no {path}" in describe_by_path(site, path)
    path.write_text("#!/usr/bin/python3\nimport mockbuild\n")
    path.chmod(0o755)
    assert "builds on this machine whatever MOCK_REMOTE says" in describe_by_path(site, path)
    write(site.parent / "mockbuild/plugins/remote.py", "# ours\n")
    assert tool("enable", "--site", "--configdir", site) == 0
    assert describe_by_path(site, path) == f"{path}: mock itself, with mock-cloud's plugin"
    path.write_text("#!/usr/bin/python3\nfrom mock_cloud.launcher import main\n")
    assert describe_by_path(site, path) == f"{path}: the launcher"


def test_which_mock_a_script_gets_by_name(tmp_path: Path) -> None:
    assert describe_by_name({"PATH": str(tmp_path)}) == "no mock on the PATH"
    program = tmp_path / "mock"
    program.write_text("#!/usr/bin/python3\nimport mockbuild\n")
    program.chmod(0o755)
    assert describe_by_name({"PATH": str(tmp_path)}) == f"{program}: mock itself"


def test_status_says_what_is_broken(
    site: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def status(code: int) -> dict[str, dict[str, object]]:
        capsys.readouterr()
        assert tool("status", "--json", "--configdir", site) == code
        return {row["way"]: row for row in json.loads(capsys.readouterr().out)}

    assert {way: row["on"] for way, row in status(0).items()} == {
        "command": False, "user": False, "plugin": False, "site": False,
    }  # fmt: skip
    assert tool("enable", "--profile") == tool("enable", "--site", "--configdir", site) == 0
    rows = status(0)
    assert [way for way, row in rows.items() if row["on"]] == ["user", "plugin", "site"]
    assert ".bashrc" in str(rows["user"]["found"])
    plugin = site.parent / "mock/mockbuild/plugins/remote.py"
    with plugin.open("a") as stream:
        stream.write("# older\n")
    assert "another version" in str(status(3)["plugin"]["problem"])
    assert tool("enable", "--site", "--configdir", site) == 0
    assert status(0)["plugin"]["path"] == str(plugin)
    plugin.unlink()
    assert "mock builds here" in str(status(3)["site"]["problem"])
    assert tool("disable", "--site", "--configdir", site) == 0
    (home.parent / "venv/bin/mock").unlink()
    assert "leads to no launcher" in str(status(3)["user"]["problem"])


@pytest.mark.parametrize(
    "words",
    [("enable", "--user", "--site"), ("enable", "--site", "--profile"), (),
     ("enable", "--remote", "x"), ("disable", "--site", "--profile")],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_command_line_is_5(home: Path, words: tuple[str, ...]) -> None:
    try:
        code: object = tool(*words)
    except SystemExit as ended:
        code = ended.code
    assert code == 5


def test_others_could_change_or_not_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session runs with the rights and credentials of everybody who calls mock."""
    python = write(tmp_path / "bin/python", "")
    monkeypatch.setattr(sys, "executable", str(python))
    python.parent.chmod(0o700)
    with pytest.raises(ConfigError, match="not everybody"):
        install_site.session_words()
    python.chmod(0o777)
    with pytest.raises(ConfigError, match="others than root"):
        install_site.session_words()


def test_nothing_is_begun_that_cannot_be_finished(tmp_path: Path) -> None:
    made: list[str] = []
    write(tmp_path / "file", "")
    plan = [
        edits.Edit("one", tmp_path / "one", lambda: made.append("one")),
        edits.Edit("two", tmp_path / "file/two", lambda: made.append("two")),
    ]
    with pytest.raises(ConfigError, match="cannot write"):
        list(edits.make_edits(plan))
    assert made == []


@pytest.mark.parametrize("before", ["", "x", "x\n", "x\n\n", "é\udcff\r\n"])
def test_a_block_leaves_the_rest_as_it_was(before: str) -> None:
    once = edits.with_block(before, "a\n")
    assert edits.find_block(once) == "a\n"
    twice = edits.with_block(once + "after\n", "b\nc\n")
    assert edits.find_block(twice) == "b\nc\n"
    kept = before if not before or before.endswith("\n") else before + "\n"
    assert edits.without_block(twice) == kept + "after\n"
    assert edits.without_block(before) == before


def test_the_packages_snippet_says_the_same() -> None:
    packaged = (TOP / "etc/profile.d/mock-cloud.sh").read_text()
    assert packaged.endswith(install_user.shell_lines(install_user.PACKAGED.parent))
    assert str(install_user.PACKAGED.parent) in (TOP / "etc/profile.d/mock-cloud.csh").read_text()
    assert install_site.plugin_source() == PLUGIN

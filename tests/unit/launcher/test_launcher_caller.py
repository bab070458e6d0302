# SPDX-License-Identifier: GPL-2.0-or-later
"""Under sudo and consolehelper the configuration is the caller's, read with the caller's rights."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.errors import CommandLineError, ConfigError
from mock_cloud.launcher import scan
from mock_cloud.launcher.caller import home_of_caller, load_of_caller

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")

_UID = 65534


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the caller's home and mock's configuration; pytest's own are root's."""
    made = Path(tempfile.mkdtemp(prefix="mock-cloud-caller-"))
    made.chmod(0o755)
    (made / "home/.config").mkdir(parents=True)
    (made / "etc").mkdir()
    (made / "etc/toy-x86_64.cfg").write_text("config_opts['root'] = 'toy'\n")
    real = pwd.getpwuid

    def at_home(uid: int) -> pwd.struct_passwd:
        user = real(uid)
        return pwd.struct_passwd((*user[:5], str(made / "home"), user[6])) if uid == _UID else user

    monkeypatch.setattr(pwd, "getpwuid", at_home)
    monkeypatch.setenv("SUDO_UID", "1")
    monkeypatch.setenv("USERHELPER_UID", str(_UID))  # mock takes this one
    yield made
    shutil.rmtree(made)


def say(place: Path, text: str) -> None:
    (place / "home/.config/mock.cfg").write_text(text)


def test_the_callers_file_chooses(place: Path) -> None:
    say(place, "config_opts['remote'] = 'theirs'\nconfig_opts['me'] = (os.getuid(), os.getgid())\n")
    opts = load_of_caller("toy-x86_64", place / "etc")
    assert opts["remote"] == "theirs"
    assert opts["me"] == (_UID, pwd.getpwuid(_UID).pw_gid)
    assert opts["chrootuid"] == _UID
    assert os.getuid() == os.geteuid() == 0


def test_the_first_look_goes_to_the_same_home(place: Path) -> None:
    assert scan._home() == str(home_of_caller()) == str(place / "home")


def test_templates_and_other_names_are_as_they_were_read(place: Path) -> None:
    say(place, "config_opts['x'] = '{{ root }}!'\nconfig_opts['yum.conf'] = 'mine'\n")
    opts = load_of_caller("toy-x86_64", place / "etc")
    assert opts["x"] == "toy!" and opts["dnf.conf"] == opts["yum.conf"] == "mine"


def test_what_only_root_may_read_is_not_read(place: Path) -> None:
    (place / "secret").write_text("a secret\n")
    (place / "secret").chmod(0o600)
    say(place, f"config_opts['x'] = open({str(place / 'secret')!r}).read()\n")
    with pytest.raises(ConfigError, match="Permission denied"):
        load_of_caller("toy-x86_64", place / "etc")


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("config_opts['x'] = print\n", ConfigError, "holds a builtin"),
        ("config_opts['macros']['%a b'] = 'c'\n", CommandLineError, "bad macro"),
        ("os._exit(0)\n", ConfigError, "could not be read"),
        ("raise SystemExit\n", ConfigError, "SystemExit"),
        ("os.kill(os.getpid(), 9)\n", ConfigError, "could not be read"),
        ("config_opts['x'] = type('x', (dict,), {'__repr__': lambda _: 'x'})()\n", None, ""),
    ],
)
def test_what_is_no_data(place: Path, text: str, error: type[Exception] | None, said: str) -> None:
    """A hostile file says nothing but data: that is all that is taken from it."""
    say(place, text)
    if error is None:
        assert load_of_caller("toy-x86_64", place / "etc")["x"] == {}
        return
    with pytest.raises(error, match=said):
        load_of_caller("toy-x86_64", place / "etc")


def test_root_itself_reads_its_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID")
    monkeypatch.setenv("USERHELPER_UID", "0")
    say(place, "config_opts['remote'] = 'theirs'\n")
    assert load_of_caller("toy-x86_64", place / "etc").get("remote") is None

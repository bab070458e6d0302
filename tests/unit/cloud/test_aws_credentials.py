# SPDX-License-Identifier: GPL-2.0-or-later
"""Where AWS keys come from, which come first, and that no message holds one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mock_cloud.cloud.apis.aws_credentials import AwsKeys, find_keys
from mock_cloud.errors import ConfigError
from mock_cloud.model import Secret
from mock_cloud.settings import Ec2Settings

FILE = Path("/etc/mock/remotes.d/ec2.toml")
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env%secret"}
CREDENTIALS = """[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = 100%secret
[work]
aws_access_key_id=AKIAWORK
aws_secret_access_key=hush
aws_session_token=token==
"""
CONFIG = """[profile sso]
sso_session = corp
[profile plain]
aws_access_key_id = AKIACONF
aws_secret_access_key = hush
[profile empty]
region = eu-west-1
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # As where botocore is not installed; tests/component/test_aws_botocore.py has it.
    monkeypatch.setitem(sys.modules, "botocore", None)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(CREDENTIALS)
    (tmp_path / ".aws/config").write_text(CONFIG)
    return tmp_path


def look(home: Path, environment: dict[str, str] | None = None, **settings: object) -> AwsKeys:
    ec2 = Ec2Settings("eu-west-1", **settings)  # type: ignore[arg-type]
    return find_keys(ec2, FILE, environment=environment or {}, home=home)


def test_the_remote_s_file_comes_first(home: Path) -> None:
    keys = look(home, ENVIRONMENT, access_key_id="AKIAFILE", secret_access_key=Secret(b"s"))
    assert (keys.key_id, keys.source) == ("AKIAFILE", str(FILE))


def test_then_the_environment(home: Path) -> None:
    keys = look(home, {**ENVIRONMENT, "AWS_SESSION_TOKEN": "t", "AWS_PROFILE": "work"})
    assert (keys.key_id, keys.secret.reveal(), keys.token.reveal()) == (
        "AKIAENV",
        b"env%secret",
        b"t",
    )
    assert keys.source == "the environment (AWS_ACCESS_KEY_ID)"


def test_but_a_profile_of_the_remote_s_file_before_it(home: Path) -> None:
    keys = look(home, ENVIRONMENT, profile="work")
    assert (keys.key_id, keys.token.reveal()) == ("AKIAWORK", b"token==")
    assert keys.source == f"{home}/.aws/credentials [work]"


def test_then_the_files(home: Path) -> None:
    assert look(home).secret.reveal() == b"100%secret"
    assert look(home, {"AWS_PROFILE": "plain"}).source == f"{home}/.aws/config [profile plain]"
    moved = home / "elsewhere"
    (home / ".aws/credentials").rename(moved)
    assert look(home, {"AWS_SHARED_CREDENTIALS_FILE": str(moved)}).key_id == "AKIADEFAULT"


@pytest.mark.parametrize(
    ("environment", "settings", "words"),
    [
        ({}, {"profile": "nobody"}, "no profile 'nobody' in .*credentials or .*config"),
        ({}, {"profile": "empty"}, r"\[profile empty\] has no keys"),
        ({}, {"profile": "sso"}, r"\[profile sso\] gives keys by sso_session"),
        ({}, {"access_key_id": "AKIA"}, "go together"),
        ({"AWS_ACCESS_KEY_ID": "AKIA"}, {}, "AWS_SECRET_ACCESS_KEY is not"),
    ],
)
def test_what_is_missing_is_named(
    home: Path, environment: dict[str, str], settings: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        look(home, environment, **settings)


def test_a_file_that_is_none_is_named_and_not_quoted(home: Path) -> None:
    (home / ".aws/credentials").write_text("AKIAHUSH\nsecret\n")
    with pytest.raises(ConfigError, match="credentials is not an INI file") as caught:
        look(home)
    assert "HUSH" not in str(caught.value)
    assert caught.value.__context__ is None


def test_keys_do_not_show(home: Path) -> None:
    assert "hush" not in repr(look(home, profile="work"))

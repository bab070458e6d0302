# SPDX-License-Identifier: GPL-2.0-or-later
"""AWS keys by the real botocore: programs, roles and an instance's profile, over HTTP."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mock_cloud.cloud.apis.aws_credentials import AwsKeys, find_keys
from mock_cloud.cloud.apis.ec2_connection import Ec2Connection
from mock_cloud.errors import ConfigError
from mock_cloud.settings import Ec2Settings

pytest.importorskip("botocore", reason="botocore is not installed")
moto = pytest.importorskip("moto.server", reason="moto is not installed")

FILE = Path("/etc/mock/remotes.d/ec2.toml")
PLAIN = "aws_access_key_id = AKIAPLAIN\naws_secret_access_key = plainhush\n"
OURS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ~/.aws, and nothing in the environment but that an instance has no profile."""
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / ".aws").mkdir()
    return tmp_path / ".aws"


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    """The URL of AWS's APIs, as moto has them."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def look(aws: Path, profile: str = "") -> AwsKeys:
    return find_keys(Ec2Settings("eu-west-1", profile=profile), FILE, home=aws.parent)


def program(aws: Path, text: str) -> str:
    """The words that run a program which does what `text` says."""
    path = aws / "program.py"
    path.write_text(f"import json, sys\n{text}\n")
    return f"{sys.executable} {path}"


def test_a_program_gives_keys(aws: Path) -> None:
    told = {"Version": 1, "AccessKeyId": "ASIAPROGRAM", "SecretAccessKey": "hush",
            "SessionToken": "t"}  # fmt: skip
    words = program(aws, f"print(json.dumps({told!r}))")
    (aws / "config").write_text(f"[profile p]\ncredential_process = {words}\n")
    keys = look(aws, "p")
    assert (keys.key_id, keys.secret.reveal(), keys.token.reveal()) == (
        "ASIAPROGRAM",
        b"hush",
        b"t",
    )
    assert keys.source == "custom-process, by botocore"


def test_what_a_failing_program_says_is_not_shown(aws: Path) -> None:
    words = program(aws, "print('AKIAHUSH hush', file=sys.stderr); sys.exit(1)")
    (aws / "config").write_text(f"[profile p]\ncredential_process = {words}\n")
    with pytest.raises(
        ConfigError, match="profile 'p', as botocore reads it: its program"
    ) as caught:
        look(aws, "p")
    assert "HUSH" not in f"{caught.value} {caught.value.hint}"
    assert caught.value.__context__ is None


@pytest.mark.slow
def test_a_role_is_assumed(aws: Path, api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain keys beside it are for the way to the role, and not instead of it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", api)
    (aws / "credentials").write_text(f"[p]\n{PLAIN}")
    role = "role_arn = arn:aws:iam::123456789012:role/builder\nsource_profile = p\n"
    (aws / "config").write_text(f"[profile p]\nregion = eu-west-1\n{role}")
    keys = look(aws, "p")
    assert keys.key_id.startswith("ASIA") and keys.token.reveal()
    assert keys.source == "assume-role, by botocore"
    settings = Ec2Settings("eu-west-1", profile="p", endpoint=api)
    monkeypatch.setenv("HOME", str(aws.parent))
    connection = Ec2Connection(settings, FILE, None, 30.0)
    answer = connection.read("DescribeAvailabilityZones", {})
    assert any(one.text == "eu-west-1a" for one in answer.iter() if one.tag.endswith("zoneName"))
    assert connection.source == "assume-role, by botocore"


def test_a_single_sign_on_that_has_ended_says_so(aws: Path) -> None:
    (aws / "config").write_text(
        "[profile p]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = builder\n"
        "[sso-session corp]\nsso_start_url = https://corp.example/start\nsso_region = eu-west-1\n"
    )
    with pytest.raises(ConfigError, match="profile 'p', as botocore reads it") as caught:
        look(aws, "p")
    assert "aws sso login" in str(caught.value.hint)


class _Metadata(BaseHTTPRequestHandler):
    """EC2's metadata service, version 2, of an instance with a profile."""

    def do_PUT(self) -> None:
        self._answer("token" if self.path == "/latest/api/token" else None)

    def do_GET(self) -> None:
        place = "/latest/meta-data/iam/security-credentials/"
        keys = {"Code": "Success", "AccessKeyId": "ASIAINSTANCE", "SecretAccessKey": "hush",
                "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}  # fmt: skip
        answers = {place: "builder", f"{place}builder": json.dumps(keys)}
        self._answer(answers.get(self.path))

    def _answer(self, text: str | None) -> None:
        self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_: object) -> None:
        pass


def test_an_instance_has_a_profile(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        monkeypatch.setenv(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}/"
        )
        keys = look(aws)
        server.shutdown()
    assert (keys.key_id, keys.token.reveal()) == ("ASIAINSTANCE", b"t")
    assert keys.source == "iam-role, by botocore"


def test_plain_keys_need_no_botocore(aws: Path) -> None:
    (aws / "credentials").write_text(f"[default]\n{PLAIN}")
    assert look(aws).source == f"{aws}/credentials [default]"


def test_a_profile_that_is_not_there_is_named(aws: Path) -> None:
    with pytest.raises(ConfigError, match="no profile 'p' in"):
        look(aws, "p")

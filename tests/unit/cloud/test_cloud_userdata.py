# SPDX-License-Identifier: GPL-2.0-or-later
"""User-data: what a node is told at birth, and nothing that does not fit."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from mock_cloud.cloud.apis.userdata import USER_DATA_MAX_BYTES, files_of_user_data, make_user_data
from mock_cloud.cloud.provider import Bootstrap
from mock_cloud.errors import CloudError
from mock_cloud.sshkeys import make_key_pair


@pytest.fixture(scope="module")
def bootstrap() -> Bootstrap:
    return Bootstrap(make_key_pair(), make_key_pair().public, "mock-cloud-0123456789ab")


def test_user_data_that_is_too_long_is_refused(bootstrap: Bootstrap) -> None:
    long = Bootstrap(bootstrap.host_key, bootstrap.client_key, "n" * USER_DATA_MAX_BYTES)
    with pytest.raises(CloudError, match="are not sent"):
        make_user_data(long, expires_unix=0, now_unix=0)


def test_user_data_is_cloud_config(bootstrap: Bootstrap) -> None:
    text = make_user_data(bootstrap, expires_unix=1000.0, now_unix=0.0).reveal().decode()
    first, rest = text.split("\n", 1)
    assert first == "#cloud-config"
    config = yaml.safe_load(rest)
    assert config == json.loads(rest)
    assert config["ssh_keys"] == {"ed25519_private": bootstrap.host_key.private.reveal().decode()}
    assert config["ssh_authorized_keys"] == [str(bootstrap.client_key)]
    assert config["hostname"] == bootstrap.hostname
    assert config["users"] == []
    assert (config["disable_root"], config["ssh_pwauth"]) == (False, False)
    assert (config["ssh_deletekeys"], config["preserve_hostname"]) == (True, False)


@pytest.mark.parametrize(
    ("left_s", "minutes"), [(-5.0, 1), (0.0, 1), (60.0, 1), (60.1, 2), (4 * 3600.0, 240)]
)
def test_the_birth_timer_is_rounded_up(bootstrap: Bootstrap, left_s: float, minutes: int) -> None:
    data = make_user_data(bootstrap, expires_unix=1e9 + left_s, now_unix=1e9)
    config = yaml.safe_load(data.reveal())
    (early,) = config["bootcmd"]
    assert early[:2] == ["sh", "-c"]
    assert early[2].endswith(f" || exec shutdown -P +{minutes}")
    late = {"mode": "poweroff", "delay": f"+{minutes}", "condition": True}
    assert config["power_state"] == late


@pytest.mark.parametrize(
    ("booted", "logind", "is_set"), [(False, False, True), (True, True, True), (True, False, False)]
)
def test_no_timer_is_set_that_would_end_the_node_at_once(
    bootstrap: Bootstrap, tmp_path: Path, booted: bool, logind: bool, is_set: bool
) -> None:
    """Without logind systemd's shutdown(8) does at once what it is to do later."""
    (command,) = yaml.safe_load(make_user_data(bootstrap, expires_unix=60, now_unix=0).reveal())[
        "bootcmd"
    ]
    for name, text in (
        ("systemctl", f"exit {0 if logind else 3}"),
        ("shutdown", f'echo "$@" > {tmp_path}/called'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    where = tmp_path if booted else tmp_path / "nowhere"
    script = command[2].replace("/run/systemd/system", str(where))
    path = f"{tmp_path}:/usr/bin:/bin"
    subprocess.run(["sh", "-c", script], env={"PATH": path}, check=is_set, timeout=30)
    assert (tmp_path / "called").exists() is is_set


def test_user_data_hides_itself(bootstrap: Bootstrap) -> None:
    data = make_user_data(bootstrap, expires_unix=60, now_unix=0)
    assert "PRIVATE" not in f"{data!r} {data} {files_of_user_data(bootstrap)!r}"


def test_injected_files(bootstrap: Bootstrap) -> None:
    files = files_of_user_data(bootstrap)
    assert {path: (file.mode, file.content[-1:]) for path, file in files.items()} == {
        "/etc/hostname": (0o644, b"\n"),
        "/etc/ssh/ssh_host_ed25519_key": (0o600, b"\n"),
        "/etc/ssh/ssh_host_ed25519_key.pub": (0o644, b"\n"),
        "/root/.ssh": (0o700, b""),
        "/root/.ssh/authorized_keys": (0o600, b"\n"),
    }
    public = files["/etc/ssh/ssh_host_ed25519_key.pub"].content.decode()
    assert public == f"{bootstrap.host_key.public} root@localhost\n"

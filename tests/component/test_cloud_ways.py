# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes of clouds behind a jump host or a command: real sshds, OpenSSH's own client, stand-ins."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.cloud.apis.waiting import find_greeting_problem
from mock_cloud.cloud.apis.way import check_way, find_node_way
from mock_cloud.cloud.hosts.route import find_jump
from mock_cloud.errors import ConfigError, HostKeyMismatch
from mock_cloud.remote.connect import connect
from mock_cloud.settings import (
    CloudSettings,
    Ec2Settings,
    LibcloudSettings,
    OpenStackSettings,
    RackspaceSettings,
)
from mock_cloud.sshkeys import make_key_pair
from tests.lab.sshd import Sshd

# What a stand-in for a cloud's tool does once it has understood its words: as ssh -W does.
CARRY = """
import os, socket, sys, threading
where = socket.create_connection(("127.0.0.1", PORT))
def down():
    while data := where.recv(65536): os.write(1, data)
    os._exit(0)
threading.Thread(target=down, daemon=True).start()
while data := os.read(0, 65536): where.sendall(data)
"""
# Their command lines, as the tools' own manuals have them (docs/networks.md).
SSM = ("ssm", "start-session", "--region", "eu-1", "--target", "i-07", "--document-name",
       "AWS-StartSSHSession", "--parameters", "portNumber=22")  # fmt: skip
ENDPOINT = ("ec2-instance-connect", "open-tunnel", "--region", "eu-1", "--instance-id", "i-07",
            "--remote-port", "22")  # fmt: skip
IAP = ("compute", "start-iap-tunnel", "i-07", "22", "--listen-on-stdin", "--zone", "…")
WANTED = {"aws ssm": SSM, "aws ec2-instance-connect": ENDPOINT, "gcloud compute": IAP}


# What gcloud says on stderr while it carries, and what the tools say when they do not.
NUMPY = (
    "WARNING: \n\nTo increase the performance of the tunnel, consider installing NumPy. For"
    " instructions,\nplease see https://cloud.google.com/iap/docs/using-tcp-forwarding\n\n"
)
REFUSED = {
    "aws ssm": ("\nAn error occurred (TargetNotConnected) when calling the StartSession operation:"
                " i-07 is not connected.\n", "i-07 is not connected", 254),
    "no plugin": ("\nSessionManagerPlugin is not found. Please refer to SessionManager"
                  " Documentation here: http://docs.aws.amazon.com/\n\n", "is not found", 255),
    "gcloud compute": (f"{NUMPY}ERROR: (gcloud.compute.start-iap-tunnel) Error while connecting"
                       " [4033: 'not authorized'].\n", "4033: 'not authorized'", 1),
}  # fmt: skip


def documented() -> dict[str, tuple[str, ...]]:
    """The commands in docs/networks.md, by their first two words."""
    import re

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    text = (Path(__file__).parents[2] / "docs/networks.md").read_text()
    found = {}
    for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
        words: Any = tomllib.loads(block).get("reach_command")
        if words:
            found[" ".join(words[:2])] = tuple(words)
    return found


@pytest.mark.parametrize("name", sorted(WANTED))
def test_documented_commands_lead_to_the_node(
    name: str, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / name.split(maxsplit=1)[0]
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\nif sys.argv[1:] != {list(WANTED[name])!r}:\n"
        "    sys.exit(f'usage: {sys.argv[1:]}')\n"
        "if not {'AWS_PROFILE', 'https_proxy'} <= {*os.environ}: sys.exit('who are you?')\n"
        + CARRY.replace("PORT", str(sshd.port))
    )
    monkeypatch.setenv("AWS_PROFILE", "builds")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    settings = Ec2Settings(region="eu-1", reach_command=documented()[name])
    check_way(settings, "r.toml")
    way = find_node_way(settings, "10.0.0.7", "i-07")
    assert find_greeting_problem("10.0.0.7", time.monotonic() + 30, way) == ""
    # Whoever carries the bytes answers for nobody: the key is pinned.
    address = replace(sshd.address, host="10.0.0.7", port=22, proxy=way)
    connect(address, sshd.client_key.private, deadline_s=20).close()
    with pytest.raises(HostKeyMismatch):
        other = replace(address, host_key=make_key_pair().public)
        connect(other, sshd.client_key.private, deadline_s=20)
    wrong = find_node_way(settings, "10.0.0.7", "i-08")
    problem = find_greeting_problem("10.0.0.7", time.monotonic() + 30, wrong)
    assert problem.startswith(f"{name.split(maxsplit=1)[0]}: ") and " usage: [" in problem


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_the_tools_say_of_a_node_that_they_do_not_reach(name: str) -> None:
    said, told, status = REFUSED[name]
    way = ("sh", "-c", f'printf %s "$0" >&2; exit {status}', said)
    assert told in find_greeting_problem("10.0.0.7", time.monotonic() + 30, way)


CLOUDS = [
    Ec2Settings(region="eu-1", jump="bastion"),
    OpenStackSettings(jump="bastion"),
    RackspaceSettings(region="lon", jump="bastion"),
    LibcloudSettings(driver="gce", jump="bastion"),
]


@pytest.mark.parametrize("settings", CLOUDS, ids=lambda one: type(one).__name__)
def test_a_bastion_leads_to_the_nodes_of_each_cloud(
    settings: CloudSettings, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a network of OpenStack's whose router has one address for all: by ssh_config alone."""
    with Sshd(tmp_path / "bastion") as bastion:
        identity = tmp_path / "id"
        identity.touch(0o600)
        identity.write_bytes(bastion.client_key.private.reveal())
        known, config = tmp_path / "known_hosts", tmp_path / "config"
        config.write_text(
            f"Host bastion\n HostName 127.0.0.1\n Port {bastion.port}\n User root\n"
            f" IdentityFile {identity}\n UserKnownHostsFile {known}\n"
        )
        monkeypatch.setattr(
            "mock_cloud.cloud.hosts.route._config_words", lambda _: ("-F", str(config))
        )
        monkeypatch.setattr("mock_cloud.cloud.apis.way.SSH_PORT", sshd.port)
        check_way(settings, "r.toml")
        way = find_node_way(settings, "127.0.0.1", "i-07")
        known.touch()
        said = find_greeting_problem("127.0.0.1", time.monotonic() + 30, way)
        assert "Host key verification failed" in said
        known.write_text(f"[127.0.0.1]:{bastion.port} {bastion.host_key.public}\n")
        assert find_greeting_problem("127.0.0.1", time.monotonic() + 30, way) == ""
        address = replace(sshd.address, host="10.0.0.7", port=22, proxy=way)
        connect(address, sshd.client_key.private, deadline_s=20).close()
        with pytest.raises(HostKeyMismatch):
            other = replace(address, host_key=make_key_pair().public)
            connect(other, sshd.client_key.private, deadline_s=20)


def test_an_apis_words_stay_words() -> None:
    settings = Ec2Settings(region="r", reach_command=("x", "{instance}", "{address}:{port}"))
    assert find_node_way(settings, "{region}", "i; rm -rf $HOME {port}") == (
        "x", "i; rm -rf $HOME {port}", "{region}:22",
    )  # fmt: skip


def test_ways_are_looked_at_before_a_node_is_bought() -> None:
    with pytest.raises(ConfigError, match=r"r\.toml: there is no program 'no-such-tool'"):
        check_way(Ec2Settings(region="r", reach_command=("no-such-tool",)), "r.toml")
    with pytest.raises(ConfigError, match="two ways"):
        check_way(Ec2Settings(region="r", reach_command=("true",), jump="b"), "r.toml")
    with pytest.raises(ConfigError, match="is not a jump host"):
        check_way(Ec2Settings(region="r", jump="a@b@c"), "r.toml")
    check_way(Ec2Settings(region="r"), "r.toml")


def test_a_jump_host_is_asked_strictly() -> None:
    words = find_jump("me@bastion.example:2222", "10.0.0.7", 22)
    assert words[0] == "ssh" and "StrictHostKeyChecking=yes" in words and "BatchMode=yes" in words
    assert words[-5:] == ("2222", "-W", "[10.0.0.7]:22", "--", "bastion.example")


def test_a_way_that_ends_or_says_nothing() -> None:
    until = time.monotonic() + 0.2
    assert find_greeting_problem("x", until, ("false",)) == "false: it ended without a word"
    assert "No such file" in find_greeting_problem("x", until, ("/no/program",))
    assert "usage" in find_greeting_problem("x", until, ("sh", "-c", "echo usage >&2"))

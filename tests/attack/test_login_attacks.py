# SPDX-License-Identifier: GPL-2.0-or-later
"""Root on a node before the verdict who means to come back after it, by way of sshd."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_cloud.remote.unverified import start_command
from mock_cloud.sshkeys import make_key_pair
from tests.attack.attacked_node import AttackedNode

pytest_plugins = ["tests.component.cloud_fixtures", "tests.attack.attacked_fixtures"]
FROM = "node before the verdict"
CONFIG = "/etc/ssh/sshd_config"
KEYS = "/var/cache/mock/keys"  # where nothing is measured


@pytest.mark.slow
@pytest.mark.attack(FROM, "a second session of the same user, opened before", "refused")
def test_a_session_that_was_open_before(attacked: AttackedNode) -> None:
    attacked.attest()
    with attacked.second_session() as session:
        assert session.run("id -u").stdout == "0\n"
        found = attacked.refusals()
        assert all("root" in who for who in found.pop("login.session"))
        assert set(found) == {"connection.unknown"}
    attacked.attest()


@pytest.mark.slow
@pytest.mark.attack(FROM, "a second session that runs an agent as ours does", "ended")
def test_a_session_disguised_by_an_agent(attacked: AttackedNode) -> None:
    attacked.attest()
    agent = start_command(attacked.toolkit, "serve")
    with attacked.second_session(agent) as session:
        assert session.run("id -u").stdout == "0\n"
        attacked.attest()
        assert session.run("id -u").returncode != 0


def make_key(attacked: AttackedNode) -> Path:
    """A key pair of the attacker's, whose public half is put where nothing is measured."""
    pair = make_key_pair()
    path = attacked.directory / "attacker"
    path.touch(0o600)
    path.write_bytes(pair.private.reveal())
    attacked.do(f"echo '{pair.public}' > {KEYS}; chmod 600 {KEYS}")
    return path


EVIL = f"sed 's,^AuthorizedKeysFile.*,& {KEYS},' {CONFIG} > /dev/shm/evil"
HUP = "kill -HUP 1; sleep 1"


@pytest.mark.attack(
    FROM, "sshd reads another configuration, whose file is then restored", "it is made to reread"
)
@pytest.mark.parametrize(
    "script",
    [
        f"cp -p {CONFIG} /dev/shm/good; cat /dev/shm/evil > {CONFIG}; {HUP};"
        f" cp -p /dev/shm/good {CONFIG}",
        # Which leaves no trace at all on the file, its change time included.
        f"mount --bind /dev/shm/evil {CONFIG}; {HUP}; umount {CONFIG}",
    ],
    ids=["restored", "bind mount"],
)
def test_a_configuration_that_only_memory_has(attacked: AttackedNode, script: str) -> None:
    key = make_key(attacked)
    attacked.do(f"{EVIL}; {script}; rm /dev/shm/*")
    assert attacked.try_key(key, "id -u").stdout == "0\n"
    attacked.attest()
    assert "Permission denied" in attacked.try_key(key, "id -u").stderr


@pytest.mark.attack(
    FROM,
    "a process that restores sshd's configuration once it was reread, and ends",
    "reread again",
)
def test_a_configuration_that_is_restored_after_it_was_read_anew(attacked: AttackedNode) -> None:
    key = make_key(attacked)
    # sshd's listening socket is another one as soon as it has read its configuration. It has
    # others for sessions, since OpenSSH 9.8.
    watch = (
        's() { readlink /proc/1/fd/* | tr -dc "0-9\\n" | while read i; do'
        ' grep -q " 0A .* $i " /proc/net/tcp && echo $i; done; }; b=$(s); n=$b;'
        ' while [ -z "$n" ] || [ "$n" = "$b" ]; do sleep 0.01; n=$(s); done;'
        f" umount {CONFIG}; rm -f /dev/shm/*"
    )
    attacked.do(
        f"{EVIL}; mount --bind /dev/shm/evil {CONFIG};"
        f" nohup sh -c '{watch}' < /dev/null > /dev/null 2>&1 & sleep 0.3"
    )
    assert attacked.do("ls /dev/shm") == "evil\n"
    attacked.attest()  # by an order to read it that this process did not see any more
    assert attacked.do(f"grep -c {KEYS} {CONFIG} || true") == "0\n"
    assert "Permission denied" in attacked.try_key(key, "id -u").stderr


@pytest.mark.slow
@pytest.mark.attack(FROM, "an sshd that ignores the order to read its configuration", "refused")
def test_an_sshd_that_is_stopped(attacked: AttackedNode) -> None:
    attacked.attest()
    attacked.do(f"{EVIL}; echo 'Nonsense yes' >> /dev/shm/evil")
    attacked.do(f"mount --bind /dev/shm/evil {CONFIG}")
    with pytest.raises(Exception, match="would not start with its configuration"):
        attacked.attest()
    assert attacked.do("id -u") == "0\n"  # nobody was locked out by trying


@pytest.mark.attack(FROM, "a running sftp server", "refused")
def test_an_sftp_server(attacked: AttackedNode) -> None:
    with attacked.second_session("-s", "sftp"):
        found = attacked.refusals()
        assert any("sshd" in who for who in found["process.unknown"])

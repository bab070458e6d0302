# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with systemd to its end: lent over SSH, started again, updated, and off by itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import User, new_user
from tests.lab import srpm
from tests.lab.clouds.ec2 import ACCESS_KEY, SECRET_KEY, Ec2Cloud
from tests.lab.keys import package_keys
from tests.systemd.fleet import Fleet, FleetNode
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]

_TIMEOUT_S = 7200.0  # of what hangs, where a boot may take minutes
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
_UPDATE = """\
set -e
mkdir /tmp/update
cat > /tmp/update/dnf.conf <<END
[main]
gpgcheck=0
reposdir=/tmp/update
cachedir=/tmp/update/cache
logdir=/tmp/update
[update]
name=update
baseurl={url}
END
$(command -v dnf5 || command -v dnf) -y -q -c /tmp/update/dnf.conf upgrade
rm -r /tmp/update
"""


def _user(machines: Ec2Cloud, place: Path, remote: str) -> User:
    config = machines.write_config(place / "etc")
    return new_user(place, config, place / "cache", "--remote", remote, extra=_CREDENTIALS)


def test_a_machine_that_nobody_asks_for_powers_itself_off(
    fleet: Fleet, machines: Ec2Cloud, tmp_path: Path
) -> None:
    user = _user(machines, tmp_path, "ec2")
    text = fleet.file.read_text().replace("idle_ttl = 0", 'idle_ttl = "2m"')
    (user.config.path / "remotes.d/ec2.toml").write_text(text)
    others = {one.name for one in machines.nodes()}
    user.mock("--init", timeout_s=_TIMEOUT_S).expect()
    machines.calls.clear()
    (own,) = {one.name for one in machines.nodes()} - others
    wait_for(lambda: own not in machines.listing().instances, timeout_s=_TIMEOUT_S)
    assert machines.calls.summary() == "", "the cloud was asked to end it"
    user.cloud("reap", "--all", "--configdir", user.config.path).expect()
    assert json.loads(user.cloud("nodes", "--json").expect().stdout) == []


@pytest.fixture
def lent(fleet: Fleet) -> Iterator[FleetNode]:
    """A machine that somebody else started."""
    with fleet.node() as node:
        yield node


def test_a_machine_that_is_lent_over_ssh(
    machines: Ec2Cloud, lent: FleetNode, tmp_path: Path
) -> None:
    """Its manifest is made of it as it runs, holds for the next boot, and not after an update."""
    user = _user(machines, tmp_path, "lent")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    host_key = tmp_path / "host.pub"
    host_key.write_text(f"{lent.leased.address.host_key}\n")
    manifest = tmp_path / "alpha.manifest"
    words: list[str | Path] = ["setup", "lent", "--batch", "--force", "--provider", "ssh"]
    words += ["--host", "alpha", "--owner", "Alice", "--host-key", host_key]
    words += ["--address", lent.leased.address.host]
    words += ["--identity", lent.identity, "--directory", user.config.path / "remotes.d"]
    words += ["--package-keys", ",".join(map(str, package_keys(machines.lab)))]
    words += ["--manifest-keys", f"{key}.pub", "--connect-timeout", "10m"]
    words += ["--silence-timeout", "20m"]
    assert user.cloud(*words, timeout_s=_TIMEOUT_S).code == 3
    where = ("--configdir", user.config.path)
    make = ("known-good", "make", "--remote", "lent", "--host", "alpha", "--sign-key", key, *where)
    refused = user.cloud(*make, "--output", manifest, timeout_s=_TIMEOUT_S)
    assert refused.code == 77 and not manifest.exists(), refused
    accept = "--accept-unverified-base"
    user.cloud(*make, "--output", manifest, accept, timeout_s=_TIMEOUT_S).expect()
    user.cloud(*words, "--manifest", manifest, timeout_s=_TIMEOUT_S).expect()

    def build(name: str) -> None:
        results = tmp_path / name
        package = srpm.build(machines.lab, srpm.plain())
        built = user.mock("--resultdir", results, package, timeout_s=_TIMEOUT_S).expect()
        assert "node trusted" in built.stderr
        assert list(results.glob("toy-plain-1-1.lab1.noarch.rpm"))

    def is_trusted() -> bool:
        ended = user.cloud("attest", "lent", *where, timeout_s=_TIMEOUT_S)
        assert ended.code in (0, 77), ended
        return ended.code == 0

    build("first")
    user.cloud("release", "--all", "--force", timeout_s=_TIMEOUT_S).expect()
    lent.reboot()
    build("after-reboot")
    user.cloud("release", "--all", "--force", timeout_s=_TIMEOUT_S).expect()
    lent.do(_UPDATE.format(url=f"{machines.repository_url}/2"))
    assert not is_trusted()
    lent.reboot()  # what runs is of the old packages
    made = user.cloud(*make, "--output", manifest, accept, timeout_s=_TIMEOUT_S).expect()
    assert "new since the report that was there" in made.stderr
    assert is_trusted()
    user.cloud("release", "--all", "--force", timeout_s=_TIMEOUT_S).expect()
    lent.do("true")  # whoever lends a machine keeps it

# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hundred leases with kills and faults: nothing is left in a cloud, and nothing stolen.

The API is real (moto, mimic, the proxy and its faults). The nodes of most only greet; once they
are booted machines, of which each takes seconds. The seed is
printed; MOCK_CLOUD_SOAK_SEED repeats it, as far as two processors repeat anything.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.cloud.apis.adapter import TAG_EXPIRES, TAG_LEASE, TAG_REMOTE
from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.cloud.images import TAG_OWNER
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.cloud.pool import acquire
from mock_cloud.config.remotes import load_remote
from tests.lab.clouds import ec2_xml, faults
from tests.lab.layout import Lab
from tests.soak.paper import BootedEc2, PaperEc2, PaperOpenStack, Watched, opened

pytestmark = [pytest.mark.lab, pytest.mark.soak]

LEASES = int(os.environ.get("MOCK_CLOUD_SOAK_LEASES", "200"))
STRANGER = "somebody@elsewhere:0/00000000"
_CONTROLLERS = 3
_PATIENCE_S = 1500.0
_LIMITS = '\n[lease]\nidle_ttl = "2s"\nmax_ttl = "1h"\nmax_nodes = 8\nmax_builds = 3\n'
_KINDS = (
    faults.html_502(),
    faults.reset,
    faults.reset_after,
    faults.delay(0.5),
)


class Soak:
    """One cloud, one state directory under test, and what must survive."""

    def __init__(self, cloud: Watched, remote: str, place: Path, seed: int) -> None:
        self.cloud, self.remote, self.place = cloud, remote, place
        self.chance = random.Random(seed)  # noqa: S311
        self.configdir = cloud.write_config(place / "etc").path
        with (self.configdir / f"remotes.d/{remote}.toml").open("a") as stream:
            stream.write(_LIMITS)
        self.state_dir = place / "state/mock-cloud"
        self.diary = place / "diary"
        self.kills: dict[int, float] = {}
        variables = (one.partition("=") for one in cloud.environment(self.configdir))
        self.environ = {
            **os.environ,
            "XDG_STATE_HOME": str(place / "state"),
            "HOME": str(place),
            **{name: value for name, _, value in variables},
        }

    def hold(self, state_dir: Path) -> LeasedNode:
        """A node of this process, at work from now on."""
        remote = load_remote(self.remote, self.configdir)
        request = LeaseRequest("busy", remote.arches[0])
        return acquire(remote, request, state_dir=state_dir, deadline_s=60.0)

    def start(self) -> subprocess.Popen[bytes]:
        words = (
            self.remote,
            self.configdir,
            self.state_dir,
            self.diary,
            self.chance.getrandbits(32),
        )
        argv = [sys.executable, "-m", "tests.soak.controller", *map(str, words)]
        return subprocess.Popen(argv, env=self.environ, stdin=subprocess.DEVNULL)

    def kill(self, controller: subprocess.Popen[bytes]) -> None:
        self.kills[controller.pid] = time.time()
        controller.send_signal(signal.SIGKILL)
        controller.wait()

    def reap(self) -> list[dict[str, Any]] | None:
        """What the command ended; None if the API kept it from its work."""
        code = "from mock_cloud.cli import main; raise SystemExit(main())"
        words = ["reap", self.remote, "--json", "--configdir", str(self.configdir)]
        argv = [sys.executable, "-c", code, *words]
        done = subprocess.run(
            argv, env=self.environ, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode in (0, 75), done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows if done.returncode == 0 else None

    def count_leases(self) -> int:
        db = sqlite3.connect(Journal(self.state_dir).path, timeout=30.0)
        try:
            count: int = db.execute("SELECT count(*) FROM lease").fetchone()[0]
        finally:
            db.close()
        return count

    def thefts(self) -> list[str]:
        """Instances that were asked to end while a living controller held them."""
        began: dict[tuple[int, str], float] = {}
        held: list[tuple[str, float, float]] = []
        for line in self.diary.read_text().splitlines():
            moment, pid, word, handle = line.split(" ", 3)
            key = (int(pid), handle)
            if word == "held":
                began[key] = float(moment)
            elif word == "left" and key in began:
                held.append((handle, began.pop(key), float(moment)))
        held += [(handle, start, self.kills[pid]) for (pid, handle), start in began.items()]
        return [
            f"{handle} at {moment}, held from {start} to {end}"
            for moment, ended in self.cloud.asked_to_end
            for handle, start, end in held
            if ended == handle and start < moment < end
        ]


@contextmanager
def shaken(soak: Soak, throttled: faults.Fault) -> Iterator[None]:
    soak.cloud.faults.shake(soak.chance.getrandbits(32), 0.06, (*_KINDS, throttled))
    try:
        yield
    finally:
        soak.cloud.faults.clear()


def find_seed() -> int:
    seed = int(os.environ.get("MOCK_CLOUD_SOAK_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"MOCK_CLOUD_SOAK_SEED={seed}")
    return seed


def run_soak(
    soak: Soak, throttled: faults.Fault, busy: LeasedNode, foreign: set[str], leases: int
) -> None:
    """Controllers come and go by -9, nodes die, the API fails, reapers sweep in between."""
    chance, deadline = soak.chance, time.monotonic() + _PATIENCE_S
    spared = {busy.handle, *foreign}
    controllers: list[subprocess.Popen[bytes]] = []
    try:
        with shaken(soak, throttled):
            while soak.count_leases() < leases:
                assert time.monotonic() < deadline, f"{soak.count_leases()} leases only"
                assert all(one.poll() is None for one in controllers), "a controller failed"
                while len(controllers) < _CONTROLLERS:
                    controllers.append(soak.start())
                time.sleep(chance.uniform(0.5, 3.0))
                step = chance.random()
                if step < 0.4:
                    soak.kill(controllers.pop(chance.randrange(len(controllers))))
                elif step < 0.7:
                    soak.cloud.kill_one(chance, spared)
                elif step < 0.8:
                    soak.reap()
    finally:
        for controller in controllers:
            soak.kill(controller)


def reap_all(soak: Soak) -> None:
    """Until a sweep finds nothing: abandoned nodes first have their grace, of two seconds."""
    deadline = time.monotonic() + 120.0
    while True:
        found = soak.reap()
        leases = [one for one in Journal(soak.state_dir).leases() if not one.held]
        if found == [] and not leases:
            return
        assert time.monotonic() < deadline, (found, leases)
        time.sleep(1.0)


def soak_cloud(
    cloud: Watched,
    remote: str,
    place: Path,
    throttled: faults.Fault,
    *,
    plant: Callable[[Soak], None] = lambda soak: None,
    check: Callable[[Soak], None] = lambda soak: None,
) -> None:
    soak = Soak(cloud, remote, place, find_seed())
    os.environ.update({key: soak.environ[key] for key in soak.environ if key.startswith("OS_")})
    busy = soak.hold(soak.state_dir)
    other = soak.hold(place / "other-state")  # the same user and host, another state directory
    foreign = {other.handle}
    plant(soak)
    began = time.monotonic()
    run_soak(soak, throttled, busy, foreign, LEASES)
    minutes = (time.monotonic() - began) / 60
    reap_all(soak)
    asked = {handle for _, handle in cloud.asked_to_end}
    calls, faulty = len(cloud.calls), sum(call.is_faulty for call in cloud.calls)
    print(
        f"{remote}: {soak.count_leases()} leases in {minutes:.1f} min, {len(soak.kills)}"
        f" controllers and {cloud.deaths} nodes killed, {calls} API calls, {faulty} of them faulty,"
        f" {len(asked)} instances ended by calls"
    )
    assert not asked & {busy.handle, *foreign}
    assert soak.thefts() == []
    listing = cloud.listing()
    assert set(listing.instances) == {busy.handle, *foreign}
    assert (listing.key_pairs, listing.addresses, listing.groups) == ((), (), ())
    check(soak)
    busy.destroy()
    other.destroy()
    assert cloud.listing().instances == ()


@pytest.mark.parametrize("kind", [PaperEc2, BootedEc2], ids=["paper", "booted"])
def test_ec2(lab: Lab, tmp_path: Path, kind: type[PaperEc2 | BootedEc2]) -> None:
    pytest.importorskip("moto", reason="moto is not installed")
    volumes: dict[str, str] = {}

    def plant(soak: Soak) -> None:
        mine = Journal(soak.state_dir).owner
        for owner in (mine, STRANGER):  # a lease's id is no secret: somebody else may use it too
            tags = {
                TAG_LEASE: "feedfeedfeed",
                TAG_OWNER: owner,
                TAG_REMOTE: "ec2",
                TAG_EXPIRES: "1",
            }
            made = cloud.client.create_volume(
                AvailabilityZone="us-east-1a",
                Size=1,
                TagSpecifications=[
                    {
                        "ResourceType": "volume",
                        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                    }
                ],
            )
            volumes[owner] = made["VolumeId"]

    def check(soak: Soak) -> None:
        left = set(cloud.listing().volumes)
        assert volumes[Journal(soak.state_dir).owner] not in left
        assert volumes[STRANGER] in left
        assert len(left) == 3, "with those of the two instances"

    with opened(kind(lab)) as cloud:
        soak_cloud(cloud, "ec2", tmp_path, ec2_xml.throttled(), plant=plant, check=check)


def test_openstack(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mimic", reason="mimic is not installed")
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", "")
    with opened(PaperOpenStack(lab)) as cloud:
        soak_cloud(cloud, "openstack", tmp_path, faults.too_many_requests(1))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Much at once, and a hub that is away: what is left of nodes afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab import srpm
from tests.lab.srpm import Recipe
from tests.lab.tls import Authority
from tests.real_koji.system import RealKoji
from tests.waiting import wait_for

# Not all are `lab`, after which no process may be left: a hub that was started again stays.
pytestmark = pytest.mark.koji
MakeSrpm = Callable[[Recipe], Path]
AWAY_S = int(os.environ.get("MOCK_CLOUD_KOJI_AWAY_S", "60"))
BUILDS = int(os.environ.get("MOCK_CLOUD_KOJI_BUILDS", "8"))
BUILDERS = int(os.environ.get("MOCK_CLOUD_KOJI_BUILDERS", "3"))


def test_a_hub_that_is_away(koji: RealKoji, lab_srpm: MakeSrpm) -> None:
    """Until the build has gone on for so many seconds; its logs and packages are there after it.

    MOCK_CLOUD_KOJI_AWAY_S=600 are the ten minutes of an upgrade.
    """
    koji.only("b1.lab")
    before = koji.launched()
    seconds = AWAY_S + 20
    task = koji.build(lab_srpm(srpm.sleeping(seconds)), "--scratch")
    koji.wait_for_log(task, "tick 2")
    koji.hub.stop_hub()
    try:
        with pytest.raises(ConnectionRefusedError):
            koji.api.getAPIVersion()
        log = koji.builders["b1.lab"].place / "lib/mock"
        wait_for(
            lambda: any(f"tick {AWAY_S}" in one.read_text() for one in log.rglob("build.log")),
            AWAY_S + 600.0,
        )
    finally:
        koji.hub.start_hub()
    koji.expect(task)
    text = koji.logs(koji.child(task, "buildArch")["id"])["build.log"]
    assert [line for line in text.splitlines() if line.startswith("tick ")] == [
        f"tick {number}" for number in range(1, seconds + 1)
    ]
    assert koji.launched() - before == 1


@pytest.mark.lab
def test_many_builds_over_several_builders(
    koji: RealKoji, plain_srpm: Path, say: Callable[[str], None]
) -> None:
    """MOCK_CLOUD_KOJI_BUILDS=30 MOCK_CLOUD_KOJI_BUILDERS=5 for what takes an hour.

    The third builder logs in by a certificate.
    """
    more = [f"b{number}.lab" for number in range(len(koji.builders) + 1, BUILDERS + 1)]
    koji.add_hosts(*more)
    try:
        for name in more[1:]:
            koji.start_builder(name)
        start_with_certificate(koji, more[0])
        before, began_s = koji.launched(), time.monotonic()
        koji.expect(*(koji.build(plain_srpm, "--scratch") for _ in range(BUILDS)))
        took_s, nodes = time.monotonic() - began_s, koji.launched() - before
        say(f"{BUILDS} builds, {len(koji.builders)} builders: {took_s:.0f} s, {nodes} nodes")
        # Two tasks at once at each, by its capacity.
        assert nodes <= 2 * len(koji.builders)
        assert koji.nodes(more[0])  # who logged in by a certificate worked, too
        assert len(koji.cloud.nodes()) == sum(len(koji.nodes(name)) for name in koji.builders)
    finally:
        koji.release()
        for name in more:
            koji.koji("disable-host", name)
            koji.builders.pop(name).stop()
        koji.hub.stop_tls()
    koji.expect_no_node()


def start_with_certificate(koji: RealKoji, name: str) -> None:
    place = koji.place / "certificates"
    place.mkdir()
    authority = Authority(place)
    issued = authority.issue(name)
    both = place / "builder.pem"
    both.write_bytes(issued.key.read_bytes() + issued.certificate.read_bytes())
    assert koji.setup is not None
    setup = replace(koji.setup, server=koji.hub.start_tls(authority))
    koji.start_builder(name, setup=setup, login=f"cert = {both}\nserverca = {authority.path}")

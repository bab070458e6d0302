# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that nobody touched are trusted: new ones, rebooted ones, and those of another day."""

from __future__ import annotations

import os
import time

import pytest

from tests.systemd.fleet import Fleet, FleetNode

pytestmark = [pytest.mark.lab, pytest.mark.slow]

TIMES = int(os.environ.get("MOCK_CLOUD_SYSTEMD_TIMES", "1"))
"""How many new machines; `make test-systemd TIMES=` sets it."""
_REBOOTS, _DAYS = max(1, TIMES // 3), max(1, TIMES // 6)
_DAY_S = 86400


def _shown(node: FleetNode) -> list[str]:
    return [str(reason) for reason in node.refusals()]


@pytest.mark.parametrize("number", range(TIMES))
def test_a_new_machine(fleet: Fleet, number: int) -> None:
    with fleet.node() as node:
        assert not _shown(node)
        assert not _shown(node), "a second look"


@pytest.mark.parametrize("number", range(_REBOOTS))
def test_a_reboot(machine: FleetNode, number: int) -> None:
    machine.reboot()
    assert not _shown(machine)


def test_services_that_were_asked_for(machine: FleetNode) -> None:
    """D-Bus starts them for half a minute; the first look already trusts the machine."""
    verdicts = machine.use.archive.state_dir / "verdicts"
    machine.do("hostnamectl; localectl; timedatectl")
    assert "systemd-hostnamed" in machine.do("pgrep -al systemd")
    before = set(verdicts.glob("*.verdict.json"))
    assert not _shown(machine)
    assert len(set(verdicts.glob("*.verdict.json")) - before) == 1


@pytest.mark.parametrize("days", range(1, _DAYS + 1))
def test_another_day(fleet: Fleet, days: int) -> None:
    """Timers that are due run as the machine starts; it is a process of this test from then on."""
    then = time.gmtime(time.time() + days * _DAY_S)
    with fleet.node() as node:
        node.power_cycle(time.strftime("%Y-%m-%dT%H:%M:%S", then))
        today = node.do("date -u +%F").strip()
        assert today == time.strftime("%Y-%m-%d", then)
        node.do("systemctl start logrotate fstrim systemd-tmpfiles-clean")
        assert not _shown(node)


def test_openstack(openstack_fleet: Fleet) -> None:
    """cloud-init's other data source: an image baked there, a new machine of it, its reboot."""
    with openstack_fleet.node() as node:
        assert not _shown(node)
        assert "DataSourceOpenStack" in node.do("cat /run/cloud-init/result.json")
        node.reboot()
        assert not _shown(node)

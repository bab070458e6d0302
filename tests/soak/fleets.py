# SPDX-License-Identifier: GPL-2.0-or-later
"""The three kinds of nodes that the soak of builds works on, and what can befall each.

Lent machines behind relays, local nodes, and EC2's instances: six nodes in all. Each fleet has a
user of its own: a controller that knows nothing of the others.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.integration.conftest import User
from tests.integration.ec2_remote import write_user
from tests.integration.faults import Clock, family, node_directories
from tests.lab import chroots
from tests.lab.clouds import ec2_xml, faults
from tests.lab.clouds.machines import State
from tests.lab.http import FileServer
from tests.lab.layout import Lab
from tests.lab.relay import Relay
from tests.lab.volunteers import Volunteer, Volunteers
from tests.soak.paper import BootedEc2, opened

_LIMITS = (
    '\n[lease]\nidle_ttl = "60s"\nmax_nodes = 2\n[build]\nretries = 2\nsilence_timeout = "5s"\n'
)
# A cable that is out is out for repositories, too.
_PATIENT = """
config_opts['package_manager_max_attempts'] = 10
config_opts['package_manager_attempt_delay'] = 5
"""
_LATEST_S = 6 * 3600
_SERVING = ("main.py serve", "root@notty", "main.py launch")
_API_FAULTS = (faults.html_502(), faults.reset, faults.reset_after, faults.delay(0.5))
Trouble = Callable[[random.Random], str]
"""Does something bad, and says what; empty if there was nothing to do it to."""


class Fleet:
    """A user, the remote that its commands name, and the troubles that its nodes have."""

    def __init__(self, user: User, remote: str) -> None:
        self.remote = remote
        self._clock = Clock(user)
        self.user = self._clock.user
        later = Clock(user, "later")
        later.set_ahead(_LATEST_S + 60)
        self.judge = later.user
        """The same user when no clock is behind what was signed."""
        self.troubles: list[Trouble] = [self._set_clock]

    def _set_clock(self, chance: random.Random) -> str:
        by_s = chance.choice((0, 600, 3600, _LATEST_S))  # within what manifests are accepted for
        self._clock.set_ahead(by_s)
        return f"clock set by {by_s} s"

    def ends(self) -> None:
        """All is given back, and nothing is known any more."""
        words = ("release", "--all", "--force", "--configdir", self.user.config.path)
        self.user.cloud(*words).expect()
        assert self.user.nodes() == []


@contextmanager
def fleets(lab: Lab, lab_repo: FileServer, cache: Path, place: Path) -> Iterator[list[Fleet]]:
    """All three; at the end their nodes are gone."""
    with ExitStack() as stack:
        local = _local(lab, lab_repo, cache, place / "local")
        stack.callback(local.ends)
        lent = stack.enter_context(_lent(lab, cache, place / "lent"))
        fleets_made = [lent, local, stack.enter_context(_ec2(lab, cache, place / "ec2"))]
        for name in ("lent", "local", "ec2"):
            with (place / name / "etc/site-defaults.cfg").open("a") as stream:
                stream.write(_PATIENT)
        yield fleets_made


@contextmanager
def _lent(lab: Lab, cache: Path, place: Path) -> Iterator[Fleet]:
    place.mkdir(parents=True)
    with ExitStack() as stack:
        volunteers = stack.enter_context(Volunteers(lab, place))
        machines, lines = (volunteers.alpha, volunteers.beta), []
        config = volunteers.write_config(place / "etc")
        tables = []
        for number, one in enumerate(machines):
            line = Relay((one.machine.address, 22), listen=(f"127.88.0.{number + 1}", 0))
            lines.append(stack.enter_context(line))
            host, port = line.address
            way = f'port = {port}\nidentity = "{volunteers.user_key}"'
            tables.append(one.table(address=host, more=way))
        volunteers.write_remote(config, "lent", *tables)
        remote = config.path / "remotes.d/lent.toml"
        text = remote.read_text().replace('[lease]\nidle_ttl = "60s"\n', "")
        remote.write_text(text + _LIMITS.replace("max_nodes = 2\n", ""))
        fleet = Fleet(_user(place, config, cache), "lent")

        def cut(chance: random.Random) -> str:
            line, for_s = chance.choice(lines), chance.uniform(0, 8)
            line.refuse()
            line.cut()
            time.sleep(for_s)
            line.refuse(False)
            return f"a line cut for {for_s:.0f} s"

        def freeze(chance: random.Random) -> str:
            line, for_s = chance.choice(lines), chance.uniform(1, 15)
            line.freeze()
            time.sleep(for_s)
            line.thaw()
            return f"a line frozen for {for_s:.0f} s"

        fleet.troubles += [
            cut,
            cut,
            freeze,
            lambda chance: _kill_in(chance.choice(machines), chance),
        ]
        yield fleet
        fleet.ends()
        left = [one.name for one in machines if _is_used(one)]
        assert left == [], f"something is left on {left}"


def _local(lab: Lab, lab_repo: FileServer, cache: Path, place: Path) -> Fleet:
    place.mkdir(parents=True)
    config = chroots.write(lab, place / "etc", repository_url=f"{lab_repo.url}/dist")
    with config.remote_file.open("a") as stream:
        stream.write(_LIMITS)
    fleet = Fleet(_user(place, config, cache), "local")

    def kill(chance: random.Random) -> str:
        from mock_cloud.cloud.local.files import find_facts

        nodes = [facts for one in node_directories(fleet.user) if (facts := find_facts(one))]
        if not nodes:
            return ""
        facts = chance.choice(nodes)
        victims = {facts.supervisor.pid: "a supervisor"}
        if facts.init is not None:
            victims[facts.init.pid] = "a node"
            for pid, (_, words) in family(facts.init.pid).items():
                victims |= [(pid, name) for name in _SERVING if name in words]
        pid = chance.choice(sorted(victims))
        return _kill(pid, victims[pid])

    fleet.troubles += [kill, kill]
    return fleet


@contextmanager
def _ec2(lab: Lab, cache: Path, place: Path) -> Iterator[Fleet]:
    place.mkdir(parents=True)
    with opened(BootedEc2(lab)) as cloud:
        user = write_user(cloud, place, cache, _LIMITS)
        words = tuple(word for word in user.options if word not in ("--remote", "ec2"))
        fleet = Fleet(replace(user, options=words), "ec2")

        def shake(chance: random.Random) -> str:
            kinds = (*_API_FAULTS, ec2_xml.throttled())
            cloud.faults.shake(chance.getrandbits(32), 0.2, kinds)
            time.sleep(chance.uniform(2, 20))
            cloud.faults.clear()
            return "an API that fails now and then"

        def crash(chance: random.Random) -> str:
            before = cloud.deaths
            cloud.kill_one(chance, set())
            return "an instance killed" if cloud.deaths > before else ""

        def unplug(chance: random.Random) -> str:
            running: list[Any] = [one for one in cloud.nodes() if one.state is State.RUNNING]
            if not running:
                return ""
            machine, for_s = chance.choice(running), chance.uniform(1, 15)
            machine.set_link(False)
            time.sleep(for_s)
            with suppress(Exception):  # it may have been ended meanwhile
                machine.set_link(True)
            return f"an instance's cable out for {for_s:.0f} s"

        fleet.troubles += [shake, crash, unplug]
        yield fleet
        cloud.faults.clear()
        fleet.ends()
        listing = cloud.listing()
        assert listing.is_empty, listing


def _user(place: Path, config: chroots.ConfigDirectory, cache: Path) -> User:
    (place / "home").mkdir()
    return User(place, config, cache, ("--configdir", str(config.path), "-r", config.chroot()))


def _kill_in(one: Volunteer, chance: random.Random) -> str:
    """End something of ours on a lent machine, which its owner may do at any time."""
    found = [
        (pid, name)
        for pid, (_, words) in family(one.machine.init_pid).items()
        for name in _SERVING
        if name in words
    ]
    return _kill(*chance.choice(sorted(found))) if found else ""


def _kill(pid: int, what: str) -> str:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return f"kill -9 of {what}"


def _is_used(one: Volunteer) -> bool:
    place = one.root / "var/lib/mock-cloud"
    return place.is_dir() and any(place.iterdir())

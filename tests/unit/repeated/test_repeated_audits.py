# SPDX-License-Identifier: GPL-2.0-or-later
"""[audit] random: what chance says of a liar's builds, and of honest ones, over hundreds of them.

Draws, ledger, verdicts, provenance and comparisons are the real ones; builders are scripted nodes,
and a part of a command is a build in this process instead of one of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.cli import audit
from mock_cloud.cloud import pool
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import (
    EXIT_INFRASTRUCTURE,
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    CloudError,
    InputError,
)
from mock_cloud.invocation.model import PART, PART_OF
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.ledger.draws import check_draws
from mock_cloud.ledger.entries import EventKind, LedgerEvent
from mock_cloud.ledger.ratings import Builder, Rating, Rules, rate
from mock_cloud.ledger.store import Ledger
from mock_cloud.places import state_dir
from mock_cloud.provenance.requirements import Requirements
from mock_cloud.provenance.statement import Provenance, ProvenanceRefused
from mock_cloud.provenance.verification import verify_results
from mock_cloud.repeated import command, duplicates
from mock_cloud.repeated.audit_draws import reveal
from mock_cloud.repeated.command import build_audited
from mock_cloud.repeated.duplicates import Disagreed
from mock_cloud.repeated.parts import Built, Side
from tests.unit.session.scripted_node import Script, ScriptedCloud
from tests.unit.session.scripted_place import PACKAGE, Place
from tests.unit.signed.package_maker import package_file

HONEST = package_file("tiny", b"payload", [])
TROJANED = package_file("tiny", b"payloae", [])
"""With a payload that nothing unpacks, so that nothing could be compared."""
RENAMED = {"tinier-1-1.noarch.rpm": package_file("tinier", b"payload", [])}
REMOTE = """\
[remote]
provider = "ec2"
[ec2]
region = "r"
security_groups = ["sg-0123456789abcdef0"]
[node.x86_64]
images = ["ami-0123456789abcdef0"]
sizes = ["small"]
[attest]
manifest = "{0.manifest}"
manifest_keys = ["{0.manifest_keys[0]}"]
package_keys = ["{0.package_keys[0]}"]
[audit]
random = true
remotes = ["fair"]
judge = "judge"
"""


@dataclass
class Builders:
    """A cloud for each remote: `liar`, `honest`, `fair`, `judge`."""

    place: Place
    console: Console
    clouds: dict[str, ScriptedCloud] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    alone: threading.Lock = field(default_factory=threading.Lock)

    @property
    def ledger(self) -> Ledger:
        return Ledger(state_dir())

    def add(self, name: str, package: bytes) -> None:
        self.clouds[name] = ScriptedCloud(scripts=[Script(results={PACKAGE: package})])
        path = self.place.etc / "remotes.d"
        path.mkdir(exist_ok=True)
        (path / f"{name}.toml").write_text(REMOTE.format(self.place.remote.attest))

    def set_rate(self, probability: float) -> None:
        path = self.place.path / "config/mock/trust.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[audits]\nnew = {probability}\n")

    def part(
        self, words: Sequence[str], side: Side, place: Path, resultdir: Path, console: Console,
        *, is_shown: bool = False,
    ) -> Built:  # fmt: skip
        """As `build_part`, in this process."""
        results = place / side.name
        if side.remote in self.away:
            results.mkdir()
            return Built(side, results, EXIT_INFRASTRUCTURE)
        with self.alone:
            return self._part(side, results, resultdir)

    def _part(self, side: Side, results: Path, resultdir: Path) -> Built:
        os.environ |= {PART: "*", PART_OF: str(resultdir)}
        before, self.place.results = self.place.results, results
        try:
            self.place.remote = load_remote(side.remote, self.place.etc)
            code = self.place.build()
        finally:
            self.place.results = before
            del os.environ[PART], os.environ[PART_OF]
        return Built(side, results, code)

    def build(self, name: str) -> int:
        """`mock --remote NAME`, whose resultdir is new."""
        shutil.rmtree(self.place.results, ignore_errors=True)
        argv = ["--configdir", str(self.place.etc), "-r", "small", str(self.place.srpm)]
        remote = load_remote(name, self.place.etc)
        line = parse_command_line(argv, {})
        return build_audited(line, remote, self.place.results, self.console)

    def duplicate(self, *names: str) -> int:
        """`mock-cloud duplicate`, into a new resultdir."""
        shutil.rmtree(self.place.results, ignore_errors=True)
        sides = tuple(Side(name, name) for name in names)
        words = ("--configdir", str(self.place.etc), str(self.place.srpm))
        order = duplicates.DuplicateOrder(words, sides, self.place.results)
        remotes = [load_remote(name, self.place.etc) for name in names]
        keys = duplicates.find_side_keys(remotes, self.console)
        return duplicates.build_together(order, self.ledger, keys, self.console)

    def names(self) -> set[str]:
        return {path.name for path in self.place.results.iterdir()}

    def published(self) -> bytes:
        path = self.place.results / PACKAGE
        return path.read_bytes() if path.exists() else b""

    def ratings(self) -> dict[str, Builder]:
        return rate(self.ledger.read(), Rules(), time.time())

    def rating(self, name: str) -> Rating:
        return self.ratings()[f"ec2:{name}"].rating

    def find_guilty(self, name: str) -> None:
        """A person looks at the flags of a builder, which begins anew."""
        flags = self.ratings()[f"ec2:{name}"].flags
        self.ledger.append(*(
            LedgerEvent(EventKind.GUILTY, f"ec2:{name}", int(time.time()), flag=number)
            for number in flags
        ))  # fmt: skip


@pytest.fixture
def builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builders]:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    place = Place(tmp_path)
    place.enter(monkeypatch.setattr)
    made = Builders(place, Console(stream=place.screen))
    for name in ("honest", "fair", "judge"):
        made.add(name, HONEST)
    made.add("liar", TROJANED)
    monkeypatch.setattr(pool, "find_provider", lambda *given: made.clouds[given[2].name])
    for module in (command, duplicates):
        monkeypatch.setattr(module, "build_part", made.part)
    yield made
    for cloud in (*made.clouds.values(), place.cloud):
        cloud.close()


def test_what_is_drawn_is_built_by_another_and_published_once_they_agree(
    builders: Builders,
) -> None:
    builders.set_rate(1.0)
    assert builders.build("honest") == 0
    assert builders.published() == HONEST
    kinds = [entry.event.kind for entry in builders.ledger.read()]
    assert kinds == [EventKind.SEEDED, EventKind.BUILT, EventKind.DRAWN, EventKind.BUILT,
                     EventKind.AGREED, EventKind.AGREED]  # fmt: skip
    first, second = (builders.clouds[name].made[0].requests for name in ("honest", "fair"))
    assert json.loads(first[0]) == json.loads(second[0])
    assert json.loads(first[0])["resultdir"] == str(builders.place.results)


def verify(builders: Builders, **wanted: Any) -> Provenance:
    keys = duplicates.find_side_keys([load_remote("fair", builders.place.etc)], builders.console)
    requirements = Requirements(**wanted)
    found = verify_results(builders.place.results, keys, requirements, time.time())
    return found.signed.provenance


def test_its_provenance_says_who_built_the_same(builders: Builders) -> None:
    """And a policy can ask for it: of what one builder made alone nobody says so."""
    builders.set_rate(1.0)
    assert builders.build("honest") == 0
    (other,) = verify(builders, agreed=1).used.agreed
    assert (other.builder, other.level) == ("ec2:fair", "L0")
    built = [one.event for one in builders.ledger.read() if one.event.kind is EventKind.BUILT]
    assert other.job == built[1].job
    with pytest.raises(ProvenanceRefused, match=r"provenance\.agreed"):
        verify(builders, agreed=2)
    assert builders.build("liar") == 0
    assert [one.builder for one in verify(builders, agreed=1).used.agreed] == ["ec2:judge"]
    assert builders.duplicate("honest", "fair") == 0
    assert [one.builder for one in verify(builders).used.agreed] == ["ec2:fair"]
    builders.set_rate(0.0)
    assert builders.build("honest") == 0
    with pytest.raises(ProvenanceRefused, match=r"provenance\.agreed"):
        verify(builders, agreed=1)


def test_what_is_not_drawn_is_published_at_once(builders: Builders) -> None:
    builders.set_rate(0.0)
    assert builders.build("liar") == 0
    assert builders.published() == TROJANED
    assert not builders.clouds["fair"].made


def test_a_lie_that_is_drawn_is_kept_apart_and_its_builder_flagged(builders: Builders) -> None:
    builders.set_rate(1.0)
    assert builders.build("liar") == 0  # the judge's word
    assert builders.published() == HONEST
    assert builders.rating("liar") is Rating.FLAGGED
    assert builders.rating("fair") is builders.rating("judge") is Rating.NEW
    with pytest.raises(CloudError, match="gets no work"):
        builders.build("liar")
    builders.add("judge", package_file("tiny", b"payloaf", []))
    builders.find_guilty("liar")
    with pytest.raises(Disagreed, match="judge agrees with neither"):
        builders.build("liar")
    assert builders.published() == b""


@pytest.mark.parametrize("code", [EXIT_INTERRUPTED, EXIT_REFUSED])
def test_an_audit_by_hand_that_does_not_end_accuses_nobody(
    builders: Builders, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    builders.set_rate(1.0)
    assert builders.build("honest") == 0
    before = len(builders.ledger.read())
    place = builders.place.results
    monkeypatch.setattr(audit, "build_part", lambda *_: Built("fair", place / "none", code))
    words = ["-r", "small", "--configdir", str(builders.place.etc), str(builders.place.srpm)]
    given = argparse.Namespace(place=place, remote="fair", words=words, keys=None)
    keys = duplicates.find_side_keys([load_remote("fair", builders.place.etc)], builders.console)
    assert audit._build_again(given, builders.ledger, keys, builders.console) == code
    assert len(builders.ledger.read()) == before
    assert [one.name for one in place.parent.glob("*-audit-*")] == []


def test_a_judge_does_not_judge_itself(builders: Builders) -> None:
    builders.set_rate(1.0)
    builders.clouds["judge"].scripts[0].results = {PACKAGE: TROJANED}
    with pytest.raises(Disagreed, match="who differs is flagged"):
        builders.build("judge")
    assert builders.published() == b""


def test_other_packages_than_the_others_are_a_lie(builders: Builders) -> None:
    builders.set_rate(1.0)
    builders.clouds["liar"].scripts[0].results = RENAMED
    assert builders.build("liar") == 0
    assert builders.published() == HONEST
    assert builders.rating("liar") is Rating.FLAGGED


def test_packages_of_a_failed_build_are_not_published(builders: Builders) -> None:
    """Nothing compares them: a liar had only to say that the build failed."""
    builders.set_rate(1.0)
    for name in ("liar", "fair"):
        builders.clouds[name].scripts[0].exit = 10
    assert builders.build("liar") == 10
    assert builders.names() == {"build.log", "remote_attestation.log", "remote_order.log"}
    assert builders.duplicate("liar", "fair") == 10
    assert builders.names() == {"build.log", "remote_attestation.log", "remote_order.log"}


def test_what_is_to_be_audited_and_cannot_be_is_not_published(builders: Builders) -> None:
    """Or a liar had only to wait until nobody else was there."""
    builders.set_rate(1.0)
    builders.away.add("fair")
    with pytest.raises(CloudError, match="no builder of another owner"):
        builders.build("liar")
    assert builders.published() == b""
    assert not list(builders.place.results.iterdir())


def test_what_the_ledger_does_not_have_is_not_published(
    builders: Builders, monkeypatch: pytest.MonkeyPatch
) -> None:
    builders.set_rate(0.0)
    whole = Ledger.append

    def loses(ledger: Ledger, *events: LedgerEvent) -> object:
        return whole(ledger, *(one for one in events if one.kind is not EventKind.BUILT))

    monkeypatch.setattr(Ledger, "append", loses)
    with pytest.raises(InputError, match="the ledger has no build"):
        builders.build("honest")
    assert builders.published() == b""


@pytest.mark.slow
def test_a_liar_over_two_hundred_builds(builders: Builders) -> None:
    """Each lie that is drawn is found, and as many are drawn as should be; nobody else is flagged.

    A person finds the liar guilty each time, so that it begins anew.
    """
    flagged = published = 0
    for number in range(200):
        if number % 5 == 0:
            assert builders.build("honest") == 0
            assert builders.published() == HONEST
        assert builders.build("liar") == 0
        found = {name: one for name, one in builders.ratings().items() if one.flags}
        if found:
            assert found.keys() == {"ec2:liar"}
            assert builders.published() == HONEST  # the judge's
            builders.find_guilty("liar")
            flagged += 1
        else:
            assert builders.published() == TROJANED
            published += 1
    print(f"200 lies, half of them drawn: {flagged} flagged, {published} published")
    assert flagged + published == 200
    assert 65 < flagged < 135  # five standard deviations
    reveal(builders.ledger, builders.console)
    entries = list(builders.ledger.read())
    assert list(check_draws(entries)) == []
    guilty = [one.event.builder for one in entries if one.event.kind is EventKind.GUILTY]
    assert guilty == ["ec2:liar"] * flagged

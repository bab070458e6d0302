# SPDX-License-Identifier: GPL-2.0-or-later
"""Who builds the same: owners that differ, and none of a builder that is flagged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mock_cloud.errors import CommandLineError, ConfigError
from mock_cloud.invocation.model import PART
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.launcher.extras import count_duplicates, is_random, part_of
from mock_cloud.repeated.duplicates import choose_sides
from mock_cloud.settings import AttestSettings, AuditSettings, HostSettings, Remote
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.steps.lease.builders import name_host


def make_remote(name: str, *hosts: tuple[str, str], **further: object) -> Remote:
    lent = tuple(
        HostSettings(one, f"{one}.example.org", owner, "x86_64", host_key=make_key_pair().public)
        for one, owner in hosts
    )
    provider = "ssh" if hosts else "local"
    attest = AttestSettings(None, (), ())
    return replace(Remote(name, provider, ("x86_64",), attest, hosts=lent), **further)  # type: ignore[arg-type]


LENT = make_remote("lent", ("a1", "ann"), ("b1", "bob"), ("a2", "ann"), fallback=("cloud",))
MORE = make_remote("more", ("a3", "ann"), ("c1", "cid"))
CLOUD = make_remote("cloud")


def test_what_one_owner_lends_is_one_builder() -> None:
    found = choose_sides(LENT, [MORE, CLOUD], ())
    assert sorted(side.hosts for side in found[:2]) == [("a1", "a2"), ("b1",)]
    assert [(side.remote, side.hosts) for side in found[2:]] == [("more", ("c1",)), ("cloud", ())]
    assert len({side.name for side in found}) == len(found)


def test_who_is_flagged_gets_no_work() -> None:
    flagged = {name_host(LENT.hosts[0]), name_host(LENT.hosts[1]), "local:cloud"}
    found = choose_sides(LENT, [CLOUD], flagged)
    assert [side.hosts for side in found] == [("a2",)]


def test_an_owner_does_not_audit_the_own_machines() -> None:
    found = choose_sides(LENT, [MORE, CLOUD], (), owner="ann")
    assert [(side.remote, side.hosts) for side in found] == [
        ("lent", ("b1",)), ("more", ("c1",)), ("cloud", ()),
    ]  # fmt: skip


def test_the_order_of_owners_is_not_theirs() -> None:
    firsts = {choose_sides(LENT, [], ())[0].hosts for _ in range(64)}
    assert firsts == {("a1", "a2"), ("b1",)}


def test_a_part_uses_its_own_hosts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert part_of(LENT) == LENT
    monkeypatch.setenv(PART, "b1,gone")
    mine = part_of(LENT)
    assert ([host.name for host in mine.hosts], mine.fallback) == (["b1"], ())
    monkeypatch.setenv(PART, "gone")
    with pytest.raises(ConfigError):
        part_of(LENT)
    monkeypatch.setenv(PART, "*")
    assert part_of(LENT) == LENT
    audited = replace(LENT, audit=AuditSettings(duplicates=2))
    assert count_duplicates(parse_command_line(["x.src.rpm"], {}), audited) == 0


@pytest.mark.parametrize(
    ("words", "count"),
    [(["x.src.rpm"], 3), (["--duplicate", "2", "x.src.rpm"], 2), (["--init"], 0)],
)
def test_the_command_line_wins(words: list[str], count: int) -> None:
    audited = replace(LENT, audit=AuditSettings(duplicates=3))
    assert count_duplicates(parse_command_line(words, {}), audited) == count


def test_what_cannot_be_compared_is_refused() -> None:
    audited = replace(LENT, audit=AuditSettings(duplicates=2))
    for words, remote in (
        (["--duplicate", "2", "--init"], LENT),
        (["--duplicate", "2", "--detach", "x.src.rpm"], LENT),
        (["--detach", "x.src.rpm"], audited),
        (["--chain", "x.src.rpm", "y.src.rpm"], audited),
        (["-r", "koji/tag-1", "x.src.rpm"], audited),
    ):
        with pytest.raises(CommandLineError):
            count_duplicates(parse_command_line(words, {}), remote)
    drawn = replace(LENT, audit=AuditSettings(random=True))
    for words in (["--detach", "x.src.rpm"], ["--chain", "x.src.rpm"], ["-r", "koji/tag-1", "x"]):
        with pytest.raises(CommandLineError):
            is_random(parse_command_line(words, {}), drawn)
    assert not is_random(parse_command_line(["--init"], {}), drawn)
    assert is_random(parse_command_line(["x.src.rpm"], {}), drawn)
    for count in ("1", "9", "-2"):
        with pytest.raises(CommandLineError):
            parse_command_line([f"--duplicate={count}", "x.src.rpm"], {})

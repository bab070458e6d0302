# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud reap`, `nodes` and `release` as a user types them, without a cloud."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from mock_cloud.cli import main, reap
from mock_cloud.cloud import orphans
from mock_cloud.cloud.apis import calls
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import LeaseState
from mock_cloud.cloud.provider import FoundNode
from mock_cloud.errors import CloudError
from tests.unit.cloud.cloud_in_memory import CloudInMemory, lease_of

REMOTE = """
[remote]
provider = "openstack"
[openstack]
cloud = "nowhere"
[node.x86_64]
images = ["i"]
sizes = ["s"]
price_per_hour = 0.5
[budget]
per_day = 5.0
[attest]
manifest = "m"
manifest_keys = ["k"]
package_keys = ["k"]
"""

_AWAY = (
    'provider = "openstack"\n[openstack]\ncloud = "nowhere"',
    'provider = "ec2"\n[ec2]\nregion = "r"\nendpoint = "http://127.0.0.1:1"',
)
"""What `replace` takes to make it a remote whose API refuses connections."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable, name in (("XDG_STATE_HOME", "state"), ("HOME", "home"), ("XDG_CACHE_HOME", "c")):
        monkeypatch.setenv(variable, str(tmp_path / name))
    remotes = tmp_path / "etc/remotes.d"
    remotes.mkdir(parents=True)
    (remotes / "m").touch()
    (remotes / "k").touch()
    (remotes / "stack.toml").write_text(REMOTE)
    return tmp_path


def put(place: Path, **changes: object) -> None:
    journal = Journal(place / "state/mock-cloud")
    with journal.transaction() as books:
        books.write(lease_of(journal.owner, "a1", **changes))


def command(place: Path, *words: str) -> int:
    return main([*words, "--configdir", str(place / "etc")])


def test_one_remote_that_fails_does_not_stop_the_others(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "etc/remotes.d/broken.toml").write_text("[remote]\nprovider = 7\n")
    put(place, remote="lost")
    assert command(place, "reap", "--all") == 3
    errors = capsys.readouterr().err
    for name in ("broken", "lost", "stack"):
        assert f"ERROR: remote {name}: " in errors
    assert command(place, "reap", "--all", "--json") == 3
    rows = json.loads(capsys.readouterr().out)
    assert [row["remote"] for row in rows] == ["broken", "lost", "stack"]
    assert all(row["problem"] for row in rows)


def test_a_remote_that_does_not_exist_is_no_failure_of_the_infrastructure(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(place, "reap", "nosuch") == 3
    assert "ERROR: remote nosuch: " in capsys.readouterr().err


def test_reap_wants_names_or_all(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(place, "reap") == 5
    assert command(place, "reap", "stack", "--all") == 5
    assert "--all" in capsys.readouterr().err


def test_nodes_shows_costs_and_what_is_left(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(place, remote="stack", provider="openstack", price_per_hour=0.5, kind="m1.small nova")
    assert command(place, "nodes") == 0
    shown = capsys.readouterr()
    assert "m1.small nova" in shown.out and "0.50" in shown.out
    assert "of 5.00 USD left today (UTC)" in shown.err
    assert command(place, "nodes", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["kind"] == "m1.small nova" and row["price_per_hour"] == 0.5
    # The lease lives an hour at most, of which midnight may take a part.
    assert 4.5 - 0.01 <= row["budget_left"] <= 5.0


def test_release_of_a_remote_without_its_file_exits_with_75(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(place, remote="lost")
    assert command(place, "release", "a1") == 75
    assert "credentials are needed" in capsys.readouterr().err


def test_nobody_reads_the_output(place: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    script = "import sys; from mock_cloud.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "nodes", "--json", "--configdir", str(place / "etc")],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr.count("Traceback")) == (141, 0)


@pytest.mark.parametrize("verb", ["reap", "release"])
def test_nodes_end_though_manifest_and_keys_are_gone(
    place: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """The remote is asked, here without credentials; its file is not what hinders it."""
    put(place, remote="stack", provider="openstack")
    for name in ("m", "k"):
        (place / "etc/remotes.d" / name).unlink()
    command(place, verb, "stack")
    said = capsys.readouterr().err
    assert "credentials" in said and "No such file" not in said


def test_force_forgets_a_lease_whose_node_nobody_ever_knew(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(place, remote="stack", provider="openstack", handle="", state=LeaseState.RELEASING)
    assert command(place, "release", "stack") == 75
    assert "credentials" in capsys.readouterr().err
    assert command(place, "release", "stack", "--force") == 0
    assert "is forgotten" in capsys.readouterr().err
    put(place, remote="stack", provider="openstack", state=LeaseState.RELEASING)
    assert command(place, "release", "stack", "--force") == 75


def test_a_wait_for_an_api_is_said_by_each_command_that_asks(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(0.0, 15.0)
    clock = SimpleNamespace(monotonic=lambda: next(ticks), sleep=lambda pause_s: None)
    monkeypatch.setattr(calls, "time", clock)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    (place / "etc/remotes.d/far.toml").write_text(REMOTE.replace(*_AWAY))
    assert command(place, "reap", "far") == 75
    said = capsys.readouterr().err
    assert "INFO: waiting for EC2 127.0.0.1:1, for up to 60 s: no connection" in said
    assert said.count("Connection refused") == 2  # and once for what became of it


def test_a_wait_is_told_where_nothing_has_imported_what_asks(place: Path) -> None:
    """A process of its own, as users start it. The line comes before the minute is over."""
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    (place / "etc/remotes.d/far.toml").write_text(REMOTE.replace(*_AWAY))
    words = ("reap", "far", "--configdir", str(place / "etc"))
    with subprocess.Popen(
        [sys.executable, "-c", "from mock_cloud.cli import main; raise SystemExit(main())", *words],
        env={**os.environ, **keys}, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stderr is not None
        first = child.stderr.readline()
        child.kill()
    assert first.startswith("INFO: waiting for EC2 127.0.0.1:1, for up to 60 s: no connection")


def test_remotes_are_asked_at_once_and_told_in_order(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remote that does not answer keeps no other one from being asked."""
    names = ("a", "b", "stack")
    for name in names[:2]:
        (place / f"etc/remotes.d/{name}.toml").write_text(REMOTE)
    all_asked = threading.Barrier(len(names), timeout=30)

    class Unanswering(CloudInMemory):
        def list_nodes(self) -> Sequence[FoundNode]:
            all_asked.wait()
            raise CloudError("no answer")

    monkeypatch.setattr(orphans, "find_provider", lambda *_: Unanswering())
    assert command(place, "reap", "--all") == 75
    said = capsys.readouterr().err.splitlines()
    assert said == [f"ERROR: remote {name}: no answer" for name in names]


def test_a_node_that_two_remotes_list_is_ended_once(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are of one account, and no lease says whose it is."""
    (place / "etc/remotes.d/again.toml").write_text(REMOTE)
    account = CloudInMemory()
    account.add("n1", Journal(place / "state/mock-cloud").owner, remote="stack")
    both_listed = threading.Barrier(2, timeout=30)
    account.on_list = lambda: both_listed.wait() and None
    monkeypatch.setattr(orphans, "find_provider", lambda *_: account)
    monkeypatch.setattr(reap, "STORES", ())  # who keeps images is another question
    assert command(place, "reap", "--all", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["lease"], row["reason"]) == ("n1", "no lease names it")
    assert account.destroyed() == ["n1"]

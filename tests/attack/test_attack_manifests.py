# SPDX-License-Identifier: GPL-2.0-or-later
"""Old, revoked and half-signed manifests offered again to the real commands.

The remote's one machine is a closed port: a manifest that is accepted leads there, exit status 75;
one that is not ends the command before, with 77, or 3 where this side is configured wrongly.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mock_cloud.attest.envelope import Signer, add_signature
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.validity import SignedManifest, Validity, sign_manifest, verify_manifest
from mock_cloud.cli import main
from mock_cloud.errors import EXIT_CONFIG, EXIT_INFRASTRUCTURE, EXIT_REFUSED, MockCloudError
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.steps.attest.seen_manifests import SeenManifests

DAY = 86400
FROM = "manifests' distribution"
PACKAGE_KEY = Path(__file__).parents[1] / "unit/attest/data/distribution.asc"
ACCEPTED = EXIT_INFRASTRUCTURE


class Site:
    """A user with one remote, and the keys of those who sign its manifests."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.state = place / "state/mock-cloud"
        self.signers = {name: self._key(name) for name in ("alice", "bob", "mallory")}
        self.manifest = place / "remotes.d/node.manifest"
        self.manifest.parent.mkdir()
        self.write_remote()

    def _key(self, name: str) -> Signer:
        pair = make_key_pair()
        (self.place / name).write_bytes(pair.private.reveal())
        (self.place / f"{name}.pub").write_text(f"{pair.public} {name}\n")
        return Signer.from_private(pair.private.reveal())

    def write_remote(self, *lines: str, keys: tuple[str, ...] = ("alice", "bob")) -> None:
        listed = json.dumps([str(self.place / f"{name}.pub") for name in keys])
        (self.manifest.parent / "far.toml").write_text(
            f"""[remote]
provider = "ssh"
[host.far]
address = "127.0.0.1"
port = 1
owner = "nobody"
arch = "x86_64"
host_key = "{make_key_pair().public}"
[build]
connect_timeout = 1
retries = 0
[attest]
manifest = "node.manifest"
manifest_keys = {listed}
package_keys = ["{PACKAGE_KEY}"]
"""
            + "".join(f"{line}\n" for line in lines)
        )

    def offer(self, *signers: str, serial: int = 0, age: int = 0, life: int = 30 * DAY) -> bytes:
        """Put a manifest there, signed `age` seconds ago."""
        issued = int(time.time()) - age
        valid = Validity("node", serial or issued, issued, issued + life)
        manifest = ImageManifest("node-1", "x86_64", f"serial {valid.serial}", (), ())
        first, *others = [self.signers[name] for name in signers]
        envelope = sign_manifest(manifest, valid, first)
        for one in others:
            envelope = add_signature(envelope, one)
        self.manifest.write_bytes(envelope)
        return envelope

    def attest(self) -> int:
        """The real command; its exit status."""
        return main(["attest", "far", "--configdir", str(self.place)])

    def known_good(self, *words: object) -> int:
        return main(["known-good", *map(str, words)])


@pytest.fixture
def site(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Site(tmp_path)


@pytest.mark.attack(FROM, "an old signed manifest is offered again", "refused, 77")
def test_an_old_manifest_is_not_taken_after_a_newer_one(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    old = site.offer("alice", age=5 * DAY)
    assert site.attest() == ACCEPTED
    site.offer("alice")
    assert site.attest() == ACCEPTED
    site.manifest.write_bytes(old)
    capsys.readouterr()
    assert site.attest() == EXIT_REFUSED
    assert "older than" in capsys.readouterr().err
    # Its signer may go back on purpose.
    renew = ("--renew", "--sign-key", site.place / "alice")
    assert site.known_good("sign", site.manifest, *renew) == 0
    assert site.attest() == ACCEPTED


@pytest.mark.attack(FROM, "a manifest with the newest's serial and other contents", "refused, 77")
def test_two_manifests_with_one_serial(site: Site) -> None:
    site.offer("alice", serial=5)
    assert site.attest() == ACCEPTED
    valid = Validity("node", 5, int(time.time()), int(time.time()) + DAY)
    other = ImageManifest("node-1", "x86_64", "other", (), ())
    site.manifest.write_bytes(sign_manifest(other, valid, site.signers["alice"]))
    assert site.attest() == EXIT_REFUSED


@pytest.mark.attack(FROM, "a revoked manifest, the revocation's file taken away", "refused, 77")
@pytest.mark.parametrize("what", ["manifest", "serials", "key"])
def test_a_revocation_holds_though_its_file_vanishes(
    site: Site, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old = site.offer("alice", age=DAY)
    serial = verify_manifest(old, [site.signers["alice"].public]).validity.serial
    words = {
        "manifest": ("--manifest", site.manifest, "--key", site.place / "alice.pub"),
        "serials": ("--image", "node", "--arch", "x86_64", "--up-to", serial),
        "key": ("--revoked-key", site.place / "alice.pub"),
    }[what]
    revocation = site.manifest.with_name("node.revocation")
    signed = ("--sign-key", site.place / "bob", "--output", revocation)
    assert site.known_good("revoke", *words, *signed) == 0
    assert site.attest() == EXIT_REFUSED
    assert "revoked" in capsys.readouterr().err
    revocation.unlink()
    assert site.attest() == EXIT_REFUSED
    site.offer("bob")
    assert site.attest() == ACCEPTED


@pytest.mark.attack(FROM, "a stranger revokes others' manifests", "without effect")
def test_a_stranger_revokes_nothing(site: Site) -> None:
    site.offer("alice")
    revocation = site.manifest.with_name("far.revocation")
    signed = ("--sign-key", site.place / "mallory", "--output", revocation)
    assert site.known_good("revoke", "--revoked-key", site.place / "alice.pub", *signed) == 0
    assert site.attest() == ACCEPTED
    # Named in the configuration, it is a mistake of this side's.
    site.write_remote('revocations = ["far.revocation"]')
    assert site.attest() == EXIT_CONFIG


@pytest.mark.attack(FROM, "a revocation that was changed", "refused, 77")
def test_a_changed_revocation_is_not_passed_over(site: Site) -> None:
    site.offer("alice")
    revocation = site.manifest.with_name("far.revocation")
    signed = ("--sign-key", site.place / "alice", "--output", revocation)
    assert site.known_good("revoke", "--manifest", site.manifest, *signed) == 0
    changed = json.loads(revocation.read_bytes())
    changed["payload"] = changed["payload"][:-8] + "AAAAAAAA"
    revocation.write_text(json.dumps(changed))
    assert site.attest() == EXIT_REFUSED


@pytest.mark.attack(FROM, "one signature where two are wanted", "refused, 77")
@pytest.mark.parametrize("signers", [("alice",), ("alice", "mallory"), ("alice", "alice")])
def test_one_signature_of_two(site: Site, signers: tuple[str, ...]) -> None:
    site.write_remote("manifest_threshold = 2")
    site.offer(*signers)
    assert site.attest() == EXIT_REFUSED
    words = ("--key", site.place / "alice.pub", "--sign-key", site.place / "bob")
    assert site.known_good("sign", site.manifest, *words) == 0
    assert site.attest() == ACCEPTED


def test_two_files_of_one_key_are_one_key(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (site.place / "again.pub").write_bytes((site.place / "alice.pub").read_bytes())
    site.write_remote("manifest_threshold = 2", keys=("alice", "again"))
    site.offer("alice", "bob")
    assert site.attest() == EXIT_CONFIG
    assert "manifest_threshold" in capsys.readouterr().err


@pytest.mark.attack(FROM, "an expired manifest, as it is and with a later expiry", "refused, 77")
def test_an_expired_manifest(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.offer("alice", age=3 * DAY, life=2 * DAY)
    assert site.attest() == EXIT_REFUSED
    assert "expired" in capsys.readouterr().err
    envelope = json.loads(site.manifest.read_bytes())
    later = json.loads(site.offer("mallory", life=900 * DAY))
    site.manifest.write_text(json.dumps(envelope | {"payload": later["payload"]}))
    assert site.attest() == EXIT_REFUSED
    assert "is not what" in capsys.readouterr().err


def test_a_manifest_older_than_the_remote_wants(site: Site) -> None:
    site.write_remote('manifest_max_age = "2d"')
    site.offer("alice", age=3 * DAY)
    assert site.attest() == EXIT_REFUSED
    site.offer("alice", age=DAY)
    assert site.attest() == ACCEPTED


@pytest.mark.attack("this machine's clock", "set back, for an expired manifest to hold", "refused")
def test_a_clock_that_was_set_back(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expired = site.offer("alice", age=30 * DAY, life=20 * DAY)
    site.offer("bob")  # by another signer, so that no serial tells
    assert site.attest() == ACCEPTED
    site.manifest.write_bytes(expired)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 15 * DAY)
    assert site.attest() == EXIT_CONFIG
    assert "--reset-clock" in capsys.readouterr().err
    # A person may say that it is right now; on a clock that lies an expiry means nothing.
    assert site.known_good("seen", "--reset-clock") == 0
    assert site.attest() == ACCEPTED


@pytest.mark.attack("this machine's state", "the memory of serials removed or emptied", "a warning")
@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_a_memory_that_is_gone_is_noticed(
    site: Site, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site.offer("alice")
    assert site.attest() == ACCEPTED
    (site.state / "verdicts").mkdir()  # nodes were attested from here
    memory = site.state / "manifests.sqlite"
    if how == "removed":
        memory.unlink()
    else:
        os.truncate(memory, 0)
    site.offer("alice", age=DAY)
    capsys.readouterr()
    assert site.attest() == ACCEPTED
    assert "remembers no manifest" in capsys.readouterr().err


def test_who_made_the_first_manifest_here_is_not_told_that_a_memory_is_gone(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    (site.state / "verdicts").mkdir(parents=True)  # of the node that became the image
    site.offer("alice")
    assert (
        site.known_good("sign", site.manifest, "--renew", "--sign-key", site.place / "alice") == 0
    )
    assert site.attest() == ACCEPTED
    assert "remembers no manifest" not in capsys.readouterr().err


@pytest.mark.attack("this machine's state", "the memory of serials damaged", "an error, 3")
def test_a_damaged_memory_is_not_an_empty_one(site: Site) -> None:
    site.offer("alice")
    assert site.attest() == ACCEPTED
    memory = site.state / "manifests.sqlite"
    data = bytearray(memory.read_bytes())
    data[:64] = os.urandom(64)
    memory.write_bytes(data)
    assert site.attest() == EXIT_CONFIG


def test_the_wrong_key_is_a_mistake_in_the_configuration(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.write_remote(keys=("mallory",))
    site.offer("alice")
    assert site.attest() == EXIT_CONFIG
    said = capsys.readouterr().err
    assert all(site.signers[name].public.fingerprint in said for name in ("alice", "mallory"))


@pytest.mark.attack("commands at the same time", "race an old manifest past a newer", "refused")
def test_commands_at_the_same_time_agree_on_the_newest(site: Site) -> None:
    site.state.mkdir(parents=True)
    signer = site.signers["alice"].public.fingerprint
    now = time.time()

    def check(serial: int) -> int | None:
        manifest = ImageManifest("node-1", "x86_64", str(serial), (), ())
        valid = Validity("node", serial, int(now), int(now) + DAY)
        try:
            SeenManifests(site.state).check(
                SignedManifest(manifest, valid, frozenset({signer})), now
            )
        except MockCloudError:
            return None
        return serial

    serials = [3, 1, 2, 9, 5, 7, 8, 4, 6] * 4
    with ThreadPoolExecutor(8) as pool:
        accepted = [one for one in pool.map(check, serials) if one is not None]
    memory = SeenManifests(site.state)
    assert memory.find_serial(signer, "node", "x86_64") == 9 == max(accepted)
    assert [check(serial) for serial in serials] == [9 if one == 9 else None for one in serials]


def test_doctor_remembers_nothing_and_warns_before_the_expiry(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.offer("alice", age=25 * DAY)
    main(["doctor", "far", "--configdir", str(site.place), "--json"])
    findings = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    found = findings["known-good set for x86_64"]
    assert found["ok"] and "in 5 days" in found["found"]
    assert "expires" in found["mend"]
    assert SeenManifests(site.state).newest() == []

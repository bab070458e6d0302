# SPDX-License-Identifier: GPL-2.0-or-later
"""A lent machine whose owner's key is known: results that it did not sign for are not taken."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.cloud.hosts.handle import Handle, HostPlace
from mock_cloud.console import Console
from mock_cloud.errors import AttestationRefused
from mock_cloud.model import NodeAddress
from mock_cloud.provenance.requirements import Requirements
from mock_cloud.provenance.verification import verify_results
from mock_cloud.settings import HostSettings
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.steps.sign.signers import find_signer
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.files import digest_of
from mock_cloud.wire.owner_statement import NAMESPACE, OwnedPackage, OwnerStatement
from mock_cloud.wire.rpmfile import digest_parts
from tests.mutations.honest import signer_of, sshsig
from tests.unit.session.scripted_place import PACKAGE, Place

Say = Callable[..., dict[str, Any]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    place = Place(tmp_path)
    place.enter(monkeypatch.setattr)
    lent = NodeAddress("127.0.0.1", 22, "root", make_key_pair().public)
    place.cloud.handle = str(Handle((HostPlace("alpha", lent),), 0.0))
    yield place
    place.cloud.close()


@pytest.fixture
def say(place: Place) -> Say:
    """What an honest owner's machine says, but for what a test has it say instead."""

    def say(job: str, nonce: str, by: str = "owner", space: str = NAMESPACE, **changes: Any) -> Any:
        data = place.cloud.scripts[0].results[PACKAGE]
        digest = digest_of(io.BytesIO(data))[0]
        source = digest_of(io.BytesIO(place.srpm.read_bytes()))[0]
        package = OwnedPackage(digest, *digest_parts(io.BytesIO(data)))
        true = OwnerStatement(job, nonce, (source,), {PACKAGE: package})
        text = to_json(replace(true, **changes))
        return {"statement": text.decode(), "signature": sshsig(text, by, space)}

    return say


def build(place: Place, owner: Callable[[str, str], dict[str, Any]] | None) -> int:
    if owner is not None:
        place.cloud.scripts[0].owner = owner
    key = signer_of("owner").public
    host = HostSettings("alpha", "a", "Ann", "x86_64", host_key=key, owner_key=key)
    return place.build(hosts=(host,))


def test_the_signature_is_here_before_the_results_and_stands_in_the_provenance(
    place: Place, say: Say
) -> None:
    assert build(place, say) == 0
    asked = place.cloud.made[0].asked
    assert asked.index("owner_sign") < asked.index("results")
    key = find_signer(place.remote, Console(stream=io.StringIO())).public
    wanted = Requirements(owner_signed=True, owner_keys=(signer_of("owner").public.fingerprint,))
    assert verify_results(place.results, [key], wanted, time.time())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"job": "another"}, "owner.signature: job"),
        ({"nonce": "00" * 32}, "owner.signature: nonce"),
        ({"sources": ("0" * 64,)}, "owner.signature: sources"),
        ({"packages": {}}, f"owner.signature: {PACKAGE}"),
        ({"packages": {PACKAGE: OwnedPackage(*["0" * 64] * 3)}}, f"owner.signature: {PACKAGE}"),
        ({"by": "stranger"}, "owner.signature: signature"),
        ({"space": "file"}, "owner.signature: signature"),
        (None, "owner.missing: alpha"),
    ],
)
def test_what_the_owner_did_not_sign_for_is_not_taken(
    place: Place, say: Say, changes: dict[str, Any] | None, code: str
) -> None:
    def other(job: str, nonce: str) -> dict[str, Any]:
        given = {"job": job, "nonce": nonce, **(changes or {})}
        return say(given.pop("job"), given.pop("nonce"), **given)

    with pytest.raises(AttestationRefused) as caught:
        build(place, None if changes is None else other)
    assert code in caught.value.message
    assert "get" not in place.cloud.made[0].asked
    assert not place.names() & {PACKAGE, "remote_provenance.json"}


def test_a_signature_of_the_build_before_is_worth_nothing(place: Place, say: Say) -> None:
    said: list[dict[str, Any]] = []

    def replayed(job: str, nonce: str) -> dict[str, Any]:
        said.append(say(job, nonce))
        return said[0]

    assert build(place, replayed) == 0
    with pytest.raises(AttestationRefused):
        build(place, replayed)

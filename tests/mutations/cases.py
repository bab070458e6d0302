# SPDX-License-Identifier: GPL-2.0-or-later
"""Each way in which results are spoiled, and what must be said of it."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import shutil
import subprocess
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mock_cloud.attest.envelope import sign_statement
from mock_cloud.attest.policy import Allowances, policy_to_json, standard
from mock_cloud.attest.validity import Validity, sign_manifest
from mock_cloud.provenance.grounds import write_grounds
from mock_cloud.provenance.owner import OwnerSignature
from mock_cloud.provenance.statement import BUILD_TYPE, PREDICATE, Agreement, Provenance
from mock_cloud.wire.decode import encode
from mock_cloud.wire.owner_statement import NAMESPACE
from tests.mutations import honest
from tests.mutations.honest import PACKAGES, Results, fingerprint, signer_of
from tests.unit.attest import attest_builder as attest

ONE, TWO = PACKAGES
LOG: Final = "build.log"
Spoil = Callable[[Results], object]


@dataclass(frozen=True)
class Case:
    """`spoil` is done to honest results; then `verify` ends with `code` and names `reason`."""

    name: str
    spoil: Spoil
    reason: str
    subject: str = ""
    code: int = 77


def _flip(at: int) -> Callable[[bytes], bytes]:
    def act(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[at] ^= 1
        return bytes(changed)

    return act


def _envelope(act: Callable[[dict[str, Any]], object]) -> Spoil:
    """The envelope's JSON changed by somebody without a key."""

    def spoil(results: Results) -> None:
        found = json.loads(results.file.read_bytes())
        act(found)
        results.file.write_text(json.dumps(found))

    return spoil


def _payload(act: Callable[[dict[str, Any]], object]) -> Spoil:
    """The statement in it changed by somebody without a key."""

    def change(envelope: dict[str, Any]) -> None:
        statement = json.loads(base64.b64decode(envelope["payload"]))
        act(statement)
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()

    return _envelope(change)


def _lie(act: Callable[[dict[str, Any]], object]) -> Spoil:
    """The statement changed and signed by the builder's own key."""

    def spoil(results: Results) -> None:
        envelope = json.loads(results.file.read_bytes())
        statement = json.loads(base64.b64decode(envelope["payload"]))
        act(statement)
        subject = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
        data = sign_statement(
            statement["predicateType"], subject, statement["predicate"], signer_of("builder")
        )
        results.file.write_bytes(data)

    return spoil


def _swap(results: Results) -> None:
    one, two = results.path(ONE).read_bytes(), results.path(TWO).read_bytes()
    results.path(ONE).write_bytes(two)
    results.path(TWO).write_bytes(one)


def _as(results: Results, name: str, make: Callable[[Path], object]) -> None:
    path = results.path(name)
    kept = shutil.move(path, results.place.with_name(f"{results.place.name}-kept"))
    make(path)
    assert Path(kept).exists()


def _link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def _signature_alone(data: bytes) -> bytes:
    """In rpm's signature header: the sha1 in it is the text of 40 digits that comes first."""
    at = data.index(b"\x8e\xad\xe8\x01") + 200
    return _flip(at)(data)


def _other_build(results: Results, act: Callable[[Results, Results], object]) -> None:
    other = honest.make_results(results.place.with_name(f"{results.place.name}-other"))
    other.change(LOG, lambda data: data + b"of another build\n")
    other.sign()
    act(results, other)


def _other_signature(mine: Results, other: Results) -> None:
    ours, theirs = (json.loads(one.file.read_bytes()) for one in (mine, other))
    ours["signatures"] = theirs["signatures"]
    mine.file.write_text(json.dumps(ours))


def _claims_key(results: Results) -> None:
    """A stranger's signature under the builder's name."""
    results.sign(by="stranger")
    found = json.loads(results.file.read_bytes())
    found["signatures"][0]["keyid"] = fingerprint("builder")
    results.file.write_text(json.dumps(found))


def _manifest_for_provenance(results: Results) -> None:
    manifest = attest.manifest()
    results.file.write_bytes(
        sign_manifest(manifest, Validity("test", 1, 1, 2), signer_of("builder"))
    )


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as stream:
        stream.truncate(size)


def _zip(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def _with_member(results: Results, name: str, data: bytes) -> bytes:
    found = io.BytesIO(results.evidence.read_bytes())
    with zipfile.ZipFile(found) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    return _zip(**{**members, name: data})


def _without_member(results: Results, start: str) -> bytes:
    found = io.BytesIO(results.evidence.read_bytes())
    with zipfile.ZipFile(found) as archive:
        members = {
            one: archive.read(one) for one in archive.namelist() if not one.startswith(start)
        }
    return _zip(**members)


def _lax() -> Any:
    """The standard policy, that lets a module be there."""
    mine = (Allowances("mine", "I say so", module="rootkit"),)
    return policy_to_json(replace(standard(), allowed=mine))


def _facts(results: Results, **changes: Any) -> bytes:
    found = io.BytesIO(results.evidence.read_bytes())
    with zipfile.ZipFile(found) as archive:
        facts = json.loads(archive.read("grounds.json"))
    return _with_member(results, "grounds.json", json.dumps({**facts, **changes}).encode())


def _foreign_manifest(results: Results) -> None:
    """The manifest is signed by somebody else than the keys that are named beside it."""
    found = honest.grounds()
    mine = sign_manifest(attest.manifest(), Validity("test", 1, 1, 2), signer_of("stranger"))
    results.keep(write_grounds(replace(found, manifest=mine), honest._verdict()))


def _rsa(results: Results) -> None:
    path = results.place.with_name(f"{results.place.name}-rsa")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(path)], check=True
    )
    results.keys = [path.with_suffix(".pub")]


def _only_key(name: str) -> Spoil:
    def spoil(results: Results) -> None:
        results.keys = []
        results.add_key(f"{signer_of(name).public}\n")

    return spoil


def _only_text(text: bytes) -> Spoil:
    def spoil(results: Results) -> None:
        results.keys = []
        results.add_key(text)

    return spoil


def scratch_of(results: Results) -> Provenance:
    found = results.provenance()
    return replace(found, used=replace(found.used, scratch=True))


_counts: Final = _payload(
    lambda s: s["predicate"]["buildDefinition"]["internalParameters"].update(scratch=False)
)


def _scratch_with(policy: str) -> Spoil:
    def spoil(results: Results) -> None:
        results.sign(scratch_of(results))
        results.policy = policy

    return spoil


def _extended(signed: OwnerSignature) -> OwnerSignature:
    text = json.dumps({**json.loads(signed.statement), "more": 1})
    return replace(signed, statement=text, signature=honest.sshsig(text.encode(), "owner"))


def _policy(text: str) -> Spoil:
    def spoil(results: Results) -> None:
        results.policy = text

    return spoil


def _predicate(*path: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def find(statement: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = statement["predicate"]
        for name in path:
            found = found[name]
        return found

    return find


def _set(*path: str, to: object) -> Callable[[dict[str, Any]], None]:
    def act(statement: dict[str, Any]) -> None:
        _predicate(*path[:-1])(statement)[path[-1]] = to

    return act


_FUTURE: Final = "2199-01-01T00:00:00Z"
_METADATA: Final = ("runDetails", "metadata")
_TIER: Final = ("buildDefinition", "internalParameters", "attestation", "tier")


def _owned(
    by: str = "owner",
    namespace: str = NAMESPACE,
    then: Callable[[OwnerSignature], OwnerSignature] = lambda signed: signed,
    **changes: Any,
) -> Spoil:
    """The owner signed something else, and the controller signed for it all the same."""

    def spoil(results: Results) -> None:
        results.owner_signature = then(honest.owner_signature(results, by, namespace, **changes))
        results.sign()

    return spoil


def _other_package(results: Results) -> None:
    results.owner_signature = honest.owner_signature(results)
    results.change(ONE, lambda data: data + b"\0")
    results.sign()


def _signed_and_asked(policy: str) -> Spoil:
    def spoil(results: Results) -> None:
        _owned()(results)
        results.policy = policy

    return spoil


ONE_AGREES: Final = Agreement("host:SHA256:fair", "grace", "SHA256:fair", "job", "L1", "0" * 64)


def _agreed(*others: Agreement) -> Spoil:
    def spoil(results: Results) -> None:
        results.agreed = others
        results.sign()

    return spoil


OWNER: Final = (
    Case("the owner's signature of another job", _owned(job="20260101-000000-11111111"), "owner.signature", "job"),
    Case("the owner's signature with another nonce", _owned(nonce="cd" * 32), "owner.signature", "nonce"),
    Case("the owner's signature of another source", _owned(sources=("2" * 64,)), "owner.signature", "sources"),
    Case("the owner's signature of no source", _owned(sources=()), "owner.signature", "sources"),
    Case("the owner's signature in another namespace", _owned(namespace="git"), "owner.signature", "signature"),
    Case("a stranger's signature for the owner's", _owned(by="stranger"), "owner.signature", "signature"),
    Case("the owner's signature of no package", _owned(packages={}), "owner.signature", ONE),
    Case("a package changed after its owner signed", _other_package, "owner.signature", ONE),
    Case("an owner's statement changed", _owned(then=lambda one: replace(one, statement=one.statement + " ")),
         "owner.signature", "signature"),
    Case("an owner's statement that is none", _owned(then=lambda one: replace(
        one, statement="[]", signature=honest.sshsig(b"[]", "owner"))), "owner.signature", "statement"),
    Case("an owner's statement with a key more", _owned(then=_extended), "owner.signature", "statement"),
    Case("an owner's signature cut short", _owned(then=lambda one: replace(one, signature=one.signature[:90])),
         "owner.signature", "signature"),
    Case("an owner's signature of 1 MiB", _owned(then=lambda one: replace(one, signature="A" * (1 << 14))),
         "owner.signature", "statement"),
    Case("an owner's key that is none", _owned(then=lambda one: replace(one, key="ssh-ed25519 AAAA")),
         "owner.signature"),
    Case("policy: the owner signs, who did not", _policy("owner_signed = true"), "owner.missing"),
    Case("policy: an owner's key, and nobody signed", _policy(f'owner_keys = ["{fingerprint("owner")}"]'),
         "owner.missing"),
    Case("policy: another owner's key", _signed_and_asked(f'owner_keys = ["{fingerprint("stranger")}"]'), "owner.key"),
)  # fmt: skip

FILES: Final = (
    Case("a byte of a package's payload", lambda r: r.change(ONE, _flip(-20)), "result.changed", ONE),
    Case("a byte of a package's header", lambda r: r.change(ONE, _flip(-600)), "result.changed", ONE),
    Case("a byte of a package's lead", lambda r: r.change(ONE, _flip(0)), "result.changed", ONE),
    Case("a package cut short", lambda r: r.change(ONE, lambda d: d[:-1]), "result.changed", ONE),
    Case("a package emptied", lambda r: r.change(ONE, lambda d: b""), "result.changed", ONE),
    Case("bytes after a package", lambda r: r.change(ONE, lambda d: d + b"\0"), "result.changed", ONE),
    Case("two packages swapped", _swap, "result.changed", TWO),
    Case("a package signed otherwise", lambda r: r.change(ONE, _signature_alone), "result.resigned", ONE),
    Case("a package removed", lambda r: r.path(ONE).unlink(), "result.missing", ONE),
    Case("a package renamed", lambda r: r.path(ONE).rename(r.path("x.rpm")), "result.extra", "x.rpm"),
    Case("a package added", lambda r: shutil.copy(r.path(ONE), r.path("evil-1-1.noarch.rpm")),
         "result.extra", "evil-1-1.noarch.rpm"),
    Case("a package in a new directory", lambda r: (r.path("d").mkdir(), shutil.copy(r.path(ONE), r.path("d"))),
         "result.extra", f"d/{ONE}"),
    Case("a name that differs in case", lambda r: shutil.copy(r.path(ONE), r.path(ONE.upper())),
         "result.extra", ONE.upper()),
    Case("a link to the package in its place", lambda r: _as(r, ONE, _link(f"../{r.place.name}-kept")),
         "result.unreadable", ONE),
    Case("a link to /dev/zero for a log", lambda r: _as(r, LOG, _link("/dev/zero")),
         "result.unreadable", LOG),
    Case("a pipe for a log", lambda r: _as(r, LOG, os.mkfifo), "result.unreadable", LOG),
    Case("a directory for a package", lambda r: _as(r, ONE, Path.mkdir), "result.missing", ONE),
    Case("a log of 8 TiB", lambda r: _sparse(r.path(LOG), 8 << 40), "result.changed", LOG),
    Case("a package of 8 TiB", lambda r: _sparse(r.path(ONE), 8 << 40), "result.changed", ONE),
    Case("a chain's mark with something in it", lambda r: r.path("success").write_text("x"),
         "result.extra", "success"),
    Case("a chain's mark that is a link", lambda r: r.path("fail").symlink_to("/dev/null"),
         "result.extra", "fail"),
    Case("directories nested deep", lambda r: r.path("d/" * 40).mkdir(parents=True), "result.extra"),
    Case("a log changed", lambda r: r.change(LOG, _flip(5)), "result.changed", LOG),
    Case("a log continued", lambda r: r.change(LOG, lambda d: d + b"all is well\n"), "result.changed", LOG),
    Case("a log emptied", lambda r: r.change(LOG, lambda d: b""), "result.changed", LOG),
    Case("a log removed", lambda r: r.path(LOG).unlink(), "result.missing", LOG),
    Case("the verdict's log changed", lambda r: r.change("remote_attestation.log", _flip(0)),
         "result.changed", "remote_attestation.log"),
    Case("a second provenance beside it", lambda r: shutil.copy(r.file, r.path("remote_provenance.json.1")),
         "result.extra", "remote_provenance.json.1"),
)  # fmt: skip

ENVELOPE: Final = (
    Case("no provenance", lambda r: r.file.unlink(), "provenance.missing"),
    Case("an empty provenance", lambda r: r.file.write_bytes(b""), "provenance.malformed"),
    Case("a provenance cut short", lambda r: r.change(r.file.name, lambda d: d[:-10]), "provenance.malformed"),
    Case("two documents in it", lambda r: r.change(r.file.name, lambda d: d + d), "provenance.malformed"),
    Case("a key twice in its JSON", lambda r: r.change(r.file.name, lambda d: b'{"payload":"",' + d[1:]),
         "provenance.malformed"),
    Case("a key more in its JSON", _envelope(lambda e: e.update(more=1)), "provenance.malformed"),
    Case("JSON nested 5,000,000 deep", lambda r: r.file.write_bytes(b"[" * 5_000_000), "provenance.malformed"),
    Case("a provenance of 4 GiB", lambda r: _sparse(r.file, 4 << 30), "provenance.malformed"),
    Case("a number that is none", lambda r: r.file.write_bytes(b'{"payload": NaN}'), "provenance.malformed"),
    Case("another payload type", _envelope(lambda e: e.update(payloadType="text/plain")), "provenance.malformed"),
    Case("no signature", _envelope(lambda e: e.update(signatures=[])), "provenance.signature"),
    Case("a bit of the signature", _envelope(lambda e: e["signatures"][0].update(
        sig=base64.b64encode(_flip(9)(base64.b64decode(e["signatures"][0]["sig"]))).decode())),
        "provenance.signature"),
    Case("a signature cut short", _envelope(lambda e: e["signatures"][0].update(sig="AAAA")),
         "provenance.signature"),
    Case("two signatures of one key", _envelope(lambda e: e["signatures"].append(e["signatures"][0])),
         "provenance.malformed"),
    Case("seventeen signatures", _envelope(lambda e: e.update(signatures=[
        {**e["signatures"][0], "keyid": f"SHA256:{number}"} for number in range(17)])), "provenance.malformed"),
    Case("another key's name", _envelope(lambda e: e["signatures"][0].update(keyid=fingerprint("stranger"))),
         "provenance.signer"),
    Case("a stranger's signature under its name", _claims_key, "provenance.signature"),
    Case("signed by a stranger", lambda r: r.sign(by="stranger"), "provenance.signer"),
    Case("the signature of another build", lambda r: _other_build(r, _other_signature), "provenance.signature"),
    Case("the provenance of another build", lambda r: _other_build(r, lambda a, b: shutil.copy(b.file, a.file)),
         "result.changed", LOG),
    Case("a manifest by the same key", _manifest_for_provenance, "provenance.malformed"),
    Case("a result's digest", _payload(lambda s: s["subject"][0]["digest"].update(sha256="0" * 64)),
         "provenance.signature"),
    Case("a result less", _payload(lambda s: s["subject"].pop()), "provenance.signature"),
    Case("a later end", _payload(_set(*_METADATA, "finishedOn", to="2026-01-01T00:00:00Z")), "provenance.signature"),
    Case("a better tier", _payload(_set(*_TIER, to=3)), "provenance.signature"),
)  # fmt: skip

EVIDENCE: Final = (
    Case("no evidence", lambda r: r.evidence.unlink(), "evidence.missing"),
    Case("a byte of the evidence", lambda r: r.change(r.evidence.name, _flip(99)), "evidence.changed"),
    Case("evidence cut short", lambda r: r.change(r.evidence.name, lambda d: d[:-1]), "evidence.changed"),
    Case("another build's evidence", lambda r: r.evidence.write_bytes(honest.spoiled_grounds(
        lambda node: node.add_file("/etc/new", "0" * 64))), "evidence.changed"),
    Case("a bomb of 4 GiB in its place", lambda r: r.evidence.write_bytes(_bomb()), "evidence.changed"),
)  # fmt: skip

# The builder's key signs what is not so: a controller that lies, or that somebody has taken over.
LIES: Final = (
    Case("a node with a changed program, called trusted", lambda r: r.keep(honest.spoiled_grounds(
        lambda node: node.files["/usr/sbin/sshd"].__setitem__(6, "0" * 64))), "evidence.refused"),
    Case("a node with an unknown file", lambda r: r.keep(honest.spoiled_grounds(
        lambda node: node.add_file("/usr/bin/evil", "0" * 64, mode=0o4755))), "evidence.refused", "/usr/bin/evil"),
    Case("a package's header less", lambda r: r.keep(_without_member(r, "headers/")), "evidence.refused"),
    Case("a manifest that its keys did not sign", _foreign_manifest, "evidence.unusable"),
    Case("no package keys", lambda r: r.keep(_without_member(r, "package-keys/")), "evidence.unusable"),
    Case("an answer to another nonce", lambda r: r.keep(_facts(r, nonce="00" * 32)), "evidence.refused"),
    Case("another verdict", lambda r: r.sign_with(verdict="0" * 64), "evidence.disagrees", "verdict"),
    Case("another signer of the manifest", lambda r: r.sign_with(manifest_signers=(fingerprint("builder"),)),
         "evidence.disagrees", "manifestSigners"),
    Case("other package keys", lambda r: r.sign_with(package_keys=("ab" * 20,)), "evidence.disagrees", "packageKeys"),
    Case("another toolkit", lambda r: r.sign_with(toolkit="0" * 64), "evidence.disagrees", "toolkit"),
    Case("a tier that software does not reach", lambda r: r.sign_with(tier=2), "evidence.disagrees", "tier"),
    Case("another host key", _lie(_set("buildDefinition", "internalParameters", "node", "hostKey",
                                       to="SHA256:" + "A" * 43)), "evidence.disagrees", "hostKey"),
    Case("a verdict of last year", lambda r: r.keep(_facts(r, at_unix=time.time() - 400 * 86400)),
         "evidence.refused"),
    Case("a verdict after the build", lambda r: r.keep(_facts(r, at_unix=time.time() + 86400)),
         "evidence.disagrees", "time"),
    Case("no policy", lambda r: r.keep(_facts(r, policy="lenient")), "evidence.unusable"),
    Case("laxer rules under the same name", lambda r: r.keep(_facts(r, policy=_lax())), "evidence.disagrees",
         "policySha256"),
    Case("another policy's digest", lambda r: r.sign_with(policy_sha256="0" * 64), "evidence.disagrees",
         "policySha256"),
    Case("evidence that is no zip file", lambda r: r.keep(b"evidence"), "evidence.unusable"),
    Case("a member more", lambda r: r.keep(_with_member(r, "../evil", b"")), "evidence.unusable"),
    Case("a signed bomb of 4 GiB", lambda r: r.keep(_bomb()), "evidence.unusable"),
    Case("facts nested deep", lambda r: r.keep(_with_member(r, "grounds.json", b"[" * 1_000_000)),
         "evidence.unusable"),
    Case("results of the future", _lie(_set(*_METADATA, "finishedOn", to=_FUTURE)), "provenance.future"),
    Case("an end before the start", _lie(_set(*_METADATA, "startedOn", to=_FUTURE)), "provenance.malformed"),
    Case("a time that is none", _lie(_set(*_METADATA, "finishedOn", to="yesterday")), "provenance.malformed"),
    Case("another builder's id", _lie(_set("runDetails", "builder", "id", to="urn:mock-cloud:builder:x:tier-1")),
         "provenance.malformed"),
    Case("a name that leads out", _lie(lambda s: s["subject"][0].update(name="../one.rpm")), "provenance.malformed"),
    Case("no result", _lie(lambda s: s["subject"].clear()), "provenance.malformed"),
    Case("a field that nobody knows", _lie(_set("runDetails", "extra", to=1)), "provenance.malformed"),
    Case("another build type", _lie(_set("buildDefinition", "buildType", to="urn:x")), "provenance.malformed"),
    Case("an older mock-cloud's", _lie(_set("buildDefinition", "buildType", to=BUILD_TYPE[:-1] + "1")),
         "provenance.version"),
    Case("a newer mock-cloud's", _lie(_set("buildDefinition", "buildType", to=BUILD_TYPE[:-1] + "4")),
         "provenance.version"),
    Case("another predicate type", lambda r: r.file.write_bytes(sign_statement(
        PREDICATE + ".1", {"x": "0" * 64}, {}, signer_of("builder"))), "provenance.malformed"),
    Case("a predicate nested 900 deep", _lie(_set("buildDefinition", "externalParameters",
                                                  to=json.loads("[" * 900 + "]" * 900))), "provenance.malformed"),
)  # fmt: skip

KEYS: Final = (
    Case("a key that signed nothing here", _only_key("stranger"), "provenance.signer"),
    Case("a revoked key", _policy(f'revoked = ["{fingerprint("builder")}"]'), "provenance.revoked"),
    Case("an expired key", _policy(f'[expires]\n"{fingerprint("builder")}" = 2026-01-01'),
         "provenance.expired"),
    Case("a key of another type", _rsa, "ed25519", code=3),
    Case("a key file without a key", _only_text(b"# none\n"), "has no key", code=3),
    Case("a private key for a public one", _only_text(b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"),
         "not a file of OpenSSH public keys", code=3),
    Case("a key file that is not there", lambda r: r.keys.append(Path("/nonexistent/key.pub")),
         "No such file", code=3),
    Case("no directory", lambda r: shutil.rmtree(r.place), "no such file or directory", code=3),
)  # fmt: skip

POLICIES: Final = (
    Case("a scratch build", lambda r: r.sign(scratch_of(r)), "provenance.scratch"),
    Case("a scratch build, with another policy", _scratch_with('owners = ["ada"]'), "provenance.scratch"),
    Case("a scratch build said to count", lambda r: (r.sign(scratch_of(r)), _counts(r)), "provenance.signature"),
    Case("policy: a higher tier", _policy("tier = 2"), "provenance.tier"),
    Case("policy: older than it may be", lambda r: (_policy("max_age_days = 1")(r), r.sign(replace(
        r.provenance(), started_unix=int(time.time()) - 200000, finished_unix=int(time.time()) - 190000))),
        "provenance.age"),
    Case("policy: another remote", _policy('remotes = ["release"]'), "provenance.remote"),
    Case("policy: nodes by strict rules", _policy('policies = ["strict"]'), "provenance.policy"),
    Case("policy: another owner", _policy('owners = ["grace"]'), "provenance.owner"),
    Case("policy: another signer of manifests", _policy(
        f'manifest_signers = ["{fingerprint("stranger")}"]'), "provenance.manifest-signer"),
    Case("policy: another distribution", _policy('package_keys = ["00"]'), "provenance.package-key"),
    Case("policy: another builder agrees, and nobody did", _policy("agreed = 1"), "provenance.agreed"),
    Case("policy: two others agree, and one did", lambda r: (_agreed(ONE_AGREES)(r), _policy("agreed = 2")(r)),
         "provenance.agreed", "agreed"),
    Case("a builder that agrees with itself", _agreed(replace(ONE_AGREES, builder="host:SHA256:lent")),
         "provenance.malformed"),
    Case("a builder that agrees twice", _agreed(ONE_AGREES, replace(ONE_AGREES, job="another")),
         "provenance.malformed"),
    Case("an agreement by the files alone", _agreed(replace(ONE_AGREES, level="L2")), "provenance.malformed"),
    Case("an agreement added later", _payload(_set(
        "buildDefinition", "internalParameters", "agreed", to=[encode(ONE_AGREES)])), "provenance.signature"),
    Case("policy: an unknown key in it", _policy("teir = 1"), "teir", code=3),
    Case("policy: no TOML", _policy("tier ="), "not TOML", code=3),
    Case("policy: a tier of 0", _policy("tier = 0"), "tier", code=3),
)  # fmt: skip

ALL: Final = (*OWNER, *FILES, *ENVELOPE, *EVIDENCE, *LIES, *KEYS, *POLICIES)


@functools.cache
def _bomb() -> bytes:
    """A zip file with a member of 4 GiB of zeros: 4 MiB of it, packed.

    Deflate's blocks after a full flush stand alone (RFC 1951), so that one does for all.
    """
    packer = zlib.compressobj(wbits=-15)
    block = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("grounds.json", block * 256 + packer.flush())
        member = archive.getinfo("grounds.json")  # what it is, for the directory at the end
        member.compress_type, member.file_size, member.CRC = (
            zipfile.ZIP_DEFLATED,
            1 << 32,
            0xD202EF8D,
        )
        for name in ("verdict.json", "evidence.jsonl.gz", "manifest.dsse.json"):
            archive.writestr(name, b"{}")
    return out.getvalue()

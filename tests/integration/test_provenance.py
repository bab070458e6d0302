# SPDX-License-Identifier: GPL-2.0-or-later
"""A build's provenance: written beside its packages, and verified without what built them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.wire.rpmfile import nevra, read_file
from tests.integration.conftest import Ended, User
from tests.lab.layout import Lab, repository_root

pytestmark = pytest.mark.lab

NOARCH = "toy-plain-1-1.lab1.noarch.rpm"


@pytest.fixture(scope="module")
def results(mock: User, plain_srpm: Path) -> Path:
    """The results of one build; what the user typed has a path of this machine in it."""
    place = mock.place / "provenance"
    mock.mock(
        "--resultdir", place, "--define", "word one", "--define", f"secret {mock.place}/home/x",
        plain_srpm,
    ).expect()  # fmt: skip
    return place


@pytest.fixture(scope="module")
def again(mock: User, results: Path, plain_srpm: Path) -> Path:
    """The same once more."""
    place = mock.place / "again"
    mock.mock(
        "--resultdir", place, "--define", "word one", "--define", f"secret {mock.place}/home/x",
        plain_srpm,
    ).expect()  # fmt: skip
    return place


@pytest.fixture(scope="module")
def key(mock: User, results: Path) -> Path:
    return mock.place / "state/mock-cloud/provenance-key.pub"


@pytest.fixture(scope="module")
def statement(results: Path) -> dict[str, Any]:
    envelope = json.loads((results / "remote_provenance.json").read_bytes())
    found: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
    return found


def verify_elsewhere(
    results: Path, key: Path, place: Path, act: Callable[[Path], object] = lambda copy: None
) -> Ended:
    """In a fresh directory, by a process without a home, with the results and a public key."""
    copy = shutil.copytree(results, place / "copy", symlinks=True)
    act(copy)
    shutil.copy(key, place / "builder.pub")
    empty = place / "home"
    empty.mkdir()
    program = Path(sys.executable).parent / "mock-cloud"
    argv = [str(program), "verify", str(copy), "--keys", str(place / "builder.pub")]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(empty)}
    done = subprocess.run(argv, env=env, cwd=place, capture_output=True, text=True, check=False)
    assert list(empty.iterdir()) == [], "it left something in the home"
    return Ended(tuple(argv), done.returncode, done.stdout, done.stderr)


def test_an_honest_build_is_verified_elsewhere(results: Path, key: Path, tmp_path: Path) -> None:
    ended = verify_elsewhere(results, key, tmp_path).expect()
    assert ended.stdout.startswith("verified: 2 packages, built on an attested node (tier 1) at ")
    assert "verdict: recomputed from the evidence: the same" in ended.stdout
    size = (results / "remote_evidence.zip").stat().st_size
    print(f"remote_evidence.zip: {size} bytes\n{ended.stdout}")


# A root with a system's programs, Python and mock-cloud, read-only, and with nothing else.
_FRESH = """\
set -e
root=$1; shift; results=$1; shift; key=$1; shift
mount -t tmpfs tmpfs "$root"
for top in /usr /bin /lib /lib64; do
    [ ! -L "$top" ] || cp -a "$top" "$root/"
done
for place in /usr /bin /lib /lib64 "$@"; do
    [ ! -L "$place" ] && [ -d "$place" ] || continue
    mkdir -p "$root$place"
    mount --bind "$place" "$root$place"
    mount -o remount,bind,ro "$root$place"
done
mkdir -p "$root/tmp" "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3; mknod -m 666 "$root/dev/urandom" c 1 9
cp -a "$results" "$root/results"
cp "$key" "$root/builder.pub"
exec chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp \\
    "$2/bin/mock-cloud" verify /results --keys /builder.pub
"""


def verify_in_a_fresh_chroot(results: Path, key: Path, place: Path) -> Ended:
    """Without a network, by what is there: results, a public key, and the program."""
    place.mkdir()
    own = (str(repository_root()), sys.prefix, sys.base_prefix)
    inside = ["sh", "-c", _FRESH, "sh", str(place), str(results), str(key), *own]
    argv = ["unshare", "--mount", "--net", "--propagation", "private", *inside]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return Ended(tuple(argv), done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_it_is_verified_in_a_fresh_chroot(results: Path, key: Path, tmp_path: Path) -> None:
    ended = verify_in_a_fresh_chroot(results, key, tmp_path / "one").expect()
    assert ended.stdout.startswith("verified: 2 packages, built on an attested node (tier 1) at ")
    copy = shutil.copytree(results, tmp_path / "copy")
    _one_byte(copy / NOARCH)
    ended = verify_in_a_fresh_chroot(copy, key, tmp_path / "two").expect(77)
    assert f"result.changed: {NOARCH}" in ended.stdout


def test_a_report_of_it_and_of_a_failed_build(
    mock: User, results: Path, plain_srpm: Path, tmp_path: Path
) -> None:
    failed = mock.place / "failed-report"
    assert mock.mock("--resultdir", failed, "--rpmbuild-opts=--nonsense", plain_srpm).code != 0
    page = tmp_path / "page.html"
    said = mock.cloud("report", results, failed, "-o", page).expect().stdout
    assert said.startswith(f"{page}: 2 builds (1 verified, 1 unsigned), ")
    text = page.read_text()
    assert "verified: 2 packages, built on an attested node" in text
    assert "the build failed" in text
    assert "--nonsense: unknown option" in text.partition("Who vouches for it")[0]
    assert "rpmbuild" in text.partition("What was built from what")[0].partition("Timeline")[2]
    assert "(new in this machine's ledger)" in text


def _one_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda copy: _one_byte(copy / NOARCH), f"result.changed: {NOARCH}"),
        (lambda copy: _one_byte(copy / "build.log"), "result.changed: build.log"),
        (lambda copy: (copy / NOARCH).unlink(), f"result.missing: {NOARCH}"),
        (lambda copy: shutil.copy(copy / NOARCH, copy / "evil.rpm"), "result.extra: evil.rpm"),
        (lambda copy: _one_byte(copy / "remote_evidence.zip"), "evidence.changed"),
        (lambda copy: (copy / "remote_provenance.json").unlink(), "provenance.missing"),
    ],
)
def test_what_was_changed_since_is_refused_elsewhere(
    results: Path, key: Path, tmp_path: Path, act: Callable[[Path], object], said: str
) -> None:
    ended = verify_elsewhere(results, key, tmp_path, act).expect(77)
    assert ended.stdout.startswith("REFUSED: ")
    assert said in ended.stdout


def _check_against_the_repository(lab: Lab, installed: list[dict[str, Any]]) -> None:
    """Each package's digest is that of the file in the repository that it came from."""
    files = {}
    for path in (lab.dist).rglob("*.rpm"):
        with path.open("rb") as stream:
            file = read_file(stream)
        digest = hashlib.sha256(file.blob.image).hexdigest()
        files[digest] = (nevra(file.header), path)
    packages = [one for one in installed if not one["name"].startswith("gpg-pubkey-")]
    assert len(packages) > 50
    for one in packages:
        name, path = files[one["digest"]["rpmHeaderSha256"]]
        assert name == one["name"]
        assert one["annotations"]["repository"] == "lab"
        query = ["rpm", "--nosignature", "--nodigest", "-qp", "--qf", "%{SIGMD5}", str(path)]
        md5 = subprocess.check_output(query, text=True)  # rpm 6 writes none
        assert one["annotations"].get("sigmd5", "(none)") == md5
        assert one["uri"].startswith("pkg:rpm/")


def test_it_says_what_was_built_from_what(
    statement: dict[str, Any], plain_srpm: Path, results: Path, lab: Lab
) -> None:
    definition = statement["predicate"]["buildDefinition"]
    (source,) = [one for one in definition["resolvedDependencies"]
                 if one["annotations"].get("role") == "srpm"]  # fmt: skip
    assert source["name"] == plain_srpm.name
    sha256 = subprocess.check_output(["sha256sum", str(plain_srpm)], text=True).split()[0]
    assert source["digest"] == {"sha256": sha256}
    assert "--define=word one" in definition["externalParameters"]["options"]
    installed = [one for one in definition["resolvedDependencies"]
                 if one["annotations"].get("installed")]  # fmt: skip
    listed = (results / "installed_pkgs.log").read_text().split("\n")[:-1]
    assert [one["name"] for one in installed] == [line.split()[0] for line in listed]
    assert not (results / "chroot-packages.json").exists()
    _check_against_the_repository(lab, installed)
    repositories = [one for one in definition["resolvedDependencies"]
                    if one["annotations"].get("role") == "repository"]  # fmt: skip
    assert [one["name"] for one in repositories] == ["lab"]
    assert repositories[0]["uri"].startswith("http://")
    assert definition["internalParameters"]["node"]["builder"] == "local:local"


def test_it_does_not_say_whose_machine_it_was(statement: dict[str, Any], mock: User) -> None:
    text = json.dumps(statement)
    for word in (
        str(mock.place),
        str(Path.cwd()),
        socket.gethostname(),
        os.environ.get("USER", ""),
    ):
        if word not in ("", "root", "localhost"):
            assert word not in text
    assert "sha256:" in " ".join(
        statement["predicate"]["buildDefinition"]["externalParameters"]["options"]
    )


@pytest.mark.slow
def test_two_builds_of_one_builder_agree_and_are_no_audit(
    mock: User, results: Path, again: Path
) -> None:
    ended = mock.cloud("compare", results, again).expect()
    assert ended.stdout.startswith("the same build: 2 packages agree")
    refused = mock.cloud("trust", "record", results, again).expect(50)
    assert "cannot judge itself" in refused.stderr


def test_a_flagged_builder_builds_only_once_that_is_resolved(
    mock: User, results: Path, plain_srpm: Path
) -> None:
    (before,) = json.loads(mock.cloud("trust", "list", "--json").expect().stdout)
    assert (before["builder"], before["rating"]) == ("local:local", "new")
    assert before["builds"] >= 1
    mock.cloud("trust", "flag", "local:local", "--reason", "a test").expect()
    (number,) = json.loads(mock.cloud("trust", "list", "--json").expect().stdout)[0]["flags"]
    place = mock.place / "flagged"
    ended = mock.mock("--resultdir", place, plain_srpm).expect(75)
    assert "gets no work until a person has looked at it" in ended.stderr
    assert list(place.glob("*.rpm")) == []
    mock.cloud("trust", "resolve", str(number), "--cleared", "--reason", "it was a test").expect()
    mock.mock("--resultdir", place, plain_srpm).expect()
    assert mock.cloud("trust", "check").expect().stdout.startswith("unchanged: ")


@pytest.mark.slow
def test_a_failing_build_leaves_none_and_a_command_neither(
    mock: User, results: Path, plain_srpm: Path
) -> None:
    place = mock.place / "failed"
    assert mock.mock("--resultdir", place, "--rpmbuild-opts=--nonsense", plain_srpm).code != 0
    mock.mock("--resultdir", place, "--chroot", "true").expect()
    assert list(place.glob("remote_provenance*")) == []

# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input is refused before there is a node: remotes, manifests, SRPMs, result directories."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.sshkeys import make_key_pair
from tests.integration.conftest import MakeUser, User
from tests.integration.faults import Earlier, check_failure, check_gone, scratch, write_remote
from tests.lab.layout import Lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def nodeless(make_user: MakeUser) -> User:
    """A user who never gets as far as a node."""
    return make_user("nodeless")


@pytest.fixture(autouse=True)
def _no_node(nodeless: User, tmp_path: Path) -> Iterator[None]:
    yield
    check_gone(nodeless)
    # Not even one that was ended since: none was ever leased.
    assert not (nodeless.place / "state/mock-cloud/nodes").exists()


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator[Earlier]:
    results = Earlier(tmp_path / "results")
    yield results
    results.check_untouched()


# Remotes


def test_a_remote_that_is_not_there(nodeless: User, plain_srpm: Path, earlier: Earlier) -> None:
    ended = nodeless.mock("--remote", "locale", "--resultdir", earlier.path, plain_srpm)
    check_failure(ended, 3, "no remote 'locale'", "locale.toml", hint="local")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"local__disk_mb": "300"}, ("disk_mb", "disk_mib")),
        ({"lease__max_nodes": '"two"'}, ("max_nodes",)),
        ({"lease__idle_ttl": '"forever"'}, ("idle_ttl", "forever")),
        ({"local__address": '"192.0.2.1"'}, ("address", "192.0.2.1", "loopback")),
        ({"local__image": '"/no/such/tree"'}, ("image", "/no/such/tree")),
        ({"attest__manifest_keys": "[]"}, ("manifest_keys",)),
        ({"attest__second_look": '"sometimes"'}, ("second_look", "sometimes")),
        ({"attest__manifest": '"/no/such.json"'}, ("manifest", "/no/such.json")),
        ({"attest__package_keys": '["/no/such.asc"]'}, ("package_keys", "/no/such.asc")),
        ({"remote__provider": '"locale"'}, ("provider", "locale")),
        ({"build__engine": '"Mock"'}, ("engine", "Mock")),
        ({"build__silence_timeout": "0"}, ("silence_timeout",)),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_in_a_remotes_file(
    nodeless: User,
    plain_srpm: Path,
    earlier: Earlier,
    change: dict[str, str],
    says: tuple[str, ...],
) -> None:
    write_remote(nodeless, "mistaken", **change)
    key = next(iter(change)).partition("__")[2]
    path = nodeless.config.remote_file.with_name("mistaken.toml")
    lines = path.read_text().splitlines()
    number = next(at for at, line in enumerate(lines, 1) if line.startswith(f"{key} "))
    ended = nodeless.mock("--remote", "mistaken", "--resultdir", earlier.path, plain_srpm)
    check_failure(ended, 3, f"{path}:{number}", *says)


def test_a_manifest_that_somebody_else_signed(
    nodeless: User, plain_srpm: Path, earlier: Earlier, tmp_path: Path
) -> None:
    other = tmp_path / "other.pub"
    other.write_text(f"{make_key_pair().public} somebody\n")
    write_remote(nodeless, "foreign", attest__manifest_keys=f'["{other}"]')
    ended = nodeless.mock("--remote", "foreign", "--resultdir", earlier.path, plain_srpm)
    check_failure(ended, 3, "manifest_keys", "SHA256:")


def test_a_package_key_that_is_none(
    nodeless: User, lab: Lab, plain_srpm: Path, earlier: Earlier
) -> None:
    write_remote(nodeless, "keyless", attest__package_keys=f'["{lab.manifest_key}"]')
    ended = nodeless.mock("--remote", "keyless", "--resultdir", earlier.path, plain_srpm)
    check_failure(ended, 3, str(lab.manifest_key))


@pytest.mark.parametrize("damage", ["truncated", "not JSON", "changed"])
def test_a_damaged_manifest(
    nodeless: User, lab: Lab, plain_srpm: Path, earlier: Earlier, tmp_path: Path, damage: str
) -> None:
    data = lab.manifest.read_bytes()
    at = len(data) // 2
    damaged = {
        "truncated": data[:at],
        "not JSON": b"\0" * 100,
        "changed": data[:at] + bytes([data[at] ^ 1 or 65]) + data[at + 1 :],
    }[damage]
    path = tmp_path / "manifest.json"
    path.write_bytes(damaged)
    write_remote(nodeless, "damaged", attest__manifest=f'"{path}"')
    ended = nodeless.mock("--remote", "damaged", "--resultdir", earlier.path, plain_srpm)
    check_failure(ended, 77, "manifest")


# Source packages


def _truncated(good: Path, place: Path) -> Path:
    bad = place / "toy-short-1-1.src.rpm"
    bad.write_bytes(good.read_bytes()[:-50])  # of its payload
    return bad


def _header_cut(good: Path, place: Path) -> Path:
    bad = place / "toy-shorter-1-1.src.rpm"
    bad.write_bytes(good.read_bytes()[:150])
    return bad


def _text(good: Path, place: Path) -> Path:
    bad = place / "toy-text-1-1.src.rpm"
    bad.write_text("no package\n" * 100)
    return bad


def _empty(good: Path, place: Path) -> Path:
    bad = place / "toy-empty-1-1.src.rpm"
    bad.touch()
    return bad


def _fifo(good: Path, place: Path) -> Path:
    bad = place / "toy-fifo-1-1.src.rpm"
    os.mkfifo(bad)
    return bad


def _directory(good: Path, place: Path) -> Path:
    bad = place / "toy-directory-1-1.src.rpm"
    bad.mkdir()
    return bad


def _hostile(good: Path, place: Path) -> Path:
    return Path(shutil.copyfile(good, place / "toy\x1b[2J\n1-1.src.rpm"))


def _dash(good: Path, place: Path) -> Path:
    return Path(shutil.copyfile(good, place / "-toy;reboot $(id)-1-1.src.rpm"))


def _missing(good: Path, place: Path) -> Path:
    return place / "toy-missing-1-1.src.rpm"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_missing, 1), (_truncated, 40), (_header_cut, 1), (_text, 1), (_empty, 1), (_fifo, 1),
        (_directory, 1), (_hostile, 1), (_dash, 1),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)  # fmt: skip
def test_a_bad_srpm(
    nodeless: User, plain_srpm: Path, earlier: Earlier, tmp_path: Path, make: object, code: int
) -> None:
    assert callable(make)
    bad = make(plain_srpm, tmp_path)
    ended = nodeless.mock("--resultdir", earlier.path, bad)
    shown = r"toy\\x1b[2J\\n1-1.src.rpm" if make is _hostile else bad.name
    check_failure(ended, code, shown)
    assert "\x1b" not in ended.stderr


def test_a_binary_package_is_no_srpm(
    nodeless: User, lab: Lab, earlier: Earlier, tmp_path: Path
) -> None:
    package = next(lab.release(1).rglob("bash-*.x86_64.rpm"))
    check_failure(nodeless.mock("--resultdir", earlier.path, package), 1, package.name)


def test_no_srpm_at_all(nodeless: User, earlier: Earlier) -> None:
    check_failure(nodeless.mock("--resultdir", earlier.path), 50, "SRPM")


# Result directories


def test_a_resultdir_that_is_a_file(nodeless: User, plain_srpm: Path, tmp_path: Path) -> None:
    place = tmp_path / "results"
    place.write_text("a file")
    ended = nodeless.mock("--resultdir", place, plain_srpm)
    check_failure(ended, 70, str(place), hint="--resultdir")
    assert place.read_text() == "a file"


def test_a_resultdir_on_a_file_system_that_is_read_only(
    nodeless: User, plain_srpm: Path, tmp_path: Path
) -> None:
    place = tmp_path / "results"
    place.mkdir()
    with scratch(tmp_path / "tmp") as tmp:
        # The mount lives in a namespace of the command's own.
        script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
        argv = nodeless.argv("--resultdir", str(place), str(plain_srpm))
        ended = nodeless.run(
            ["unshare", "--mount", "sh", "-c", script, str(place), *argv], env={"TMPDIR": str(tmp)}
        )
    check_failure(ended, 70, str(place), "Read-only", hint="--resultdir")
    assert list(place.iterdir()) == []

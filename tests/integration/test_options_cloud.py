# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud` as people and scripts use it: doctor, attest, nodes, release, known-good, help."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.integration.conftest import MakeUser, User
from tests.lab.layout import Lab
from tests.records import joined

pytestmark = pytest.mark.lab

VERBS = ("doctor", "attest", "nodes", "release", "known-good", "toolkit", "completion")


@pytest.fixture(scope="module")
def user(make_user: MakeUser) -> User:
    """Somebody without a node."""
    return make_user("looking")


def configdir(user: User) -> tuple[str, str]:
    return "--configdir", str(user.config.path)


def test_doctor_finds_nothing_missing(user: User) -> None:
    ended = user.cloud("doctor", "local", *configdir(user)).expect()
    assert "MISSING" not in ended.stdout
    found = json.loads(user.cloud("doctor", "local", "--json", *configdir(user)).expect().stdout)
    assert {"toolkit", "known-good set for x86_64", "image", "root"} <= {
        one["what"] for one in found
    }
    assert all(one["ok"] and one["found"] for one in found)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('image = "', 'image = "/no/such', "remote local"),
        ('manifest = "', 'manifest = "/no/such', "remote local"),
        ('provider = "local"', 'provider = "cloud9"', "remote local"),
        ("[remote]", "[remote", "remote local"),
        ('arches = ["', 'arches = "', "remote local"),
    ],
)
def test_doctor_names_what_is_missing(user: User, old: str, new: str, what: str) -> None:
    kept = user.config.remote_file.read_text()
    try:
        user.config.remote_file.write_text(kept.replace(old, new, 1))
        ended = user.cloud("doctor", "local", "--json", *configdir(user)).expect(3)
    finally:
        user.config.remote_file.write_text(kept)
    missing = [one for one in json.loads(ended.stdout) if not one["ok"]]
    assert what in [one["what"] for one in missing]
    assert all(one["found"] for one in missing)


def test_doctor_finds_a_wrong_signature(user: User, lab: Lab, tmp_path: Path) -> None:
    kept = user.config.remote_file.read_text()
    stranger = tmp_path / "stranger"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    try:
        text = kept.replace(str(lab.manifest_key), f"{stranger}.pub")
        user.config.remote_file.write_text(text)
        ended = user.cloud("doctor", "local", "--json", *configdir(user)).expect(3)
        refused = user.cloud("attest", "local", *configdir(user))
    finally:
        user.config.remote_file.write_text(kept)
    missing = [one for one in json.loads(ended.stdout) if not one["ok"]]
    assert [one["what"] for one in missing] == ["known-good set for x86_64"]
    assert missing[0]["mend"]
    assert refused.code == 3, "whose key is wrong is for the configuration to say"
    assert user.nodes() == []


def test_doctor_without_anything(user: User, tmp_path: Path) -> None:
    ended = user.cloud("doctor", "--configdir", tmp_path).expect(3)
    assert "MISSING  chroot configurations" in ended.stdout
    assert user.cloud("doctor", "nowhere", *configdir(user)).code == 3
    (tmp_path / "file").write_text("")
    unusable = user.cloud("doctor", env={"XDG_STATE_HOME": str(tmp_path / "file")})
    assert unusable.code == 3
    assert "MISSING  state directory" in unusable.stdout
    assert "set XDG_STATE_HOME" in unusable.stdout


def test_attest_nodes_and_release(mock: User, tmp_path: Path) -> None:
    evidence = tmp_path / "evidence.jsonl"
    mock.mock("--chroot", "touch /root/mark").expect()
    ended = mock.cloud("attest", "local", "--json", "--evidence", evidence, *configdir(mock))
    verdict = json.loads(ended.expect().stdout)
    assert verdict["trusted"] is True
    assert verdict["reasons"] == []
    assert len(verdict["sha256"]) == 64
    assert joined(evidence.read_bytes())["schema"] == "mock-cloud/evidence/4"
    assert (
        mock.cloud("attest", "local", *configdir(mock))
        .expect()
        .stdout.startswith("verdict: trusted")
    )
    assert mock.cloud("attest", "nowhere", *configdir(mock)).code == 3

    (row,) = mock.nodes()
    assert row["remote"] == "local"
    assert row["state"] == "ready"
    assert row["chroots"] == [mock.config.chroot()], "looking cost the chroot its home"
    table = mock.cloud("nodes").expect().stdout.splitlines()
    assert table[0].split()[:3] == ["LEASE", "REMOTE", "STATE"]
    assert table[1].split()[0] == row["lease"]

    assert mock.cloud("release").code == 5
    assert mock.cloud("release", "--all", "local").code == 5
    other = mock.cloud("release", "nowhere")
    assert "released" not in other.stdout
    assert [one["lease"] for one in mock.nodes()] == [row["lease"]]


@pytest.mark.slow
def test_a_remotes_policy_judges_its_nodes(user: User, tmp_path: Path) -> None:
    kept = user.config.remote_file.read_text()
    mine = tmp_path / "mine.toml"
    loosened = ("lockdown", "module_signatures", "ptrace_scope", "labels")
    rules = "".join(f"[rule.{one}]\nvalue = false\nreason = 'the lab'\n" for one in loosened)
    mine.write_text(f'[policy]\nbase = "strict"\n{rules}')
    try:
        found = {}
        for name in ("strict", str(mine), "lax"):
            text = kept.replace("[attest]\n", f'[attest]\npolicy = "{name}"\n', 1)
            user.config.remote_file.write_text(text)
            found[name] = user.cloud("attest", "local", "--json", *configdir(user))
    finally:
        user.config.remote_file.write_text(kept)
        user.cloud("release", "--all")
    strict = json.loads(found["strict"].expect(77).stdout)
    codes = {reason[0] for reason in strict["reasons"]}
    assert strict["policy"] == "strict" and "policy.labels" in codes
    verdict = json.loads(found[str(mine)].expect().stdout)
    shown = user.cloud("policy", "show", mine, "--json").expect()
    assert verdict["policy_sha256"] == json.loads(shown.stdout)["sha256"]
    assert codes <= {f"kernel.{one}" for one in ("lockdown", "module-signatures", "yama")} | {
        "policy.labels"
    }
    assert "policy: " in found["lax"].expect(3).stderr


def test_release_gives_back(lone_mock: User) -> None:
    lone_mock.cloud("attest", "local", *configdir(lone_mock)).expect()
    (row,) = lone_mock.nodes()
    ended = lone_mock.cloud("release", row["lease"], "--json").expect()
    assert [one["lease"] for one in json.loads(ended.stdout)] == [row["lease"]]
    assert lone_mock.nodes() == []
    assert "no nodes" in lone_mock.cloud("release", "--all").expect().stderr


def test_known_good_is_made_and_shown(user: User, lab: Lab, tmp_path: Path) -> None:
    key, output = tmp_path / "key", tmp_path / "node.manifest"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    make = ("known-good", "make", "--root", lab.tree, "--package-key", lab.package_key,
            "--sign-key", key, "--output", output)  # fmt: skip
    ended = user.cloud(*make, "--name", "an image").expect()
    assert "packages" in ended.stderr
    shown = user.cloud("known-good", "show", output, "--key", f"{key}.pub").expect()
    assert shown.stdout.startswith("signed by: SHA256:")
    assert "\nimage: an image\n" in shown.stdout and "\nname: an image\n" in shown.stdout
    assert "package: bash-" in shown.stdout
    whole = user.cloud("known-good", "show", output, "--key", f"{key}.pub", "--json").expect()
    assert json.loads(whole.stdout)["name"] == "an image"
    assert user.cloud("known-good", "show", output, "--key", lab.manifest_key).code == 3
    assert user.cloud("known-good", "show", output).code == 5
    mixed = user.cloud(*make, "--accept-unverified-base").expect(5)
    assert "--accept-unverified-base goes with --remote" in mixed.stderr
    assert user.cloud(*make, "--remote", "local").code == 5
    foreign = [lab.foreign_key if word == lab.package_key else word for word in make]
    refused = user.cloud(*foreign)
    assert refused.code == 77
    assert "package.unsigned" in refused.stderr


def test_help_and_wrong_words(user: User) -> None:
    for verb in VERBS:
        shown = user.cloud(verb, "--help").expect().stdout
        assert "example" in shown, verb
        assert f"mock-cloud {verb}" in shown, verb
    whole = user.cloud("--help").expect().stdout
    assert all(verb in whole for verb in VERBS)
    assert user.cloud("--version").expect().stdout.startswith("mock-cloud ")
    for words in ((), ("nonsense",), ("doctor", "--nonsense"), ("completion", "elvish")):
        ended = user.cloud(*words)
        assert ended.code == 5, words
        assert "Traceback" not in ended.stderr
    helped = user.mock("--help").expect().stdout
    assert "--remote" in helped
    assert "examples:" in helped
    assert user.mock("--version").expect().stdout.startswith("6.7 (mock-cloud ")


def test_completion_is_a_script_that_the_shell_takes(user: User) -> None:
    for shell in ("bash", "zsh"):
        script = user.cloud("completion", shell).expect().stdout
        assert "known-good" in script
        if shell == "bash":
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Policy files as they are typed, and what they make of a remote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.attest.policy import SHIPPED, standard, strict
from mock_cloud.cli import main
from mock_cloud.config.remotes import read_remote
from mock_cloud.errors import ConfigError
from mock_cloud.settings import POLICIES, AttestSettings, Remote, SecondLook
from mock_cloud.steps.attest.policies import find_making_policy, find_policy, read_policy, tightened
from tests.lab.layout import repository_root

FILE = """\
[policy]
base = "strict"

[rule.lockdown]
value = false
reason = "no Secure Boot here"

[rule.manifest_max_age]
value = "14d"
reason = "weekly images"

[allow.guest]
program = "/usr/bin/qemu-ga"
reason = "our own hypervisors"

[forbid.nested]
module = "kvm_intel"
reason = "no machines in machines"
"""


def written(tmp_path: Path, text: str, name: str = "mine.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_file_changes_the_rules_of_its_base(tmp_path: Path) -> None:
    policy = read_policy(written(tmp_path, FILE))
    assert (policy.name, policy.base) == ("mine", "strict")
    assert policy.rules == replace(strict().rules, lockdown=False, manifest_max_age_s=14 * 86400.0)
    assert policy.find_reason("lockdown") == "no Secure Boot here"
    assert policy.find_reason("labels") == strict().find_reason("labels")
    assert policy.checks == standard().checks
    assert [one.name for one in policy.allowed_agents()] == ["qemu-guest-agent"]
    assert [one.name for one in policy.forbids()] == ["nested"]


def test_a_remote_allows_agents_by_name(tmp_path: Path) -> None:
    settings = remote("standard", allow_agents=("qemu-guest-agent",)).attest
    policy = find_policy(settings)
    assert [one.name for one in policy.allowed_agents()] == ["qemu-guest-agent"]
    assert policy.sha256 != standard().sha256 and policy.name == "standard"
    assert find_policy(remote("standard").attest) == standard()
    # Else no manifest could be made of a machine on which the agent runs.
    strictly = remote("strict", allow_agents=("qemu-guest-agent",)).attest
    assert find_making_policy(strictly) == policy
    own = str(written(tmp_path, FILE))
    names = ("puppet", "walinuxagent")
    allowed = find_policy(remote(own, allow_agents=names).attest).allowed_agents()
    assert sorted(one.name for one in allowed) == ["puppet", "qemu-guest-agent", "walinuxagent"]
    with pytest.raises(ConfigError, match="'qemu-ga' is none that is known") as caught:
        find_policy(remote("standard", allow_agents=("qemu-ga",)).attest)
    assert "qemu-guest-agent" in str(caught.value.hint)


def test_an_empty_file_is_the_standard_policy(tmp_path: Path) -> None:
    assert read_policy(written(tmp_path, "")).sha256 == standard().sha256


def test_the_manuals_example_is_one(tmp_path: Path) -> None:
    manual = (repository_root() / "docs/man/mock-cloud-remotes.5").read_text()
    text = manual.partition(".SH POLICY FILES")[2].partition(".nf\n")[2].partition(".fi")[0]
    policy = read_policy(written(tmp_path, text.replace("\\-", "-")))
    assert len(policy.allowed) == 3 and len(policy.changed) == 2


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("[polcy]\n", 1, "did you mean 'policy'"),
        ("[policy]\nbase = 'lax'\n", 2, "none of standard, strict"),
        ("\n[rule.lockdow]\nvalue = true\nreason = 'x'\n", 2, "unknown rule 'lockdow'"),
        ("[rule.lockdown]\nvalue = 1\nreason = 'x'\n", 2, "true or false is wanted"),
        ("[rule.lockdown]\nvalue = true\n", 1, "lacks the key 'reason'"),
        ("[rule.lockdown]\nvalue = true\nreason = ''\n", 3, "a string is wanted"),
        ("[rule.tier]\nvalue = 2\nreason = 'x'\n", 2, "2 is not between 1 and 1"),
        ("[rule.verdict_max_age]\nvalue = '2d'\nreason = 'x'\n", 2, "not between 0 and 3600"),
        ("[rule.checks]\nvalue = []\nreason = 'x'\n", 1, "unknown rule 'checks'"),
        ("[allow.x]\nreason = 'x'\n", 1, "one of program, file and module"),
        ("\n\n[allow.x]\nfile = '/usr'\nkind = 'tree'\nreason = 'x'\n", 3, "read as code"),
        ("[allow.x]\nfile = '/a\\nb'\nkind = 'data'\n", 1, "lacks the key 'reason'"),
        ('[allow.x]\nfile = "/a\\u0000b"\nkind = "data"\nreason = "x"\n', 2, "control character"),
        ("[allow.X]\nmodule = 'x'\nreason = 'x'\n", 1, "not a plain word"),
        ("[forbid.x]\nfile = '/x'\nreason = 'x'\n", 2, "unknown key 'file'"),
        ("allow = 1\n", 1, "is a table"),
        ("[policy\n", 1, "not TOML"),
    ],
)
def test_a_mistake_is_one_line_with_its_number(
    text: str, line: int, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, text)
    assert main(["policy", "check", str(path)]) == 3
    said = capsys.readouterr().err
    assert f"ERROR: {path}:{line}: " in said and why in said, said


@pytest.mark.parametrize("name", POLICIES)
def test_no_file_is_called_like_a_policy_there_is(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the name of another policy"):
        read_policy(written(tmp_path, "", f"{name}.toml"))


def test_settings_and_policies_know_the_same_names() -> None:
    assert tuple(SHIPPED) == POLICIES


def test_shown_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path, FILE))
    assert main(["policy", "check", path]) == 0
    checked = capsys.readouterr().out
    assert checked.count("\n") == 1 and "2 rules changed, 1 things allowed, 1 forbidden" in checked
    assert main(["policy", "show", path]) == 0
    shown = capsys.readouterr().out
    assert "lockdown = false (changed)" in shown and "no Secure Boot here" in shown
    assert "manifest_max_age = 14d (changed)" in shown
    assert main(["policy", "show", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sha256"] in checked and found["sha256"] in shown
    assert [one["what"] for one in found["allowed"]] == ["program /usr/bin/qemu-ga"]


@pytest.mark.parametrize("words", [[], ["standard"], ["strict"]])
def test_what_is_built_in_is_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show", *words]) == 0
    wanted = SHIPPED[words[0] if words else "standard"]()
    assert f"sha256: {wanted.sha256}\n" in capsys.readouterr().out


def remote(policy: str, **settings: object) -> Remote:
    made = AttestSettings(Path("m"), (Path("k"),), (Path("p"),), 60.0, policy=policy)
    return Remote("r", "ssh", ("x86_64",), replace(made, **settings), source=Path("r.toml"))  # type: ignore[arg-type]


def test_a_policy_makes_settings_stricter_and_never_laxer(tmp_path: Path) -> None:
    plain = tightened(remote("standard", second_look=SecondLook.ALWAYS, manifest_threshold=2))
    assert plain.attest.second_look is SecondLook.ALWAYS
    assert (plain.attest.manifest_threshold, plain.attest.verdict_max_age_s) == (2, 60.0)
    tight = tightened(remote("strict", manifest_threshold=2))
    assert tight.attest.second_look is SecondLook.ALWAYS
    assert (tight.attest.manifest_threshold, tight.attest.verdict_max_age_s) == (2, 0.0)
    assert tight.attest.manifest_max_age_s == 35 * 86400
    younger = tightened(remote("strict", manifest_max_age_s=86400.0))
    assert younger.attest.manifest_max_age_s == 86400
    assert tightened(tight) == tight
    path = written(tmp_path, FILE)
    assert tightened(remote(str(path))).attest.manifest_max_age_s == 14 * 86400


def test_strict_and_containers_do_not_go_together() -> None:
    tightened(remote("standard", unsafe_containers=True))
    with pytest.raises(ConfigError, match=r"r\.toml: unsafe_containers does not go with"):
        tightened(remote("strict", unsafe_containers=True))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("strict", "strict"), ("mine.toml", "{}/mine.toml"), ("lax", None), ("mine.tml", None)],
)
def test_a_remote_names_its_policy(value: str, wanted: str | None, tmp_path: Path) -> None:
    written(tmp_path, FILE)
    for name in ("key", "packages"):
        (tmp_path / name).touch()
    path = tmp_path / "r.toml"
    path.write_text(
        f'[remote]\nprovider = "local"\narches = ["x86_64"]\n[local]\nimage = "{tmp_path}"\n'
        f'[attest]\nmanifest_keys = ["key"]\npackage_keys = ["packages"]\npolicy = "{value}"\n'
    )
    if wanted is None:
        with pytest.raises(ConfigError, match=r"r\.toml:9: policy: "):
            read_remote("r", path)
    else:
        assert read_remote("r", path).attest.policy == wanted.format(tmp_path)

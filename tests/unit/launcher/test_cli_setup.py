# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing a remote's file: words become TOML of the right types, questions, refusals."""

from __future__ import annotations

import io
import re
import stat
import sys
from pathlib import Path

import pytest

from mock_cloud.cli import main
from mock_cloud.cli.setup_choices import Offers
from mock_cloud.cli.setup_remote import complete, write_remote
from mock_cloud.cli.verbs import make_parser
from mock_cloud.cloud.provider import CloudItem
from mock_cloud.config.remote_tables import TABLES
from mock_cloud.config.remote_text import Value, find_key, parse_word, plain_keys, write_toml
from mock_cloud.config.toml_tables import Each
from mock_cloud.errors import CloudError, CommandLineError, ConfigError, InputError
from mock_cloud.settings import Ec2Settings, Market, Remote

Given = dict[tuple[str, str], Value]


@pytest.fixture
def keys(tmp_path: Path) -> Given:
    for name in ("m.pub", "p.asc"):
        (tmp_path / name).write_text("x")
    return {
        ("attest", "manifest_keys"): [str(tmp_path / "m.pub")],
        ("attest", "package_keys"): [str(tmp_path / "p.asc")],
    }


@pytest.mark.parametrize(
    ("table", "key", "word", "value"),
    [
        ("ec2", "region", "eu-central-1", "eu-central-1"),
        ("ec2", "zones", "a, b", ["a", "b"]),
        ("ec2", "zones", "a", ["a"]),
        ("ec2", "market", "spot-first", "spot-first"),
        ("openstack", "config_drive", "true", True),
        ("lease", "max_nodes", "3", 3),
        ("lease", "max_ttl", "2h", "2h"),
        ("lease", "max_ttl", "90", 90),
        ("budget", "per_day", "2.5", 2.5),
        ("node.x86_64", "sizes", "t3.small,t3.large", ["t3.small", "t3.large"]),
        ("host.alpha", "capacity", "8", 8),
    ],
)
def test_words_become_what_the_key_wants(table: str, key: str, word: str, value: Value) -> None:
    assert parse_word(table, key, word) == value


@pytest.mark.parametrize(
    ("table", "key", "word"),
    [
        ("ec2", "market", "cheap"),
        ("lease", "max_ttl", "a while"),
        ("lease", "max_nodes", "1000"),
        ("ec2", "endpoint", "ftp://api"),
        ("attest", "manifest", "/nowhere/at/all"),
        ("host.alpha", "host_key", "ssh-ed25519"),
    ],
)
def test_words_that_no_key_wants(table: str, key: str, word: str) -> None:
    with pytest.raises(CommandLineError, match=rf"\[{table}\] {key}: "):
        parse_word(table, key, word)


def test_no_secret_can_stand_on_a_command_line() -> None:
    assert not {"secret_access_key", "api_key"} & set(plain_keys())


def test_strings_survive_toml(keys: Given, tmp_path: Path) -> None:
    odd = 'a "b" \\ é'
    given = {**keys, ("remote", "provider"): "ec2", ("ec2", "region"): odd}
    given |= {("node.x86_64", "images"): ["i"], ("node.x86_64", "sizes"): ["s"]}
    remote = write_remote("odd", given, tmp_path / "remotes.d", force=False)
    assert isinstance(remote.cloud, Ec2Settings) and remote.cloud.region == odd
    assert stat.S_IMODE(remote.source.stat().st_mode) == 0o600
    assert write_toml(given, "x").startswith("# x\n\n[remote]\n")


def test_a_file_is_not_replaced_unasked(keys: Given, tmp_path: Path) -> None:
    given = {**keys, ("remote", "provider"): "ec2", ("ec2", "region"): "one"}
    given |= {("node.x86_64", "images"): ["i"], ("node.x86_64", "sizes"): ["s"]}
    write_remote("cloud", given, tmp_path, force=False)
    other = {**given, ("ec2", "region"): "two"}
    with pytest.raises(InputError, match="is there already"):
        write_remote("cloud", other, tmp_path, force=False)
    assert "one" in (tmp_path / "cloud.toml").read_text()
    write_remote("cloud", other, tmp_path, force=True)
    assert "two" in (tmp_path / "cloud.toml").read_text()


def test_nothing_is_left_of_what_is_no_remote(keys: Given, tmp_path: Path) -> None:
    given = {**keys, ("remote", "provider"): "ec2", ("ec2", "region"): "one"}
    place = tmp_path / "remotes.d"
    with pytest.raises(ConfigError, match=r"not written: .*cloud\.toml:.*\[node\.NAME\]"):
        write_remote("cloud", given, place, force=False)
    with pytest.raises(CommandLineError, match="invalid remote name"):
        write_remote("../cloud", given, place, force=False)
    assert list(place.iterdir()) == []


def test_what_is_missing_is_named(keys: Given) -> None:
    with pytest.raises(CommandLineError, match="missing: --provider"):
        complete({}, ["x86_64"], "host", None)
    with pytest.raises(CommandLineError, match=r"missing: --region --image --size$"):
        complete({**keys, ("remote", "provider"): "ec2"}, ["x86_64"], "host", None)
    with pytest.raises(CommandLineError, match="unknown provider 'ec3'"):
        complete({("remote", "provider"): "ec3"}, ["x86_64"], "host", None)


def test_what_is_missing_is_asked_for(keys: Given, tmp_path: Path) -> None:
    asked: list[str] = []
    words = "ec2 eu-central-1 - - - cheap spot ami-1 t3.small - 4"
    replies = iter("" if word == "-" else word for word in words.split())

    def ask(question: str, default: str) -> str:
        asked.append(question)
        return next(replies) or default

    answers = complete(keys, ["x86_64"], "host", ask)
    remote = write_remote("cloud", answers, tmp_path, force=False)
    assert isinstance(remote.cloud, Ec2Settings)
    assert remote.cloud.market is Market.SPOT
    assert remote.cloud.zones == ()
    assert remote.budget is not None and remote.budget.per_day == 4.0
    assert any("'cheap' is none of" in question for question in asked)  # asked again, and why


class Listed:
    """What a cloud has; images are too many to show all of them."""

    def __init__(self, *, is_out: bool = False) -> None:
        self.is_out = is_out

    def find(self, key: str, arch: str, like: str = "") -> list[CloudItem]:
        if self.is_out:
            raise CloudError("EC2 eu-central-1: no credentials", hint="export AWS_ACCESS_KEY_ID")
        names = {"ami-43": "Fedora 43", "ami-10": "CentOS 10"}
        if key == "images":
            found = [f"{one} {arch}" for one in names if like.lower() in names[one].lower()]
            return [
                CloudItem(
                    *one.split(),
                )
                for one in found
            ]
        return {
            "security_groups": [CloudItem("sg-1", "default"), CloudItem("sg-2", "ssh")],
            "sizes": [CloudItem("c7i.large", "2 CPUs"), CloudItem("c7i.xlarge", "4 CPUs")],
        }.get(key, [])

    def is_search(self, key: str, word: str) -> bool:
        return key == "images" and not word.startswith("ami-")


@pytest.mark.parametrize(
    ("words", "images", "sizes"),
    [
        ("ec2 eu-central-1 - - 2 - 1 2,1 - 4", ("ami-43",), ("c7i.xlarge", "c7i.large")),
        ("ec2 eu-central-1 - - sg-2 - centos 1 c7i.large - 4", ("ami-10",), ("c7i.large",)),
        ("ec2 eu-central-1 - - 2 - suse ami-9 2 - 4", ("ami-9",), ("c7i.xlarge",)),
    ],
)
def test_what_the_cloud_has_is_chosen_by_number_or_name(
    keys: Given, tmp_path: Path, words: str, images: tuple[str, ...], sizes: tuple[str, ...]
) -> None:
    asked: list[str] = []
    regions: list[str] = []
    replies = iter("" if word == "-" else word for word in words.split())

    def ask(question: str, default: str) -> str:
        asked.append(question)
        return next(replies) or default

    def find(remote: Remote) -> Listed:
        assert isinstance(remote.cloud, Ec2Settings)
        regions.append(remote.cloud.region)
        return Listed()

    answers = dict(keys)
    complete(answers, ["x86_64"], "host", ask, offers=Offers("cloud", answers, find))
    remote = write_remote("cloud", answers, tmp_path, force=False)
    assert remote.nodes["x86_64"].images == images and remote.nodes["x86_64"].sizes == sizes
    assert isinstance(remote.cloud, Ec2Settings) and remote.cloud.security_groups == ("sg-2",)
    assert regions == ["eu-central-1"]  # asked once, of the region that was answered before
    assert any("   2  sg-2  ssh\n" in question for question in asked)
    assert any("'suse' in it" in question for question in asked) == ("suse" in words)


def test_a_cloud_that_lists_nothing_is_said_once_and_ids_are_asked_for(
    keys: Given, tmp_path: Path
) -> None:
    asked: list[str] = []
    replies = iter(["ec2", "eu-central-1", "", "", "sg-2", "", "ami-1", "t3.small", "", "4"])

    def ask(question: str, default: str) -> str:
        asked.append(question)
        return next(replies) or default

    answers = dict(keys)
    offers = Offers("cloud", answers, lambda _: Listed(is_out=True))
    complete(answers, ["x86_64"], "host", ask, offers=offers)
    remote = write_remote("cloud", answers, tmp_path, force=False)
    assert remote.nodes["x86_64"].images == ("ami-1",)
    said = [question for question in asked if "nothing can be listed" in question]
    assert len(said) == 1 and "export AWS_ACCESS_KEY_ID" in said[0]


def test_a_lent_machine(keys: Given, tmp_path: Path) -> None:
    given: Given = {**keys, ("remote", "provider"): "ssh"}
    given |= {("host.alpha", "address"): "alpha", ("host.alpha", "owner"): "Alice"}
    given |= {("host.alpha", "host_key"): "ssh-ed25519 AAAA"}

    def written(answers: Given) -> str:
        return write_remote("lent", answers, tmp_path, force=True).source.read_text()

    answers = complete(given, ["aarch64"], "alpha", None)
    assert 'arch = "aarch64"' in written(dict(answers))
    without = {key: value for key, value in answers.items() if key[1] != "host_key"}
    with pytest.raises(ConfigError, match="no key is taken on trust"):
        written(without)


def setup(tmp_path: Path, keys: Given, *words: str) -> tuple[int, Path]:
    known = [f"--{name.replace('_', '-')}={value[0]}" for (_, name), value in keys.items()]  # type: ignore[index]
    place = ["--directory", str(tmp_path / "made"), "--no-check"]
    return main(["setup", "cloud", *words, *known, *place]), tmp_path / "made/cloud.toml"


def test_nodes_of_two_architectures(keys: Given, tmp_path: Path) -> None:
    ec2 = ("--provider", "ec2", "--region", "one")
    two = ("--image", "x86_64=i,j", "--size", "x86_64=s", "--image", "aarch64=k")
    code, path = setup(tmp_path, keys, *ec2, *two, "--size", "aarch64=t")
    assert code == 0 and 'images = ["i", "j"]' in path.read_text()
    path.unlink()
    for word in ("k", "aarch64=l"):  # of no architecture, and of one that has its images
        code, path = setup(tmp_path, keys, *ec2, *two, "--size", "aarch64=t", "--image", word)
        assert code == 5 and not path.exists()
    code, path = setup(tmp_path, keys, *ec2, "--image", "i", "--image", "aarch64=k", "--size", "s")
    assert code == 5 and not path.exists()


@pytest.mark.parametrize("option", ["--host-key", "--host-ca"])
def test_a_public_key_may_be_a_file(keys: Given, tmp_path: Path, option: str) -> None:
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAA alpha\n")
    lent = ("--provider", "ssh", "--address", "a", "--owner", "A", "--arch", "x86_64")
    code, path = setup(tmp_path, keys, *lent, option, str(tmp_path / "key.pub"))
    assert code == 0 and '"ssh-ed25519 AAAA"' in path.read_text()


def test_nothing_is_asked_if_all_is_there_that_must_be(keys: Given) -> None:
    def ask(question: str, default: str) -> str:
        raise AssertionError(question)

    given = {**keys, ("remote", "provider"): "rackspace", ("rackspace", "region"): "ord"}
    given |= {("node.x86_64", "images"): ["i"], ("node.x86_64", "sizes"): ["s"]}
    assert complete(dict(given), ["x86_64"], "host", ask) == given
    ssh = {**keys, ("remote", "provider"): "ssh", ("host.a", "address"): "a"}
    ssh |= {("host.a", "owner"): "A", ("host.a", "host_ca"): "ssh-ed25519 AAAA"}
    assert complete(dict(ssh), ["x86_64"], "a", ask)["host.a", "arch"] == "x86_64"
    del ssh["host.a", "host_ca"]
    with pytest.raises(CommandLineError, match=r"missing: --host-key$"):
        complete(dict(ssh), ["x86_64"], "a", None)


def type_in(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """Both ends are a terminal at which this is typed, a line a word, and then it hangs up."""
    typed = io.StringIO("".join("\n" if word == "-" else f"{word}\n" for word in words.split()))
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_answers_are_kept_if_it_comes_to_nothing(
    keys: Given,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    type_in(monkeypatch, "ec2 eu-central-1 a,b")
    code, path = setup(tmp_path, keys)
    assert code == 5 and not path.exists()
    assert "what was answered is kept" in capsys.readouterr().err
    draft = path.with_name(".cloud.answers")
    assert stat.S_IMODE(draft.stat().st_mode) == 0o600
    type_in(monkeypatch, "- - - - - - ami-1 t3.small - -")
    code, path = setup(tmp_path, keys)
    assert code == 0 and not draft.exists()
    assert "[eu-central-1]" in capsys.readouterr().err
    assert 'region = "eu-central-1"' in path.read_text()


def test_batch_asks_nothing_on_a_terminal(
    keys: Given,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    type_in(monkeypatch, "ec2")
    assert setup(tmp_path, keys, "--batch")[0] == 5
    assert "missing: --provider" in capsys.readouterr().err


def test_a_file_that_is_there_is_seen_before_the_questions(
    keys: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/cloud.toml").touch()
    type_in(monkeypatch, "ec2")
    assert setup(tmp_path, keys)[0] == 50
    assert sys.stdin.readline() == "ec2\n"


def test_a_missing_key_file_is_called_by_its_name(tmp_path: Path) -> None:
    for key in ("manifest_keys", "package_keys"):
        with pytest.raises(CommandLineError) as caught:
            parse_word("attest", key, str(tmp_path / "nosuch"))
        assert (
            caught.value.message == f"[attest] {key}: {tmp_path}/nosuch: No such file or directory"
        )
        assert (caught.value.hint or "").startswith(f"{key}: ")


def test_each_setting_says_what_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        make_parser("setup").parse_args(["setup", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    manual = (Path(__file__).parents[3] / "docs/man/mock-cloud-remotes.5").read_text()
    for table, keys in TABLES.items():
        for name, key in (keys.keys if isinstance(keys, Each) else keys).items():
            assert key.text and not key.text.endswith("."), (table, name)
            assert re.search(rf"\b{name}\b", manual), (table, name)
    for name in plain_keys():
        if name not in ("provider", "arches", "image", "arguments", "create", "address"):
            assert find_key(plain_keys()[name][0], name).text in said, name


def test_a_lent_machines_table_survives_any_name_of_its_owner(tmp_path: Path) -> None:
    from mock_cloud.cli.lending import HOST_KEY, LentMachine
    from mock_cloud.config.remote_text import tomllib
    from mock_cloud.sshkeys import make_key_pair

    key = tmp_path / HOST_KEY.lstrip("/")
    key.parent.mkdir(parents=True)
    key.write_text(f"{make_key_pair().public}\n")
    owner = 'Alice "the\\first"\n[remote]'
    text = LentMachine(tmp_path).describe("alpha", "alpha.example.org", owner)
    table = tomllib.loads(text)["host"]["alpha"]
    assert (table["owner"], table["address"]) == (owner, "alpha.example.org")

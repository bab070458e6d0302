# SPDX-License-Identifier: GPL-2.0-or-later
"""Remotes of clouds and hosts: what their files may say, and what is refused with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mock_cloud.config.remotes import read_remote
from mock_cloud.errors import ConfigError
from mock_cloud.settings import (
    Ec2Settings,
    LibcloudSettings,
    Market,
    OpenStackSettings,
    RackspaceSettings,
)
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.steps.attest.known_good_sets import KnownGoods

KEY = make_key_pair().public
ATTEST = """
[attest]
manifest = "m.json"
manifest_keys = ["m.pub"]
package_keys = ["p.asc"]
"""
EC2 = """[remote]
provider = "ec2"
[ec2]
region = "eu-central-1"
zones = ["eu-central-1a", "eu-central-1b"]
market = "spot-first"
[node.x86_64]
images = ["ami-1"]
sizes = ["c7i.xlarge", "c6i.xlarge"]
[node.aarch64]
images = ["ami-2"]
sizes = ["c7g.xlarge"]
price_per_hour = 0.2
manifest = "m.json"
[budget]
per_day = 5
"""
HOSTS = """[remote]
provider = "ssh"
[host.alpha]
address = "alpha.example.org"
owner = "Alice"
arch = "s390x"
host_key = "ssh-ed25519 AAAA"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("m.json", "m.pub", "p.asc"):
        (tmp_path / name).write_text("x")
    return tmp_path


def write(place: Path, text: str, mode: int = 0o644) -> Path:
    path = place / "cloud.toml"
    path.write_text(text + ATTEST)
    path.chmod(mode)
    return path


def test_an_ec2_remote(place: Path) -> None:
    remote = read_remote("cloud", write(place, EC2))
    assert isinstance(remote.cloud, Ec2Settings)
    assert remote.cloud.market is Market.SPOT_FIRST
    assert remote.arches == ("x86_64", "aarch64")
    assert remote.nodes["x86_64"].sizes == ("c7i.xlarge", "c6i.xlarge")
    assert remote.nodes["aarch64"].manifest == place / "m.json"
    assert remote.budget is not None and remote.budget.per_day == 5.0


def test_a_host_of_a_volunteer(place: Path) -> None:
    remote = read_remote("cloud", write(place, HOSTS))
    (host,) = remote.hosts
    assert (host.name, host.owner, remote.arches) == ("alpha", "Alice", ("s390x",))


def test_any_driver_of_libcloud(place: Path) -> None:
    text = EC2.replace('"ec2"', '"libcloud"').replace("[ec2]", "[libcloud]")
    text = text.replace('region = "eu-central-1"', 'driver = "digitalocean"')
    text = text.replace('zones = ["eu-central-1a", "eu-central-1b"]\n', "")
    text = text.replace('market = "spot-first"\n', "create = { ex_ssh_key_ids = [] }\n")
    remote = read_remote("cloud", write(place, text))
    assert isinstance(remote.cloud, LibcloudSettings)
    assert remote.cloud.create == {"ex_ssh_key_ids": []}


MISTAKES = [
    (EC2, 'region = "eu-central-1"\n', "", 3, "lacks the key 'region'"),
    (EC2, 'provider = "ec2"', 'provider = "local"', 2, r"needs the table \[local\]"),
    (EC2, "[ec2]", "[rackspace]\n[ec2]", 3, r"\[rackspace\] lacks"),
    (EC2, "[ec2]", "[openstack]\n[ec2]", 3, "is not for provider 'ec2'"),
    (EC2, 'sizes = ["c7g.xlarge"]\n', "", 10, r"\[node.aarch64\] lacks the key 'sizes'"),
    (EC2, "[node.aarch64]", "[node.Itanium]", 10, "plain word"),
    (EC2, "[remote]\n", '[remote]\narches = ["s390x"]\n', 2, "no node or host of arch 's390x'"),
    (EC2, "per_day = 5", "per_day = 0", 16, "between"),
    (EC2, "price_per_hour = 0.2", "price_per_hour = nan", 13, "between"),
    (EC2, "per_day = 5", "per_day = 5\nper_week = 1", 17, "unknown key 'per_week'"),
    (EC2, '"spot-first"', '"cheap"', 6, "none of"),
    (EC2, "[ec2]\n", '[ec2]\nendpoint = "https://u:p@api"\n', 4, "ends up in logs"),
    (EC2, "[ec2]\n", '[ec2]\nsecret_access_key = "s"\n', 4, "chmod 600"),
    (EC2, 'provider = "ec2"', 'provider = "ec3"', 2, "did you mean 'ec2'"),
    (HOSTS, 'host_key = "ssh-ed25519 AAAA"\n', "", 3, "no key is taken on trust"),
    (HOSTS, '"ssh-ed25519 AAAA"', '"ssh-ed25519"', 7, "OpenSSH public key"),
    (HOSTS, "alpha.example.org", "alpha.example.org:2222", 4, "`port = 2222`, and the address is"),
    (HOSTS, "alpha.example.org", "root@alpha.example.org", 4, "`user`, and the address is"),
    (HOSTS, "[host.alpha]\n", '[host.alpha]\nuser = "builder"\n', 4, "only root can measure"),
    (HOSTS, "[host.alpha]\n", '[host.alpha]\nowner_key = "sk-ssh-ed25519@openssh.com AAAA"\n', 4,
     "owner_key is a key of the kind sk-ssh-ed25519@openssh.com"),
    (HOSTS, "[host.alpha]", '[host]\nalpha = 1\n[host.beta]', 4, "holds tables only"),
]  # fmt: skip


@pytest.mark.parametrize(("good", "old", "new", "line", "words"), MISTAKES)
def test_mistakes_name_file_and_line(
    place: Path, good: str, old: str, new: str, line: int, words: str
) -> None:
    assert old in good
    path = write(place, good.replace(old, new, 1))
    with pytest.raises(ConfigError, match=words) as caught:
        read_remote("cloud", path)
    assert caught.value.message.startswith(f"{path}:{line}: "), caught.value.message
    assert "\n" not in caught.value.message


def test_a_secret_stays_out_of_sight(place: Path) -> None:
    path = write(place, EC2.replace("[ec2]\n", '[ec2]\nsecret_access_key = "hush"\n'), 0o600)
    remote = read_remote("cloud", path)
    assert isinstance(remote.cloud, Ec2Settings) and remote.cloud.secret_access_key is not None
    assert remote.cloud.secret_access_key.reveal() == b"hush"
    assert "hush" not in repr(remote)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('mirror = "http://m"', "mirror needs suite and keyring"),
        ('repository = "http://r"', "repository needs key"),
        ('keyring = "p.asc"', "a mirror or a repository is wanted"),
        ('repository = "http://r"\nkey = "p.asc"\nsuite = "s"', "suite does not go with repo"),
    ],
)
def test_half_a_source_of_toolkits_is_refused(place: Path, table: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_remote("cloud", write(place, f"{EC2}[toolkit]\n{table}\n"))


def test_a_source_of_toolkits(place: Path) -> None:
    table = '[toolkit]\nmirror = "http://m"\nsuite = "s"\nkeyring = "p.asc"\n'
    found = read_remote("cloud", write(place, EC2 + table)).toolkit
    assert (found.mirror, found.suite, found.keyring) == ("http://m", "s", place / "p.asc")


def test_a_remote_whose_image_is_not_baked_yet_has_no_manifest(place: Path) -> None:
    path = write(place, EC2)
    path.write_text(path.read_text().replace('[attest]\nmanifest = "m.json"\n', "[attest]\n"))
    remote = read_remote("cloud", path)
    assert remote.attest.manifest is None
    with pytest.raises(ConfigError, match="no manifest") as caught:
        KnownGoods(remote, "x86_64")
    assert "image bake" in str(caught.value.hint)


LIBCLOUD = """[remote]
provider = "libcloud"
[libcloud]
driver = "vultr"
[node.x86_64]
images = ["1"]
sizes = ["2"]
[libcloud.arguments]
"""


@pytest.mark.parametrize("key", ["key", "secret", "ex_password", "api_token", "credentials"])
def test_a_literal_secret_for_a_driver_needs_a_closed_file(place: Path, key: str) -> None:
    text = f'{LIBCLOUD}{key} = "hidden"\n'
    with pytest.raises(ConfigError, match=rf"cloud.toml:9: {key} is a secret.*env:NAME") as caught:
        read_remote("cloud", write(place, text))
    assert "hidden" not in caught.value.message
    assert read_remote("cloud", write(place, text, 0o600))


def test_what_the_environment_holds_may_be_named_in_the_open(place: Path) -> None:
    remote = read_remote("cloud", write(place, f'{LIBCLOUD}key = "env:TOKEN"\nregion = "x"\n'))
    assert isinstance(remote.cloud, LibcloudSettings)
    assert remote.cloud.arguments == {"key": "env:TOKEN", "region": "x"}


def test_the_example_of_lent_machines_works(place: Path) -> None:
    text = (Path(__file__).parents[3] / "etc/mock/remotes.d/volunteers.toml").read_text()
    text = text.replace("/srv/mock-cloud/volunteers.manifest.json", "m.json")
    text = text.replace("/srv/mock-cloud/manifest.pub", "m.pub")
    text = re.sub(r"/etc/pki/[^\"]*", "p.asc", text)
    path = place / "volunteers.toml"
    path.write_text(text)
    plain = read_remote("volunteers", path)
    (host,) = plain.hosts
    assert (host.name, host.arch, host.user) == ("alpha", "s390x", "root")
    # What stands in comments is true too.
    beta = text.index("#[host.beta]")
    end = text.index("# Nothing is sent")
    table = re.sub(r"(?m)^#(?=[a-z[])", "", text[beta:end]).replace("AAAA…", str(KEY).split()[1])
    (place / "volunteers.ssh_config").write_text("")
    path.write_text(text[:beta] + table + text[end:])
    assert [one.name for one in read_remote("volunteers", path).hosts] == ["alpha", "beta"]
    toolkit = text.index("#[toolkit]")
    table = re.sub(r"(?m)^#(?=[a-z[])", "", text[toolkit:])
    for first, second in (("mirror", "suite|keyring"), ("repository", "key")):
        one = re.sub(rf"(?m)^({first}|{second}) = .*\n", "", table)
        path.write_text(
            text[:toolkit] + one.replace("/usr/share/keyrings/debian-archive-keyring.gpg", "p.asc")
        )
        assert read_remote("volunteers", path).toolkit != plain.toolkit


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("openstack", OpenStackSettings),
        ("rackspace", RackspaceSettings),
        ("libcloud", LibcloudSettings),
    ],
)
def test_the_examples_of_clouds_work_and_show_the_true_defaults(
    place: Path, name: str, kind: type[object]
) -> None:
    text = (Path(__file__).parents[3] / f"etc/mock/remotes.d/{name}.toml").read_text()
    text = re.sub(r"/srv/mock-cloud/[^\"]*json", "m.json", text)
    text = text.replace("/srv/mock-cloud/manifest.pub", "m.pub")
    path = place / f"{name}.toml"
    path.write_text(re.sub(r"/etc/pki/[^\"]*", "p.asc", text))
    plain = read_remote(name, path)
    assert isinstance(plain.cloud, kind)
    # What stands in comments is accepted too, and times are the true defaults.
    path.write_text(re.sub(r"(?m)^#(?=[a-z_]+ = )", "", path.read_text()))
    path.chmod(0o600)
    full = read_remote(name, path)
    assert (full.lease, full.cloud.boot_timeout_s) == (plain.lease, plain.cloud.boot_timeout_s)
    assert full.cloud.reach is plain.cloud.reach


EXAMPLE = Path(__file__).parents[3] / "etc/mock/remotes.d/ec2.toml"
WITHOUT_DEFAULT = (
    *("subnets", "profile", "access_key_id", "secret_access_key", "endpoint"),
    *("price_per_hour", "manifest", "manifest_max_age", "repository", "key", "wait"),
)


def test_the_shipped_ec2_example_works_and_shows_the_true_defaults(place: Path) -> None:
    text = EXAMPLE.read_text()
    for shown, real in (
        ("/srv/mock-cloud/fedora.manifest.json", "m.json"),
        ("/srv/mock-cloud/manifest.pub", "m.pub"),
        ("/etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-43-x86_64", "p.asc"),
    ):
        assert shown in text
        text = text.replace(shown, real)
    path = place / "ec2.toml"
    path.write_text(text)
    plain = read_remote("ec2", path)
    assert plain.arches == ("x86_64", "aarch64")
    names = "|".join(WITHOUT_DEFAULT)
    uncommented, count = re.subn(rf"(?m)^#(?!(?:{names}) = )(?=[a-z_]+ = )", "", text)
    assert count == 24
    path.write_text(uncommented)
    assert read_remote("ec2", path) == plain

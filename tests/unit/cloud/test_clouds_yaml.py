# SPDX-License-Identifier: GPL-2.0-or-later
from pathlib import Path

import pytest

from mock_cloud.cloud.apis.clouds_yaml import find_entry
from mock_cloud.errors import ConfigError

TWO = """
clouds:
  one:
    auth: {auth_url: "https://one.example.org:5000/v3", username: me, password: hidden-1}
    region_name: north
  two:
    auth: {auth_url: "https://two.example.org:5000/v3", application-credential-id: abc}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    place = tmp_path / ".config/openstack"
    place.mkdir(parents=True)
    (place / "clouds.yaml").write_text(TWO)
    return place


def refusal(home: Path, cloud: str = "", **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        find_entry(cloud, environ, home / ".config")
    assert "hidden" not in caught.value.message + str(caught.value.hint) + repr(caught.value)
    return caught.value


def test_no_file_and_no_variables_says_where_it_looked(tmp_path: Path) -> None:
    assert f"{tmp_path}/.config/openstack" in refusal(tmp_path).message


def test_unknown_cloud_lists_near_names(config: Path, tmp_path: Path) -> None:
    error = refusal(tmp_path, "tow")
    assert f"{config}/clouds.yaml has no cloud 'tow'" in error.message
    assert "two" in str(error.hint)


def test_two_clouds_and_no_choice_is_refused(config: Path, tmp_path: Path) -> None:
    assert "one, two" in str(refusal(tmp_path).hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clouds:\n  one:\n\t hidden", "clouds.yaml:3: not YAML"),
        ("clouds: hidden", "no table 'clouds'"),
        ("- hidden", "no table 'clouds'"),
        ("clouds: {one: hidden}", "'one' is not a table"),
        ("clouds: {1: {}}", "the name of a cloud is not a text"),
        ("clouds: {one: {auth: hidden}}", "'one' is not a table"),
        ("clouds: {one: !!python/object/apply:os.getcwd []}", "clouds.yaml:1: not YAML"),
    ],
)
def test_a_broken_file_is_refused_without_its_content(
    config: Path, tmp_path: Path, text: str, message: str
) -> None:
    (config / "clouds.yaml").write_text(text)
    assert message in refusal(tmp_path, "one").message


def test_the_current_directory_is_not_asked(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "clouds.yaml").write_text("clouds: {one: {auth: {auth_url: 'http://evil'}}}")
    monkeypatch.chdir(checkout)
    entry = find_entry("one", {}, tmp_path / ".config")
    assert entry.values["auth_url"] == "https://one.example.org:5000/v3"


def test_the_source_names_entry_and_file(config: Path, tmp_path: Path) -> None:
    entry = find_entry("", {"OS_CLOUD": "one"}, tmp_path / ".config")
    assert entry.source == f"cloud 'one' of {config}/clouds.yaml"
    assert entry.values["region_name"] == "north"
    assert "hidden" not in repr(entry)


def test_the_remotes_choice_goes_before_the_environments(config: Path, tmp_path: Path) -> None:
    entry = find_entry("two", {"OS_CLOUD": "one", "OS_AUTH_URL": "https://x"}, tmp_path / ".config")
    assert entry.values["application_credential_id"] == "abc"


def test_variables_alone(config: Path, tmp_path: Path) -> None:
    entry = find_entry(
        "", {"OS_AUTH_URL": "https://x", "OS_USERNAME": "u", "PATH": "/"}, tmp_path / ".config"
    )
    assert entry.values == {"auth_url": "https://x", "username": "u"}
    assert entry.source == "the OS_* environment variables"


def test_a_named_file_and_its_only_cloud(config: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("clouds: {only: {auth: {auth_url: 'https://o'}}}")
    entry = find_entry("", {"OS_CLIENT_CONFIG_FILE": f"{tmp_path}/mine.yaml"}, tmp_path / ".config")
    assert entry.source == f"cloud 'only' of {tmp_path}/mine.yaml"


def test_secure_yaml_adds_the_secret(config: Path, tmp_path: Path) -> None:
    (config / "secure.yaml").write_text("clouds: {two: {auth: {application_credential_secret: s}}}")
    values = find_entry("two", {}, tmp_path / ".config").values
    assert values["application_credential_secret"] == "s"
    assert values["application_credential_id"] == "abc"

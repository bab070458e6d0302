# SPDX-License-Identifier: GPL-2.0-or-later
"""What real drivers of libcloud can take, found out before anything is bought."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from mock_cloud.cloud.apis.generic_driver import Driver, make_driver
from mock_cloud.errors import ConfigError
from mock_cloud.settings import LibcloudSettings
from tests.component.openstack_parts import make_launch

FILE = Path("/etc/mock/remotes.d/other.toml")
EC2 = {"key": "k", "secret": "hidden-secret", "region": "us-east-1"}
ENVIRON = {"MY_TOKEN": "hidden-token"}


def make(driver: str, **changes: object) -> Driver:
    settings = LibcloudSettings(driver, **changes)  # type: ignore[arg-type]
    return make_driver(settings, ENVIRON, FILE)


@pytest.mark.parametrize(
    ("driver", "changes", "message", "hint"),
    [
        ("digitalocian", {}, "no compute driver 'digitalocian'", "digitalocean"),
        ("vultr", {"arguments": {"key": "env:NO_SUCH"}}, "environment has no NO_SUCH", "NO_SUCH"),
        (
            "ec2",
            {"arguments": {**EC2, "region": "moon"}},
            "does not take [libcloud.arguments]: Invalid region: moon",
            "",
        ),
        ("dummy", {"arguments": {"creds": "x"}}, "gives no user-data", "provider 'ssh'"),
        (
            "gridscale",
            {"arguments": {"user_id": "u", "key": "k"}},
            "gives no user-data",
            "provider 'ssh'",
        ),
        (
            "ec2",
            {"arguments": EC2, "create": {"ex_securitygroups": ["x"]}},
            "knows no 'ex_securitygroups'",
            "ex_security_groups",
        ),
        (
            "ec2",
            {"arguments": EC2, "create": {"ex_userdata": "x"}},
            "ex_userdata is mock-cloud's to say",
            "",
        ),
        ("digitalocean", {"arguments": {"key": "env:MY_TOKEN"}}, "needs a location", "locations"),
    ],
)
def test_what_cannot_work_is_refused(
    driver: str, changes: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(driver, **changes)
    assert caught.value.message.startswith(f"{FILE}: ")
    assert message in caught.value.message
    assert hint in str(caught.value.hint)
    assert "hidden" not in f"{caught.value.message} {caught.value.hint}"


def test_arguments_are_named_and_secrets_hidden_when_a_driver_refuses_them() -> None:
    with pytest.raises(ConfigError) as caught:
        make("ec2", arguments={**EC2, "region": "hidden-secret"})
    assert caught.value.message.endswith("Invalid region: …")


def test_ec2_gets_token_tags_and_user_data() -> None:
    launch = make_launch()
    driver = make("ec2", arguments=EC2, create={"ex_metadata": {"team": "qa"}, "ex_subnet": "s"})
    assert driver.arguments(launch) == {
        "ex_subnet": "s",
        "ex_metadata": {"team": "qa", **launch.tags},
        "ex_clienttoken": launch.token,
        "ex_userdata": "#cloud-config\n{}\n",
    }


@pytest.mark.parametrize(
    ("driver", "arguments", "argument"),
    [
        ("digitalocean", {"key": "env:MY_TOKEN"}, "ex_user_data"),
        ("vultr", {"key": "env:MY_TOKEN"}, "ex_userdata"),
        ("linode", {"key": "env:MY_TOKEN"}, "ex_userdata"),
        ("equinixmetal", {"key": "env:MY_TOKEN"}, "cloud_init"),
        ("brightbox", {"key": "k", "secret": "s"}, "ex_userdata"),
    ],
)
def test_each_driver_has_its_own_word_for_user_data(
    driver: str, arguments: dict[str, str | int | float | bool], argument: str
) -> None:
    made = make(driver, arguments=arguments, locations=("x",)).arguments(make_launch())
    assert made[argument] == "#cloud-config\n{}\n"


def test_some_take_it_within_a_mapping_or_encoded() -> None:
    made = make(
        "cloudscale", arguments={"key": "k"}, create={"ex_create_attr": {"volume_size_gb": 20}}
    ).arguments(make_launch())
    assert made == {"ex_create_attr": {"volume_size_gb": 20, "user_data": "#cloud-config\n{}\n"}}
    made = make("outscale", arguments={"key": "k", "secret": "s", "region": "eu-west-2"}).arguments(
        make_launch()
    )
    assert base64.b64decode(str(made["ex_user_data"])) == b"#cloud-config\n{}\n"

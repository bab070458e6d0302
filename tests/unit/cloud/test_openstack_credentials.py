# SPDX-License-Identifier: GPL-2.0-or-later
from pathlib import Path

import pytest

from mock_cloud.cloud.apis.clouds_yaml import CloudEntry
from mock_cloud.cloud.apis.openstack_credentials import (
    Identity,
    Method,
    OpenStackCredentials,
    find_beyond,
    parse_credentials,
)
from mock_cloud.errors import ConfigError

PASSWORD = {
    "auth_url": "https://cloud.example.org:5000/v3",
    "username": "me",
    "user_domain_name": "Default",
    "password": "hidden",
    "project_name": "builds",
    "project_domain_id": "default",
}


def parse(**changes: object) -> OpenStackCredentials:
    values = {name: value for name, value in {**PASSWORD, **changes}.items() if value is not None}
    return parse_credentials(CloudEntry("cloud 'x' of /p", values))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auth_url": None}, "auth_url is missing"),
        ({"auth_url": "ftp://x"}, "auth_url is not an http"),
        ({"auth_url": "https://me:hidden@x/v3"}, "auth_url is not an http"),
        ({"password": None}, "a secret (application_credential_secret, token or password)"),
        ({"password": 7}, "password is not a string"),
        ({"username": None}, "the user"),
        ({"project_name": None}, "the project"),
        ({"interface": "secret"}, "interface 'secret' is none of public, internal, admin"),
        ({"identity_api_version": 1}, "'1' is neither 2 nor 3"),
        ({"verify": False}, "certificates must be verified"),
        ({"insecure": "True"}, "certificates must be verified"),
        ({"cacert": "/nonexistent/ca.pem"}, "no file /nonexistent/ca.pem (cacert)"),
        ({"application_credential_secret": "hidden"}, "application_credential_id is missing"),
        (
            {
                "application_credential_secret": "hidden",
                "application_credential_name": "n",
                "username": None,
            },
            "the user of the application credential",
        ),
        (
            {
                "identity_api_version": "2",
                "application_credential_secret": "hidden",
                "application_credential_id": "i",
            },
            "no application credentials",
        ),
        ({"identity_api_version": "2.0", "token": "hidden"}, "a password only"),
        ({"identity_api_version": 2, "project_id": "p", "project_name": None}, "project_name"),
    ],
)
def test_what_cannot_work_is_refused_with_its_source(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(**changes)
    assert caught.value.message.startswith("cloud 'x' of /p: ")
    assert message in caught.value.message
    assert "hidden" not in caught.value.message


def test_a_password() -> None:
    found = parse(region_name="north")
    assert found.method is Method.PASSWORD
    assert found.secret.reveal() == b"hidden"
    assert found.user == Identity(name="me", domain_name="Default")
    assert found.project == Identity(name="builds", domain_id="default")
    assert (found.region, found.interface) == ("north", "public")
    assert "hidden" not in repr(found)


def test_application_credentials_go_before_a_password() -> None:
    found = parse(application_credential_id="i", application_credential_secret="s")
    assert found.method is Method.APPLICATION_CREDENTIAL
    assert found.credential == Identity(id="i")


def test_a_token_goes_before_a_password() -> None:
    assert parse(token="t").method is Method.TOKEN


def test_no_secret_is_sent_but_that_of_the_type() -> None:
    """(openstacksdk fails where there are two.)"""
    more = {"token": "t", "application_credential_id": "i", "application_credential_secret": "s"}
    found = parse(auth_type="v3password", **more)
    assert (found.method, found.secret.reveal()) == (Method.PASSWORD, b"hidden")
    assert parse(auth_type="v3token", **more).secret.reveal() == b"t"
    found = parse(auth_type="v3applicationcredential", **more)
    assert (found.method, found.secret.reveal()) == (Method.APPLICATION_CREDENTIAL, b"s")


@pytest.mark.parametrize(
    ("changes", "beyond"),
    [
        ({"auth_type": "v3oidcpassword"}, "auth_type v3oidcpassword"),
        ({"auth_plugin": "v3multifactor"}, "auth_type v3multifactor"),
        ({"auth_type": "none"}, "auth_type none"),
        ({"auth_type": "V3Password"}, "auth_type V3Password"),
        ({"profile": "vexxhost"}, "the key profile"),
        ({"passcode": "123456"}, "the key passcode"),
        ({"regions": [{"name": "n"}]}, "the table regions"),
        ({"regions": {"name": "n"}}, "the table regions"),
        ({"region_name": ["n"]}, "a list as region_name"),
        ({"regions": ["n"], "auth_type": "password"}, ""),
    ],
)
def test_what_is_left_to_openstacksdk(changes: dict[str, object], beyond: str) -> None:
    assert find_beyond(CloudEntry("cloud 'x' of /p", {**PASSWORD, **changes})) == beyond


def test_regions() -> None:
    def region(wanted: str = "", **changes: object) -> str:
        return parse_credentials(CloudEntry("c", {**PASSWORD, **changes}), wanted).region

    assert region(regions=["b", "a"]) == "b"
    assert region("a", regions=["b", "a"]) == "a"
    assert region(region_name="b,a") == "b"
    with pytest.raises(ConfigError, match="no region 'c'"):
        region("c", region_name="b, a")


def test_verify_may_name_the_authority(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    assert parse(verify=str(tmp_path / "ca.pem")).ca_file == tmp_path / "ca.pem"
    assert parse(verify="true").ca_file is None
    with pytest.raises(ConfigError, match=r"no file /nonexistent \(verify\)"):
        parse(verify="/nonexistent")


@pytest.mark.parametrize(
    ("changes", "url", "version"),
    [
        ({}, "https://cloud.example.org:5000", 3),
        ({"auth_url": "https://x/identity"}, "https://x/identity", 3),
        ({"auth_url": "https://x/identity/v3/"}, "https://x/identity", 3),
        ({"auth_url": "https://x/identity/v2.0"}, "https://x/identity", 2),
        ({"auth_url": "https://x", "identity_api_version": 2.0}, "https://x", 2),
        ({"auth_url": "https://x", "identity_api_version": "3"}, "https://x", 3),
        ({"auth_url": "https://x", "auth_type": "v2password"}, "https://x", 2),
        ({"auth_url": "https://x", "auth_type": "v3password"}, "https://x", 3),
    ],
)
def test_the_version_of_the_identity_service(
    changes: dict[str, object], url: str, version: int
) -> None:
    found = parse(**changes)
    assert (found.auth_url, found.identity_version) == (url, version)


def test_services_can_be_told_apart_by_name_or_url(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    found = parse(
        compute_service_name="cloudServersOpenStack",
        network_endpoint_override="https://net.example.org/",
        endpoint_type="internalURL",
        cacert=str(tmp_path / "ca.pem"),
    )
    assert found.services["compute"].name == "cloudServersOpenStack"
    assert found.services["network"].endpoint == "https://net.example.org"
    assert found.interface == "internal"
    assert found.ca_file == tmp_path / "ca.pem"

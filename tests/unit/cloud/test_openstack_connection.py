# SPDX-License-Identifier: GPL-2.0-or-later
from typing import Any

import pytest
from libcloud.common.openstack_identity import OpenStackServiceCatalog

from mock_cloud.cloud.apis.clouds_yaml import CloudEntry
from mock_cloud.cloud.apis.openstack_connection import ServiceConnection
from mock_cloud.cloud.apis.openstack_credentials import OpenStackCredentials, parse_credentials
from mock_cloud.cloud.apis.openstack_identity import authentication
from mock_cloud.errors import ConfigError


def credentials(**changes: object) -> OpenStackCredentials:
    values: dict[str, object] = {
        "auth_url": "https://cloud.example.org:5000/v3",
        "username": "me",
        "password": "pw",
        "project_id": "p1",
        **changes,
    }
    return parse_credentials(CloudEntry("cloud 'x' of /p", values))


def auth(**changes: object) -> Any:
    return authentication(credentials(**changes))["auth"]


def test_a_user_by_name_is_one_of_a_domain() -> None:
    assert auth()["identity"] == {
        "methods": ["password"],
        "password": {"user": {"name": "me", "domain": {"id": "default"}, "password": "pw"}},
    }
    user = auth(user_domain_name="Corp")["identity"]["password"]["user"]
    assert user["domain"] == {"name": "Corp"}
    user = auth(username="", user_id="u1")["identity"]["password"]["user"]
    assert user == {"id": "u1", "password": "pw"}


def test_the_project_is_the_scope() -> None:
    assert auth()["scope"] == {"project": {"id": "p1"}}
    scope = auth(project_id="", project_name="builds", project_domain_name="Corp")["scope"]
    assert scope == {"project": {"name": "builds", "domain": {"name": "Corp"}}}


def test_an_application_credential_has_its_own_scope() -> None:
    found = auth(application_credential_id="a1", application_credential_secret="s")
    assert found == {
        "identity": {
            "methods": ["application_credential"],
            "application_credential": {"id": "a1", "secret": "s"},
        }
    }
    found = auth(application_credential_name="n", application_credential_secret="s")
    assert found["identity"]["application_credential"] == {
        "name": "n",
        "secret": "s",
        "user": {"name": "me", "domain": {"id": "default"}},
    }


def test_a_token() -> None:
    assert auth(token="t")["identity"] == {"methods": ["token"], "token": {"id": "t"}}


CATALOG = [
    {
        "type": "compute",
        "name": name,
        "endpoints": [
            {
                "region": region,
                "interface": interface,
                "url": f"https://{name}.{region}.{interface}",
            }
            for region in ("north", "south")
            for interface in ("public", "internal")
        ],
    }
    for name in ("nova", "legacy")
] + [
    {
        "type": "network",
        "name": "neutron",
        "endpoints": [{"region": "north", "interface": "public", "url": "https://net:9696/v2.0/"}],
    }
]


class Known:
    """An identity that has its token already."""

    def token(self) -> str:
        return "t"

    def catalog(self) -> OpenStackServiceCatalog:
        return OpenStackServiceCatalog(CATALOG, "3.x_password")

    def clear_cached_auth_context(self) -> None:
        pass


def endpoint(service: str = "compute", **changes: object) -> str:
    return ServiceConnection(credentials(**changes), Known(), service, 5.0).get_endpoint()


def test_a_region_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(ConfigError, match="no public endpoints for compute in region 'est'") as no:
        endpoint(region_name="est", compute_service_name="nova")
    assert "north, south" in str(no.value.hint)


def test_several_endpoints_are_not_chosen_from() -> None:
    with pytest.raises(ConfigError, match="several public endpoints for compute") as many:
        endpoint(region_name="north")
    assert "compute_service_name" in str(many.value.hint)


def test_the_endpoint_by_name_region_and_interface() -> None:
    assert endpoint(region_name="south", compute_service_name="nova") == "https://nova.south.public"
    found = endpoint(region_name="south", compute_service_name="nova", interface="internal")
    assert found == "https://nova.south.internal"


def test_the_network_services_version_is_in_its_paths() -> None:
    assert endpoint("network") == "https://net:9696"


def test_a_clouds_own_authority_is_its_alone(tmp_path: Any) -> None:
    (tmp_path / "ca.pem").write_text("x")
    ca_file = str(tmp_path / "ca.pem")
    own = ServiceConnection(credentials(cacert=ca_file), Known(), "compute", 5.0)
    own.connect()
    other = ServiceConnection(credentials(), Known(), "compute", 5.0)
    other.connect()
    assert own.connection.verification == str(tmp_path / "ca.pem")
    assert other.connection.verification not in (False, own.connection.verification)

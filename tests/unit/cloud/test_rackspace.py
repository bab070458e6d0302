# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from mock_cloud.cloud.apis.adapter import Offer
from mock_cloud.cloud.apis.rackspace import find_credentials, make_rackspace_api
from mock_cloud.errors import ConfigError
from mock_cloud.model import Secret
from mock_cloud.settings import RackspaceSettings
from tests.component.openstack_parts import make_remote

KEY = Secret(b"hidden-key")
ENVIRON = {"RACKSPACE_USERNAME": "them", "RACKSPACE_API_KEY": "hidden-other"}
FULL = RackspaceSettings("ORD", username="me", api_key=KEY)


@pytest.mark.parametrize(
    ("settings", "environ", "message"),
    [
        (RackspaceSettings("ORD"), {}, "no username and api_key in /p, no RACKSPACE_USERNAME"),
        (RackspaceSettings("ORD"), {"RACKSPACE_USERNAME": "me"}, "no credentials"),
        (RackspaceSettings("ORD", username="me"), ENVIRON, "one is missing"),
        (RackspaceSettings("ORD", api_key=KEY), ENVIRON, "one is missing"),
    ],
)
def test_half_of_the_credentials_is_none(
    settings: RackspaceSettings, environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        find_credentials(settings, "/p", environ)
    assert "hidden" not in caught.value.message


def test_the_file_goes_before_the_environment() -> None:
    found = find_credentials(FULL, "/p", ENVIRON)
    assert (found.source, found.username, found.api_key.reveal()) == ("/p", "me", b"hidden-key")
    found = find_credentials(RackspaceSettings("ORD"), "/p", ENVIRON)
    assert (found.source, found.username) == ("RACKSPACE_USERNAME and RACKSPACE_API_KEY", "them")
    assert "hidden" not in repr(found)


def test_an_unknown_region_lists_near_ones() -> None:
    remote = make_remote(RackspaceSettings("OSD", username="me", api_key=KEY))
    with pytest.raises(ConfigError, match="no region 'OSD'") as caught:
        make_rackspace_api(remote).list_tagged()
    assert "ORD" in str(caught.value.hint) or "SYD" in str(caught.value.hint)


def test_the_price_is_libclouds() -> None:
    api = make_rackspace_api(make_remote(FULL))
    assert api.price(Offer("image", "performance1-2")) == 0.08
    assert api.price(Offer("image", "no-such-size")) is None

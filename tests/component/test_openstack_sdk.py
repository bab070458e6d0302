# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries of clouds.yaml, by our own reading and by openstacksdk's: to whom which secret goes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.cloud.apis import openstack_sdk
from mock_cloud.cloud.apis.calls import Breaker, Calls
from mock_cloud.cloud.apis.openstack_connection import ServiceConnection
from mock_cloud.cloud.apis.openstack_credentials import Method, read_credentials
from mock_cloud.cloud.apis.openstack_failures import OpenStackClassifier
from mock_cloud.cloud.apis.openstack_identity import Keystone, TokenSource, make_token_source
from mock_cloud.cloud.apis.texts import CloudIsOut, CredentialsRefused
from mock_cloud.errors import ConfigError
from tests.component.keystone_stand_in import FEDERATION, PROVIDER, StandIn, run_keystone

sdk_config = pytest.importorskip("openstack.config", reason="openstacksdk is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::Warning:openstack")

USER: dict[str, object] = {
    "username": "me",
    "password": "hush-password",
    "user_domain_name": "Corp",
    "project_name": "builds",
    "project_domain_id": "d1",
}
IDS: dict[str, object] = {"user_id": "u1", "password": "hush-password", "project_id": "p1"}
CREDENTIAL: dict[str, object] = {
    "application_credential_id": "a1",
    "application_credential_secret": "hush-secret",
}
NAMED: dict[str, object] = {
    "application_credential_name": "n1",
    "application_credential_secret": "hush-secret",
    "username": "me",
    "user_domain_id": "default",
}
TOKEN: dict[str, object] = {"token": "hush-token", "project_id": "p1"}
FEDERATED: dict[str, object] = {
    "identity_provider": "corp",
    "protocol": "openid",
    "client_id": "client",
    "client_secret": "hush-client",
    "username": "me",
    "password": "hush-password",
    "project_id": "p1",
}


@pytest.fixture
def keystone() -> Iterator[StandIn]:
    with run_keystone() as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    (tmp_path / ".config/openstack").mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(home: Path, entry: Mapping[str, object], name: str = "clouds.yaml") -> Path:
    path = home / ".config/openstack" / name
    path.write_text(json.dumps({"clouds": {"x": entry}}))
    return path


def entry(url: str, auth: Mapping[str, object], **more: object) -> dict[str, object]:
    return {"auth": {"auth_url": url, **auth}, "region_name": "north", **more}


# What an entry says, without its URL; its ways to say it differ.
ENTRIES = [
    pytest.param("/v3", USER, {}, id="password, no type"),
    pytest.param("/v3", USER, {"auth_type": "password"}, id="password"),
    pytest.param("/v3", USER, {"auth_type": "v3password"}, id="v3password"),
    pytest.param("", USER, {}, id="a URL without a version"),
    pytest.param("/v3/", IDS, {"auth_type": "password"}, id="ids"),
    pytest.param("/v3", CREDENTIAL, {"auth_type": "v3applicationcredential"}, id="credential"),
    pytest.param("/v3", NAMED, {"auth_type": "v3applicationcredential"}, id="by name"),
    pytest.param("/v3", TOKEN, {"auth_type": "token"}, id="token"),
    pytest.param("/v3", TOKEN, {"auth_type": "v3token"}, id="v3token"),
    pytest.param("/v3", IDS, {"auth_plugin": "password"}, id="the former word"),
    pytest.param("/v3", IDS, {"interface": "internal"}, id="interface"),
    pytest.param("/v3", IDS, {"endpoint_type": "internal"}, id="its former word"),
    pytest.param("/v3", IDS, {"region_name": "south"}, id="region"),
    pytest.param("/v3", IDS, {"region_name": None, "regions": ["south", "north"]}, id="regions"),
    pytest.param("/v3", {**IDS, "project_id": None, "tenant_id": "p2"}, {}, id="tenant"),
    pytest.param(
        "/v3",
        {"username": "me", "password": "p", "project_name": "b", "domain_id": "d2"},
        {},
        id="one domain",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("path", "auth", "more"), ENTRIES)
def test_both_ask_for_the_same(
    keystone: StandIn,
    home: Path,
    path: str,
    auth: dict[str, object],
    more: dict[str, object],
) -> None:
    whole = entry(keystone.url + path, auth, **more)
    whole = {key: value for key, value in whole.items() if value is not None}
    whole["auth"] = {k: v for k, v in whole["auth"].items() if v is not None}  # type: ignore[attr-defined]
    file = write(home, whole)
    ours = read_credentials("x")
    assert ours.method is not Method.OPENSTACKSDK
    identity = Keystone(ours, 5.0)
    identity.token()
    mine = keystone.tokens()
    compute = ServiceConnection(ours, identity, "compute", 5.0).get_endpoint()
    keystone.asked.clear()
    region = sdk_config.OpenStackConfig(config_files=[str(file)], secure_files=[]).get_one("x")
    assert region.get_session().get_token() == "scoped"
    assert mine == keystone.tokens()
    catalog = region.get_session().auth.get_access(region.get_session()).service_catalog
    wanted = {"region_name": region.region_name, "interface": region.get_interface()}
    assert compute == catalog.url_for(service_type="compute", **wanted)


def test_a_providers_password_goes_to_the_provider_alone(keystone: StandIn, home: Path) -> None:
    auth = {**FEDERATED, "access_token_endpoint": keystone.url + PROVIDER}
    write(home, entry(keystone.url + "/v3", auth, auth_type="v3oidcpassword"))
    found = read_credentials("x")
    assert found.method is Method.OPENSTACKSDK
    assert found.source.endswith("clouds.yaml, by openstacksdk")
    identity = make_token_source(found, 5.0)
    assert identity.token() == "scoped"
    assert keystone.told("hush-password") == [PROVIDER]
    assert FEDERATION in [path for _, path, _ in keystone.asked]
    assert endpoint(identity, found).endswith("/compute/north/public")
    assert "hush" not in repr(found)


def test_without_openstacksdk_it_goes_nowhere(
    keystone: StandIn, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openstack_sdk.importlib, "import_module", _none_installed)
    for kind in ("v3oidcpassword", "v3multifactor", "v3totp", "v3samlpassword", "invented"):
        write(home, entry(keystone.url + "/v3", FEDERATED, auth_type=kind))
        with pytest.raises(ConfigError, match=f"auth_type {kind} is not known") as caught:
            read_credentials("x")
        assert "openstacksdk" in str(caught.value.hint)
    assert keystone.asked == []


@pytest.mark.parametrize(
    "more",
    [{"profile": "vexxhost"}, {"trust_id": "t"}, {"regions": [{"name": "n"}]}, {"passcode": "1"}],
)
def test_what_changes_the_other_keys_is_refused_by_name_as_well(
    home: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, object]
) -> None:
    monkeypatch.setattr(openstack_sdk.importlib, "import_module", _none_installed)
    write(home, entry("https://x.invalid/v3", USER, **more))
    with pytest.raises(ConfigError, match=next(iter(more))):
        read_credentials("x")


def _none_installed(name: str) -> Any:
    raise ImportError(name)


def test_two_factors(keystone: StandIn, home: Path) -> None:
    auth = {**IDS, "passcode": "123456"}
    methods = ["v3password", "v3totp"]
    write(home, entry(keystone.url + "/v3", auth, auth_type="v3multifactor", auth_methods=methods))
    assert make_token_source(read_credentials("x"), 5.0).token() == "scoped"
    (asked,) = keystone.tokens()
    assert sorted(asked["identity"]["methods"]) == ["password", "totp"]


def test_a_type_that_nobody_knows(keystone: StandIn, home: Path) -> None:
    write(home, entry(keystone.url + "/v3", USER, auth_type="v3invented"))
    with pytest.raises(ConfigError, match=r"as openstacksdk reads it: .*v3invented") as caught:
        read_credentials("x")
    assert "hush" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_profile_of_a_file_of_ones_own(keystone: StandIn, home: Path) -> None:
    profile = {"auth": {"auth_url": keystone.url + "/v3"}, "region_name": "south"}
    (home / ".config/openstack/clouds-public.yaml").write_text(
        json.dumps({"public-clouds": {"ours": profile}})
    )
    write(home, {"profile": "ours", "auth": IDS})
    found = read_credentials("x")
    assert found.auth_url == keystone.url + "/v3"
    assert endpoint(make_token_source(found, 5.0), found).endswith("/south/public")


def test_a_table_of_regions(keystone: StandIn, home: Path) -> None:
    regions = [{"name": "north"}, {"name": "south", "values": {"interface": "internal"}}]
    write(home, {"auth": {"auth_url": keystone.url + "/v3", **IDS}, "regions": regions})
    found = read_credentials("x", "south")
    assert (found.region, found.interface) == ("south", "internal")
    with pytest.raises(ConfigError, match="Region east is not a valid region"):
        read_credentials("x", "east")


def test_certificates_are_verified_in_either_way(home: Path) -> None:
    auth = {**FEDERATED, "access_token_endpoint": "https://idp.invalid/token"}
    for more in ({"verify": False}, {"insecure": True}):
        write(home, entry("https://x.invalid/v3", auth, auth_type="v3oidcpassword", **more))
        with pytest.raises(ConfigError, match="certificates must be verified"):
            read_credentials("x")


def test_the_checkouts_own_files_are_not_asked(
    keystone: StandIn, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, {"profile": "ours", "auth": IDS})
    checkout = home / "checkout"
    checkout.mkdir()
    monkeypatch.chdir(checkout)
    evil = {"auth": {"auth_url": "http://evil.invalid/v3"}}
    (checkout / "clouds-public.yaml").write_text(json.dumps({"public-clouds": {"ours": evil}}))
    (checkout / "secure.yaml").write_text(json.dumps({"clouds": {"x": evil}}))
    try:
        assert "evil" not in read_credentials("x").auth_url
    except ConfigError as error:
        assert "auth_url" in error.message


@pytest.mark.parametrize("with_sdk", [False, True])
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "The request you have made requires authentication."),
        (404, "Could not find Application Credential: a1."),
        (404, "Could not recognize Fernet token"),
    ],
)
def test_a_refusal_is_told_in_keystones_words(
    keystone: StandIn, home: Path, with_sdk: bool, status: int, words: str
) -> None:
    keystone.refusal = (status, {"error": {"code": status, "message": words, "title": "x"}})
    more = {"auth_type": "v3oidcpassword"} if with_sdk else {}
    auth = {**FEDERATED, "access_token_endpoint": keystone.url + PROVIDER}
    write(home, entry(keystone.url + "/v3", auth, **more))
    found = read_credentials("x")
    judge = OpenStackClassifier("OpenStack at lab", found.source)
    calls = Calls("OpenStack at lab", judge, breaker=Breaker(), timeout_s=3.0)
    connection = ServiceConnection(found, make_token_source(found, 5.0), "compute", 5.0)
    with pytest.raises(CredentialsRefused) as caught:
        calls.read("list servers", lambda: connection.request("/servers"))
    assert words in caught.value.message
    assert "{" not in caught.value.message


@pytest.mark.parametrize("answer", ["<html>no</html>", {"error": {"message": "Not found."}}])
def test_an_url_that_is_not_keystones(keystone: StandIn, home: Path, answer: object) -> None:
    keystone.refusal = (404, answer)
    write(home, entry(keystone.url + "/v3", USER))
    with pytest.raises(ConfigError, match="there is no identity service") as caught:
        make_token_source(read_credentials("x"), 5.0).token()
    assert "auth_url" in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["password", "v3multifactor"])
def test_an_identity_service_that_is_not_reached_is_an_outage(home: Path, kind: str) -> None:
    """Whoever asks: with openstacksdk too, which says it in its own ways."""
    more = {"auth_type": kind, "auth_methods": ["v3password"]}
    write(home, entry("http://127.0.0.1:1", IDS, **more))
    found = read_credentials("x")
    assert found.method is Method.OPENSTACKSDK
    judge = OpenStackClassifier("OpenStack at lab", found.source)
    calls = Calls("OpenStack at lab", judge, breaker=Breaker(), timeout_s=0.5)
    with pytest.raises(CloudIsOut, match="Connection refused"):
        calls.read("log in", make_token_source(found, 5.0).token)


def test_variables_name_a_type_too(
    keystone: StandIn, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = {**FEDERATED, "access_token_endpoint": keystone.url + PROVIDER}
    for name, value in {**auth, "auth_url": keystone.url + "/v3"}.items():
        monkeypatch.setenv(f"OS_{name.upper()}", str(value))
    monkeypatch.setenv("OS_AUTH_TYPE", "v3oidcpassword")
    found = read_credentials("")
    assert found.source == "the OS_* environment variables, by openstacksdk"
    assert make_token_source(found, 5.0).token() == "scoped"
    assert keystone.told("hush-password") == [PROVIDER]


def test_where_files_are_looked_for(keystone: StandIn, home: Path) -> None:
    (home / "xdg/openstack").mkdir(parents=True)
    text = json.dumps({"clouds": {"x": entry(keystone.url, IDS)}})
    (home / "xdg/openstack/clouds.json").write_text(text)
    assert "xdg/openstack/clouds.json" in read_credentials("x").source


def test_requests_say_who_asks(keystone: StandIn, home: Path) -> None:
    write(home, entry(keystone.url + "/v3", USER))
    make_token_source(read_credentials("x"), 5.0).token()
    (agent,) = keystone.agents
    assert agent.startswith("mock-cloud/")


def endpoint(tokens: TokenSource, found: Any) -> str:
    return ServiceConnection(found, tokens, "compute", 5.0).get_endpoint()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may use the OpenStack cloud: version 2.0 by mimic, version 3 over it.

mimic lets everybody in and its tokens never end. Here credentials are compared, tokens can be made
to expire, and version 3, which mimic lacks and every cloud of today speaks, is told as the
Identity API describes it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.lab.clouds.faults import Request, Response
from tests.lab.clouds.openstack_json import answer, identity_error, read

USER = "lab"
PASSWORD = "lab-password"
API_KEY = "0123456789abcdef0123456789abcdef"
PROJECT = "lab-project"
CREDENTIAL_ID = "21dced0fd20347869b93710d2b98aae0"
CREDENTIAL_SECRET = "lab-application-credential-secret"
REGION = "ORD"
COMPUTE = "cloudServersOpenStack"
"""mimic's name of Nova, as Rackspace has it."""
_TTL_S = 3600


class Identity:
    """Gives out tokens. `ask` is mimic; `endpoints` are URLs of our own, by service type."""

    def __init__(self, ask: Callable[[Request], Response], endpoints: Mapping[str, str]) -> None:
        self._ask = ask
        self._endpoints = endpoints
        self._tokens: dict[str, str] = {}

    def expire_tokens(self) -> None:
        """Every token given out so far is refused from now on."""
        self._tokens.clear()

    def find(self, token: str) -> str | None:
        """mimic's own token behind one that was given out and is valid."""
        return self._tokens.get(token)

    def act(self, request: Request, words: list[str]) -> Response:
        """`words` are the path's, after ``identity``."""
        if words == ["v2.0", "tokens"] and request.method == "POST":
            return self._version_2(request)
        if words == ["v3", "auth", "tokens"] and request.method == "POST":
            return self._version_3(request)
        return self._ask(request)

    def _version_2(self, request: Request) -> Response:
        auth = read(request).get("auth", {})
        password = auth.get("passwordCredentials", {})
        key = auth.get("RAX-KSKEY:apiKeyCredentials", {})
        given = (password.get("username"), password.get("password"))
        if given != (USER, PASSWORD) and (key.get("username"), key.get("apiKey")) != (
            USER,
            API_KEY,
        ):
            return _refused()
        response, access = self._log_in(request)
        if access is None:
            return response
        for service in access["serviceCatalog"]:
            for endpoint in service["endpoints"]:
                self._replace(service["type"], endpoint, "publicURL", "internalURL")
        access["token"]["id"] = self._issue(access["token"]["id"])
        return answer(200, {"access": access})

    def _version_3(self, request: Request) -> Response:
        identity = read(request).get("auth", {}).get("identity", {})
        methods = identity.get("methods", [])
        if not self._is_known(methods, identity):
            return _refused()
        response, access = self._log_in(request)
        if access is None:
            return response
        token = self._issue(access["token"]["id"])
        now = time.time()
        domain = {"id": "default", "name": "Default"}
        value = {
            "methods": methods,
            "issued_at": _iso(now),
            "expires_at": _iso(now + _TTL_S),
            "user": {"id": USER, "name": USER, "domain": domain},
            "project": {"id": access["token"]["tenant"]["id"], "name": PROJECT, "domain": domain},
            "roles": [{"id": "member", "name": "member"}],
            "catalog": [self._entry(one) for one in access["serviceCatalog"]],
        }
        return answer(201, {"token": value}, X_Subject_Token=token)

    def _is_known(self, methods: object, identity: Mapping[str, Any]) -> bool:
        if methods == ["password"]:
            user = identity.get("password", {}).get("user", {})
            who = USER in (user.get("name"), user.get("id"))
            return who and user.get("password") == PASSWORD
        if methods == ["application_credential"]:
            found = identity.get("application_credential", {})
            return (found.get("id"), found.get("secret")) == (CREDENTIAL_ID, CREDENTIAL_SECRET)
        return False

    def _log_in(self, request: Request) -> tuple[Response, dict[str, Any] | None]:
        credentials = {"username": USER, "password": PASSWORD}
        body = {"auth": {"passwordCredentials": credentials, "tenantName": PROJECT}}
        headers = {"Content-Type": "application/json", "Host": request.headers.get("Host", "")}
        response = self._ask(
            Request("POST", "/identity/v2.0/tokens", headers, json.dumps(body).encode())
        )
        if response.status != 200:
            return response, None
        return response, json.loads(response.body)["access"]

    def _issue(self, behind: str) -> str:
        token = f"gAAAAA{secrets.token_urlsafe(32)}"
        self._tokens[token] = behind
        return token

    def _replace(self, kind: str, endpoint: dict[str, Any], *names: str) -> None:
        if kind in self._endpoints:
            endpoint.update(dict.fromkeys(names, self._endpoints[kind]))

    def _entry(self, service: Mapping[str, Any]) -> dict[str, Any]:
        """A service of version 2's catalog in version 3's words."""
        endpoints = []
        for endpoint in service["endpoints"]:
            self._replace(service["type"], endpoint, "publicURL")
            region = endpoint.get("region", "")
            endpoints.append(
                {
                    "id": f"{service['name']}-{region}",
                    "interface": "public",
                    "region": region,
                    "region_id": region,
                    "url": endpoint["publicURL"],
                }
            )
        kind, name = service["type"], service["name"]
        return {"id": name, "type": kind, "name": name, "endpoints": endpoints}


def _refused() -> Response:
    text = "The request you have made requires authentication."
    return identity_error(401, "Unauthorized", text)


def _iso(unix: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(unix))
